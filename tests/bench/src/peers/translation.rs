//! Translated addresses: a private client that asks outside (SNAT), and a client outside that asks a forwarded
//! port (DNAT); by iptables, and by vnet. Beside them vnet with the same devices and addresses that stay as they are.
//!
//! ```text
//!   A 10.1.0.2 (private) ── S ── 198.51.100.1 (S outside) ── 198.51.100.5 B (outside)
//! ```

use anyhow::Result;

use crate::{
    load::{CONNECTIONS, REQUESTS, SHUT, STREAM, UDP},
    peers::{Group, Peer, Ready, Table, conntrack, rules::legacy_counter, vnet},
    place::{Ends, MAC_A, Place},
    shell::{feed, sh},
};

/// All of them.
pub(super) fn all() -> Vec<Peer> {
    let peer = |name: &str, what: &str, set_up: fn() -> Result<Ready>| {
        Peer::new(Group::Translation, name, what, Box::new(set_up))
    };
    vec![
        peer("iptables snat", "the kernel routes, MASQUERADE and state (iptables-legacy)", || {
            iptables(Way::Out)
        })
        .needs(&["iptables-legacy-restore"]),
        peer("vnet out", "vnet, a network of type routed", || through_vnet(Way::Out, Kind::Routed)),
        peer("vnet snat", "vnet, a network of type nat", || through_vnet(Way::Out, Kind::Nat)).beside(&[
            "iptables snat",
            "vnet out",
            "vnet",
        ]),
        peer("iptables dnat", "the kernel routes, DNAT and state (iptables-legacy)", || iptables(Way::In))
            .needs(&["iptables-legacy-restore"]),
        peer("vnet in", "vnet, a network of type routed", || through_vnet(Way::In, Kind::Routed)),
        peer("vnet dnat", "vnet, forwards to a port of a network of type nat", || {
            through_vnet(Way::In, Kind::Nat)
        })
        .beside(&["iptables dnat", "vnet in", "vnet"]),
    ]
}

/// Those whose forwarded port can be flooded, with room for `room` flows, and what their tables are.
pub(super) fn flooded(room: u32) -> Vec<(Peer, Table)> {
    let through_vnet = move |more: &'static str| {
        move || {
            let place = Place::new(&(policy(Kind::Nat) + more))?;
            let ends = ends(&place, Way::In)?;
            vnet::run_with_room(place, ends, room)
        }
    };
    let iptables = Peer::new(
        Group::Flood,
        "iptables dnat flooded",
        "the kernel routes, DNAT and state (iptables-legacy)",
        Box::new(|| iptables(Way::In)),
    );
    let what = "vnet, forwards to a port of a network of type nat";
    let tc = Peer::new(Group::Flood, "vnet dnat flooded", what, Box::new(through_vnet("")));
    let generic = "[uplinks.vb]\nxdp = \"generic\"\n";
    let what = format!("{what}; generic XDP");
    let xdp = Peer::new(Group::Flood, "vnet dnat xdp flooded", what, Box::new(through_vnet(generic)));
    let tracked = |place: &Place| Ok(conntrack::counter(place.switch().clone()));
    vec![(iptables.needs(&["iptables-legacy-restore"]), tracked), (tc, vnet::flows), (xdp, vnet::flows)]
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A, which is translated.
    Out,
    /// B, whose packets are forwarded to A.
    In,
}

/// Whether addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nat,
    Routed,
}

/// The wires' addresses, and who asks whom.
fn ends(place: &Place, way: Way) -> Result<Ends> {
    sh(
        &place.a(),
        "ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0; ip route add default via 10.1.0.1",
    )?;
    sh(&place.b(), "ip link set eth0 up; ip addr add 198.51.100.5/24 dev eth0")?;
    sh(place.switch(), "ip addr add 198.51.100.1/24 dev vb")?;
    Ok(match way {
        Way::Out => Ends { client: place.a(), server: place.b(), target: [198, 51, 100, 5].into() },
        Way::In => Ends { client: place.b(), server: place.a(), target: [198, 51, 100, 1].into() },
    })
}

fn iptables(way: Way) -> Result<Ready> {
    let place = Place::new("version = 1\n")?;
    let ends = ends(&place, way)?;
    sh(place.switch(), "ip addr add 10.1.0.1/24 dev va; echo 1 > /proc/sys/net/ipv4/ip_forward")?;
    feed(place.switch(), &["iptables-legacy-restore"], &tables())?;
    let counted = legacy_counter(place.switch().clone(), "ESTABLISHED");
    Ok(Ready { counted: Some(counted), ..Ready::without_rules(place, ends) })
}

/// As few rules as do it.
fn tables() -> String {
    let ports = format!("{UDP},{REQUESTS},{CONNECTIONS},{STREAM}");
    let forward = |protocol: &str| {
        format!(
            "-A PREROUTING -i vb -p {protocol} -m multiport --dports {ports} -j DNAT --to-destination 10.1.0.2\n"
        )
    };
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         {}{}-A POSTROUTING -s 10.1.0.0/24 -o vb -j MASQUERADE\nCOMMIT\n\
         *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
         -A FORWARD -i va -o vb -j ACCEPT\n\
         -A FORWARD -i vb -o va -m conntrack --ctstate DNAT -j ACCEPT\nCOMMIT\n",
        forward("udp"),
        forward("tcp"),
    )
}

fn through_vnet(way: Way, kind: Kind) -> Result<Ready> {
    let place = Place::new(&policy(kind))?;
    let mut ends = ends(&place, way)?;
    if kind == Kind::Routed {
        sh(&place.b(), "ip route add 10.1.0.0/24 via 198.51.100.1")?;
        if way == Way::In {
            ends.target = [10, 1, 0, 2].into();
        }
    }
    let ready = vnet::run(place, ends)?;
    // Towards the outside there is nothing to be shut.
    Ok(Ready { filters: way == Way::In, ..ready })
}

fn policy(kind: Kind) -> String {
    let kind_name = if kind == Kind::Nat { "nat" } else { "routed" };
    let tcp = [REQUESTS, CONNECTIONS, STREAM].map(|port| port.to_string()).join(", ");
    let mut text = format!(
        "version = 1\n\n[networks.one]\ntype = \"{kind_name}\"\nsubnets = [\"10.1.0.0/24\"]\nuplink = \"vb\"\n\n\
         [security_groups.client]\ningress = [\n  {{ protocol = \"tcp\", ports = [{tcp}], from = [\"any\"] }},\n  \
         {{ protocol = \"udp\", ports = [{UDP}], from = [\"any\"] }},\n]\n\n"
    );
    text += &vnet::port("a", ("one", "10.1.0.2", MAC_A), "va");
    for protocol in ["tcp", "udp"] {
        if kind == Kind::Nat {
            text += &format!(
                "[[forwards]]\nlisten = \"198.51.100.1:{UDP}-{SHUT}\"\nprotocol = \"{protocol}\"\nto = \"a\"\n\n"
            );
        }
    }
    text
}
