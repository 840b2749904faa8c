//! What does not pass at a trunk port: tags of others, and claims by the tags that it may use. And networks that it cannot
//! have, or has no more.

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_common::DropReason;
use vnet_tests::{
    Pair, eventually,
    frames::{
        ArpKind, CUSTOMER_TAG, Disguise, Eth, MacAddr, SERVICE_TAG, arp, dhcp_offer, neighbour_advertisement,
        router_advertisement, tagged, udp4, udp6, untagged,
    },
    machine::Machine,
    pair::choose,
    raw::RawSocket,
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, assert_reach_each_other, at, ping},
};

use super::{BLUE, NO_MAC, OWN, POLICY, RED, ROUTER, Seat, heard_until, on_one_host, parsed};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The router's own on every link.
const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 9);

/// The router's networks by tags, in the policy.
const VLANS: &str = r#"vlans = ["red", "blue"]"#;
/// Networks that it cannot have beside red: one with the same VLAN, elsewhere, and one with none.
const MORE: &str = r#"
[networks.twin]
type = "private"
subnets = ["10.44.0.0/24"]
vlan = 10
trunk = "eth2"

[networks.plain]
type = "private"
subnets = ["10.45.0.0/24"]
"#;

/// A frame of the router's, and the reason for which it is dropped.
type Lie = (&'static str, Vec<u8>, DropReason);

/// Asserts that each of `lies` is counted by its reason at the router, and seen by nobody; and that the truth, which comes
/// last, is seen by a.
#[track_caller]
fn assert_dropped((pair, machine): &(Pair, Machine), lies: &[Lie], truth: &[u8]) {
    let near = |port| (pair.near.port(port), "eth0");
    let places = [near("a"), near("c"), near("o"), near("e"), (pair.far.host().clone(), "eth1")];
    let ears = places.map(|(place, device)| RawSocket::open(&place, device));
    for (text, frame, reason) in lies {
        let drops = || pair.near.port_drops("router", *reason);
        let before = drops();
        machine.send(frame);
        eventually(text, || (drops() > before).then_some(()));
    }
    machine.send(truth);
    let mut heard = heard_until(&ears[0], &untagged(truth.to_vec()));
    heard.extend(ears[1..].iter().flat_map(RawSocket::pending));
    for (text, frame, _) in lies {
        let said = untagged(frame.clone());
        assert!(!heard.iter().any(|heard| untagged(heard.clone()) == said), "{text} was heard");
    }
}

#[test]
fn a_trunk_port_takes_part_by_the_tags_of_its_networks_alone() {
    let world = on_one_host();
    let to_a = Eth::new(ROUTER, world.0.near.port("a").mac("eth0"));
    let [own, a] = [RED.own, RED.addresses].map(|addresses| parsed(addresses).0);
    let said = |text: &str| udp4(to_a, (own, 9), (a, 7000), text.as_bytes());
    let with = |text, tags: &[(u16, u16)]| (text, tagged(said(text), tags), DropReason::VlanTag);
    let [red, blue] = [RED, BLUE].map(|seat| seat.tags[0]);
    assert_dropped(
        &world,
        &[
            with("the tag of a network that the port does not list", &[(CUSTOMER_TAG, 30)]),
            with("the tag of no network", &[(CUSTOMER_TAG, 99)]),
            with("a mere priority", &[(CUSTOMER_TAG, 3 << 13)]),
            with("a service tag", &[(SERVICE_TAG, 10)]),
            with("a tag within red's", &[red, blue]),
            with("red's tag twice", &[red, red]),
            with("a service tag within red's", &[red, (SERVICE_TAG, 10)]),
            with("red's tag within a service tag", &[(SERVICE_TAG, 100), red]),
            with("red's tag within a mere priority", &[(CUSTOMER_TAG, 0), red]),
            with("three tags", &[red, red, blue]),
            ("red's address without a tag", said("untagged"), DropReason::SpoofedAddress),
            ("red's address with blue's tag", tagged(said("blue"), BLUE.tags), DropReason::SpoofedAddress),
        ],
        // A priority beside the VLAN is no other tag.
        &tagged(said("the truth"), &[(CUSTOMER_TAG, 5 << 13 | 10)]),
    );
}

#[test]
fn a_trunk_port_claims_nobody_by_its_tags() {
    let world = on_one_host();
    let near = &world.0.near;
    let (mac, gateway) = (near.port("a").mac("eth0"), near.host().mac("vnet-red"));
    let ((own4, own6), (a4, a6), (g4, g6)) = (parsed(RED.own), parsed(RED.addresses), parsed(RED.gateway));
    let ((blue4, blue6), (c4, _), (plain4, _)) = (parsed(BLUE.own), parsed(BLUE.addresses), parsed(OWN.own));
    let (to_a, all) = (Eth::new(ROUTER, mac), Eth::broadcast(ROUTER));
    let all6 = Eth::multicast(ROUTER, ALL_NODES);
    let from = |text, src| (text, udp4(to_a, (src, 9), (a4, 7000), b"lie"), DropReason::SpoofedAddress);
    let from6 = |text, src| (text, udp6(to_a, (src, 9), (a6, 7000), b"lie"), DropReason::SpoofedAddress);
    let by =
        |text, src| (text, udp4(Eth::new(src, mac), (own4, 9), (a4, 7000), b"lie"), DropReason::SpoofedMac);
    let said = |text, sender| (text, arp(all, ArpKind::Reply, sender, (NO_MAC, a4)), DropReason::SpoofedArp);
    let claims = |text, target, link| {
        let frame = neighbour_advertisement(all6, (own6, ALL_NODES), target, link);
        (text, frame, DropReason::SpoofedNeighbour)
    };
    let lies = [
        from("its own network's address", plain4),
        from("blue's address", blue4),
        from("the address of one of blue, as who forwards has it", c4),
        from("a's address", a4),
        from("the gateway's address", g4),
        from("an address from outside", Ipv4Addr::new(192, 0, 2, 1)),
        from6("blue's IPv6 address", blue6),
        from6("a's IPv6 address", a6),
        from6("the gateway's IPv6 address", g6),
        by("a's MAC", mac),
        by("the gateway's MAC", gateway),
        by("nobody's MAC", MacAddr([2, 0, 0, 0, 0, 0x77])),
        said("ARP that claims a", (ROUTER, a4)),
        said("ARP that claims the gateway", (ROUTER, g4)),
        said("ARP that claims blue's address", (ROUTER, blue4)),
        said("ARP with a's MAC inside", (mac, own4)),
        claims("discovery that claims a", a6, ROUTER),
        claims("discovery that claims the gateway", g6, ROUTER),
        claims("discovery that claims blue's address", blue6, ROUTER),
        claims("discovery with a's MAC inside", own6, mac),
        (
            "RA",
            router_advertisement(all6, (LOCAL, ALL_NODES), Disguise::Plain),
            DropReason::RouterAdvertisement,
        ),
        ("DHCP offer", dhcp_offer(all, own4, a4), DropReason::DhcpServer),
    ];
    let lies = lies.map(|(text, frame, reason)| (text, tagged(frame, RED.tags), reason));
    let truth = udp4(to_a, (own4, 9), (a4, 7000), b"the truth");
    assert_dropped(&world, &lies, &tagged(truth, RED.tags));
}

#[test]
fn a_network_that_is_taken_from_a_trunk_port_is_closed_to_it_at_once() {
    let (pair, _machine) = on_one_host();
    let (near, router) = (&pair.near, pair.near.port("router"));
    let _echoes = [RED, BLUE].map(|seat| Echo::serve(&near.port(seat.port), 7000));
    let connect = |seat: Seat| Connection::from(&router, &at(seat.addresses[0], 7000));
    let [mut in_red, mut in_blue] = [RED, BLUE].map(connect);
    let less = POLICY.replace(VLANS, r#"vlans = ["red"]"#).replace(r#", "10.42.0.9", "fd00:42::9"]"#, "]");
    near.write_policy(&choose(&less, 0));
    let _ = near.ctl(&["apply"]).ok();
    in_red.echo(ANSWER).expect("red as before");
    near.assert_counts(DropReason::VlanTag, || assert_eq!(in_blue.outcome(SILENCE), Outcome::Silence));
    assert_eq!(ping(BLUE.own[0]).run(&near.port("c"), SILENCE), Outcome::Silence);
}

#[test]
fn vlans_that_cannot_be_are_refused_with_their_place_and_change_nothing() {
    let (pair, _machine) = on_one_host();
    let (near, router) = (&pair.near, pair.near.port("router"));
    let _echo = Echo::serve(&near.port("a"), 7000);
    let mut connection = Connection::from(&router, "10.41.0.10:7000");
    let generation = || near.json(&["status"])["generation"].clone();
    let before = generation();
    for (name, words) in [
        ("bleu", "there is no network `bleu`"),
        ("red", "network `red` is given twice"),
        ("twin", "network `twin` has VLAN 10, as network `red` on this port"),
        ("plain", "network `plain` has no `vlan`"),
    ] {
        let listed = format!("vlans = [\"red\", \"blue\", \"{name}\"]");
        let policy = [&POLICY.replace(VLANS, &listed), MORE].concat();
        near.write_policy(&choose(&policy, 0));
        let place = place_of(&near.policy_text(), &listed, listed.len() - name.len() - 3);
        let _ = near.ctl(&["apply"]).refused().says(&[&place, words]);
        assert_eq!(generation(), before, "{name}");
    }
    connection.echo(ANSWER).expect("a connection from before");
    assert_reach_each_other((&router, BLUE.own), (&near.port("c"), BLUE.addresses));
}

/// Where a finding says that it is that begins `offset` bytes behind the beginning of `line`.
fn place_of(text: &str, line: &str, offset: usize) -> String {
    let number = text.lines().position(|other| other == line).expect("the line");
    format!("policy.toml:{}:{}", number + 1, offset + 1)
}
