//! The devices of a policy, as the tables and the answers name them.
//!
//! Pure: what was located in, data out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    attach::hook_of,
    desired::{bridge_mac, gateway_mac, leads_outside},
};
use crate::{
    compile::{Bridge, Devices, PortDevice, SegmentDevice, Source, UplinkDevice},
    datapath::{WantedEarly, names::Hook},
    plan::{self, Located, LocatedSegment, LocatedUplink, Role},
    policy::Policy,
};

/// Devices that do not exist, one for each network, port, uplink and segment: the tables have the size that they will
/// have, as far as that does not depend on how many addresses the host has.
pub(super) fn imagined(policy: &Policy) -> Devices {
    let mut indexes = 1..;
    let mut next = || indexes.next().unwrap_or(u32::MAX);
    // None that a policy names as anybody's.
    let addresses: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let uplink = |ifindex| {
        let (mac, addresses) = (bridge_mac(""), addresses.to_vec());
        UplinkDevice::new(ifindex, mac, addresses, 0)
    };
    Devices {
        uplinks: policy
            .networks
            .iter()
            .filter(|(_, network)| leads_outside(network))
            .map(|(name, _)| (name.clone(), uplink(next())))
            .collect(),
        segments: policy
            .networks
            .iter()
            .filter(|(_, network)| network.segment.is_some())
            .map(|(name, network)| {
                let (ifindex, mac) = (next(), bridge_mac(""));
                (name.clone(), SegmentDevice { ifindex, mac, mtu: network.mtu })
            })
            .collect(),
        sources: overlays(policy)
            .map(|of| (of, Source { ifindex: next(), address: Ipv4Addr::UNSPECIFIED }))
            .collect(),
        addresses: addresses.into(),
        routers: BTreeSet::new(),
        bridges: policy
            .networks
            .iter()
            .map(|(name, network)| {
                (name.clone(), Bridge { ifindex: next(), mac: gateway_mac(name, network) })
            })
            .collect(),
        ports: policy
            .ports
            .keys()
            .map(|name| {
                (name.clone(), PortDevice { ifindex: next(), delivery: vnet_common::Delivery::Device })
            })
            .collect(),
    }
}

/// Each peer of each overlay that has an IPv4 address, with the name of the network.
fn overlays(policy: &Policy) -> impl Iterator<Item = (String, IpAddr)> {
    policy.networks.iter().flat_map(|(name, network)| {
        network.peers().iter().filter(|peer| peer.is_ipv4()).map(|peer| (name.clone(), *peer))
    })
}

/// The devices that are there.
pub(super) fn devices(located: &Located) -> Devices {
    let bridges = located.bridges.iter();
    let ports = located.ports.iter();
    Devices {
        bridges: bridges
            .map(|(name, bridge)| (name.clone(), Bridge { ifindex: bridge.ifindex, mac: bridge.mac }))
            .collect(),
        ports: ports
            .map(|(name, port)| (name.clone(), PortDevice { ifindex: port.ifindex, delivery: port.delivery }))
            .collect(),
        uplinks: located.uplinks.iter().map(|(name, uplink)| (name.clone(), device(uplink))).collect(),
        segments: located.segments.iter().map(|(name, located)| (name.clone(), segment(located))).collect(),
        sources: located.segments.iter().flat_map(|(name, located)| sources(name, located)).collect(),
        addresses: located.addresses.keys().copied().collect(),
        routers: located.routers.clone(),
    }
}

fn device(uplink: &LocatedUplink) -> UplinkDevice {
    let LocatedUplink { ifindex, mac, addresses, mtu, routers, .. } = uplink.clone();
    let (gateways, aside) = (routers.gateways.into_iter().collect(), routers.aside.into_iter().collect());
    UplinkDevice { ifindex, mac, addresses, mtu, gateways, aside }
}

const fn segment(located: &LocatedSegment) -> SegmentDevice {
    let LocatedSegment { ifindex, mac, mtu, .. } = *located;
    SegmentDevice { ifindex, mac, mtu }
}

/// How the host speaks to the other hosts of the overlay of the network `name`.
fn sources(name: &str, located: &LocatedSegment) -> impl Iterator<Item = ((String, IpAddr), Source)> {
    located.sources.iter().map(move |(peer, &plan::Source { ifindex, address })| {
        ((name.to_owned(), *peer), Source { ifindex, address })
    })
}

