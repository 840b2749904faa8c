//! The devices of a policy, as the tables and the answers name them.
//!
//! Pure: what was located in, data out.

use std::collections::BTreeSet;

use super::desired::bridge_mac;
use crate::{
    compile::{Bridge, Devices, PortDevice},
    datapath::names::Hook,
    plan::Located,
    policy::Policy,
};

/// Devices that do not exist, one for each network and port: the tables have the size that they will have.
pub(super) fn imagined(policy: &Policy) -> Devices {
    let mut indexes = 1..;
    let mut next = || indexes.next().unwrap_or(u32::MAX);
    Devices {
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
        ..Devices::default()
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
        ..Devices::default()
    }
}

/// The indexes of the devices that are there.
pub(super) fn indexes(located: &Located) -> BTreeSet<u32> {
    let bridges = located.bridges.values().map(|bridge| bridge.ifindex);
    bridges.chain(located.ports.values().map(|port| port.ifindex)).collect()
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
        ];
        assert_eq!(attached(&hooks.into()), [3, 5].into());
    }
}
