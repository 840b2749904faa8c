//! The world of the cases: two networks, their ports, and the rules between them, as the tables that the
//! controller would write for it.
//!
//! ```text
//! network W (private)                 network X (nat)
//!   gateway G  10.0.0.1  fd00::1        gateway H  10.9.0.1  fd00:9::1
//!   port    A  10.0.0.10 fd00::a        port    C  10.9.0.12 fd00:9::c
//!   port    B  10.0.0.11 fd00::b
//!   tap     T  10.0.0.13 fd00::d
//!
//! uplink U (the host is 198.51.100.1, 2001:db8:100::1)          outside O  203.0.113.5  2001:db8:5::5
//! ```
//!
//! What is beyond the host in a network, by the trunk K or the uplink, is in [`segment`].

mod backends;
mod devices;
pub mod segment;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{
    Delivery, ElasticIp, Endpoint, Exit, Forward, ForwardKey, ForwardKind, GATE_EGRESS_ACL, GATE_INGRESS_ACL,
    GROUP_SET_ACL, GROUP_SET_HOST, GroupSet, Identity, Ip, JOIN_OUTSIDE, Link, LinkKey, MacAddr,
    NetworkFlags, NetworkRecord, OnChange, PolicyEntry, PolicyKey, PortFlags, PortRecord, Station,
    UplinkRecord, V4, V6,
};

pub use self::{
    backends::Backends,
    devices::{Device, Devices},
    segment::Beyond,
};

use super::rules::{ACL, C_SERVES, FAILSAFE, HTTP, RULES, Rule, STREAMS};

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

/// Whoever is outside; its frames come from the router's MAC.
pub const O: Party = outside([203, 0, 113, 5], [5, 5], mac(0x2f));
/// The host outside, at the uplink.
pub const U: Party = outside([198, 51, 100, 1], [0x100, 1], mac(0x20));
/// The host's other address outside, with which network X leaves under [`Policy::NatMoved`].
pub const MOVED: Party = outside([198, 51, 100, 2], [0x100, 2], mac(0x20));
/// C's elastic IP under [`Policy::Elastic`].
pub const ELASTIC: Party = outside([198, 51, 100, 20], [0x100, 0x20], mac(0x20));
/// A stranger whom only the router leads to.
pub const FAR: Party = outside([192, 0, 2, 9], [0x77, 9], mac(0x2e));
/// The router behind the uplink under [`Policy::NatBehindRouter`].
pub const ROUTER4: [u8; 4] = [198, 51, 100, 254];
/// The same for IPv6.
pub const ROUTER6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xff, 0xfe, 0, 0, 0xfe];
/// The metadata address.
pub const METADATA: Party = Party {
    v4: Ipv4Addr::new(169, 254, 169, 254),
    v6: Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    ..H
};
/// The source ports that network X may leave with.
pub const PORTS: (u16, u16) = (1024, 1033);

const fn outside(v4: [u8; 4], v6: [u16; 2], mac: MacAddr) -> Party {
    let [a, b, c, d] = v4;
    Party {
        device: Device::U,
        mac,
        v4: Ipv4Addr::new(a, b, c, d),
        v6: Ipv6Addr::new(0x2001, 0xdb8, v6[0], 0, 0, 0, 0, v6[1]),
        delivery: Delivery::NextHop,
    }
}

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
    /// The rules as usual, and all of them keep their flows.
    Keeps,
    /// No rules at all.
    Nothing,
    /// The rules as usual, behind an acl; the host has a failsafe port.
    Acl,
    /// The same, but nobody's gates tell of the acl.
    AclWithoutGates,
    /// Network W keeps the host out; the host has a failsafe port.
    HostExcluded,
    /// The networks are joined.
    Joined,
    /// Network X leads outside; tcp/8080 of the host is C's tcp/80, udp/5000 to 5009 its udp/6000 to 6009, and X has a
    /// metadata service.
    Nat,
    /// The same, but nobody may ask C for anything.
    NatClosed,
    /// As [`Policy::Nat`], but the host has another address and forwards nothing.
    NatMoved,
    /// Network X leads outside, and C has an elastic IP.
    Elastic,
    /// Network X leads outside, and reaches O's network untranslated.
    NatExempt,
    /// Network X leads outside, with the same source port whoever is spoken to.
    NatIndependent,
    /// Network X leads outside by a router that leads everywhere but to O's network.
    NatBehindRouter,
    /// Network X leads outside, and tcp/8080 of the host is C's tcp/80 and B's tcp/8000.
    Backends(Backends),
    /// As [`Policy::Nat`], and everybody knows the MTU of their links, and the gateways' addresses; network X clamps.
    Narrow,
    /// Networks go beyond the host.
    Beyond(Beyond),
}

