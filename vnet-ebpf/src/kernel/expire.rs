//! Marks flows' entries as expired, but only those that no packet has refreshed since the controller looked.
//!
//! The controller runs it by `BPF_PROG_TEST_RUN` with the questions as the packet: see
//! [`vnet_common::ExpireHeader`]. The exchange of `last_seen` decides against a packet that arrives at
//! this very moment: if it comes first the flow stays, if it comes later it finds the flow expired. The
//! controller removes the entries afterwards.

use aya_ebpf::programs::TcContext;
use vnet_common::{ExpireAnswer, ExpireHeader, ExpireQuestion, Flow, FlowKey, V4, V6};

use super::{maps, skb::Skb, tables::compare_exchange};
use vnet_ebpf::packet::{AddressWire, Packet as _, Wire};

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
            4 => ask::<V4>(skb, number, |key| maps::FLOWS4.get_ptr_mut(key))?,
            6 => ask::<V6>(skb, number, |key| maps::FLOWS6.get_ptr_mut(key))?,
            _ => return None,
        }
    }
    (count > 0).then_some(())
}

/// Answers the question of this number.
#[inline(always)]
fn ask<A: AddressWire>(
    skb: &mut Skb,
    number: usize,
    find: impl Fn(&FlowKey<A>) -> Option<*mut Flow<A>>,
) -> Option<()>
where
    ExpireQuestion<A>: Wire,
{
    let at = ExpireQuestion::<A>::offset(number);
    let question: ExpireQuestion<A> = skb.read(at).ok()?;
    let answer = find(&question.key).map_or(ExpireAnswer::Gone, |entry| mark(entry, question.last_seen));
    skb.write(at + ExpireQuestion::<A>::ANSWER, (answer as i32).to_ne_bytes()).ok()
}

/// Marks the entry as expired if it was last seen when the controller says.
#[inline(always)]
fn mark<A: Copy>(entry: *mut Flow<A>, seen: u32) -> ExpireAnswer {
    // SAFETY: the look-up returned the entry in this run of the program.
    let last_seen = unsafe { (*entry).last_seen.as_ptr() };
    if compare_exchange(last_seen, seen, Flow::<A>::EXPIRED) {
        ExpireAnswer::Marked
    } else {
        ExpireAnswer::Refreshed
    }
}
