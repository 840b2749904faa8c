//! What a packet says, and what it is part of if it is a fragment.

use vnet_common::{DropReason, link};

use crate::{
    case::Case,
    headers::{ETHERNET_LEN, Kind},
    packet::Packet,
    stages::{follow::Followed, parse::Version},
    tables::{FlowTable, Snapshot, Tables},
    verdict::Verdict,
};

/// Reads a packet into its case. What becomes of it at once, or nothing if it goes on: a fragment may be held back, if
/// `may_hold`.
///
/// # Errors
/// Those of the parser, [`DropReason::Fragment`], [`DropReason::FragmentOverlap`].
#[inline(always)]
pub(super) fn read<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    may_hold: bool,
) -> Result<Option<Verdict>, DropReason> {
    match A::whole(packet, ETHERNET_LEN, &mut case.datagram) {
        Err(DropReason::Fragment) => {}
        whole => return whole.map(|()| None),
    }
    Ok(match join(packet, snapshot, case, may_hold)? {
        Followed::Known => None,
        Followed::Held | Followed::Again => Some(Verdict::TAKEN),
    })
}

/// The same of what comes from outside. What vnet does not follow is the host's; a copy is held back of what may turn out not to be.
///
/// # Errors
/// [`DropReason::FragmentOverlap`] for a part of a flow that vnet has.
#[inline(always)]
pub(super) fn read_outside<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<Option<Verdict>, DropReason> {
    match A::whole(packet, ETHERNET_LEN, &mut case.datagram) {
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
fn has_flow<A: Version, T: Tables + FlowTable<A>>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> bool {
    snapshot.tables.find(&case.datagram.key(case.device)).is_some()
}

/// Reads a fragment, and finds its datagram.
///
/// # Errors
/// Those of the parser, [`DropReason::Fragment`], [`DropReason::FragmentOverlap`].
#[inline(always)]
fn join<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    may_hold: bool,
) -> Result<Followed, DropReason> {
    read_fragment(packet, case)?;
    if case.fragment.start == 0 && case.fragment.is_last != 0 {
        // A datagram of one fragment is whole (RFC 6946).
        return Ok(Followed::Known);
    }
    // What came by a link cannot arrive there again.
    let may_hold = may_hold && !link::is_link(case.device);
    packet.follow(snapshot.tables, case, may_hold)
}

/// Reads a fragment. A function of its own in the kernel too, for the stack's sake.
///
/// # Errors
/// Those of the parser, [`DropReason::Fragment`] for what must not come in fragments.
#[inline(never)]
fn read_fragment<A: Version, P: Packet>(packet: &P, case: &mut Case<A>) -> Result<(), DropReason> {
    (case.datagram, case.fragment) = A::fragment(packet, ETHERNET_LEN)?;
    // RFC 6980.
    if case.datagram.message.kind == Kind::Discovery { Err(DropReason::Fragment) } else { Ok(()) }
}
