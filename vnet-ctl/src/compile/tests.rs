//! What is compiled says the same as the policy, and fits.

mod assigning;
mod explaining;
mod random;
mod tables;

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use ipnet::IpNet;
use vnet_common::{Delivery, Direction, GroupSet, Identity, MacAddr, PolicyKey, RuleId};

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
        let bridge = self.devices.bridges[network].ifindex;
        match self.tables.endpoints.get(&(bridge, peer)) {
            Some(endpoint) => endpoint.identity,
            None => longest_match(&self.tables.peers, peer).unwrap_or(Identity::UNKNOWN.0),
        }
    }

    fn group_set(&self, port: &str) -> GroupSet {
        self.tables.ports[&self.devices.ports[port].ifindex].group_set
    }

    /// The rule that lets a packet between `port` and `peer` pass, found as the datapath finds it.
    fn probe(
        &self,
        port: &str,
        direction: Direction,
        peer: IpAddr,
        (protocol, value): (u8, u16),
    ) -> Option<RuleId> {
        let network = &self.policy.ports[port].network;
        let any = if peer.is_ipv4() { Identity::ANY_V4 } else { Identity::ANY_V6 };
        let set = self.group_set(port);
        for identity in [Identity(self.identity(network, peer)), any] {
            for protocol in [protocol, 0] {
                let head = PolicyKey::head(0, set, direction, identity, protocol);
                let lengths = self.tables.policy.get(&head).map_or(0, |head| head.sizes());
                for length in (0..=16).filter(|length| lengths & 1 << length != 0) {
                    if let Some(rule) = self.tables.policy.get(&head.block(value, length)) {
                        return Some(rule.rule());
                    }
                }
            }
        }
        None
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
