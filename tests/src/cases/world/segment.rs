//! What of the world's networks is beyond the host.
//!
//! ```text
//! network W, beyond trunk K (VLAN 10, or 10 within 100), uplink U (bridged), or an overlay
//!   station R  10.0.0.20 fd00::20   nobody knows it
//!   port    D  10.0.0.21 fd00::21   another host looks after it
//! network X, beyond trunk K (VLAN 20)
//!   port    T  10.9.0.13 fd00:9::d  takes part in it with VLAN 20
//!   station S  10.9.0.20 fd00:9::20 nobody knows it
//! ```

use std::net::{IpAddr, Ipv4Addr};

use vnet_common::{
    Delivery, Endpoint, Ip, Link, LinkFlags, LinkKey, NetworkFlags, PortRecord, Station, V4, tag_of,
};
use vnet_ebpf::packet::Tunnel;

use super::{A, B, C, Device, Devices, G, H, Party, T, Tables, U, add_addresses, number, party};
use crate::cases::rules::LAN;

/// By what network W, or X, goes beyond the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// W by trunk K with VLAN 10.
    Vlan,
    /// The same, but the host is kept out; it has a failsafe port.
    VlanWithoutHost,
    /// The same as the first, and no rules at all.
    VlanWithoutRules,
    /// The same as the first, and port D is known.
    RemotePort,
    /// The same, and the networks are joined.
    Joined,
    /// W by trunk K with VLAN 10 within VLAN 100, at priority 5.
    DoubleVlan,
    /// W is bridged to the uplink, which it shares with the host.
    Bridged,
    /// W is bridged to the uplink with VLAN 10.
    BridgedVlan,
    /// W is an overlay between the host and two peers, and port D is known, behind the first.
    Overlay,
    /// The same, and the programs encapsulate what goes to the first peer, by the uplink.
    Encapsulated,
    /// X by trunk K with VLAN 20, and T takes part in it.
    Member,
}

/// A station of network W that nobody knows.
pub const R: Party = party(Device::K, 0x14, [10, 0, 0, 20], [0, 0x20], Delivery::Device);
/// A port of network W that another host looks after.
pub const D: Party = party(Device::K, 0x15, [10, 0, 0, 21], [0, 0x21], Delivery::Device);
/// The router of the LAN to which W is bridged.
pub const LAN_ROUTER: Party = party(Device::U, 0x16, [10, 0, 0, 254], [0, 0xfe], Delivery::Device);
/// A station of network X that nobody knows.
pub const S: Party = party(Device::K, 0x17, [10, 9, 0, 20], [9, 0x20], Delivery::Device);
/// The host on the LAN to which W is bridged.
pub const LAN_HOST: Party =
    Party { mac: U.mac, ..party(Device::U, 0x20, [10, 0, 0, 2], [0, 2], Delivery::Host) };
/// T in network X.
pub const T_IN_X: Party = party(Device::T, 0xd, [10, 9, 0, 13], [9, 0xd], Delivery::Device);

/// The tag of network W's frames.
pub const VLAN: u16 = 10;
/// The one around it under [`Beyond::DoubleVlan`].
pub const SERVICE: u16 = 100;
/// The tag of network X's frames.
pub const VLAN_X: u16 = 20;
/// The priority of frames that leave under [`Beyond::DoubleVlan`], in a tag.
pub const PRIORITY: u16 = 5 << 13;
/// The overlay's network identifier.
pub const VNI: u32 = 5001;
/// The longest packet that the overlay carries.
pub const MTU_OVERLAY: u16 = 1450;
/// The first peer of the overlay.
pub const PEER: Tunnel = tunnel(12);
/// The second one.
pub const OTHER_PEER: Tunnel = tunnel(13);

/// To the peer 192.0.2.`last`.
#[must_use]
pub const fn tunnel(last: u8) -> Tunnel {
    Tunnel { vni: VNI, remote: Ip::from_octets([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last]) }
}

/// The host's address towards the first peer.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

impl Beyond {
    /// Whether network W is an overlay.
    pub(super) const fn is_overlay(self) -> bool {
        matches!(self, Self::Overlay | Self::Encapsulated)
    }

    /// What is special about a network that is usually `flags`.
    pub(super) const fn flags(self, network: Device, flags: NetworkFlags) -> NetworkFlags {
        let extends = flags.and(NetworkFlags::EXTENDS);
        match (self, network) {
            (Self::Member, Device::X) => extends,
            (Self::Joined, Device::X) => flags.and(NetworkFlags::JOINED),
            (Self::Member, _) | (_, Device::X) => flags,
            (Self::Joined, _) => extends.and(NetworkFlags::JOINED),
            (Self::VlanWithoutHost, _) => extends.and(NetworkFlags::EXCLUDES_HOST),
            (Self::Bridged | Self::BridgedVlan, _) => extends.and(NetworkFlags::BRIDGED),
            _ => extends,
        }
    }