/// The MTU of network W under [`Policy::Narrow`].
pub const MTU_W: u16 = 1500;
/// That of network X.
pub const MTU_X: u16 = 1300;
/// That of the uplink.
pub const MTU_U: u16 = 1400;

impl Policy {
    const fn has_failsafe(self) -> bool {
        self.has_acl() || matches!(self, Self::HostExcluded | Self::Beyond(Beyond::VlanWithoutHost))
    }

    /// Whether the host is the gateway of `network`.
    const fn has_gateway(self, network: Device) -> bool {
        !matches!((self, network), (Self::Beyond(Beyond::Bridged | Beyond::BridgedVlan), Device::W))
    }

    /// The MTU of `network`, where the gateways' addresses are known; 0: not known.
    const fn mtu(self, network: Device) -> Option<u16> {
        match (self, network) {
            (Self::Narrow, Device::W) => Some(MTU_W),
            (Self::Narrow, _) => Some(MTU_X),
            (Self::Beyond(beyond), Device::W) if beyond.is_overlay() => Some(segment::MTU_OVERLAY),
            (Self::Beyond(Beyond::Joined | Beyond::Member), _) => Some(0),
            _ => None,
        }
    }

    const fn port_flags(self) -> PortFlags {
        match self {
            Self::Beyond(beyond) if beyond.is_overlay() => PortFlags::NO_OVERLAY,
            _ => PortFlags::NONE,
        }
    }

    const fn has_acl(self) -> bool {
        matches!(self, Self::Acl | Self::AclWithoutGates)
    }

    const fn gates(self) -> GroupSet {
        match self {
            Self::Acl => GATE_INGRESS_ACL | GATE_EGRESS_ACL,
            _ => 0,
        }
    }

    const fn joins(self) -> bool {
        matches!(self, Self::Joined | Self::Beyond(Beyond::Joined))
    }

    const fn leads_outside(self) -> bool {
        use Policy::{Elastic, Narrow, Nat, NatBehindRouter, NatClosed, NatExempt, NatIndependent, NatMoved};
        matches!(
            self,
            Narrow
                | NatBehindRouter
                | Nat
                | NatClosed
                | NatMoved
                | Elastic
                | NatExempt
                | NatIndependent
                | Self::Backends(_)
        )
    }

    /// What is special about a network that is usually `flags`.
    const fn flags(self, network: Device, flags: NetworkFlags) -> NetworkFlags {
        match (self, network) {
            (Self::Joined, _) | (Self::NatExempt, Device::X) => flags.and(NetworkFlags::JOINED),
            (Self::NatIndependent, Device::X) => flags.and(NetworkFlags::ENDPOINT_INDEPENDENT),
            (Self::Narrow, Device::X) => flags.and(NetworkFlags::CLAMPS_MSS),
            (Self::HostExcluded, Device::W) => flags.and(NetworkFlags::EXCLUDES_HOST),
            (Self::Beyond(beyond), _) => beyond.flags(network, flags),
            _ => flags,
        }
    }
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
    /// By bridge and prefix of a joined network, as above; that network's bridge.
    pub joins: Vec<(u32, u32, Ip, u32)>,
    /// Heads and blocks.
    pub policy: Vec<(PolicyKey, PolicyEntry)>,
    /// By device.
    pub uplinks: Vec<(u32, UplinkRecord)>,
    /// By network and IP version, each with one address.
    pub exits: Vec<(u32, u16, Exit)>,
    /// By network and private address.
    pub elastic_ips: Vec<(u32, Ip, ElasticIp)>,
    /// Heads and blocks of forwards.
    pub forwards: Vec<(ForwardKey, Forward)>,
    /// By what arrives, what leaves, and where a network floods.
    pub links: Vec<(LinkKey, Link)>,
    /// By network and MAC.
    pub stations: Vec<(u32, MacAddr, Station)>,
    /// By network identifier and address: the number of an overlay's peer.
    pub vteps: Vec<(u32, Ip, u32)>,
}

