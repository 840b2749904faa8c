//! What becomes of a packet that is not dropped.

use vnet_common::{Delivery, DropReason};

/// A verdict, or the reason to drop the packet.
pub type Outcome = Result<Verdict, DropReason>;

/// Where a packet goes. Dropping is not a verdict but an `Err` with its reason.
///
/// A device and an option, rather than an enum, so that `Result<Verdict, DropReason>` is two words that are
/// always both written: LLVM copies the unused half of an enum, and the verifier refuses to read what
/// nobody wrote ("R5 !read_ok", 6.18, `from_port`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    device: u32,
    delivery: Option<Delivery>,
}

const _: () = assert!(size_of::<Outcome>() == 8);

impl Verdict {
    /// On, the way it was going: into the bridge, or out of the device.
    pub const PASS: Self = Self { device: 0, delivery: None };

    /// To another device.
    #[inline(always)]
    #[must_use]
    pub const fn send(device: u32, delivery: Delivery) -> Self {
        Self { device, delivery: Some(delivery) }
    }

    /// To which device and how, unless it passes.
    #[inline(always)]
    #[must_use]
    pub fn destination(self) -> Option<(u32, Delivery)> {
        self.delivery.map(|delivery| (self.device, delivery))
    }
}
