//! Where networks leave, and what is translated on the way in: uplinks, exits, elastic IPs and forwards, made
//! from a policy and its devices.
//!
//! A network whose uplink is not there has no exit: what would leave is dropped. Nothing leads to a port that
//! has no device, unless another host looks after it: it is left out of the list that it is in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vnet_common::{
    ElasticIp, Exit, Forward, ForwardKey, ForwardKind, Ip, JOIN_OUTSIDE, Side, UplinkRecord, V4, V6,
};

use super::{
    Assigned, Bridge, Devices, ExitPlace, UplinkDevice,
    backends::slots,
    ports::{Block, split},
    records::{gateways, mtu_of_record},
    seats::{is_remote, network_of},
};
use crate::policy::{
    self, Affinity, Backend, Network, NetworkKind, OnChange, Overlaps, Policy, PortRange, Protocol, fnv1a,
};

/// The side that keys of tables have before it is known where they go.
const NO_SIDE: Side = 0;

/// A network that leads outside, its bridge and its uplink.
type Leading<'a> = (&'a Network, Bridge, &'a UplinkDevice);

/// The networks that lead outside and whose devices are there.
fn leading<'a>(policy: &'a Policy, devices: &'a Devices) -> impl Iterator<Item = Leading<'a>> {
    let leads = |network: &Network| matches!(network.kind, NetworkKind::Nat | NetworkKind::Routed);
    policy.networks.iter().filter(move |(_, network)| leads(network)).filter_map(|(name, network)| {
        Some((network, *devices.bridges.get(name)?, devices.uplinks.get(name)?))
    })
}

/// The records of uplinks by their device.
pub(super) fn uplinks(policy: &Policy, devices: &Devices) -> BTreeMap<u32, UplinkRecord> {
    let record = |uplink: &UplinkDevice| {
        let v4 = uplink.gateways.iter().find_map(|gateway| match gateway {
            IpAddr::V4(addr) => Some(V4::from_octets(addr.octets())),
            IpAddr::V6(_) => None,
        });
        let v6 = uplink.gateways.iter().find_map(|gateway| match gateway {
            IpAddr::V6(addr) => Some(V6::from_octets(addr.octets())),
            IpAddr::V4(_) => None,
        });
        UplinkRecord::new(uplink.mac, mtu_of_record(uplink.mtu)).behind(v4, v6)
    };
    leading(policy, devices).map(|(.., uplink)| (uplink.ifindex, record(uplink))).collect()
}

/// The addresses that each network leaves with. One that is routed has an exit as well, which tells its uplink.
pub(super) fn exits(policy: &Policy, devices: &Devices) -> BTreeMap<ExitPlace, Exit> {
    let mut exits = BTreeMap::new();
    for (network, bridge, uplink) in leading(policy, devices) {
        for is_ipv4 in [true, false] {
            let addresses = if network.kind == NetworkKind::Routed {
                gateways(network).find(|gateway| gateway.is_ipv4() == is_ipv4).into_iter().collect()
            } else {
                exit_addresses(network, uplink, is_ipv4)
            };
            let slots = u16::try_from(addresses.len()).unwrap_or(u16::MAX);
            let version = if is_ipv4 { 4 } else { 6 };
            exits.extend((0..slots).zip(addresses).map(|(slot, addr)| {
                let exit = Exit::new(uplink.ifindex, Ip::from_std(addr), slots, network.snat_ports);
                (ExitPlace { network: bridge.ifindex, version, slot }, exit)
            }));
        }
    }
    exits
}

/// The addresses of one IP version that packets of `network` leave with by `uplink`; none where it has no
/// subnet of that version, or the uplink no address, and none of a network that is routed.
#[must_use]
pub fn exit_addresses(network: &Network, uplink: &UplinkDevice, is_ipv4: bool) -> Vec<IpAddr> {
    let is_right = |addr: &IpAddr| addr.is_ipv4() == is_ipv4;
    let is_routed = network.kind == NetworkKind::Routed;
    if is_routed || !network.subnets.iter().any(|subnet| is_right(&subnet.gateway)) {
        return Vec::new();
    }
    let given: Vec<_> = network.snat.iter().copied().filter(is_right).collect();
    if given.is_empty() {
        return uplink.addresses.iter().copied().find(is_right).into_iter().collect();
    }
    given
}

