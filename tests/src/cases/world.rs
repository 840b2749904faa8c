//! The world of the cases: two networks, their ports, and the rules between them, as the tables that the
//! controller would write for it.
//!
//! ```text
//! network W (private)                 network X (nat)
//!   gateway G  10.0.0.1  fd00::1        gateway H  10.9.0.1  fd00:9::1
//!   port    A  10.0.0.10 fd00::a        port    C  10.9.0.12 fd00:9::c
//!   port    B  10.0.0.11 fd00::b
//!   tap     T  10.0.0.13 fd00::d
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{
    Delivery, Direction, Endpoint, Identity, Ip, MacAddr, NetworkFlags, NetworkRecord, OnChange, PolicyEntry,
    PolicyKey, PortRecord,
};

/// A device of the world; its ifindex is the runner's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// The bridge of network W.
    W,
    /// The bridge of network X.
    X,
    /// Port A's device, a veth.
    A,
    /// Port B's device, a veth.
    B,
    /// Port T's device, a tap.
    T,
    /// Port C's device, a veth.
    C,
    /// A device that the policy does not know.
    Stranger,
}

/// The ifindex of each device.
#[derive(Clone, Debug)]
pub struct Devices(pub [u32; 7]);

impl Devices {
    /// All devices, in the order of [`Devices`].
    pub const ALL: [Device; 7] =
        [Device::W, Device::X, Device::A, Device::B, Device::T, Device::C, Device::Stranger];

    /// The ifindex of `device`.
    #[must_use]
    pub const fn index(&self, device: Device) -> u32 {
        self.0[device as usize]
    }

    /// The device that has `ifindex`.
    #[must_use]
    pub fn device(&self, ifindex: u32) -> Option<Device> {
        Self::ALL.into_iter().find(|device| self.index(*device) == ifindex)
    }
}

/// Somebody who sends and receives: a workload, or the host on a network.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// The device on which vnet sees what it sends.
    pub device: Device,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// How what others send gets to it.
    pub delivery: Delivery,
}

impl Party {
    /// The IPv6 address that it derives from its MAC.
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.mac.link_local().octets())
    }

    /// Its address of the version that `version` is of.
    #[must_use]
    pub const fn addr(&self, version: Version) -> IpAddr {
        match version {
            Version::V4 => IpAddr::V4(self.v4),
            Version::V6 => IpAddr::V6(self.v6),
        }
    }
}

/// A version of IP. Most cases are played with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

const fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

const fn party(device: Device, last: u8, v4: [u8; 4], v6: [u16; 2], delivery: Delivery) -> Party {
    let [a, b, c, d] = v4;
    Party {
        device,
        mac: mac(last),
        v4: Ipv4Addr::new(a, b, c, d),
        v6: Ipv6Addr::new(0xfd00, v6[0], 0, 0, 0, 0, 0, v6[1]),
        delivery,
    }
}

/// The host on network W.
pub const G: Party = party(Device::W, 1, [10, 0, 0, 1], [0, 1], Delivery::Host);
/// The host on network X.
pub const H: Party = party(Device::X, 2, [10, 9, 0, 1], [9, 1], Delivery::Host);
/// A client: may ask for anything, is asked for little.
pub const A: Party = party(Device::A, 0xa, [10, 0, 0, 10], [0, 0xa], Delivery::Peer);
/// A server.
pub const B: Party = party(Device::B, 0xb, [10, 0, 0, 11], [0, 0xb], Delivery::Peer);
/// A virtual machine on a tap.
pub const T: Party = party(Device::T, 0xd, [10, 0, 0, 13], [0, 0xd], Delivery::Device);
/// A workload of the other network.
pub const C: Party = party(Device::C, 0xc, [10, 9, 0, 12], [9, 0xc], Delivery::Peer);

/// B's other MAC, under [`Policy::OtherMac`].
pub const OTHER_MAC_OF_B: MacAddr = mac(0x1b);

/// An address of the host that is in no network of the policy.
pub const HOST_ELSEWHERE: Party =
    Party { v4: Ipv4Addr::new(192, 0, 2, 1), v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), ..G };

/// What a commit puts in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The rules below.
    Usual,
    /// Without the rule by which A may ask B for tcp/80.
    WithoutHttp,
    /// The rules as usual, but B has another MAC.
    OtherMac,
    /// Without port B.
    WithoutB,
}

/// The tables of a policy, with the keys of side 0.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// By device.
    pub ports: Vec<(u32, PortRecord)>,
    /// By bridge.
    pub networks: Vec<(u32, NetworkRecord)>,
    /// By network and address.
    pub endpoints: Vec<(u32, Ip, Endpoint)>,
    /// By prefix: bits of the address (as [`Ip`]), address.
    pub peers: Vec<(u32, Ip, u32)>,
    /// Heads and blocks.
    pub policy: Vec<(PolicyKey, PolicyEntry)>,
}

/// Group sets and identities: each party has its own.
const fn number(device: Device) -> u32 {
    Identity::FIRST.0 + device as u32
}

/// The identity of 239.1.0.0/16, which a rule of B names.
const STREAMS: u32 = Identity::FIRST.0 + 100;
const ANY: [u32; 2] = [Identity::ANY_V4.0, Identity::ANY_V6.0];

/// The rule that [`Policy::WithoutHttp`] lacks.
pub const HTTP: u32 = 0xb1;
/// The rule by which A may send everything.
pub const A_SENDS: u32 = 0xa1;

struct Rule {
    id: u32,
    set: Device,
    direction: Direction,
    peers: &'static [u32],
    protocol: u8,
    ports: (u16, u16),
}

