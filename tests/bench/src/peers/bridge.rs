//! A bridge, and a router, without any rules.

use crate::{
    peers::{Group, Peer, Ready},
    place::Place,
    shell::sh,
};

/// Puts S's devices on a bridge.
pub(super) const BRIDGE: &str = "
ip link add br0 type bridge stp_state 0 forward_delay 0
ip link set va master br0
ip link set vb master br0
ip link set br0 up";

/// Makes S the gateway of both subnets.
pub(super) const ROUTER: &str = "
ip addr add 10.1.0.1/24 dev va
ip addr add 10.2.0.1/24 dev vb
echo 1 > /proc/sys/net/ipv4/ip_forward";

/// A plain bridge. Bridged packets see no iptables here.
pub(super) fn bridge() -> Peer {
    let set_up = || {
        let place = Place::new("version = 1\n")?;
        sh(place.switch(), BRIDGE)?;
        sh(place.switch(), "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables")?;
        let ends = place.one_subnet()?;
        Ok(Ready::without_rules(place, ends))
    };
    Peer::new(Group::Paths, "bridge", "a Linux bridge, br_netfilter off, no rules", Box::new(set_up))
}

/// A plain router.
pub(super) fn routed() -> Peer {
    let set_up = || {
        let place = Place::new("version = 1\n")?;
        sh(place.switch(), ROUTER)?;
        let ends = place.two_subnets()?;
        Ok(Ready::without_rules(place, ends))
    };
    Peer::new(Group::Paths, "routed", "the kernel routes between two subnets, no rules", Box::new(set_up))
}
