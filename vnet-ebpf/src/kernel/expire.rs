//! Marks flows' entries as expired, but only those that no packet has refreshed since the controller looked.
//!
//! The controller runs it by `BPF_PROG_TEST_RUN` with the questions as the packet: see
//! [`vnet_common::ExpireHeader`]. The exchange of `last_seen` decides against a packet that arrives at
//! this very moment: if it comes first the flow stays, if it comes later it finds the flow expired. The
//! controller removes the entries afterwards.

use aya_ebpf::programs::TcContext;
use vnet_common::{ExpireAnswer, ExpireHeader, ExpireQuestion, Flow, FlowKey, V4, V6};

use super::{maps, skb::Skb, tables::compare_exchange};
use vnet_ebpf::packet::Packet as _;

/// Answers each question; [`ExpireAnswer::Malformed`] if there is one that makes no sense.
#[inline(always)]
pub(super) fn run(context: &TcContext) -> i32 {
    let mut skb = Skb::new(TcContext::new(context.skb.skb));
    answer(&mut skb).map_or(ExpireAnswer::Malformed as i32, |()| ExpireAnswer::Marked as i32)
}

#[inline(always)]
fn answer(skb: &mut Skb) -> Option<()> {
    const VERSION: usize = ExpireHeader::OFFSET;
    let version = u32::from_ne_bytes(skb.read(VERSION).ok()?);
    let count = u32::from_ne_bytes(skb.read(VERSION + 4).ok()?) as usize;
    if count > ExpireHeader::MOST {
        return None;
    }
    for number in 0..ExpireHeader::MOST {
        if number >= count {
            break;
        }
        match version {
            4 => {
                let at = ExpireQuestion::<V4>::offset(number);
                let bytes: [u8; size_of::<ExpireQuestion<V4>>()] = skb.read(at).ok()?;
                // SAFETY: a question is made of integers that fill its size, so any bytes are one.
                let question: ExpireQuestion<V4> = unsafe { core::mem::transmute(bytes) };
                let answer = mark(&question, |key| maps::FLOWS4.get_ptr_mut(key));
                skb.write(at + ExpireQuestion::<V4>::ANSWER, answer.to_ne_bytes()).ok()?;
            }
            6 => {
                let at = ExpireQuestion::<V6>::offset(number);
                let bytes: [u8; size_of::<ExpireQuestion<V6>>()] = skb.read(at).ok()?;
                // SAFETY: as above.
                let question: ExpireQuestion<V6> = unsafe { core::mem::transmute(bytes) };
                let answer = mark(&question, |key| maps::FLOWS6.get_ptr_mut(key));
                skb.write(at + ExpireQuestion::<V6>::ANSWER, answer.to_ne_bytes()).ok()?;
            }
            _ => return None,
        }
    }
    (count > 0).then_some(())
}

/// Marks the entry as expired if it was last seen when the controller says.
#[inline(always)]
fn mark<A: Copy>(question: &ExpireQuestion<A>, find: impl Fn(&FlowKey<A>) -> Option<*mut Flow<A>>) -> i32 {
    let Some(entry) = find(&question.key) else { return ExpireAnswer::Gone as i32 };
    // SAFETY: the look-up returned the entry in this run of the program.
    let last_seen = unsafe { (*entry).last_seen.as_ptr() };
    if compare_exchange(last_seen, question.last_seen, Flow::<A>::EXPIRED) {
        ExpireAnswer::Marked as i32
    } else {
        ExpireAnswer::Refreshed as i32
    }
}
