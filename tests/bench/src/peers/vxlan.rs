//! Two hosts, each a bridge with a VXLAN device, and a wire between them.
//!
//! ```text
//!   A ── va S (bridge, vxlan0) under ~~veth~~ under S2 (bridge, vxlan0) vb ── B
//! ```

use anyhow::Result;
use vnet_tests::Namespace;

use crate::{
    peers::{Group, Peer, Ready},
    place::Place,
    shell::sh,
};

/// The kernel's own VXLAN (RFC 7348). The wire takes the 50 bytes more.
pub(super) fn kernel() -> Peer {
    let set_up = || {
        let mut place = Place::new("version = 1\n")?;
        place.world().create_namespace("s2");
        let (other, name) = (place.world().port("s2"), place.world().netns_name("s2"));
        let wire =
            format!("ip link set vb netns {name}; ip link add under type veth peer name under netns {name}");
        sh(place.switch(), &wire)?;
        host(place.switch(), "va", ("192.0.2.1", "192.0.2.2"))?;
        host(&other, "vb", ("192.0.2.2", "192.0.2.1"))?;
        let ends = place.one_subnet()?;
        Ok(Ready::without_rules(place, ends))
    };
    let what = "two hosts with a Linux bridge and the kernel's vxlan device each, no rules";
    Peer::new(Group::Paths, "kernel vxlan", what, Box::new(set_up))
}

fn host(namespace: &Namespace, port: &str, (own, other): (&str, &str)) -> Result<()> {
    let script = format!(
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
         ip link set under mtu 1550 up
         ip addr add {own}/24 dev under
         ip link add vxlan0 mtu 1500 type vxlan id 42 dstport 4789 local {own} remote {other} dev under
         ip link add br0 type bridge stp_state 0 forward_delay 0
         ip link set {port} master br0
         ip link set vxlan0 master br0
         ip link set {port} up
         ip link set vxlan0 up
         ip link set br0 up
         echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables"
    );
    sh(namespace, &script).map(drop)
}
