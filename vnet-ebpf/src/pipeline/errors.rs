//! ICMP errors: whose they are, and what they are about.

use vnet_common::{Address, DropReason, Ops};

use super::{decided::is_current, left_to_host};
use crate::{
    case::Case,
    packet::Packet,
    rewrite::{self, ErrorAbout, ICMP_HEADER_LEN},
    stages::{judge, parse::Version, replay, route},
    tables::{FlowTable, Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// An ICMP error: it passes if it is about a flow that is allowed, and comes from that flow's other end, from
/// the host, or from any router outside or on the LAN. It is translated as packets of its direction are, and so is what it
/// quotes.
#[inline(always)]
pub(super) fn related_error<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    let read = read_quoted(packet, case);
    match find_flow(snapshot, case, read)? {
        Verdict::OPEN if case.from.is_gateway() => error_of_host(snapshot, case)?,
        Verdict::OPEN => {}
        verdict => return Ok(verdict),
    }
    if case.forth.ops.has(Ops::TRANSLATE) {
        let about = ErrorAbout { error: &case.datagram, quoted: &case.quoted };
        rewrite::error(packet, &about, &case.forth.leaves)?;
    }
    replay::route(packet, &case.forth)?;
    replay::depart(packet, snapshot, &case.forth)
}

/// Fills in the way of an error, which is that of the flow that it is about, unless it is the host's; or what becomes of
/// it at once. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn find_flow<A: Version, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    read: Result<(), DropReason>,
) -> Outcome {
    if let Err(reason) = read {
        return unrelated(snapshot, case, reason);
    }
    let is_from_end =
        case.quoted.dst == case.datagram.src || case.from.is_stranger() || case.from.is_gateway();
    if case.quoted.src != case.datagram.dst || !is_from_end {
        return unrelated(snapshot, case, DropReason::UnrelatedError);
    }
    if case.from.is_gateway() {
        return Ok(Verdict::OPEN);
    }
    case.pair_key = case.quoted.key(case.device).reversed(case.device);
    let Some(flow) = snapshot.tables.find(&case.pair_key) else {
        return unrelated(snapshot, case, DropReason::UnrelatedError);
    };
    if !is_current(snapshot, case, &flow) {
        return Err(DropReason::UnrelatedError);
    }
    Ok(Verdict::OPEN)
}

/// Reads what an error quotes. As [`find_flow`].
#[inline(never)]
fn read_quoted<A: Version, P: Packet>(packet: &P, case: &mut Case<A>) -> Result<(), DropReason> {
    case.quoted = A::quoted(packet, case.datagram.payload + ICMP_HEADER_LEN)?;
    Ok(())
}

/// What becomes of an error that is about no flow: outside it may be about one of the host's.
#[inline(always)]
fn unrelated<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
    reason: DropReason,
) -> Outcome {
    if case.from.is_outside() { left_to_host(snapshot, case, reason) } else { Err(reason) }
}

/// Fills in the way of an ICMP error of the host's, about a flow with it or between ports. As [`find_flow`].
#[inline(never)]
fn error_of_host<A: Version, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    // The host may have sent from an address that is not the gateway's; whether it did, the flow tells.
    if route::destination(snapshot, case).is_err() {
        route::to_host_elsewhere(case);
    }
    case.pair_key = case.quoted.key(case.to.device);
    let flow = snapshot.tables.find(&case.pair_key).ok_or(DropReason::UnrelatedError)?;
    if flow.generation.get() != snapshot.generation {
        return Err(DropReason::UnrelatedError);
    }
    if flow.device.get() != case.network {
        // It's about a flow between ports.
        judge::host_may_speak(snapshot, case.network)?;
    }
    route::way(case)
}
