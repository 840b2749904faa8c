//! Marks a flow's entry as expired, but only if no packet has refreshed it since the controller looked.
//!
//! The controller runs it by `BPF_PROG_TEST_RUN` with the question as the packet: see
//! [`vnet_common::ExpireHeader`]. The exchange of `last_seen` decides against a packet that arrives at
//! this very moment: if it comes first the flow stays, if it comes later it finds the flow expired. The
//! controller removes the entry afterwards.

use aya_ebpf::programs::TcContext;
use vnet_common::{ExpireAnswer, ExpireHeader, Flow, FlowKey, V4, V6};

use super::{maps, skb::Skb, tables::compare_exchange};
use vnet_ebpf::packet::Packet as _;

/// Answers with an [`ExpireAnswer`].
#[inline(always)]
pub(super) fn run(context: &TcContext) -> i32 {
    let skb = Skb::new(TcContext::new(context.skb.skb));
    answer(&skb).unwrap_or(ExpireAnswer::Malformed) as i32
}

#[inline(always)]
fn answer(skb: &Skb) -> Option<ExpireAnswer> {
    const VERSION: usize = ExpireHeader::OFFSET;
    let version = u32::from_ne_bytes(skb.read(VERSION).ok()?);
    let seen = u32::from_ne_bytes(skb.read(VERSION + 4).ok()?);
    Some(match version {
        4 => {
            let bytes: [u8; size_of::<FlowKey<V4>>()] = skb.read(VERSION + 8).ok()?;
            // SAFETY: a flow key is made of integers that fill its size, so any bytes are one.
            let key: FlowKey<V4> = unsafe { core::mem::transmute(bytes) };
            mark(maps::FLOWS4.get_ptr_mut(key), seen)
        }
        6 => {
            let bytes: [u8; size_of::<FlowKey<V6>>()] = skb.read(VERSION + 8).ok()?;
            // SAFETY: as above.
            let key: FlowKey<V6> = unsafe { core::mem::transmute(bytes) };
            mark(maps::FLOWS6.get_ptr_mut(key), seen)
        }
        _ => ExpireAnswer::Malformed,
    })
}

/// Marks the entry as expired if it was last seen when the controller says.
#[inline(always)]
fn mark<A: Copy>(entry: Option<*mut Flow<A>>, seen: u32) -> ExpireAnswer {
    let Some(entry) = entry else { return ExpireAnswer::Gone };
    // SAFETY: the look-up returned the entry in this run of the program.
    let last_seen = unsafe { (*entry).last_seen.as_ptr() };
    if compare_exchange(last_seen, seen, Flow::<A>::EXPIRED) {
        ExpireAnswer::Marked
    } else {
        ExpireAnswer::Refreshed
    }
}