/// The prefixes to which each network's packets leave untranslated: all of them if it is routed.
pub(super) fn untranslated<'a>(
    policy: &'a Policy,
    devices: &'a Devices,
) -> impl Iterator<Item = ((u32, IpNet), u32)> + 'a {
    policy.networks.iter().filter_map(|(name, network)| Some((network, devices.bridges.get(name)?))).flat_map(
        |(network, bridge)| {
            let everywhere: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
            let everywhere = everywhere.into_iter().filter(|_| network.kind == NetworkKind::Routed);
            everywhere.chain(network.no_snat.iter().copied()).map(|net| ((bridge.ifindex, net), JOIN_OUTSIDE))
        },
    )
}

/// The prefixes that the routers behind uplinks do not lead to.
pub(super) fn aside<'a>(
    policy: &'a Policy,
    devices: &'a Devices,
) -> impl Iterator<Item = ((u32, IpNet), u32)> + 'a {
    leading(policy, devices)
        .flat_map(|(.., uplink)| uplink.aside.iter().map(|net| ((uplink.ifindex, net.trunc()), JOIN_OUTSIDE)))
}

/// An elastic IP and the port that it stands for.
struct Association<'a> {
    addr: IpAddr,
    on_change: OnChange,
    bridge: Bridge,
    uplink: &'a UplinkDevice,
    /// The port's addresses of the same version, in order.
    private: Vec<IpAddr>,
}

/// The elastic IPs whose ports and uplinks are there. One that the host itself has is the host's.
fn associations<'a>(
    policy: &'a Policy,
    assigned: &'a Assigned,
    devices: &'a Devices,
) -> impl Iterator<Item = Association<'a>> {
    policy.elastic_ips.iter().filter(|(addr, _)| !devices.addresses.contains(addr)).filter_map(
        |(addr, elastic)| {
            let (bridge, network) = place_of(policy, devices, &elastic.port)?;
            let uplink = devices.uplinks.get(network)?;
            let private = private(policy, assigned, &elastic.port, *addr).collect();
            Some(Association { addr: *addr, on_change: elastic.on_change, bridge, uplink, private })
        },
    )
}

/// The addresses of `snat` that no device of the host has, each with its network. Nobody would answer for them on
/// the wire: the datapath does, as for elastic IPs.
fn homeless<'a>(
    policy: &'a Policy,
    devices: &'a Devices,
) -> impl Iterator<Item = (Bridge, &'a UplinkDevice, IpAddr)> {
    leading(policy, devices).flat_map(|(network, bridge, uplink)| {
        let addresses = [true, false].map(|is_ipv4| exit_addresses(network, uplink, is_ipv4)).concat();
        let homeless = addresses.into_iter().filter(|addr| !devices.addresses.contains(addr));
        homeless.map(move |addr| (bridge, uplink, addr))
    })
}

/// The elastic IPs by private address in the network of a bridge, and the addresses that are answered for under
/// themselves: no port has one of those.
pub(super) fn elastic_ips(
    policy: &Policy,
    assigned: &Assigned,
    devices: &Devices,
) -> BTreeMap<(u32, IpAddr), ElasticIp> {
    let elastic =
        |addr, uplink: &UplinkDevice| ElasticIp { addr: Ip::from_std(addr), uplink: uplink.ifindex };
    let of_ports = associations(policy, assigned, devices).flat_map(
        |Association { addr, bridge, uplink, private, .. }| {
            let elastic = elastic(addr, uplink);
            private.into_iter().map(move |private| ((bridge.ifindex, private), elastic))
        },
    );
    let homeless = homeless(policy, devices)
        .map(|(bridge, uplink, addr)| ((bridge.ifindex, addr), elastic(addr, uplink)));
    of_ports.chain(homeless).collect()
}

