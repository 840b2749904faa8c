//! Fragments: what they are part of, before they go the way of all packets.

use vnet_common::DropReason;

use crate::{
    case::Case,
    headers::{ETHERNET_LEN, Kind},
    packet::Packet,
    stages::{follow::Followed, parse::Quoted},
    tables::{FlowTable, Snapshot, Tables},
    verdict::Verdict,
};

/// What becomes of a packet at once, where `read` is what the parser found and whether a fragment may be held back;
/// `None` if it goes on.
///
/// # Errors
/// Those of the parser, [`DropReason::Fragment`], [`DropReason::FragmentOverlap`].
#[inline(always)]
pub(super) fn followed<A: Quoted, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    (found, may_hold): (Result<(), DropReason>, bool),
) -> Result<Option<Verdict>, DropReason> {
    if found != Err(DropReason::Fragment) {
        return found.map(|()| None);
    }
    Ok(match join(packet, snapshot, case, may_hold)? {
        Followed::Known => None,
        Followed::Held | Followed::Again => Some(Verdict::TAKEN),
    })
}

/// The same outside. What vnet does not follow is the host's; a copy is held back of what may turn out not to be.
///
/// # Errors
/// [`DropReason::FragmentOverlap`] for a part of a flow that vnet has.
#[inline(always)]
pub(super) fn followed_outside<A: Quoted, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    found: Result<(), DropReason>,
) -> Result<Option<Verdict>, DropReason> {
    match found {
        Ok(()) => return Ok(None),
        Err(DropReason::Fragment) => {}
        Err(_) => return Ok(Some(Verdict::PASS)),
    }
    match join(packet, snapshot, case, true) {
        Ok(Followed::Known) => Ok(None),
        Ok(Followed::Again) => Ok(Some(Verdict::TAKEN)),
        Err(DropReason::FragmentOverlap) if has_flow(snapshot, case) => Err(DropReason::FragmentOverlap),
        Ok(Followed::Held) | Err(_) => Ok(Some(Verdict::PASS)),
    }
}

/// Whether the packet belongs to a flow.
#[inline(always)]
fn has_flow<A: Quoted, T: Tables + FlowTable<A>>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> bool {
    snapshot.tables.find(&case.datagram.key(case.device)).is_some()
}

/// Reads a fragment, and finds its datagram.
///
/// # Errors
/// Those of the parser, [`DropReason::Fragment`], [`DropReason::FragmentOverlap`].
#[inline(always)]
fn join<A: Quoted, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    may_hold: bool,
) -> Result<Followed, DropReason> {
    read(packet, case)?;
    if case.fragment.start == 0 && case.fragment.is_last != 0 {
        // A datagram of one fragment is whole (RFC 6946).
        return Ok(Followed::Known);
    }
    packet.follow(snapshot.tables, case, may_hold)
}

/// Reads a fragment. A function of its own in the kernel too, for the stack's sake.
///
/// # Errors
/// Those of the parser, [`DropReason::Fragment`] for what must not come in fragments.
#[inline(never)]
fn read<A: Quoted, P: Packet>(packet: &P, case: &mut Case<A>) -> Result<(), DropReason> {
    (case.datagram, case.fragment) = A::fragment(packet, ETHERNET_LEN)?;
    // RFC 6980.
    if case.datagram.message.kind == Kind::Discovery { Err(DropReason::Fragment) } else { Ok(()) }
}
