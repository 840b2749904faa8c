//! Between stages 2 and 3: what was refused a moment ago.
//!
//! Decides whether a packet that would open a flow is refused as the last one with its tuple was, without anybody being
//! asked. A refusal holds under its generation, for the rest of the tick (1.07 s): what it came from and no generation
//! tells of, such as a socket of the host that has connected since, counts again in the next one. Each CPU remembers its
//! own; two tuples that fall on the same place displace one another, which costs time and nothing else.

use core::cell::Cell;

use vnet_common::{Address, DropReason, FlowKey, MacPair, digest, limits};

use crate::{
    case::{Case, Step},
    tables::{FlowTable, Snapshot},
};

/// Which packets are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refused<A> {
    key: FlowKey<A>,
    macs: MacPair,
    heard: u32,
}

/// The last refusal that fell on a place. All zeros are none: no policy has generation 0.
#[derive(Debug, Default)]
pub struct Refusal<A: Copy> {
    generation: Cell<u32>,
    tick: Cell<u32>,
    /// The number of the reason.
    reason: Cell<u32>,
    refused: Cell<Refused<A>>,
}

/// Refuses the packet of `case`, which would open a flow, if one like it has just been.
///
/// # Errors
/// The reason that one was dropped for.
#[inline(always)]
pub fn recall<A: Address, T: FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
) -> Result<(), DropReason> {
    let Some(refusal) = find(snapshot, case) else { return Ok(()) };
    // Most are too old, or none at all.
    if refusal.tick.get() != case.now
        || refusal.generation.get() != snapshot.generation
        || refusal.refused.get() != refused(case)
    {
        return Ok(());
    }
    Err(DropReason::try_from(refusal.reason.get()).unwrap_or(DropReason::Internal))
}

/// Remembers that the packet of `case` is dropped for `reason`, if that is what the rules say of all that have its tuple.
#[inline(always)]
pub fn note<A: Address, T: FlowTable<A>>(snapshot: &Snapshot<'_, T>, case: &Case<A>, reason: DropReason) {
    let is_said_by_rules =
        matches!(reason, DropReason::AclDenied | DropReason::EgressDenied | DropReason::IngressDenied);
    if case.step == Step::Open
        && is_said_by_rules
        && let Some(refusal) = find(snapshot, case)
    {
        refusal.refused.set(refused(case));
        refusal.generation.set(snapshot.generation);
        refusal.tick.set(case.now);
        refusal.reason.set(reason.number());
    }
}

/// The place of the case's tuple.
#[inline(always)]
fn find<'a, A: Address, T: FlowTable<A>>(
    snapshot: &Snapshot<'a, T>,
    case: &Case<A>,
) -> Option<&'a Refusal<A>> {
    let FlowKey { origin, src, dst, ports } = case.key;
    let words = [src.ip().digest(), dst.ip().digest(), ports.to_bits(), origin.to_bits()];
    snapshot.tables.refusal(digest(words) % limits::REFUSALS)
}

#[inline(always)]
fn refused<A: Address>(case: &Case<A>) -> Refused<A> {
    let Case { key, macs, heard, .. } = *case;
    Refused { key, macs, heard: heard.into() }
}
