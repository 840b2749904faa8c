//! The rules that Docker installs for a published container, on a bridge and between two.
//!
//! They are those of Docker Engine 28 for a bridge network with one published port: chains, order and
//! matches as `iptables-save` shows them there (<https://docs.docker.com/engine/network/firewall-iptables/>).

use anyhow::Result;

use crate::{
    load::{CONNECTIONS, MANY, REQUESTS, STREAM, UDP},
    peers::{
        Group, Peer, Ready,
        bridge::{BRIDGE, ROUTER},
        rules::legacy_counter,
    },
    place::Place,
    shell::{feed, sh},
};

/// Both ways in which packets meet Docker's rules.
pub(super) fn all() -> Vec<Peer> {
    vec![bridged(), routed()]
}

/// Two containers of one network; br_netfilter shows bridged packets to iptables, as Docker wants it.
fn bridged() -> Peer {
    let set_up = || {
        let place = Place::new("version = 1\n")?;
        sh(place.switch(), BRIDGE)?;
        sh(place.switch(), "ip addr add 10.1.0.1/24 dev br0")?;
        sh(place.switch(), "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")?;
        feed(place.switch(), &["iptables-legacy-restore"], &rules("br0", "br0"))?;
        let ends = place.one_subnet()?;
        ready(place, ends)
    };
    let what = "a Linux bridge with br_netfilter and Docker's rules (iptables-legacy)";
    Peer::new(Group::Paths, "bridge + docker", what, Box::new(set_up)).needs(&["iptables-legacy-restore"])
}

/// From outside to a container: routed.
pub(super) fn routed() -> Peer {
    let set_up = || {
        let place = Place::new("version = 1\n")?;
        sh(place.switch(), ROUTER)?;
        feed(place.switch(), &["iptables-legacy-restore"], &rules("vb", "va"))?;
        let ends = place.two_subnets()?;
        ready(place, ends)
    };
    let what = "the kernel routes between two subnets, with Docker's rules (iptables-legacy)";
    Peer::new(Group::Paths, "routed + docker", what, Box::new(set_up)).needs(&["iptables-legacy-restore"])
}

fn ready(place: Place, ends: crate::place::Ends) -> Result<Ready> {
    let counted = legacy_counter(place.switch().clone(), "ESTABLISHED");
    // Docker lets containers of one network speak as they like: nothing is shut there.
    Ok(Ready { counted: Some(counted), ..Ready::without_rules(place, ends) })
}

/// The tables; the container is behind `bridge`, and who asks behind `outside`.
fn rules(bridge: &str, outside: &str) -> String {
    let container = if bridge == outside { "10.1.0.3" } else { "10.2.0.3" };
    let subnet = if bridge == outside { "10.1.0.0/24" } else { "10.2.0.0/24" };
    let (mut published, mut opened) = (String::new(), String::new());
    // Docker has a rule for each port of a range. One for all, at the end, is in nobody's way.
    let many = format!("{}:{}", MANY.start(), MANY.end());
    let measured = [("udp", UDP), ("tcp", REQUESTS), ("tcp", CONNECTIONS), ("tcp", STREAM)];
    let measured = measured.map(|(protocol, port)| (protocol, port.to_string()));
    for (protocol, port) in measured.into_iter().chain([("udp", many)]) {
        published += &format!(
            "-A DOCKER ! -i {bridge} -p {protocol} -m {protocol} --dport {port} -j DNAT --to-destination {container}\n"
        );
        opened += &format!(
            "-A DOCKER -d {container}/32 ! -i {bridge} -o {bridge} -p {protocol} -m {protocol} --dport {port} -j ACCEPT\n"
        );
    }
    format!(
        "*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE
-A DOCKER -i {bridge} -j RETURN
{published}COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
{opened}-A DOCKER ! -i {bridge} -o {bridge} -j DROP
-A DOCKER-BRIDGE -o {bridge} -j DOCKER
-A DOCKER-CT -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i {bridge} -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i {bridge} ! -o {bridge} -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker1 -j DROP
COMMIT
"
    )
}
