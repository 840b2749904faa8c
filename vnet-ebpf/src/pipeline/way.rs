//! The way of a packet whose flow is new, or is judged again: stages 5 to 8.

use vnet_common::{Address, DropReason, Ops, link};

use crate::{
    case::{Case, Decision, Step},
    headers::Service,
    stages::{judge, refuse, route, translate},
    tables::{FlowTable, Snapshot, Tables},
};

/// Finds the way of the packet, and whether it may go.
///
/// # Errors
/// The reason to drop it, which is remembered if the rules say so.
#[inline(always)]
pub(super) fn allow<A: Address + Default, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let allowed = find(snapshot, case).and_then(|()| admit(snapshot, case));
    allowed.inspect_err(|reason| refuse::note(snapshot, case, *reason))
}

/// Finds the way of the packet, and who asks whom: in the direction in which its flow is or was opened.
#[inline(always)]
fn find<A: Address + Default, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    if case.before.keep.has(Ops::REPLY) {
        find_asker(snapshot, case)?;
        route::way(case)?;
        case.answer();
        snapshot.tables.destination(snapshot.generation, case);
    } else {
        case.ask();
        let is_translated = snapshot.tables.destination(snapshot.generation, case);
        find_asked(snapshot, case, is_translated)?;
        route::way(case)?;
        case.asked = case.to;
    }
    route::lengths(snapshot, case);
    route::links(snapshot, case);
    Ok(())
}

/// Fills in for whom it is: whoever the destination stands for, if it stands for somebody. A function of its own in the
/// kernel too, for the stack's sake.
#[inline(never)]
fn find_asked<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    is_translated: bool,
) -> Result<(), DropReason> {
    if is_translated {
        translate::keep_target(snapshot, case);
        return route::target(snapshot, case);
    }
    if case.from.is_outside() {
        return Err(DropReason::TranslationChanged);
    }
    route::destination(snapshot, case)
}

/// Judges what is asked, and fills in as whom the packet leaves.
#[inline(always)]
fn admit<A: Address + Default, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    judge(snapshot, case)?;
    leave(snapshot, case)
}

/// Judges what is asked. As [`find_asked`].
#[inline(never)]
fn judge<A: Address + Default, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    if case.asked.is_elsewhere() {
        // Only a joined network's gateway can have been asked; it is none any more.
        return Err(DropReason::NoRoute);
    }
    case.service = match case.step {
        Step::Single => Service::of_packet(&case.datagram),
        _ => Service::of_flow::<A>(case.datagram.protocol, &case.asked_tuple),
    };
    if case.forth.device != case.before_device {
        // What another device has taken over is another's: nothing of it is kept.
        case.before = Decision::TRUST;
    }
    route::abroad(snapshot, case);
    case.decision = judge::both_ends(snapshot, case)?;
    Ok(())
}

/// Fills in as whom the packet leaves. As [`find_asked`].
#[inline(never)]
fn leave<A: Address + Default, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let is_answer = case.before.keep.has(Ops::REPLY);
    translate::source(snapshot, case)?;
    translate::leaves(snapshot, case, is_answer)?;
    route::gateway(snapshot, &mut case.forth);
    route::gateway(snapshot, &mut case.back);
    Ok(())
}

/// Fills in to whom an answer goes. As [`find_asked`].
#[inline(never)]
fn find_asker<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let is_translated = case.before.keep.has(Ops::TRANSLATE);
    if is_translated || case.from.is_outside() || snapshot.uplink(case.before_pair).is_some() {
        return route::asker(snapshot, case);
    }
    if let Err(reason) = route::destination(snapshot, case) {
        if is_joined_beyond(snapshot, case) {
            return route::asker(snapshot, case);
        }
        // The host may have opened it from an address that is not the gateway's.
        if case.before_device != case.network {
            return Err(reason);
        }
        route::to_host_elsewhere(case);
    }
    Ok(())
}

/// Whether an answer goes to a station beyond the segment of a network that is joined to its own: its MAC is in the flow's
/// entry alone.
#[inline(always)]
fn is_joined_beyond<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> bool {
    link::is_segment(case.before_pair)
        && snapshot.join(case.network, case.datagram.dst.ip()) == Some(link::bridge(case.before_pair))
}
