//! Stages 2, 9 and 11 of a packet whose decision stands: nobody is asked about it.

use core::sync::atomic::{Ordering, compiler_fence};

use vnet_common::{Address, Flow, FlowState, Ops, Pressure};

use crate::{
    case::{Case, Step},
    hop::Hop,
    packet::Packet,
    stages::{admit, parse::Version, refuse, replay, track},
    tables::{FlowTable, Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// Sends or drops a packet whose decision stands; leaves others open, with the case's step saying whether they have a flow.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub(super) fn decided<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    let routine = if A::IS_V4 { routine } else { routine_apart };
    match routine(packet, snapshot, case)? {
        Verdict::OPEN if case.step == Step::Continue => packet.carry_on(&snapshot, case),
        Verdict::OPEN if case.step == Step::Open && track::may_open(&case.datagram.message).is_ok() => {
            refuse::recall(&snapshot, case)?;
            Ok(Verdict::OPEN)
        }
        verdict => Ok(verdict),
    }
}

/// Sends a packet whose decision stands, and which changes nothing but the record of its own direction.
#[inline(always)]
fn routine<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    case.key = case.datagram.key(case.device);
    let Some(flow) = snapshot.tables.find(&case.key) else {
        case.step = Step::Open;
        return Ok(Verdict::OPEN);
    };
    // Of the decision, too: what does not fit goes the long way, where it is dropped if that is still so.
    let fits = replay::fits(packet, &case.datagram, flow.mtu.get());
    let Some(hop) = current(snapshot, &flow, case).filter(|_| fits) else {
        case.step = Step::Renew;
        return Ok(Verdict::OPEN);
    };
    if !track::is_routine(&flow, &case.datagram.message) {
        case.step = track::step(&flow, &case.datagram.message);
        return Ok(Verdict::OPEN);
    }
    if !snapshot.tables.touch(&flow, case.now) {
        case.step = Step::Renew;
        return Ok(Verdict::OPEN);
    }
    track::record(&flow, &case.datagram.message);
    replay::replay(packet, &snapshot, (&case.datagram, &flow), (&hop, &case.forth.leaves))
}

/// As [`routine`]; a function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn routine_apart<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    routine(packet, snapshot, case)
}

/// Sends a packet whose decision stands, and which changes the state of its connection: it answers, opens or ends it. Left
/// open if the connection is not whole, or over.
///
/// It is called through [`Packet::carry_on`].
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn carry_on<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    let Some(own) = snapshot.tables.find(&case.key) else { return Ok(Verdict::OPEN) };
    let Some(pair) = find_pair(snapshot, case, &own) else { return Ok(Verdict::OPEN) };
    if !is_current(snapshot, case, &own) || !snapshot.tables.touch(&own, case.now) {
        return Ok(Verdict::OPEN);
    }
    replay::check(packet, &case.datagram, &case.forth)?;
    advance(packet, snapshot, case, (&own, &pair))
}

/// The entry of the other direction, if it belongs to this one. A function of its own in the kernel too, for the stack's
/// sake.
#[inline(never)]
pub(super) fn find_pair<'a, A: Address, T: FlowTable<A>>(
    snapshot: &Snapshot<'a, T>,
    case: &mut Case<A>,
    own: &Flow<A>,
) -> Option<T::Entry<'a>> {
    case.pair_key = own.pair_key(&case.key);
    snapshot.tables.find(&case.pair_key).filter(|pair| pair.pair_key(&case.pair_key) == case.key)
}

/// The way of a packet if the decision in its entry stands; the tuple that it leaves with is put into the case. All is
/// copied before that is looked at, for another CPU may be writing a newer one.
#[inline(always)]
fn current<A: Copy + Default, T: Tables>(
    snapshot: Snapshot<'_, T>,
    flow: &Flow<A>,
    case: &mut Case<A>,
) -> Option<Hop<A>> {
    let hop = Hop::untranslated(flow);
    if hop.ops.has(Ops::TRANSLATE) {
        case.forth.leaves = flow.leaves.get();
    }
    compiler_fence(Ordering::SeqCst);
    track::is_current(flow, snapshot.generation, case.macs, case.heard).then_some(hop)
}

/// The same, with the way put into the case. As [`find_pair`].
#[inline(never)]
pub(super) fn is_current<A: Copy + Default, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    flow: &Flow<A>,
) -> bool {
    case.forth = Hop::of(flow);
    compiler_fence(Ordering::SeqCst);
    track::is_current(flow, snapshot.generation, case.macs, case.heard)
}

/// Does to a connection what the packet does, and sends it.
#[inline(always)]
pub(super) fn advance<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
    (own, pair): (&Flow<A>, &Flow<A>),
) -> Outcome {
    let before = own.state();
    track::advance(own, pair, &case.datagram.message)?;
    let comes_about = before != FlowState::Established && own.state() == FlowState::Established;
    if comes_about && snapshot.tables.pressure() != Pressure::None {
        let opener = if own.ops.get().has(Ops::REPLY) { &case.pair_key } else { &case.key };
        admit::established(snapshot, opener, case.now);
    }
    replay::clamp(packet, &case.datagram, &case.forth, pair.mtu.get())?;
    replay::replay(packet, snapshot, (&case.datagram, own), (&case.forth, &case.forth.leaves))
}
