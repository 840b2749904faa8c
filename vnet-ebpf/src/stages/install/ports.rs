//! Which source port a flow gets, and who has it then.

use vnet_common::{Address, Be16, DropReason, Flow, FlowKey, FlowState, Ops, Ports, Tuple};

use super::{Attempt, attempt, reserve, settle_for};
use crate::{
    case::{Case, Source},
    tables::{FlowTable, InsertError},
};

/// How many source ports are tried, its own first: all of a small pool, and enough of a large one to find a free port as
/// long as nine of ten are taken, but for one time in a thousand.
const TRIES: u32 = 65;

/// Reserves a source port for the flow that the packet of `case` opens: one under which answers are nobody else's yet,
/// by the entry for those. Its own comes first if it is among those that it may get; others from a place that differs
/// for each workload and port.
///
/// Where mappings are endpoint-independent, the port belongs to the packet's own whoever that speaks to (RFC 4787
/// REQ-1, RFC 5382 REQ-1). The mapping is a pair of entries as a flow is, under keys that no packet has.
///
/// It is called through [`FlowTable::reserve_port`].
///
/// # Errors
/// [`DropReason::PortsExhausted`], [`DropReason::FlowTableFull`], [`DropReason::FlowExpiring`].
#[inline(always)]
pub fn reserve_port<A: Address + Default, T: FlowTable<A>>(
    tables: &T,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let is_independent = case.source.is_independent != 0;
    if is_independent {
        let (protocol, own) = (case.datagram.protocol, case.key.ports.src());
        case.mapping_key = FlowKey::mapping(case.device, protocol, case.key.src, own);
        if let Some(port) = mapped(tables, case) {
            leave_with(case, port);
            return reserve(tables, &case.pair_key, &case.entry);
        }
        let mapping = case.mapping_key.tuple();
        mapping_entry(case, Ops::REPLY, mapping.reversed());
    }
    let mut found = Attempt::Busy;
    for number in 0..TRIES {
        found = tables.try_port(case, number)?;
        if found != Attempt::Busy {
            break;
        }
    }
    settle_for(tables, found, &case.pair_key, &case.entry)?;
    if is_independent {
        remember(tables, case);
    }
    Ok(())
}

/// Tries the source port that comes after `number` others.
///
/// It is called through [`FlowTable::try_port`].
///
/// # Errors
/// [`DropReason::PortsExhausted`] if those were all, [`DropReason::FlowTableFull`].
#[inline(always)]
pub fn try_port<A: Address + Default, T: FlowTable<A>>(
    tables: &T,
    case: &mut Case<A>,
    number: u32,
) -> Result<Attempt, DropReason> {
    let is_independent = case.source.is_independent != 0;
    leave_with(case, choice(case, number).ok_or(DropReason::PortsExhausted)?);
    if is_independent && !claim(tables, case)? {
        return Ok(Attempt::Busy);
    }
    let found = attempt(tables, &case.pair_key, &case.entry);
    if is_independent && found == Attempt::Busy {
        release(tables, case);
    }
    Ok(found)
}

/// The source port to be tried after so many others; `None` if those were all. Many workloads may have the same port of
/// their own, as servers of DNS or VPNs do, and the same address too, in a network each; so where one looks for another
/// depends on its MAC, which no other has.
#[inline(always)]
fn choice<A: Address>(case: &Case<A>, attempt: u32) -> Option<Be16> {
    let Source { first_port, last_port, .. } = case.source;
    let (own, span) = (case.key.ports.src().get(), u32::from(last_port.wrapping_sub(first_port)) + 1);
    if attempt > span {
        return None;
    }
    if attempt == 0 && (first_port..=last_port).contains(&own) {
        return Some(Be16::new(own));
    }
    let whose = case.asker.mac.link_local().digest();
    let place = whose.wrapping_add(u32::from(own)).wrapping_add(attempt) % span;
    Some(Be16::new(first_port.wrapping_add(place as u16)))
}

/// Has the packet leave with this source port, and answers come back to it.
#[inline(always)]
fn leave_with<A: Copy>(case: &mut Case<A>, port: Be16) {
    let ports = Ports::new(port, case.forth.leaves.ports.dst());
    case.forth.leaves.ports = ports;
    case.pair_key.ports = ports.reversed();
}

/// The source port of a mapping that is there, if it is of the address that the packet leaves with.
#[inline(always)]
fn mapped<A: Address, T: FlowTable<A>>(tables: &T, case: &Case<A>) -> Option<Be16> {
    let mapping = tables.find(&case.mapping_key)?;
    let is_alive = tables.touch(&mapping, case.now);
    let leaves = mapping.leaves.get();
    (is_alive && leaves.src == case.forth.leaves.src).then(|| leaves.ports.src())
}

/// The entry of a mapping, in the direction that `ops` tells, with the tuple that stands for its pair's.
#[inline(always)]
fn mapping_entry<A: Address + Default>(case: &mut Case<A>, ops: Ops, leaves: Tuple<A>) {
    case.mapping = Flow::default();
    let entry = &case.mapping;
    entry.state.set(FlowState::Established as u8);
    entry.last_seen.set(case.now);
    entry.generation.set(case.entry.generation.get());
    entry.ops.set(ops.and(Ops::TRANSLATE));
    entry.leaves.set(leaves);
}

/// Claims the source port that the packet leaves with, by the entry that leads back to its mapping; whether it was nobody's.
///
/// # Errors
/// [`DropReason::FlowTableFull`].
#[inline(always)]
fn claim<A: Address + Default, T: FlowTable<A>>(tables: &T, case: &mut Case<A>) -> Result<bool, DropReason> {
    case.claim_key = FlowKey::of(0, case.datagram.protocol, mapped_as(case).reversed());
    match tables.insert(&case.claim_key, &case.mapping) {
        Ok(()) => Ok(true),
        Err(InsertError::Exists) => Ok(false),
        Err(InsertError::Full) => Err(DropReason::FlowTableFull),
    }
}

/// The tuple that the packet's mapping leaves with.
#[inline(always)]
fn mapped_as<A: Address>(case: &Case<A>) -> Tuple<A> {
    Tuple::mapped(case.forth.device, case.forth.leaves.src, case.forth.leaves.ports.src())
}

/// Gives up a claim: the controller removes it.
#[inline(always)]
fn release<A: Address, T: FlowTable<A>>(tables: &T, case: &Case<A>) {
    if let Some(claim) = tables.find(&case.claim_key) {
        claim.state.set(FlowState::Closed as u8);
    }
}

/// Has the mapping lead to the port that was claimed for it. If another CPU has made one a moment ago, the flow alone
/// leaves with the port of this one.
#[inline(always)]
fn remember<A: Address + Default, T: FlowTable<A>>(tables: &T, case: &mut Case<A>) {
    let leaves = mapped_as(case);
    mapping_entry(case, Ops::NONE, leaves);
    if tables.insert(&case.mapping_key, &case.mapping) == Err(InsertError::Exists)
        && let Some(there) = tables.find(&case.mapping_key)
        && there.leaves.get().src != leaves.src
    {
        // The address that the network leaves with has changed.
        there.leaves.set(leaves);
    }
}