/// Heads and blocks of all that is translated on the way in, and slots and members of lists of backends.
pub(super) fn forwards(
    policy: &Policy,
    overlaps: &Overlaps<'_>,
    assigned: &Assigned,
    devices: &Devices,
) -> BTreeMap<ForwardKey, Forward> {
    let mut table = ForwardTable::default();
    let gateways = scoped_gateways(policy, overlaps, devices);
    // What listens on one address comes before what listens on all of them.
    for is_wildcard in [true, false] {
        for forward in policy.forwards.iter().filter(|it| it.listen.is_unspecified() == is_wildcard) {
            let listened_on = listened_on(devices, &gateways, forward.listen);
            table.forward((policy, assigned, devices), forward, &listened_on);
        }
    }
    for Association { addr, on_change, bridge, private, .. } in associations(policy, assigned, devices) {
        let Some(target) = private.first() else { continue };
        let mut to = Forward::to(ForwardKind::Elastic, bridge.ifindex, Ip::from_std(*target), (0, 0));
        if on_change == OnChange::Keep {
            to = to.keeping();
        }
        table.add(head(0, addr, ForwardKey::ANY_PROTOCOL), &[Block::ALL], to);
    }
    for service in &policy.metadata {
        table.metadata(policy, devices, service);
    }
    for (bridge, _, addr) in homeless(policy, devices) {
        table.answer_for(bridge, addr);
    }
    table.entries
}

/// A backend whose port has a device, and what leads to it.
type Present<'a> = (&'a Backend, Forward);

#[derive(Default)]
struct ForwardTable {
    entries: BTreeMap<ForwardKey, Forward>,
    /// The numbers that lists have.
    lists: BTreeSet<u32>,
}

impl ForwardTable {
    fn forward(
        &mut self,
        (policy, assigned, devices): (&Policy, &Assigned, &Devices),
        forward: &policy::Forward,
        listened_on: &BTreeSet<(u32, IpAddr)>,
    ) {
        let (first, last) = forward.ports;
        let backends: Vec<Present<'_>> = forward
            .to
            .iter()
            .filter_map(|backend| {
                let target = private(policy, assigned, &backend.port, forward.listen).next()?;
                let (bridge, _) = place_of(policy, devices, &backend.port)?;
                let (target, ports) = (Ip::from_std(target), (first, backend.to_port));
                Some((backend, Forward::to(ForwardKind::Forward, bridge.ifindex, target, ports)))
            })
            .collect();
        let to = match &backends[..] {
            [] => return,
            [(backend, to)] if !backend.drains() => *to,
            _ => self.list(forward, &backends),
        };
        let blocks = split(PortRange { first, last });
        for (scope, addr) in listened_on {
            self.add(head(*scope, *addr, forward.protocol.0), &blocks, to);
        }
    }

