//! What the controller is told of ports whose addresses are learned.

use core::{arch::asm, ptr};

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use vnet_common::{Snooped, SnoopedMessage};

use super::maps;

/// Tells of a claim. What finds no room is lost.
#[inline(always)]
pub(super) fn claim(seen: Snooped) {
    _ = maps::SNOOPED.output_untyped::<Snooped>(seen, 0);
}

/// Tells of a message, whose payload begins at `offset` and ends with the packet. As [`claim`]. A function of its own for
/// the stack's sake.
#[inline(never)]
pub(super) fn message(skb: *mut __sk_buff, seen: &Snooped, offset: u32) -> u32 {
    const MOST: u32 = SnoopedMessage::PAYLOAD as u32;
    // SAFETY: the context of a tc program is a valid __sk_buff for as long as it runs.
    let len = at_most::<MOST>(unsafe { (*skb).len }.saturating_sub(offset));
    if len == 0 {
        return 0;
    }
    let Some(mut entry) = maps::SNOOPED.reserve(0) else { return 0 };
    let record: *mut SnoopedMessage = entry.as_mut_ptr();
    // SAFETY: the record is reserved, and has room for `len` bytes of payload; what is beyond them means nothing, and
    // is no secret: the ring holds messages alone.
    let result = unsafe {
        (&raw mut (*record).seen).write(seen.of_length(len));
        bpf_skb_load_bytes(skb.cast(), offset, ptr::from_mut(&mut (*record).payload).cast(), len)
    };
    if result == 0 {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
    len
}

/// `len`, but no more than `MOST`, so that the verifier sees it: LLVM would check what it is made of, and hand over
/// something else ("R4 invalid zero-sized read: u64=[0,576]", 6.18, `from_port`).
#[inline(always)]
fn at_most<const MOST: u32>(len: u32) -> u32 {
    let mut bounded = u64::from(len);
    // SAFETY: it changes nothing but the one register.
    unsafe {
        asm!(
            "if {bounded} < {most} goto 1f",
            "{bounded} = {most}",
            "1:",
            bounded = inout(reg) bounded,
            most = const MOST,
            options(pure, nomem, nostack),
        );
    }
    bounded as u32
}
