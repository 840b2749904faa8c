//! The records of ports, networks, addresses and joined networks, made from a policy and its devices.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use vnet_common::{
    Direction, Endpoint, EndpointKey, GATE_EGRESS_ACL, GATE_INGRESS_ACL, GroupSet, Identity, Ip,
    NetworkFlags, NetworkRecord, PortFlags, PortRecord,
};

use super::{
    Assigned, Bridge, Devices, PortDevice, Tables,
    identity::Member,
    seats::{Seat, extending, is_remote, learns},
    translation,
};
use crate::policy::{HostAccess, Mapping, Network, NetworkKind, Overlaps, Policy, Port, Segment};

/// The bridge in the keys of prefixes that are some network's, whichever asks.
const NO_NETWORK: u32 = 0;

/// The gates of a policy's acl: bits of a group set as records have it.
pub(super) fn gates(policy: &Policy) -> GroupSet {
    let gate = |direction| match direction {
        Direction::Ingress => GATE_INGRESS_ACL,
        Direction::Egress => GATE_EGRESS_ACL,
    };
    policy.acl.iter().fold(0, |gates, entry| gates | gate(entry.rule.direction))
}

/// The records of ports by their device or link; `group_set` has the number of each port's groups, with the gates.
pub(super) fn ports(
    policy: &Policy,
    seats: &[Seat<'_>],
    group_set: impl Fn(&str) -> GroupSet,
) -> BTreeMap<u32, PortRecord> {
    let is_overlay = |network: &Network| matches!(network.segment, Some(Segment::Overlay { .. }));
    let has_overlay = policy.networks.values().any(is_overlay);
    let record = |seat: &Seat<'_>| {
        let Seat { name, port, network, bridge, device, .. } = *seat;
        let flags =
            [(has_overlay, PortFlags::NO_OVERLAY), (learns(policy, port, network), PortFlags::LEARNS)];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        let flags = set.fold(PortFlags::NONE, |flags, (_, flag)| flags.and(flag));
        let record = PortRecord::new(bridge.ifindex, group_set(name), port.mac, bridge.mac);
        (device.ifindex, record.with(flags))
    };
    seats.iter().filter(|seat| !is_remote(seat.port)).map(record).collect()
}

/// The records of networks by their bridge.
pub(super) fn networks(
    policy: &Policy,
    overlaps: &Overlaps<'_>,
    devices: &Devices,
) -> BTreeMap<u32, NetworkRecord> {
    let extending = extending(policy);
    let record = |(name, network): (&String, &Network)| {
        let bridge = devices.bridges.get(name)?;
        let (is_routed, is_bridged) =
            (network.kind == NetworkKind::Routed, network.kind == NetworkKind::Bridged);
        let is_joined = is_routed
            || !network.no_snat.is_empty()
            || policy.joined(name).iter().any(|other| devices.bridges.contains_key(*other));
        let flags = [
            (is_routed || network.kind == NetworkKind::Nat, NetworkFlags::LEADS_OUTSIDE),
            (network.host == HostAccess::Excluded, NetworkFlags::EXCLUDES_HOST),
            (is_joined, NetworkFlags::JOINED),
            (network.clamp_mss, NetworkFlags::CLAMPS_MSS),
            (network.mapping == Mapping::EndpointIndependent, NetworkFlags::ENDPOINT_INDEPENDENT),
            (extending.contains(name.as_str()), NetworkFlags::EXTENDS),
            (is_routed, NetworkFlags::ROUTED),
            (is_bridged, NetworkFlags::BRIDGED),
            (overlaps.concern(name), NetworkFlags::SHARES_ADDRESSES),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        let flags = set.fold(NetworkFlags::NONE, |flags, (_, flag)| flags.and(flag));
        let [gateway4, gateway6] = [true, false].map(|is_ipv4| first_gateway(network, is_ipv4));
        let record = NetworkRecord::new(bridge.mac, flags);
        Some((bridge.ifindex, record.reached_at(gateway4, gateway6, mtu_of_record(network.mtu))))
    };
    policy.networks.iter().filter_map(record).collect()
}

/// The first gateway of one IP version that is the host; unspecified if there is none.
fn first_gateway(network: &Network, is_ipv4: bool) -> Ip {
    let mut gateways = gateways(network);
    gateways.find(|gateway| gateway.is_ipv4() == is_ipv4).map_or(Ip::UNSPECIFIED, Ip::from_std)
}

/// The host's addresses in a network; it has none in one that is bridged.
pub(super) fn gateways(network: &Network) -> impl Iterator<Item = IpAddr> {
    let is_bridged = network.kind == NetworkKind::Bridged;
    network.subnets.iter().filter(move |_| !is_bridged).map(|subnet| subnet.gateway)
}

/// An MTU as records have it: 0, not known, for one that no IP packet reaches (a loopback device has 65536).
pub(super) fn mtu_of_record(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or_default()
}

/// The prefixes that each network reaches in those that it is joined with, and the bridges there; and those to
/// which it leaves untranslated. Where both name the same prefix, the joined network has it. Under no network stand
/// the prefixes of all of them, which nobody looks for outside, and which are a LAN's where they are bridged. What
/// comes to a network from beyond this host has an address of its own prefixes.
pub(super) fn joins(policy: &Policy, devices: &Devices) -> BTreeMap<(u32, IpNet), u32> {
    let mut joins: BTreeMap<_, _> = translation::untranslated(policy, devices).collect();
    joins.extend(translation::aside(policy, devices));
    let extending = extending(policy);
    for (name, network) in &policy.networks {
        let Some(own) = devices.bridges.get(name) else { continue };
        if network.kind != NetworkKind::Bridged {
            let askers = [Some(NO_NETWORK), extending.contains(name.as_str()).then_some(own.ifindex)];
            joins.extend(askers.into_iter().flatten().flat_map(|asker| {
                network.subnets.iter().map(move |subnet| ((asker, subnet.net), own.ifindex))
            }));
        }
        for other in policy.joined(name) {
            let (Some(network), Some(bridge)) = (policy.networks.get(other), devices.bridges.get(other))
            else {
                continue;
            };
            let prefixes = network.subnets.iter().map(|subnet| ((own.ifindex, subnet.net), bridge.ifindex));
            joins.extend(prefixes);
        }
    }
    joins
}

/// An address and who has it.
pub(super) struct Owner<'a> {
    addr: IpAddr,
    network: &'a str,
    bridge: Bridge,
    /// The port, its device and its name; `None` is the gateway.
    port: Option<(&'a Port, PortDevice, &'a str)>,
    /// Whether the host has a route to it.
    is_near_host: bool,
    /// Whether it is as networks that do not know it by its address see it.
    is_abroad: bool,
}