const fn rule(
    (id, set, direction): (u32, Device, Direction),
    peers: &'static [u32],
    (protocol, first, last): (u8, u16, u16),
) -> Rule {
    Rule { id, set, direction, peers, protocol, ports: (first, last) }
}

const ALL_PORTS: (u16, u16) = (0, u16::MAX);
const ECHO: u16 = 8 << 8;
const TIMESTAMP: u16 = 13 << 8;
const ECHO_V6: u16 = 128 << 8;

const RULES: &[Rule] = {
    use Direction::{Egress as Out, Ingress as In};
    const A: &[u32] = &[number(Device::A)];
    const B: &[u32] = &[number(Device::B)];
    const G: &[u32] = &[number(Device::W)];
    &[
        rule((A_SENDS, Device::A, Out), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xa2, Device::A, In), B, (6, 9000, 9000)),
        rule((0xa3, Device::A, In), &ANY, (17, 5000, 5000)),
        rule((HTTP, Device::B, In), A, (6, 80, 80)),
        rule((0xb2, Device::B, In), &ANY, (6, 8000, 8010)),
        rule((0xb3, Device::B, In), &ANY, (17, 53, 53)),
        rule((0xb4, Device::B, In), &ANY, (1, ECHO, ECHO)),
        rule((0xb5, Device::B, In), &ANY, (58, ECHO_V6, ECHO_V6)),
        rule((0xb6, Device::B, In), &ANY, (132, 5000, 5000)),
        rule((0xb7, Device::B, In), &ANY, (47, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xb8, Device::B, In), &ANY, (1, TIMESTAMP, TIMESTAMP + 255)),
        rule((0xc1, Device::B, Out), A, (6, 9000, 9001)),
        rule((0xc2, Device::B, Out), G, (6, 22, 22)),
        rule((0xc3, Device::B, Out), &[STREAMS], (17, 5000, 5000)),
        rule((0xd1, Device::T, Out), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xd2, Device::T, In), A, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xe1, Device::C, Out), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xe2, Device::C, In), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
    ]
};

/// The tables that hold `policy`.
#[must_use]
pub fn tables(policy: Policy, devices: &Devices) -> Tables {
    let mut tables = Tables::default();
    for (gateway, flags) in [(G, NetworkFlags::NONE), (H, NetworkFlags::LEADS_OUTSIDE)] {
        let bridge = devices.index(gateway.device);
        tables.networks.push((bridge, NetworkRecord::new(gateway.mac, flags)));
        let endpoint = Endpoint::gateway(bridge, gateway.mac, number(gateway.device));
        add_addresses(&mut tables, bridge, &gateway, endpoint);
    }
    for (mut port, gateway) in [(A, G), (B, G), (T, G), (C, H)] {
        match (policy, port.device) {
            (Policy::WithoutB, Device::B) => continue,
            (Policy::OtherMac, Device::B) => port.mac = OTHER_MAC_OF_B,
            _ => {}
        }
        let (device, network) = (devices.index(port.device), devices.index(gateway.device));
        let number = number(port.device);
        let record = PortRecord { network, group_set: number, mac: port.mac, gateway_mac: gateway.mac };
        tables.ports.push((device, record));
        let endpoint = Endpoint::port(device, port.delivery, port.mac, number, number);
        add_addresses(&mut tables, network, &port, endpoint);
    }
    tables.peers.push((96 + 16, Ip::from_std(Ipv4Addr::new(239, 1, 0, 0).into()), STREAMS));
    for rule in RULES.iter().filter(|rule| policy != Policy::WithoutHttp || rule.id != HTTP) {
        add_rule(&mut tables.policy, rule);
    }
    tables
}

fn add_addresses(tables: &mut Tables, network: u32, party: &Party, endpoint: Endpoint) {
    for addr in [party.v4.into(), party.v6.into(), party.link_local().into()] {
        tables.endpoints.push((network, Ip::from_std(addr), endpoint));
    }
}

fn add_rule(policy: &mut Vec<(PolicyKey, PolicyEntry)>, rule: &Rule) {
    for peer in rule.peers {
        let head = PolicyKey::head(0, number(rule.set), rule.direction, Identity(*peer), rule.protocol);
        let mut sizes = 0;
        for (port, prefix_len) in blocks(rule.ports) {
            sizes |= 1 << prefix_len;
            policy.push((head.block(port, prefix_len), PolicyEntry::group(rule.id, OnChange::Cut)));
        }
        match policy.iter_mut().find(|(key, _)| *key == head) {
            Some((_, value)) => *value = PolicyEntry::head(value.sizes() | sizes),
            None => policy.push((head, PolicyEntry::head(sizes))),
        }
    }
}

/// The aligned power-of-two blocks that make up a range: first port and prefix length of each.
fn blocks((first, last): (u16, u16)) -> Vec<(u16, u8)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    let mut blocks = Vec::new();
    while next < end {
        let fits = |bits: &u32| next.is_multiple_of(1 << bits) && next + (1 << bits) <= end;
        let bits = (0..=16).rev().find(fits).unwrap_or_default();
        blocks.push((next as u16, (16 - bits) as u8));
        next += 1 << bits;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_range_exactly() {
        assert_eq!(blocks((80, 80)), [(80, 16)]);
        assert_eq!(blocks((0, u16::MAX)), [(0, 0)]);
        assert_eq!(blocks((8000, 8010)), [(8000, 13), (8008, 15), (8010, 16)]);
    }
}