impl Tables {
    /// Has `network` look for the subnets of `joined` in the network of which that is the gateway.
    fn join(&mut self, devices: &Devices, network: Device, joined: &Party) {
        let (network, other) = (devices.index(network), devices.index(joined.device));
        self.joins.push((network, 96 + 24, prefix(joined.v4.into()), other));
        self.joins.push((network, 64, prefix(joined.v6.into()), other));
    }
}

/// Group sets and identities: each party has its own.
pub(super) const fn number(device: Device) -> u32 {
    Identity::FIRST.0 + device as u32
}

/// The tables that hold `policy`.
#[must_use]
pub fn tables(policy: Policy, devices: &Devices) -> Tables {
    let mut tables = Tables::default();
    for (gateway, flags) in [(G, NetworkFlags::NONE), (H, NetworkFlags::LEADS_OUTSIDE)] {
        let bridge = devices.index(gateway.device);
        let mut record = NetworkRecord::new(gateway.mac, policy.flags(gateway.device, flags));
        if let Some(mtu) = policy.mtu(gateway.device) {
            record = record.reached_at(Ip::from_std(gateway.v4.into()), Ip::from_std(gateway.v6.into()), mtu);
        }
        tables.networks.push((bridge, record));
        // No rule names H, which is then as everybody whom none names.
        let identity = if gateway.device == G.device { number(gateway.device) } else { Identity::UNKNOWN.0 };
        if policy.has_gateway(gateway.device) {
            let endpoint = Endpoint::gateway(bridge, gateway.mac, identity);
            add_addresses(&mut tables, bridge, &gateway, endpoint);
        }
    }
    for (mut port, gateway) in [(A, G), (B, G), (T, G), (C, H)] {
        match (policy, port.device) {
            (Policy::WithoutB, Device::B) => continue,
            (Policy::OtherMac, Device::B) => port.mac = OTHER_MAC_OF_B,
            _ => {}
        }
        let (device, network) = (devices.index(port.device), devices.index(gateway.device));
        let number = number(port.device);
        let group_set = number | policy.gates();
        let record = PortRecord::new(network, group_set, port.mac, gateway.mac).with(policy.port_flags());
        tables.ports.push((device, record));
        let endpoint = Endpoint::port(device, port.delivery, port.mac, number, group_set);
        add_addresses(&mut tables, network, &port, endpoint);
    }
    tables.peers.push((96 + 16, Ip::from_std(Ipv4Addr::new(239, 1, 0, 0).into()), STREAMS));
    if policy.joins() {
        for (gateway, joined) in [(G, H), (H, G)] {
            tables.join(devices, gateway.device, &joined);
        }
    }
    if policy.leads_outside() {
        add_outside(&mut tables, policy, devices);
    }
    if let Policy::Beyond(beyond) = policy {
        beyond.add(&mut tables, devices);
    }
    let on_change = if policy == Policy::Keeps { OnChange::Keep } else { OnChange::Cut };
    let is_there = |rule: &&Rule| match policy {
        Policy::Nothing | Policy::Beyond(Beyond::VlanWithoutRules) => false,
        Policy::WithoutHttp => rule.id != HTTP,
        Policy::NatClosed => rule.id != C_SERVES,
        _ => true,
    };
    for rule in RULES.iter().filter(is_there) {
        rule.add(&mut tables.policy, number(rule.set), PolicyEntry::group(rule.id, on_change));
    }
    if policy.has_acl() {
        for (position, (action, rule)) in (0..).zip(ACL) {
            rule.add(&mut tables.policy, GROUP_SET_ACL, PolicyEntry::acl(rule.id, position, *action));
        }
    }
    if policy.has_failsafe() {
        FAILSAFE.add(&mut tables.policy, GROUP_SET_HOST, PolicyEntry::group(FAILSAFE.id, OnChange::Cut));
    }
    tables
}

