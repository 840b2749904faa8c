//! Where ports are: in which networks, by which device or link, and with which of their addresses.
//!
//! A port is in its own network by its device. Another in which it takes part it reaches by a **member link**: the
//! device and a tag. A port that another host looks after is beyond its network's segment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vnet_common::{Delivery, link, tag_of};

use super::{Assigned, Bridge, Devices, PortDevice, Tables, identity::Taken};
use crate::policy::{Attach, Network, NetworkKind, Policy, Port, Segment};

/// The tags of a LAN's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// The one next to the payload; 0: none.
    pub(super) vlan: u16,
    /// The one around it; 0: none.
    pub(super) service: u16,
}

impl Tags {
    /// Those of `vlan`, the outer one first.
    pub(super) const fn of(vlan: &[u16]) -> Self {
        match vlan {
            [] => Self { vlan: 0, service: 0 },
            [vlan] => Self { vlan: *vlan, service: 0 },
            [service, vlan, ..] => Self { vlan: *vlan, service: *service },
        }
    }

    /// Those of a network that is on a LAN.
    pub(super) fn of_network(network: &Network) -> Option<Self> {
        match &network.segment {
            Some(Segment::Lan { vlan, .. }) => Some(Self::of(vlan)),
            Some(Segment::Overlay { .. }) | None => None,
        }
    }

    /// Those by which a port takes part in a network besides its own.
    fn of_further(network: &Network) -> Option<Self> {
        Self::of_network(network).filter(|tags| tags.vlan != 0)
    }

    /// As keys of links have them.
    pub(super) const fn key(self) -> u32 {
        tag_of(self.vlan, self.service)
    }
}

/// The networks of a port, its own first.
pub(crate) fn networks_of(port: &Port) -> impl Iterator<Item = &str> + Clone {
    std::iter::once(&port.network).chain(&port.vlans).map(String::as_str)
}

/// The network in which `port` has `addr`: the first of its networks with a subnet around it, else the first that takes
/// any address.
pub(crate) fn network_of<'a>(policy: &Policy, port: &'a Port, addr: IpAddr) -> &'a str {
    if port.vlans.is_empty() {
        return &port.network;
    }
    let mut networks = networks_of(port).filter_map(|name| Some((name, policy.networks.get(name)?)));
    let around = networks.clone().find(|(_, network)| network.subnet_of(addr).is_some());
    let found = around.or_else(|| networks.find(|(_, network)| network.subnets.is_empty()));
    found.map_or(&port.network, |(name, _)| name)
}

/// Whether `port` names an address of its own in `network`.
pub(crate) fn is_declared(policy: &Policy, port: &Port, network: &str) -> bool {
    port.addresses.iter().any(|addr| network_of(policy, port, *addr) == network)
}

/// Whether vnet listens for the addresses of `port` in `network`.
pub(crate) fn learns(policy: &Policy, port: &Port, network: &str) -> bool {
    let is_bridged = policy.networks.get(network).is_some_and(|it| it.kind == NetworkKind::Bridged);
    is_bridged && !is_remote(port) && !is_declared(policy, port, network)
}

/// Whether another host looks after `port`.
pub(super) const fn is_remote(port: &Port) -> bool {
    matches!(port.attach, Attach::Remote { .. })
}

/// The networks that go beyond this host, or to ports that take part in several.
pub(super) fn extending(policy: &Policy) -> BTreeSet<&str> {
    let beyond = policy.networks.iter().filter(|(_, network)| network.segment.is_some());
    let further = policy.ports.values().flat_map(|port| &port.vlans);
    beyond.map(|(name, _)| name).chain(further).map(String::as_str).collect()
}

/// The numbers of member links, by the port's device and the tag there as keys of links have it.
#[derive(Debug, Default)]
pub(super) struct Members {
    numbers: BTreeMap<(u32, u32), u32>,
}