    /// Adds the slots and members of a list; what leads to them. Its number comes from the forward's name, so what is
    /// written for a list stays where it is while others come and go.
    fn list(&mut self, forward: &policy::Forward, backends: &[Present<'_>]) -> Forward {
        let mut number = fnv1a(forward.name().bytes()) as u32;
        while !self.lists.insert(number) {
            number = number.wrapping_add(1);
        }
        let weights: Vec<_> =
            backends.iter().map(|(backend, _)| (backend.port.as_str(), backend.weight)).collect();
        let slots = slots(&weights);
        let to_slot =
            |(slot, owner): (u16, &usize)| (ForwardKey::slot(number, NO_SIDE, slot), backends[*owner].1);
        self.entries.extend((0..).zip(&slots).map(to_slot));
        let member = |(_, to): &Present<'_>| (ForwardKey::member(number, NO_SIDE, to.target), *to);
        self.entries.extend(backends.iter().map(member));
        Forward::list(number, slots.len() as u16, forward.affinity == Affinity::Client)
    }

    /// A metadata service is the host's, at the gateway of the network that asks.
    fn metadata(&mut self, policy: &Policy, devices: &Devices, service: &policy::Metadata) {
        let (Some(network), Some(bridge)) =
            (policy.networks.get(&service.network), devices.bridges.get(&service.network))
        else {
            return;
        };
        let (addr, port) = (service.listen.ip(), service.listen.port());
        let Some(gateway) = gateways(network).find(|gateway| gateway.is_ipv4() == addr.is_ipv4()) else {
            return;
        };
        let ports = (port, service.to_port);
        let to = Forward::to(ForwardKind::Metadata, bridge.ifindex, Ip::from_std(gateway), ports);
        self.add(head(bridge.ifindex, addr, Protocol::TCP.0), &[Block { base: port, len: 16 }], to);
    }

    /// Has the datapath tell neighbours who has `addr`, of the network of `bridge`. It looks for an elastic IP's one
    /// block; without a head, which everything else begins with, that leads nowhere. Of networks that share an
    /// address the first is the one on whose uplink it is answered for.
    fn answer_for(&mut self, bridge: Bridge, addr: IpAddr) {
        let block = head(0, addr, ForwardKey::ANY_PROTOCOL).block(Block::ALL.base, Block::ALL.len);
        let to = Forward::to(ForwardKind::Elastic, bridge.ifindex, Ip::from_std(addr), (0, 0));
        self.entries.entry(block).or_insert(to);
    }

    fn add(&mut self, head: ForwardKey, blocks: &[Block], to: Forward) {
        let own = blocks.iter().fold(0, |sizes, block| sizes | 1 << block.len);
        let sizes = self.entries.get(&head).map_or(0, Forward::sizes);
        self.entries.insert(head, Forward::head(sizes | own));
        self.entries.extend(blocks.iter().map(|block| (head.block(block.base, block.len), to)));
    }
}

const fn head(scope: u32, addr: IpAddr, protocol: u8) -> ForwardKey {
    ForwardKey::head(scope, NO_SIDE, Ip::from_std(addr), protocol)
}

/// The gateways, each with its scope: one that the host does not have is one for the networks that know it.
fn scoped_gateways(policy: &Policy, overlaps: &Overlaps<'_>, devices: &Devices) -> BTreeSet<(u32, IpAddr)> {
    let mut scoped = BTreeSet::new();
    for (name, network) in &policy.networks {
        for gateway in gateways(network) {
            if !overlaps.host_is_apart(name, gateway) {
                scoped.insert((0, gateway));
                continue;
            }
            let near = policy.joined(name).into_iter().chain([name.as_str()]);
            let bridges = near.filter_map(|network| devices.bridges.get(network));
            scoped.extend(bridges.map(|bridge| (bridge.ifindex, gateway)));
        }
    }
    scoped
}

/// The addresses that lead to what listens on `listen`, each with its scope. Only the host's own processes reach
/// its loopback: what they ask for is translated before it is a packet.
fn listened_on(
    devices: &Devices,
    gateways: &BTreeSet<(u32, IpAddr)>,
    listen: IpAddr,
) -> BTreeSet<(u32, IpAddr)> {
    if listen.is_loopback() {
        return [(ForwardKey::HOST, listen)].into();
    }
    if !listen.is_unspecified() {
        return [(0, listen)].into();
    }
    let loopback: IpAddr =
        if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let all = devices.addresses.iter().map(|addr| (0, *addr)).chain(gateways.iter().copied());
    let all = all.filter(|(_, addr)| addr.is_ipv4() == listen.is_ipv4());
    all.chain([(ForwardKey::HOST, loopback)]).collect()
}

/// The bridge of a port's network, and the network's name, if port and bridge have their devices. A port that another host
/// looks after needs none here.
fn place_of<'a>(policy: &'a Policy, devices: &Devices, name: &str) -> Option<(Bridge, &'a str)> {
    let port = policy.ports.get(name)?;
    let network = port.network.as_str();
    let is_there = is_remote(port) || devices.ports.contains_key(name);
    is_there.then_some((*devices.bridges.get(network)?, network))
}

/// The addresses of a port in its own network that are of the version of `like`.
fn private<'a>(
    policy: &'a Policy,
    assigned: &'a Assigned,
    name: &str,
    like: IpAddr,
) -> impl Iterator<Item = IpAddr> + 'a {
    let port = policy.ports.get(name);
    let own = assigned.get(name).into_iter().flatten().copied();
    let is_there = move |addr| port.is_some_and(|port| network_of(policy, port, addr) == port.network);
    own.filter(move |addr| addr.is_ipv4() == like.is_ipv4() && is_there(*addr))
}