/// The way out of network X, and what stands behind addresses of the host.
fn add_outside(tables: &mut Tables, policy: Policy, devices: &Devices) {
    let (network, uplink) = (devices.index(Device::X), devices.index(Device::U));
    let mut record = UplinkRecord::new(U.mac, if policy == Policy::Narrow { MTU_U } else { 0 });
    if policy == Policy::NatBehindRouter {
        record = record.behind(Some(V4::from_octets(ROUTER4)), Some(V6::from_octets(ROUTER6)));
    }
    tables.uplinks.push((uplink, record));
    for gateway in [G, H] {
        let bridge = devices.index(gateway.device);
        tables.joins.push((0, 96 + 24, prefix(gateway.v4.into()), bridge));
        tables.joins.push((0, 64, prefix(gateway.v6.into()), bridge));
    }
    for (number, version) in [(4, Version::V4), (6, Version::V6)] {
        let ip = |party: &Party| Ip::from_std(party.addr(version));
        let own = if policy == Policy::NatMoved { &MOVED } else { &U };
        tables.exits.push((network, number, Exit::new(uplink, ip(own), 1, PORTS)));
        let mut forward =
            |scope, of: &Party, protocol, prefix_len, ports: (u16, u16), forward: (ForwardKind, &Party)| {
                let head = ForwardKey::head(scope, 0, ip(of), protocol);
                tables.forwards.push((head, Forward::head(1_u32 << prefix_len)));
                let entry = Forward::to(forward.0, network, ip(forward.1), ports);
                tables.forwards.push((head.block(ports.0, prefix_len), entry));
            };
        match policy {
            Policy::Nat | Policy::NatClosed | Policy::Narrow => {
                forward(0, &U, 6, 16, (8080, 80), (ForwardKind::Forward, &C));
                forward(0, &U, 17, 13, (5000, 6000), (ForwardKind::Forward, &C));
                forward(0, &U, 132, 16, (5000, 0), (ForwardKind::Forward, &C));
                forward(network, &METADATA, 6, 16, (80, 8775), (ForwardKind::Metadata, &H));
            }
            Policy::Elastic => {
                forward(0, &ELASTIC, ForwardKey::ANY_PROTOCOL, 0, (0, 0), (ForwardKind::Elastic, &C));
                tables.elastic_ips.push((network, ip(&C), ElasticIp { addr: ip(&ELASTIC), uplink }));
            }
            Policy::NatBehindRouter => {
                let bits = if version == Version::V4 { 96 + 24 } else { 64 };
                tables.joins.push((uplink, bits, prefix(O.addr(version)), JOIN_OUTSIDE));
            }
            Policy::NatExempt => {
                let bits = if version == Version::V4 { 96 + 24 } else { 64 };
                tables.joins.push((network, bits, prefix(O.addr(version)), JOIN_OUTSIDE));
            }
            Policy::Backends(backends) => backends.add(tables, version, devices),
            _ => {}
        }
    }
}

/// The subnet of an address: a /24, or a /64.
fn prefix(addr: IpAddr) -> Ip {
    match addr {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ip::from_std(Ipv4Addr::new(a, b, c, 0).into())
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ip::from_std(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    }
}

fn add_addresses(tables: &mut Tables, network: u32, party: &Party, endpoint: Endpoint) {
    for addr in [party.v4.into(), party.v6.into(), party.link_local().into()] {
        tables.endpoints.push((network, Ip::from_std(addr), endpoint));
    }
}
