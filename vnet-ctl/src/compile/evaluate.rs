//! Judges one packet by the rules as they stand in the policy, one after the other. The compiled tables
//! must say the same, faster.

use std::{cmp::Reverse, net::IpAddr};

use vnet_common::Direction;

use super::ports::blocks_of;
use crate::policy::{AclRule, Failsafe, OnChange, Peer, Policy, Protocol, Rule};

/// What rules can tell about a packet, its ends apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    /// The protocol number.
    pub(super) protocol: u8,
    /// The destination port, ICMP type × 256 + code, or 0.
    pub(super) value: u16,
    /// The version of its addresses.
    pub(super) is_ipv4: bool,
}

/// What rules can tell about the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerView<'a> {
    /// Its address.
    pub(super) addr: IpAddr,
    /// Its groups, if it is a port.
    pub(super) groups: &'a [String],
    /// Its network, if it is in one.
    pub(super) network: Option<&'a str>,
}

/// The entry of the acl that decides: the first that matches; and how many come before it.
pub(super) fn deciding_entry<'p>(
    policy: &'p Policy,
    direction: Direction,
    peer: &PeerView<'_>,
    packet: Packet,
) -> Option<(usize, &'p AclRule)> {
    let matches = |rule: &Rule| {
        rule.direction == direction
            && matched_length(rule, packet).is_some()
            && match_peers(policy, rule, peer).is_some()
    };
    policy.acl.iter().enumerate().find(|(_, entry)| matches(&entry.rule))
}

/// The failsafe port that a packet to the host is for.
pub(super) fn failsafe(policy: &Policy, packet: Packet) -> Option<Failsafe> {
    let is_it = |failsafe: &Failsafe| failsafe.protocol.0 == packet.protocol && failsafe.port == packet.value;
    policy.host.failsafe.iter().copied().find(is_it)
}

/// A rule that allows a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deciding<'p> {
    /// Its group.
    pub(super) group: &'p str,
    /// The rule.
    pub(super) rule: &'p Rule,
    /// What becomes of the flow when no rule allows it any more: it is kept if the group of any rule keeps it
    /// that stands as high as this one.
    pub(super) on_change: OnChange,
}

/// The rule of `groups` that allows the packet; of several, the one that the datapath finds first: `any`
/// before named peers, the packet's own protocol before `any`, the widest block of ports, the smallest id.
pub(super) fn deciding_rule<'p>(
    policy: &'p Policy,
    groups: &[String],
    direction: Direction,
    peer: &PeerView<'_>,
    packet: Packet,
) -> Option<Deciding<'p>> {
    let groups = groups.iter().filter_map(|group| policy.security_groups.get_key_value(group));
    let rules = groups.flat_map(|(name, group)| {
        let rules = match direction {
            Direction::Ingress => &group.ingress,
            Direction::Egress => &group.egress,
        };
        rules.iter().map(move |rule| (name.as_str(), group.on_change, rule))
    });
    let ranked = rules.filter_map(|(group, on_change, rule)| {
        let length = matched_length(rule, packet)?;
        let is_named = match_peers(policy, rule, peer)?;
        let is_own_protocol = rule.protocol != Protocol::ANY;
        Some(((is_named, Reverse(is_own_protocol), length), Deciding { group, rule, on_change }))
    });
    let ranked: Vec<_> = ranked.collect();
    let (highest, first) = ranked.iter().min_by_key(|(rank, deciding)| (*rank, deciding.rule.id))?;
    let equals = ranked.iter().filter(|(rank, _)| rank == highest);
    let on_change = equals.map(|(_, deciding)| deciding.on_change).max().unwrap_or_default();
    Some(Deciding { on_change, ..*first })
}

/// If the rule matches the packet itself: the significant bits of the block of ports that does.
fn matched_length(rule: &Rule, packet: Packet) -> Option<u8> {
    let matches_protocol = rule.protocol == Protocol::ANY || rule.protocol == Protocol(packet.protocol);
    if !matches_protocol || !rule.protocol.fits(packet.is_ipv4) {
        return None;
    }
    let [kind, code] = packet.value.to_be_bytes();
    let matches_icmp = rule.icmp.is_none_or(|(k, c)| k == kind && c.is_none_or(|c| c == code));
    let matches_ports = rule.ports.is_empty() || rule.ports.iter().any(|range| range.contains(packet.value));
    if !matches_icmp || !matches_ports {
        return None;
    }
    blocks_of(rule).into_iter().filter(|block| block.contains(packet.value)).map(|block| block.len).min()
}

/// If `peer` is one of the rule's: whether it is one by name rather than as anybody.
fn match_peers(policy: &Policy, rule: &Rule, peer: &PeerView<'_>) -> Option<bool> {
    let is_match = |candidate: &Peer| match candidate {
        Peer::Any => Some(false),
        Peer::Group(name) => peer.groups.contains(name).then_some(true),
        Peer::Network(name) => (peer.network == Some(name)).then_some(true),
        Peer::Cidr(_) | Peer::List(_) => {
            let containing = policy.prefixes(candidate).iter().filter(|net| net.contains(&peer.addr));
            containing.map(|net| net.prefix_len() > 0).min()
        }
    };
    rule.peers.iter().filter_map(is_match).min()
}
