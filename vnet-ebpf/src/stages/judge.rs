//! Stage 7: what the rules say.
//!
//! Decides whether a packet that opens a flow may do so, and whether a flow that is judged again may go on:
//!
//! ```text
//! 1  what goes to the host from where that has no route to    dropped
//! 2  the host's failsafe ports, for what goes to the host     admitted
//! 3  `host = false`, for what goes to or comes from the host  dropped
//! 4  the host itself                                          trusted
//! 5  the acl of each end, its first rule that matches         dropped or admitted
//! 6  the groups of each end                                   admitted, else dropped
//! ```
//!
//! A metadata service is open to whoever it was made for. Sender and receiver each have to agree, as far as they
//! are ports that the policy knows: who is outside has no rules. The number of probes does not depend on that of rules: see
//! `vnet_common::PolicyKey`.

use vnet_common::{
    Direction, DropReason, GROUP_SET_ACL, GROUP_SET_HOST, GroupSet, Identity, NetworkFlags, Ops, PolicyKey,
    RuleId, has_acl,
};

use crate::{
    case::{Case, Decision},
    headers::Service,
    question::{Answer, Question},
    tables::{Snapshot, Tables},
};

/// Whether both ends allow what `case.asker` asks of `case.asked`, and which rules do; what allowed it before
/// may be kept.
///
/// # Errors
/// [`DropReason::AclDenied`], [`DropReason::EgressDenied`], [`DropReason::IngressDenied`],
/// [`DropReason::HostExcluded`].
#[inline(always)]
pub fn both_ends<A: Copy, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
) -> Result<Decision, DropReason> {
    let Case { network, asker: from, asked: to, service, before, target, .. } = case;
    if target.is_metadata != 0 {
        return Ok(Decision::TRUST);
    }
    if from.is_gateway() {
        host_may_speak(snapshot, *network)?;
        return Ok(Decision::TRUST);
    }
    if to.is_gateway() {
        if from.is_apart_from_host() || to.is_apart_from_host() {
            return Err(DropReason::HostExcluded);
        }
        let failsafe = failsafe(snapshot, service);
        if failsafe.is_found() {
            return Ok(Decision { rules: [failsafe.rule(), 0], keep: Ops::NONE });
        }
        host_may_speak(snapshot, *network)?;
    }
    let mut egress = End { rule: 0, keep: Ops::NONE, bit: Ops::KEEP_EGRESS };
    if !from.is_stranger() {
        let answer = ask(snapshot, service, Direction::Egress, from.group_set, to.identity);
        egress = End { rule: before.rules[0], keep: before.keep, ..egress }
            .settle(answer, DropReason::EgressDenied)?;
    }
    if to.is_gateway() || to.is_stranger() {
        return Ok(Decision { rules: [egress.rule, 0], keep: egress.keep });
    }
    let answer = ask(snapshot, service, Direction::Ingress, to.group_set, from.identity);
    let ingress = End { rule: before.rules[1], keep: before.keep, bit: Ops::KEEP_INGRESS }
        .settle(answer, DropReason::IngressDenied)?;
    Ok(Decision { rules: [egress.rule, ingress.rule], keep: egress.keep.and(ingress.keep) })
}

/// What allows a flow at one end.
#[derive(Clone, Copy)]
struct End {
    rule: RuleId,
    keep: Ops,
    /// The bit of `keep` that is this end's.
    bit: Ops,
}

impl End {
    /// What allows it after `answer`, where this is what allowed it before; `denied` if nothing does.
    #[inline(always)]
    fn settle(self, answer: Answer, denied: DropReason) -> Result<Self, DropReason> {
        let keep = if answer.rank_bit() { self.bit } else { Ops::NONE };
        match (answer.is_found(), answer.is_acl()) {
            (true, true) if answer.rank_bit() => Err(DropReason::AclDenied),
            (true, true) => Ok(Self { rule: answer.rule(), keep: Ops::NONE, ..self }),
            (true, false) => Ok(Self { rule: answer.rule(), keep, ..self }),
            (false, _) if self.keep.has(self.bit) => Ok(Self { keep: self.bit, ..self }),
            (false, _) => Err(denied),
        }
    }
}

/// Whether a packet to many may leave a port with `set` for `peer`.
///
/// # Errors
/// [`DropReason::AclDenied`], [`DropReason::EgressDenied`].
#[inline(always)]
pub fn sends<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    service: &Service,
    set: GroupSet,
    peer: u32,
) -> Result<(), DropReason> {
    let end = End { rule: 0, keep: Ops::NONE, bit: Ops::KEEP_EGRESS };
    let answer = ask(snapshot, service, Direction::Egress, set, peer);
    end.settle(answer, DropReason::EgressDenied).map(drop)
}

/// Whether a packet to many may reach a port with `set` from `peer`.
///
/// # Errors
/// [`DropReason::AclDenied`], [`DropReason::IngressDenied`].
#[inline(always)]
pub fn receives<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    service: &Service,
    set: GroupSet,
    peer: u32,
) -> Result<(), DropReason> {
    let end = End { rule: 0, keep: Ops::NONE, bit: Ops::KEEP_INGRESS };
    let answer = ask(snapshot, service, Direction::Ingress, set, peer);
    end.settle(answer, DropReason::IngressDenied).map(drop)
}

