//! What is compiled says the same as the policy, and fits.

mod assigning;
mod backends;
mod explaining;
mod following;
mod overlaps;
mod random;
mod segments;
mod tables;
mod translation;

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use ipnet::IpNet;
use vnet_common::{
    Delivery, Direction, GATE_EGRESS_ACL, GATE_INGRESS_ACL, GROUP_SET_ACL, GroupSet, Identity, MacAddr,
    PolicyEntry, PolicyKey, PortRecord, RuleId, has_acl,
};

use super::{Assigned, Bridge, Devices, PortDevice, Tables, assign, compile};
use crate::policy::{Policy, parse};

fn policy(text: &str) -> Policy {
    match parse(text, Path::new("p.toml")) {
        Ok((policy, _)) => policy,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A device for each network and port: bridges from 10 on, ports from 1000 on, in the order of their names.
fn devices(policy: &Policy) -> Devices {
    let bridge = |(name, ifindex): (&String, u32)| {
        let mac = MacAddr([2, 0xbb, 0, 0, 0, ifindex as u8]);
        (name.clone(), Bridge { ifindex, mac })
    };
    let port =
        |(name, ifindex): (&String, u32)| (name.clone(), PortDevice { ifindex, delivery: Delivery::Peer });
    Devices {
        bridges: policy.networks.keys().zip(10..).map(bridge).collect(),
        ports: policy.ports.keys().zip(1000..).map(port).collect(),
        ..Devices::default()
    }
}

/// A policy with all its devices, compiled.
struct World {
    policy: Policy,
    assigned: Assigned,
    devices: Devices,
    tables: Tables,
}

impl World {
    fn new(text: &str) -> Self {
        let policy = policy(text);
        let assigned = assign(&policy, &BTreeMap::new()).expect("addresses");
        let devices = devices(&policy);
        let tables = compile(&policy, &assigned, &devices).expect("fits");
        Self { policy, assigned, devices, tables }
    }

    /// Who `peer` is to the ports of `network`, as the datapath looks it up.
    fn identity(&self, network: &str, peer: IpAddr) -> u32 {
        let own = self.devices.bridges[network].ifindex;
        let joined = |(bridge, net): &(u32, IpNet)| *bridge == own && net.contains(&peer);
        let join = self.tables.joins.iter().find(|(key, _)| joined(key)).map(|(_, bridge)| *bridge);
        let found = [Some(own), join].into_iter().flatten();
        match found.filter_map(|bridge| self.tables.endpoints.get(&(bridge, peer))).next() {
            Some(endpoint) => endpoint.identity,
            None => longest_match(&self.tables.peers, peer).unwrap_or(Identity::UNKNOWN.0),
        }
    }

    /// The number of a port's groups, without the gates.
    fn group_set(&self, port: &str) -> GroupSet {
        self.record_of(port).group_set & !(GATE_INGRESS_ACL | GATE_EGRESS_ACL)
    }

    fn record_of(&self, port: &str) -> &PortRecord {
        &self.tables.ports[&self.devices.ports[port].ifindex]
    }

    /// The rule that lets a packet between `port` and `peer` pass, found as the datapath finds it.
    fn probe(&self, port: &str, direction: Direction, peer: IpAddr, packet: (u8, u16)) -> Option<RuleId> {
        self.entry(port, direction, peer, packet).map(PolicyEntry::rule)
    }

    /// The entry of that rule.
    fn entry(
        &self,
        port: &str,
        direction: Direction,
        peer: IpAddr,
        packet: (u8, u16),
    ) -> Option<PolicyEntry> {
        self.matching(self.group_set(port), (port, direction, peer), packet).first().copied()
    }

    /// The entry of the acl that decides, found as the datapath finds it.
    fn acl_entry(
        &self,
        port: &str,
        direction: Direction,
        peer: IpAddr,
        packet: (u8, u16),
    ) -> Option<PolicyEntry> {
        if !has_acl(self.record_of(port).group_set, direction) {
            return None;
        }
        let entries = self.matching(GROUP_SET_ACL, (port, direction, peer), packet);
        entries.into_iter().min_by_key(|entry| entry.position())
    }

    /// All entries of `set` for a packet, in the order in which the datapath comes upon them.
    fn matching(
        &self,
        set: GroupSet,
        (port, direction, peer): (&str, Direction, IpAddr),
        (protocol, value): (u8, u16),
    ) -> Vec<PolicyEntry> {
        let network = &self.policy.ports[port].network;
        let any = if peer.is_ipv4() { Identity::ANY_V4 } else { Identity::ANY_V6 };
        let mut found = Vec::new();
        for identity in [any, Identity(self.identity(network, peer))] {
            for protocol in [protocol, 0] {
                let head = PolicyKey::head(0, set, direction, identity, protocol);
                let lengths = self.tables.policy.get(&head).map_or(0, |head| head.sizes());
                let lengths = (0..=16).filter(|length| lengths & 1 << length != 0);
                found.extend(lengths.filter_map(|length| self.tables.policy.get(&head.block(value, length))));
            }
        }
        found
    }
}

/// What a longest-prefix-match map answers that holds IPv4 as ::ffff:0:0/96.
fn longest_match(peers: &BTreeMap<IpNet, u32>, addr: IpAddr) -> Option<u32> {
    let bits = |addr: IpAddr| match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let length = |net: &IpNet| u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
    let contains = |net: &IpNet| {
        let differing = bits(net.addr()) ^ bits(addr);
        differing.leading_zeros() >= length(net)
    };
    peers
        .iter()
        .filter(|(net, _)| contains(net))
        .max_by_key(|(net, _)| length(net))
        .map(|(_, identity)| *identity)
}