    /// Adds what concerns those beyond.
    pub(super) fn add(self, tables: &mut Tables, devices: &Devices) {
        let (network, gateway) = if self == Self::Member { (Device::X, H) } else { (Device::W, G) };
        let bridge = devices.index(network);
        let station = |device, delivery: Delivery| Station {
            device: devices.index(device),
            delivery: delivery as u16,
            peer: 0,
        };
        let ports = if self == Self::Member { &[C][..] } else { &[A, B, T] };
        let ports = ports.iter().map(|port| (bridge, port.mac, station(port.device, port.delivery)));
        tables.stations.extend(ports);
        match self {
            Self::Bridged => tables.stations.push((bridge, U.mac, station(Device::U, Delivery::Host))),
            Self::BridgedVlan => {}
            _ => {
                tables.stations.push((bridge, gateway.mac, station(network, Delivery::Host)));
                tables.join(devices, network, &gateway);
            }
        }
        // What the rules call the stations of the LAN.
        tables.peers.push((96 + 28, Ip::from_std(Ipv4Addr::new(10, 0, 0, 16).into()), LAN));
        let v6 = IpAddr::V6(R.v6);
        tables.peers.push((128, Ip::from_std(v6), LAN));
        match self {
            Self::Overlay | Self::Encapsulated => self.add_overlay(tables, devices),
            _ => self.add_lan(tables, devices),
        }
        if self.is_overlay() || matches!(self, Self::RemotePort | Self::Joined) {
            let (link, number) = (devices.index(Device::BeyondW), number(Device::BeyondW));
            add_addresses(tables, bridge, &D, Endpoint::remote(link, D.mac, number, number));
            let peer = u16::from(self.is_overlay());
            let there = Station { peer, ..station(Device::BeyondW, Delivery::Link) };
            tables.stations.push((bridge, D.mac, there));
        }
        if self == Self::Member {
            add_member(tables, devices);
        }
    }

    fn add_lan(self, tables: &mut Tables, devices: &Devices) {
        let (number, network) = match self {
            Self::Member => (Device::BeyondX, Device::X),
            _ => (Device::BeyondW, Device::W),
        };
        let (device, tags, flags) = match self {
            Self::Bridged => (Device::U, (0, 0), LinkFlags::SHARED),
            Self::BridgedVlan => (Device::U, (VLAN, 0), LinkFlags::NONE),
            Self::DoubleVlan => (Device::K, (VLAN | PRIORITY, SERVICE | PRIORITY), LinkFlags::NONE),
            Self::Member => (Device::K, (VLAN_X, 0), LinkFlags::NONE),
            _ => (Device::K, (VLAN, 0), LinkFlags::NONE),
        };
        let link = Link {
            number: devices.index(number),
            network: devices.index(network),
            device: devices.index(device),
            vlan: tags.0,
            outer: tags.1,
            flags,
            mtu: 1500,
            ..Link::default()
        };
        tables.link(link, 0);
    }

    fn add_overlay(self, tables: &mut Tables, devices: &Devices) {
        let (network, device) = (devices.index(Device::W), devices.index(Device::K));
        let link = Link {
            number: devices.index(Device::BeyondW),
            network,
            device,
            vni: VNI,
            flags: LinkFlags::OVERLAY,
            mtu: MTU_OVERLAY,
            ..Link::default()
        };
        let nobodys = Link { device, flags: LinkFlags::OVERLAY, ..Link::default() };
        tables.links.push((LinkKey::arrival(device, 0), nobodys));
        tables.links.push((LinkKey::arrival(device, VNI), link));
        for (index, Tunnel { remote, .. }) in (0..).zip([PEER, OTHER_PEER]) {
            let mut link = Link { outer: index as u16 + 1, remote, ..link };
            if self == Self::Encapsulated && index == 0 {
                (link.underlay, link.local) = (devices.index(Device::U), V4::from_octets(LOCAL.octets()));
                tables.links.push((LinkKey::encapsulated(link.underlay, VNI), link));
            }
            tables.links.push((LinkKey::departure(link.number, index + 1), link));
            tables.links.push((LinkKey::flood(network, index), link));
            tables.vteps.push((VNI, remote, index + 1));
        }
    }
}

/// T's part in network X.
fn add_member(tables: &mut Tables, devices: &Devices) {
    let (link, network) = (devices.index(Device::MemberT), devices.index(Device::X));
    // It is the same workload, with the same groups.
    let number = number(Device::T);
    tables.ports.push((link, PortRecord::new(network, number, T.mac, H.mac)));
    add_addresses(tables, network, &T_IN_X, Endpoint::port(link, Delivery::Link, T.mac, number, number));
    tables.stations.push((
        network,
        T.mac,
        Station { device: link, delivery: Delivery::Link as u16, peer: 0 },
    ));
    let flags = LinkFlags::PORT;
    let device = devices.index(Device::T);
    let link = Link { number: link, network, device, vlan: VLAN_X, flags, mtu: 1500, ..Link::default() };
    tables.link(link, 1);
}

impl Tables {
    /// A link of a LAN, the `index`th to which its network floods.
    fn link(&mut self, link: Link, index: u32) {
        self.links.push((LinkKey::arrival(link.device, tag_of(link.vlan, link.outer)), link));
        self.links.push((LinkKey::departure(link.number, 0), link));
        self.links.push((LinkKey::flood(link.network, index), link));
    }
}
