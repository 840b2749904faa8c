//! Stage 6: what the security groups say.
//!
//! Decides whether the sender's egress rules and the receiver's ingress rules allow a packet that opens a
//! flow. Groups only allow, so the order of the probes does not matter and their number does not depend
//! on the number of rules: see `vnet_common::PolicyKey`.

use core::num::NonZeroU32;

use vnet_common::{Direction, DropReason, Endpoint, GroupSet, Identity, PolicyKey, RuleId};

use crate::{
    headers::Service,
    tables::{Snapshot, Tables},
};

/// Whether both ends allow `from` to ask `to` for `service`; the rules that do. The host is trusted: it
/// has no groups, and what it sends is not subject to those of others.
///
/// # Errors
/// [`DropReason::EgressDenied`], [`DropReason::IngressDenied`].
#[inline(always)]
pub fn both_ends<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    from: &Endpoint,
    to: &Endpoint,
    service: &Service,
) -> Result<[RuleId; 2], DropReason> {
    if from.is_gateway() {
        return Ok([0, 0]);
    }
    let egress = sends(snapshot, service, from.group_set, to.identity)?;
    if to.is_gateway() {
        return Ok([egress, 0]);
    }
    Ok([egress, receives(snapshot, service, to.group_set, from.identity)?])
}

/// The egress rule of `set` that allows `service` at `peer`.
///
/// # Errors
/// [`DropReason::EgressDenied`].
#[inline(always)]
pub fn sends<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    service: &Service,
    set: GroupSet,
    peer: u32,
) -> Result<RuleId, DropReason> {
    find_rule(snapshot, service, Direction::Egress, set, peer)
        .map(NonZeroU32::get)
        .ok_or(DropReason::EgressDenied)
}

/// The ingress rule of `set` that allows `peer` to ask for `service`.
///
/// # Errors
/// [`DropReason::IngressDenied`].
#[inline(always)]
pub fn receives<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    service: &Service,
    set: GroupSet,
    peer: u32,
) -> Result<RuleId, DropReason> {
    find_rule(snapshot, service, Direction::Ingress, set, peer)
        .map(NonZeroU32::get)
        .ok_or(DropReason::IngressDenied)
}

/// A function of its own in the kernel too: it is called for both ends, from several places.
#[inline(never)]
fn find_rule<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    service: &Service,
    direction: Direction,
    set: GroupSet,
    peer: u32,
) -> Option<NonZeroU32> {
    const ANY_PROTOCOL: u8 = 0;
    let any = if service.is_v4 { Identity::ANY_V4 } else { Identity::ANY_V6 };
    for peer in [Identity(peer), any] {
        for protocol in [service.protocol, ANY_PROTOCOL] {
            let head = PolicyKey::head(snapshot.side(), set, direction, peer, protocol);
            if let Some(rule) = probe(snapshot.tables, head, service.port) {
                return NonZeroU32::new(rule);
            }
        }
    }
    None
}

/// The rule under `head` whose block contains `port`.
#[inline(always)]
fn probe<T: Tables>(tables: &T, head: PolicyKey, port: u16) -> Option<RuleId> {
    let mut sizes = tables.policy(&head)?.sizes();
    // Seventeen prefix lengths. Taking the lowest bit off, rather than testing each, leaves the verifier
    // with one state per round instead of one per combination of bits.
    for _ in 0..=16 {
        if sizes == 0 {
            return None;
        }
        let prefix_len = sizes.trailing_zeros() as u8;
        sizes &= sizes - 1;
        if let Some(rule) = tables.policy(&head.block(port, prefix_len)) {
            return Some(rule.rule());
        }
    }
    None
}
