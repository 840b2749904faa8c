//! Marks flows' entries as expired, but only those that no packet has refreshed since the controller looked; and removes
//! those that are marked, but only those in which no flow has begun since.
//!
//! The controller runs it by `BPF_PROG_TEST_RUN` with the questions as the packet: see
//! [`vnet_common::ExpireHeader`]. The exchange of `last_seen` decides against a packet that arrives at
//! this very moment: if it comes first the entry stays, if it comes later it finds the flow over.

use aya_ebpf::{btf_maps::HashMap, programs::TcContext};
use vnet_common::{ExpireAnswer, ExpireHeader, ExpireQuestion, Flow, FlowKey};

use super::{apart, skb::Skb, tables::compare_exchange};
use vnet_ebpf::packet::{AddressWire, Buffer as _, Wire};

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
        let is_answered = match version {
            4 => apart::expire4(skb.as_ptr(), number as u32),
            6 => apart::expire6(skb.as_ptr(), number as u32),
            _ => return None,
        };
        if is_answered == 0 {
            return None;
        }
    }
    (count > 0).then_some(())
}

/// Answers the question of this number, which is below [`ExpireHeader::MOST`].
#[inline(always)]
pub(super) fn ask<A: AddressWire, const ROOM: usize>(
    skb: &mut Skb,
    number: usize,
    flows: &HashMap<FlowKey<A>, Flow<A>, ROOM>,
) -> Option<()>
where
    ExpireQuestion<A>: Wire,
{
    let at = ExpireQuestion::<A>::offset(number);
    let question: ExpireQuestion<A> = skb.read(at).ok()?;
    let answer = if question.last_seen == Flow::<A>::EXPIRED {
        remove(flows, &question.key)
    } else {
        exchange(flows, &question.key, question.last_seen, Flow::<A>::EXPIRED)
    };
    skb.write(at + ExpireQuestion::<A>::ANSWER, (answer as i32).to_ne_bytes()).ok()
}

/// Removes a marked entry. If the kernel does not, it stays marked, and is tried again with the next ones.
#[inline(always)]
fn remove<A: Copy, const ROOM: usize>(
    flows: &HashMap<FlowKey<A>, Flow<A>, ROOM>,
    key: &FlowKey<A>,
) -> ExpireAnswer {
    match exchange(flows, key, Flow::<A>::EXPIRED, Flow::<A>::REMOVED) {
        ExpireAnswer::Marked if flows.remove(key).is_ok() => ExpireAnswer::Gone,
        ExpireAnswer::Marked => match exchange(flows, key, Flow::<A>::REMOVED, Flow::<A>::EXPIRED) {
            ExpireAnswer::Marked => ExpireAnswer::Refreshed,
            answer => answer,
        },
        answer => answer,
    }
}

/// Sets `last_seen` of an entry to `mark`, if it is `seen`.
#[inline(always)]
fn exchange<A: Copy, const ROOM: usize>(
    flows: &HashMap<FlowKey<A>, Flow<A>, ROOM>,
    key: &FlowKey<A>,
    seen: u32,
    mark: u32,
) -> ExpireAnswer {
    let Some(entry) = flows.get_ptr_mut(key) else { return ExpireAnswer::Gone };
    // SAFETY: the look-up returned the entry in this run of the program.
    let last_seen = unsafe { (*entry).last_seen.as_ptr() };
    if compare_exchange(last_seen, seen, mark) { ExpireAnswer::Marked } else { ExpireAnswer::Refreshed }
}
