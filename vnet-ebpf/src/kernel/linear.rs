//! The bytes of a packet that the verifier lets a program reach by their addresses.

use core::ptr::NonNull;

use vnet_common::DropReason;
use vnet_ebpf::packet::Wire;

/// Highest offset of a header: what the parser can reach without passing a limit of its own.
const MAX_OFFSET: usize = 0x3fff;

/// A packet, or the linear part of one.
pub(super) trait Linear {
    /// Where it begins and ends.
    ///
    /// Read volatile from the context, for LLVM would otherwise prove a check from an earlier one that the verifier no
    /// longer remembers: "invalid access to packet, R3 offset is outside of the packet" (6.18, `from_host`).
    fn bounds(&self) -> (usize, usize);

    /// The address of `size_of::<T>()` readable and writable bytes at `offset`: the one bounds check.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<NonNull<T>> {
        if offset > MAX_OFFSET {
            return None;
        }
        let (data, end) = self.bounds();
        let start = data + offset;
        if start + size_of::<T>() > end {
            return None;
        }
        NonNull::new(start as *mut T)
    }

    /// The value at `offset`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline(always)]
    fn fetch<T: Wire>(&self, offset: usize) -> Result<T, DropReason> {
        let Some(from) = self.at::<T>(offset) else { return Err(DropReason::Truncated) };
        // SAFETY: `at` has checked the bounds, and any bytes are a `T: Wire`. The address need not be aligned
        // as `T` is: the kernel takes words at any address of a packet, on every architecture that can do
        // it (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`), and its verifier refuses the program elsewhere.
        // `read_unaligned` would make LLVM fetch single bytes.
        Ok(unsafe { from.as_ptr().read() })
    }

    /// Overwrites the bytes at `offset`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason> {
        let Some(to) = self.at::<T>(offset) else { return Err(DropReason::Truncated) };
        // SAFETY: `at` has checked the bounds, and as in `fetch`.
        unsafe { to.as_ptr().write(value) };
        Ok(())
    }
}
