//! The devices of a policy, as the tables and the answers name them.
//!
//! Pure: what was located in, data out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::desired::bridge_mac;
use crate::{
    compile::{Bridge, Devices, PortDevice, SegmentDevice, UplinkDevice},
    datapath::names::Hook,
    plan::{Located, LocatedUplink},
    policy::{Network, NetworkKind, Policy},
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
    let leads_outside =
        |(_, network): &(&String, &Network)| matches!(network.kind, NetworkKind::Nat | NetworkKind::Routed);
    let segment = |ifindex| SegmentDevice { ifindex, mac: bridge_mac(""), mtu: 0 };
    Devices {
        uplinks: policy
            .networks
            .iter()
            .filter(leads_outside)
            .map(|(name, _)| (name.clone(), uplink(next())))
            .collect(),
        segments: policy
            .networks
            .iter()
            .filter(|(_, network)| network.segment.is_some())
            .map(|(name, _)| (name.clone(), segment(next())))
            .collect(),
        addresses: addresses.into(),
        bridges: policy
            .networks
            .keys()
            .map(|name| (name.clone(), Bridge { ifindex: next(), mac: bridge_mac(name) }))
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
        segments: BTreeMap::new(),
        addresses: located.addresses.keys().copied().collect(),
    }
}

fn device(uplink: &LocatedUplink) -> UplinkDevice {
    let LocatedUplink { ifindex, mac, addresses, mtu, routers, .. } = uplink.clone();
    let (gateways, aside) = (routers.gateways.into_iter().collect(), routers.aside.into_iter().collect());
    UplinkDevice { ifindex, mac, addresses, mtu, gateways, aside }
}

/// The indexes of the bridges and ports that are there.
pub(super) fn indexes(located: &Located) -> BTreeSet<u32> {
    let bridges = located.bridges.values().map(|bridge| bridge.ifindex);
    bridges.chain(located.ports.values().map(|port| port.ifindex)).collect()
}

/// The indexes of the uplinks that are there.
pub(super) fn uplink_indexes(located: &Located) -> BTreeSet<u32> {
    located.uplinks.values().map(|uplink| uplink.ifindex).collect()
}

/// The devices with the program for uplinks.
pub(super) fn attached_uplinks(hooks: &BTreeSet<(u32, Hook)>) -> BTreeSet<u32> {
    let uplinks = hooks.iter().filter(|(_, hook)| *hook == Hook::FromUplink);
    uplinks.map(|(ifindex, _)| *ifindex).collect()
}

/// The devices with all of a port's programs, or a network's. Half of them count as none.
pub(super) fn attached(hooks: &BTreeSet<(u32, Hook)>) -> BTreeSet<u32> {
    let has = |ifindex, hook| hooks.contains(&(ifindex, hook));
    let has_both = |ifindex: u32, a, b| has(ifindex, a) && has(ifindex, b);
    let complete = |ifindex: &u32| {
        has_both(*ifindex, Hook::FromHost, Hook::ToHost) || has_both(*ifindex, Hook::FromPort, Hook::ToPort)
    };
    hooks.iter().map(|&(ifindex, _)| ifindex).filter(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ];
        assert_eq!(attached(&hooks.into()), [3, 5].into());
        assert_eq!(attached_uplinks(&hooks.into()), [8].into());
    }
}