impl Members {
    /// The member links of `policy`. Those that are in `before` keep their numbers, and nobody else gets those of
    /// others there.
    pub(super) fn of(policy: &Policy, devices: &Devices, before: &Tables) -> Self {
        let mut taken = Taken::from(link::member(0));
        let mut known = BTreeMap::new();
        for (key, link) in before.member_links() {
            known.insert((key.place, key.tag), link.number);
            taken.take(link.number);
        }
        let mut numbers = BTreeMap::new();
        for (name, port) in policy.ports.iter().filter(|(_, port)| !is_remote(port)) {
            let Some(device) = devices.ports.get(name) else { continue };
            let tags = port.vlans.iter().filter_map(|further| {
                devices.bridges.get(further)?;
                Tags::of_further(policy.networks.get(further)?)
            });
            for tags in tags {
                let place = (device.ifindex, tags.key());
                let number = known.get(&place).copied().unwrap_or_else(|| taken.lowest_free());
                numbers.insert(place, number);
            }
        }
        Self { numbers }
    }

    fn number(&self, device: u32, tags: Tags) -> Option<u32> {
        self.numbers.get(&(device, tags.key())).copied()
    }
}

/// A port in one of its networks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat<'a> {
    /// The port's name.
    pub(super) name: &'a str,
    /// The port.
    pub(super) port: &'a Port,
    /// The network's name.
    pub(super) network: &'a str,
    /// The network's bridge.
    pub(super) bridge: Bridge,
    /// The port's device there, or the number of the link to it.
    pub(super) device: PortDevice,
    /// Of a member link: its device and tags.
    pub(super) member: Option<(u32, Tags)>,
    /// The number of the overlay's peer that it is behind; 0: none, or not known.
    pub(super) peer: u16,
}

impl Seat<'_> {
    /// Those of the port's addresses that it has in this network.
    pub(super) fn addresses(&self, policy: &Policy, assigned: &Assigned) -> Vec<IpAddr> {
        let own = assigned.get(self.name).into_iter().flatten().copied();
        own.filter(|addr| network_of(policy, self.port, *addr) == self.network).collect()
    }
}

/// All ports in all their networks, where the devices for it are there.
pub(super) fn seats<'a>(policy: &'a Policy, devices: &Devices, members: &Members) -> Vec<Seat<'a>> {
    let seats_of = |(name, port): (&'a String, &'a Port)| {
        networks_of(port).filter_map(move |network| seat(policy, devices, members, (name, port, network)))
    };
    policy.ports.iter().flat_map(seats_of).collect()
}

fn seat<'a>(
    policy: &'a Policy,
    devices: &Devices,
    members: &Members,
    (name, port, network): (&'a str, &'a Port, &'a str),
) -> Option<Seat<'a>> {
    let bridge = *devices.bridges.get(network)?;
    let by_link = |number| PortDevice { ifindex: number, delivery: Delivery::Link };
    let seat = |device| Seat { name, port, network, bridge, device, member: None, peer: 0 };
    let place = policy.networks.get(network)?;
    if let Attach::Remote { remote } = &port.attach {
        let segment = place.segment.as_ref()?;
        let peer = remote.and_then(|addr| peer_number(segment, addr)).unwrap_or_default();
        return Some(Seat { peer, ..seat(by_link(link::segment(bridge.ifindex))) });
    }
    let device = *devices.ports.get(name)?;
    if network == port.network {
        return Some(seat(device));
    }
    let tags = Tags::of_further(place)?;
    let number = members.number(device.ifindex, tags)?;
    Some(Seat { member: Some((device.ifindex, tags)), ..seat(by_link(number)) })
}

/// The peers of an overlay, each with its number, from 1 on.
pub(super) fn numbered(peers: &[IpAddr]) -> impl Iterator<Item = (u16, IpAddr)> {
    let mut peers = peers.to_vec();
    peers.sort_unstable();
    peers.dedup();
    (1..).zip(peers)
}

fn peer_number(segment: &Segment, addr: IpAddr) -> Option<u16> {
    let Segment::Overlay { peers, .. } = segment else { return None };
    numbered(peers).find(|(_, peer)| *peer == addr).map(|(number, _)| number)
}
