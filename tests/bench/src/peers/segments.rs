//! Two hosts, each with a workload, and a wire between them that the workloads' network goes over.
//!
//! ```text
//!   A ── va  S  under ~~veth~~ under  T  vb ── B
//! ```
//!
//! The wire takes the 50 bytes of an overlay more, so that A and B send what they send elsewhere.

use anyhow::Result;
use vnet_tests::Namespace;

use crate::{
    peers::{Group, Peer, Ready, vnet},
    place::{MAC_A, MAC_B, Place, UNDERLAY},
    shell::sh,
};

/// All of them, those that others are held against first.
pub(super) fn all() -> Vec<Peer> {
    vec![
        peer("kernel vxlan", "a Linux bridge and the kernel's vxlan device on each host, no rules", kernel),
        peer("vnet vxlan", "vnet on each host, one private network with a `vni`; the same groups", || {
            through_vnet(&OVERLAY)
        })
        .beside(&["kernel vxlan"]),
        peer("vnet untagged", "vnet on each host, one network bridged to the wire; the same groups", || {
            through_vnet(&UNTAGGED)
        }),
        peer("vnet vlan", "vnet on each host, one private network with a `vlan`; the same groups", || {
            through_vnet(&TAGGED)
        })
        .beside(&["vnet untagged"]),
    ]
}

fn peer(name: &str, what: &str, set_up: fn() -> Result<Ready>) -> Peer {
    Peer::new(Group::Segments, name, format!("two hosts: {what}"), Box::new(set_up))
}

/// The kernel's own VXLAN (RFC 7348).
fn kernel() -> Result<Ready> {
    let place = Place::two_hosts("version = 1\n")?;
    let [near, far] = UNDERLAY;
    kernel_host(place.switch(), "va", (near, far))?;
    kernel_host(place.other_switch()?, "vb", (far, near))?;
    let ends = place.one_subnet()?;
    Ok(Ready::without_rules(place, ends))
}

fn kernel_host(namespace: &Namespace, port: &str, (own, other): (&str, &str)) -> Result<()> {
    let script = format!(
        "ip link add vxlan0 mtu 1500 type vxlan id 42 dstport 4789 local {own} remote {other} dev under
         ip link add br0 type bridge stp_state 0 forward_delay 0
         ip link set {port} master br0
         ip link set vxlan0 master br0
         ip link set vxlan0 up
         ip link set br0 up
         echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables"
    );
    sh(namespace, &script).map(drop)
}

/// How a network goes over the wire: what is particular in its policy, of which `<X|Y>` is X for S and Y for T.
struct Segment {
    network: &'static str,
    /// What A and B are on the other host.
    remote: [&'static str; 2],
}

const OVERLAY: Segment = Segment {
    network: "type = \"private\"\ngateway = [\"10.1.0.<253|254>\"]\nmtu = 1500\nvni = 42\n\
              peers = [\"<192.0.2.2|192.0.2.1>\"]\nuplink = \"under\"",
    remote: ["\"192.0.2.1\"", "\"192.0.2.2\""],
};
const TAGGED: Segment = Segment {
    network: "type = \"private\"\ngateway = [\"10.1.0.<253|254>\"]\nvlan = 10\ntrunk = \"under\"",
    remote: ["true"; 2],
};
const UNTAGGED: Segment = Segment { network: "type = \"bridged\"\nuplink = \"under\"", remote: ["true"; 2] };

fn through_vnet(segment: &Segment) -> Result<Ready> {
    let Segment { network, remote: [a, b] } = segment;
    let policy = [
        format!("version = 1\n\n[networks.one]\nsubnets = [\"10.1.0.0/24\"]\n{network}\n\n"),
        vnet::groups(""),
        vnet::port_at(
            "a",
            ("one", "10.1.0.2", MAC_A),
            &format!("<{{ device = \"va\" }}|{{ remote = {a} }}>"),
        ),
        vnet::port_at(
            "b",
            ("one", "10.1.0.3", MAC_B),
            &format!("<{{ remote = {b} }}|{{ device = \"vb\" }}>"),
        ),
    ];
    let place = Place::two_hosts(&policy.concat())?;
    let ends = place.one_subnet()?;
    vnet::run(place, ends)
}