/// Whether `network` lets the host and its ports speak, failsafe ports aside.
///
/// # Errors
/// [`DropReason::HostExcluded`].
#[inline(always)]
pub fn host_may_speak<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32) -> Result<(), DropReason> {
    if snapshot.network(network)?.flags.has(NetworkFlags::EXCLUDES_HOST) {
        return Err(DropReason::HostExcluded);
    }
    Ok(())
}

/// Whether a port of `network` may reach the host's `service` as far as the network is concerned.
///
/// # Errors
/// [`DropReason::HostExcluded`].
#[inline(always)]
pub fn reaches_host<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    network: u32,
    service: &Service,
) -> Result<(), DropReason> {
    if failsafe(snapshot, service).is_found() { Ok(()) } else { host_may_speak(snapshot, network) }
}

/// The host's own rule that keeps `service` open, whatever else is said.
#[inline(always)]
fn failsafe<T: Tables>(snapshot: &Snapshot<'_, T>, service: &Service) -> Answer {
    ask(snapshot, service, Direction::Ingress, GROUP_SET_HOST, Identity::UNKNOWN.0)
}

/// What the rules say to a question of this packet.
#[inline(always)]
fn ask<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    service: &Service,
    direction: Direction,
    set: GroupSet,
    peer: u32,
) -> Answer {
    snapshot.tables.ask(Question { service: *service, side: snapshot.side(), direction, set, peer })
}

/// What the acl, then the groups, say.
#[inline(always)]
pub fn answer<T: Tables>(tables: &T, question: &Question) -> Answer {
    if has_acl(question.set, question.direction) {
        let answer = acl(tables, question);
        if answer.is_found() {
            return answer;
        }
    }
    groups(tables, question)
}

/// What the groups say.
#[inline(always)]
fn groups<T: Tables>(tables: &T, question: &Question) -> Answer {
    for number in 0..kinds(question) {
        let (peer, protocol) = kind(question, number);
        let head = PolicyKey::head(question.side, question.set, question.direction, peer, protocol);
        let rule = first(tables, head, question.service.port);
        if rule.is_found() {
            return rule;
        }
    }
    Answer::NOTHING
}

/// What the acl says: of all its rules that match, the first in the policy.
#[inline(always)]
fn acl<T: Tables>(tables: &T, question: &Question) -> Answer {
    let mut lowest = NO_RANK;
    for number in 0..kinds(question) {
        let (peer, protocol) = kind(question, number);
        let head = PolicyKey::head(question.side, GROUP_SET_ACL, question.direction, peer, protocol);
        lowest = lowest_rank(tables, head, question.service.port, lowest);
    }
    if lowest == NO_RANK { Answer::NOTHING } else { Answer::acl(lowest) }
}

/// The protocol of rules for every protocol.
const ANY_PROTOCOL: u8 = 0;
/// Above every rank of an acl rule.
const NO_RANK: u64 = u64::MAX;

/// How many kinds of rules match: for everybody and for the peer, of whom no rule may say anything; for the protocol and
/// for every one.
#[inline(always)]
const fn kinds(question: &Question) -> u32 {
    if question.peer == Identity::UNKNOWN.0 { 2 } else { 4 }
}

/// The peer and the protocol of one of them. Those for everybody come first, which most packets are allowed by.
#[inline(always)]
const fn kind(question: &Question, number: u32) -> (Identity, u8) {
    let peer = match (number, question.service.is_v4) {
        (2.., _) => Identity(question.peer),
        (_, true) => Identity::ANY_V4,
        (_, false) => Identity::ANY_V6,
    };
    (peer, if number & 1 == 0 { question.service.protocol } else { ANY_PROTOCOL })
}

/// The rule under `head` with the widest block that contains `port`. Groups only allow, so any would do.
#[inline(always)]
fn first<T: Tables>(tables: &T, head: PolicyKey, port: u16) -> Answer {
    let Some(sizes) = tables.policy(&head) else { return Answer::NOTHING };
    let mut sizes = sizes.sizes();
    // Seventeen prefix lengths. Taking the lowest bit off, rather than testing each, leaves the verifier
    // with one state per round instead of one per combination of bits.
    for _ in 0..=16 {
        if sizes == 0 {
            break;
        }
        let prefix_len = sizes.trailing_zeros() as u8;
        sizes &= sizes - 1;
        if let Some(rule) = tables.policy(&head.block(port, prefix_len)) {
            return Answer::group(*rule);
        }
    }
    Answer::NOTHING
}

/// The lowest of `lowest` and of the rules under `head` whose blocks contain `port`: the rank above the rule.
#[inline(always)]
fn lowest_rank<T: Tables>(tables: &T, head: PolicyKey, port: u16, mut lowest: u64) -> u64 {
    let Some(sizes) = tables.policy(&head) else { return lowest };
    let mut sizes = sizes.sizes();
    for _ in 0..=16 {
        if sizes == 0 {
            break;
        }
        let prefix_len = sizes.trailing_zeros() as u8;
        sizes &= sizes - 1;
        if let Some(rule) = tables.policy(&head.block(port, prefix_len)) {
            lowest = lowest.min(u64::from(rule.rank()) << 32 | u64::from(rule.rule()));
        }
    }
    lowest
}