/// The indexes of the bridges and ports that are there.
pub(super) fn indexes(located: &Located) -> BTreeSet<u32> {
    let bridges = located.bridges.values().map(|bridge| bridge.ifindex);
    bridges.chain(located.ports.values().map(|port| port.ifindex)).collect()
}

/// The devices that lead somewhere, with the programs for what they lead to.
pub(super) fn outside(located: &Located) -> BTreeSet<(u32, Hook)> {
    let uplinks = located.uplinks.values().map(|uplink| (uplink.ifindex, Role::Uplink));
    let segments = located.segments.values().flat_map(|segment| segment.roles.iter().copied());
    uplinks.chain(segments).map(|(ifindex, role)| (ifindex, hook_of(role))).collect()
}

/// The uplinks, which may drop early what comes in there.
pub(super) fn earlies(policy: &Policy, located: &Located) -> BTreeMap<u32, WantedEarly> {
    let segments = || located.segments.values().flat_map(|segment| &segment.roles);
    let wanted = |uplink: &LocatedUplink| {
        let xdp = policy.uplinks.get(&uplink.device).copied().unwrap_or_default().xdp;
        let is_trunk = segments().any(|place| *place == (uplink.ifindex, Role::Segment));
        (
            uplink.ifindex,
            WantedEarly { device: uplink.device.clone(), xdp, is_trunk, is_veth: uplink.is_veth },
        )
    };
    located.uplinks.values().map(wanted).collect()
}

/// The devices with programs for what they lead to, and for what.
pub(super) fn attached_outside(hooks: &BTreeSet<(u32, Hook)>) -> BTreeSet<(u32, Role)> {
    let roles = [Role::Uplink, Role::Segment, Role::Lan, Role::Underlay];
    let of = |hook| roles.into_iter().find(|role| hook_of(*role) == hook);
    hooks.iter().filter_map(|&(ifindex, hook)| Some((ifindex, of(hook)?))).collect()
}

/// The devices with all of a port's programs, or a network's. Half of them count as none.
pub(super) fn attached(hooks: &BTreeSet<(u32, Hook)>) -> BTreeSet<u32> {
    let complete = |ifindex: &u32| {
        let has_all = |of: [Hook; 2]| of.iter().all(|hook| hooks.contains(&(*ifindex, *hook)));
        has_all(Hook::OF_BRIDGE) || has_all(Hook::OF_PORT)
    };
    hooks.iter().map(|&(ifindex, _)| ifindex).filter(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_segment_needs_is_kept_attached() {
        let mac = vnet_common::MacAddr([2; 6]);
        let roles = [(8, Role::Segment), (9, Role::Underlay)].into();
        let (device, underlay) = ("vnet-vxlan".to_owned(), Some("eth0".to_owned()));
        let (peer, address) = (IpAddr::from([203, 0, 113, 2]), Ipv4Addr::new(192, 0, 2, 1));
        let sources = [(peer, plan::Source { ifindex: 9, address })].into();
        let segment = LocatedSegment { ifindex: 8, device, mac, mtu: 1450, roles, underlay, sources };
        let located = Located { segments: [("web".to_owned(), segment)].into(), ..Located::default() };
        assert_eq!(outside(&located), [(8, Hook::FromSegment), (9, Hook::FromUnderlay)].into());
        assert_eq!(devices(&located).segments["web"], SegmentDevice { ifindex: 8, mac, mtu: 1450 });
        let source = Source { ifindex: 9, address };
        assert_eq!(devices(&located).sources, [(("web".to_owned(), peer), source)].into());
        assert!(indexes(&located).is_empty());
    }

    #[test]
    fn half_attached_devices_are_attached_again() {
        let hooks = [
            (3, Hook::FromHost),
            (3, Hook::ToHost),
            (4, Hook::FromHost),
            (5, Hook::FromPort),
            (5, Hook::ToPort),
            (7, Hook::FromPort),
            (8, Hook::FromUplink),
            (8, Hook::FromSegment),
            (9, Hook::ToSegment),
            (10, Hook::FromUnderlay),
        ];
        assert_eq!(attached(&hooks.into()), [3, 5].into());
        let outside = [(8, Role::Uplink), (8, Role::Segment), (9, Role::Lan), (10, Role::Underlay)];
        assert_eq!(attached_outside(&hooks.into()), outside.into());
    }
}