impl Owner<'_> {
    /// Where its record is.
    const fn place(&self) -> (u32, IpAddr) {
        let network = self.bridge.ifindex | if self.is_abroad { EndpointKey::ABROAD } else { 0 };
        (network, self.addr)
    }

    fn endpoint(&self, identity: u32, group_set: &impl Fn(&str) -> GroupSet) -> Endpoint {
        let endpoint = match self.port {
            Some((port, device, name)) => {
                Endpoint::port(device.ifindex, device.delivery, port.mac, identity, group_set(name))
            }
            None => Endpoint::gateway(self.bridge.ifindex, self.bridge.mac, identity),
        };
        if self.is_near_host { endpoint } else { endpoint.apart_from_host() }
    }

    /// What tells who it is to rules; `before` has the identity that it had.
    pub(super) fn member(&self, before: &Tables) -> Member<'_> {
        let known = before.endpoints.get(&self.place());
        Member {
            groups: self.port.map_or(&[], |(port, ..)| &port.security_groups),
            network: self.network,
            addr: (!self.is_abroad).then_some(self.addr),
            before: known.map_or(Identity::UNKNOWN.0, |endpoint| endpoint.identity),
        }
    }
}

/// All addresses of ports in their `seats`, and of gateways that have devices, link-local ones included; those of ports in
/// networks that share addresses once more, as others see them.
pub(super) fn owners<'a>(
    policy: &'a Policy,
    overlaps: &Overlaps<'_>,
    assigned: &Assigned,
    devices: &Devices,
    seats: &[Seat<'a>],
) -> Vec<Owner<'a>> {
    let mut owners = Vec::new();
    for seat in seats {
        let Seat { name, port, network, bridge, device, .. } = *seat;
        let owner = |addr| Owner {
            addr,
            network,
            bridge,
            port: Some((port, device, name)),
            is_near_host: !overlaps.host_is_apart(network, addr),
            is_abroad: false,
        };
        let addresses = seat.addresses(policy, assigned);
        owners.extend(addresses.iter().copied().chain([port.mac.link_local().to_std()]).map(owner));
        if overlaps.concern(network) {
            owners.extend(addresses.into_iter().map(|addr| Owner { is_abroad: true, ..owner(addr) }));
        }
    }
    for (name, network) in policy.networks.iter().filter(|(_, it)| it.kind != NetworkKind::Bridged) {
        let Some(bridge) = devices.bridges.get(name) else { continue };
        let owner = |addr| Owner {
            addr,
            network: name,
            bridge: *bridge,
            port: None,
            is_near_host: !overlaps.host_is_apart(name, addr),
            is_abroad: false,
        };
        owners.extend(gateways(network).chain([bridge.mac.link_local().to_std()]).map(owner));
    }
    owners
}

/// The records of all addresses, whose identities are `identities` in the same order.
pub(super) fn endpoints(
    owners: &[Owner<'_>],
    identities: &[u32],
    group_set: impl Fn(&str) -> GroupSet,
) -> BTreeMap<(u32, IpAddr), Endpoint> {
    let record =
        |(owner, identity): (&Owner<'_>, &u32)| (owner.place(), owner.endpoint(*identity, &group_set));
    owners.iter().zip(identities).map(record).collect()
}

/// The prefixes with their identities, as their map needs them.
pub(super) fn peers(prefixes: &BTreeMap<IpNet, u32>) -> BTreeMap<IpNet, u32> {
    let mut peers = prefixes.clone();
    // The map holds IPv4 as ::ffff:0:0/96. An IPv6 prefix around that range must not take IPv4 addresses in.
    let mapped = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    if peers.keys().any(|net| net.contains(&mapped)) {
        peers.insert(IpNet::V4(Ipv4Net::default()), Identity::UNKNOWN.0);
    }
    peers
}
