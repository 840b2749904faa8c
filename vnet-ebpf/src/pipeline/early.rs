//! What comes from outside, before the kernel has made a socket buffer of it.
//!
//! Packets that [`from_uplink`](super::from_uplink) would drop are dropped here, where it costs least: those that are
//! refused again and again, and TCP connections that may not be opened. All others pass, and are decided there. Nothing is
//! let in here, sent or remembered of a flow, so whether this runs changes no verdict: only what it costs.

use vnet_common::{Address, DropReason, V4, V6};

use super::{Arrival, begin, is_for_uplink, is_forwarded, leave_out_router, left_to_host, way};
use crate::{
    case::{Case, Decision, Step},
    headers::{Carries, ETHERNET_LEN, Kind},
    packet::Buffer,
    rewrite,
    stages::{
        admit,
        parse::{self, Version},
        refuse,
    },
    tables::{FlowTable, Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// What becomes of a packet from outside. It passes, or is dropped as [`from_uplink`](super::from_uplink) would.
///
/// # Errors
/// The reason to drop it. With [`DropReason::SynChallenged`], [`rewrite::challenge_anew`]
/// makes the answer.
#[inline(always)]
pub fn early<B: Buffer, T: Tables>(packet: &B, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    let Ok(frame) = parse::ethernet(packet) else { return Ok(Verdict::PASS) };
    match frame.carries {
        Carries::Ipv4 => {
            let case = &mut *begin::<V4, _>(snapshot, arrival, frame)?;
            datagram(packet, &snapshot, case)
        }
        Carries::Ipv6 => {
            let case = &mut *begin::<V6, _>(snapshot, arrival, frame)?;
            datagram(packet, &snapshot, case)
        }
        Carries::Arp => Ok(Verdict::PASS),
    }
}

/// What becomes of an IP packet.
#[inline(always)]
fn datagram<A: Version, T: Tables + FlowTable<A>>(
    packet: &impl Buffer,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    if A::whole(packet, ETHERNET_LEN, &mut case.datagram).is_err() {
        return Ok(Verdict::PASS);
    }
    let message = &case.datagram.message;
    let is_opening = match message.kind {
        Kind::Tcp => message.segment.opens(),
        kind => matches!(kind, Kind::Plain | Kind::Echo),
    };
    if !is_opening {
        return Ok(Verdict::PASS);
    }
    leave_out_router(case);
    (case.key, case.step) = (case.datagram.key(case.device), Step::Open);
    if let Err(reason) = refuse::recall(snapshot, case) {
        // Its flow was opened from the other end since.
        return if snapshot.tables.find(&case.key).is_some() { Ok(Verdict::PASS) } else { Err(reason) };
    }
    if case.datagram.message.kind != Kind::Tcp {
        return Ok(Verdict::PASS);
    }
    match snapshot.tables.judge_early(snapshot.generation, case) {
        // Somebody is told of that.
        Err(DropReason::SynChallenged) if rewrite::check_ttl::<A>(packet).is_err() => Ok(Verdict::PASS),
        judged => judged,
    }
}

/// Judges a packet that opens a TCP connection, if it has no flow.
///
/// It is called through [`FlowTable::judge_early`].
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn judge<A: Address + Default, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    if snapshot.tables.find(&case.key).is_some() || !is_for_uplink(snapshot, case) {
        return Ok(Verdict::PASS);
    }
    (case.before, case.before_device) = (Decision::TRUST, 0);
    if !is_forwarded(snapshot, case) {
        return left_to_host(snapshot, case, DropReason::Unsolicited);
    }
    way::allow(snapshot, case)?;
    admit::early(snapshot, case)?;
    Ok(Verdict::PASS)
}
