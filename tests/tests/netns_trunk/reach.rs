//! Who reaches a trunk port, and whom it reaches: in each of its networks those whom groups let.

use std::net::Ipv6Addr;

use vnet_common::DropReason;
use vnet_tests::{
    frames::{
        ArpKind, Eth, MacAddr, Tags, arp, neighbour_advertisement, neighbour_solicitation, tagged, tags_of,
        udp4, udp6,
    },
    raw::RawSocket,
    traffic::{Echo, assert_reach_each_other, ping, tcp, udp},
    transfer::Pipe,
};

use super::{BLUE, NO_MAC, RED, SEATS, SHUT, Seat, on_one_host, on_two_hosts, parsed};

#[test]
fn a_trunk_port_is_in_each_of_its_networks() {
    let (pair, _machine) = on_one_host();
    let (near, router) = (&pair.near, pair.near.port("router"));
    for Seat { own, gateway, port, addresses, .. } in SEATS {
        assert_reach_each_other((&router, own), (&near.port(port), addresses));
        assert_reach_each_other((&router, own), (near.host(), gateway));
    }
}

#[test]
fn a_trunk_port_is_reached_from_the_other_host() {
    let (pair, _machine) = on_two_hosts();
    let (router, far) = (pair.near.port("router"), &pair.far);
    assert_reach_each_other((&router, RED.own), (&far.port("b"), ["10.41.0.11", "fd00:41::b"]));
    assert_reach_each_other((&router, BLUE.own), (&far.port("d"), ["10.42.0.11", "fd00:42::b"]));
    assert_reach_each_other((&router, RED.own), (far.host(), ["10.41.0.2", "fd00:41::2"]));
}

#[test]
fn fragments_pass_by_tags() {
    let (pair, _machine) = on_one_host();
    let large = |from: &str, to: &str| {
        let _ = pair.near.exec(from, &["ping", "-n", "-c", "1", "-s", "4000", "-W", "8", to]).ok();
    };
    for Seat { own, port, addresses, .. } in SEATS {
        addresses.iter().for_each(|to| large("router", to));
        own.iter().for_each(|to| large(port, to));
    }
}

#[test]
fn long_segments_arrive_whole_by_tags() {
    /// Far more than one frame's.
    const LONG: usize = 9000;
    let (pair, _machine) = on_two_hosts();
    let (router, near, far) = (pair.near.port("router"), &pair.near, &pair.far);
    for (other, to) in [
        (near.port("a"), "10.41.0.9:7000"),
        (near.port("c"), "[fd00:42::9]:7000"),
        (far.port("b"), "[fd00:41::9]:7000"),
        (far.port("d"), "10.42.0.9:7000"),
    ] {
        let wire = RawSocket::open(&other, "eth0");
        wire.make_room(1 << 24);
        let mut pipe = Pipe::open(&other, to, (&router, 7000));
        pipe.assert_carries_there(4);
        pipe.assert_carries_back(4);
        assert!(wire.pending().any(|frame| frame.len() > LONG), "no segment to {to} was long");
    }
}

/// The tags of the frames from and to `mac` that `wire` has seen.
fn tags_with(wire: &RawSocket, mac: MacAddr) -> Vec<Tags> {
    let of_it = wire.pending().filter(|frame| [&frame[..6], &frame[6..12]].contains(&&mac.0[..]));
    of_it.map(|frame| tags_of(&frame)).collect()
}

#[test]
fn frames_have_the_tag_of_their_network_at_the_trunk_port_and_none_at_the_others() {
    let (pair, _machine) = on_one_host();
    for Seat { tags, own, port, addresses, .. } in SEATS {
        let other = pair.near.port(port);
        let wires = [RawSocket::open(pair.near.host(), "tap0"), RawSocket::open(&other, "eth0")];
        assert_reach_each_other((&pair.near.port("router"), own), (&other, addresses));
        for (wire, expected) in wires.iter().zip([tags, &[]]) {
            let seen = tags_with(wire, other.mac("eth0"));
            assert!(seen.len() > 20 && seen.iter().all(|seen| seen == expected), "{port}: {seen:x?}");
        }
    }
}

/// A frame of red's at a trunk port.
fn in_red(frame: Vec<u8>) -> Vec<u8> {
    tagged(frame, RED.tags)
}

#[test]
fn a_trunk_port_in_a_namespace_finds_its_neighbours_and_is_answered_by_the_tag() {
    let (pair, _machine) = on_one_host();
    let (a, wire) = (pair.near.port("a"), RawSocket::open(&pair.near.port("shut"), "eth0"));
    let (to_a, _echo) = (Eth::new(SHUT, a.mac("eth0")), Echo::serve(&a, 7000));
    let ((own4, own6), (a4, a6)) = (parsed(["10.41.0.8", "fd00:41::8"]), parsed(RED.addresses));
    wire.send(&in_red(arp(Eth::broadcast(SHUT), ArpKind::Request, (SHUT, own4), (NO_MAC, a4))));
    let answer = in_red(arp(Eth::new(to_a.dst, SHUT), ArpKind::Reply, (to_a.dst, a4), (SHUT, own4)));
    wire.receive("a's MAC by ARP", |frame| *frame == answer);
    // To the group of those whose addresses end as a's does (RFC 4291 section 2.7.1).
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0xa);
    wire.send(&in_red(neighbour_solicitation(Eth::multicast(SHUT, group), (own6, group), a6, SHUT)));
    let advertisement = in_red(neighbour_advertisement(Eth::new(to_a.dst, SHUT), (a6, own6), a6, to_a.dst));
    wire.receive("a's MAC by discovery", |frame| *frame == advertisement);
    wire.send(&in_red(udp4(to_a, (own4, 9), (a4, 7000), b"marco")));
    wire.send(&in_red(udp6(to_a, (own6, 9), (a6, 7000), b"polo")));
    for text in [&b"marco"[..], b"polo"] {
        let is_echo = |frame: &[u8]| frame[6..12] == to_a.dst.0 && frame.ends_with(text);
        assert_eq!(tags_of(&wire.receive("echo", is_echo)), RED.tags);
    }
}

#[test]
fn groups_hold_by_tags() {
    let (pair, _machine) = on_one_host();
    let near = &pair.near;
    let ports = ["router", "db", "a"].map(|name| near.port(name));
    let _echoes = ports.each_ref().map(|port| [5432, 7000].map(|number| Echo::serve(port, number)));
    near.judge(&[
        // Others know the router by its group.
        ("router", tcp("10.41.0.13:5432"), true),
        ("router", tcp("[fd00:41::d]:5432"), true),
        ("router", tcp("10.41.0.13:7000"), false),
        ("a", tcp("10.41.0.13:5432"), false),
        ("a", tcp("[fd00:41::d]:5432"), false),
        // It has its group in all its networks.
        ("a", tcp("10.41.0.9:7000"), true),
        ("c", tcp("[fd00:42::9]:7000"), true),
        ("o", tcp("10.40.0.9:7000"), true),
    ]);
    for (from, to, port) in [("router", "db", "5432"), ("a", "router", "7000"), ("c", "router", "7000")] {
        let _ = near.ctl(&["sg", "test", "--from", from, "--to", to, "-p", "tcp", "--port", port]).ok();
    }
    near.assert_counts(DropReason::IngressDenied, || {
        near.judge(&[
            ("a", tcp("10.41.0.9:5432"), false),
            ("c", udp("[fd00:42::9]:5432"), false),
            ("o", tcp("10.40.0.9:5432"), false),
        ]);
    });
}

#[test]
fn a_group_that_admits_nobody_lets_nothing_in_by_any_tag() {
    let (pair, _machine) = on_one_host();
    let (near, shut) = (&pair.near, RawSocket::open(&pair.near.port("shut"), "eth0"));
    let probes = [
        ("a", ping("10.41.0.8")),
        ("a", tcp("10.41.0.8:7000")),
        ("a", udp("[fd00:41::8]:7000")),
        ("router", ping("10.41.0.8")),
        ("router", ping("fd00:41::8")),
        ("o", ping("10.40.0.8")),
    ];
    near.assert_counts(DropReason::IngressDenied, || {
        near.judge(&probes.map(|(from, probe)| (from, probe, false)))
    });
    let is_probe = |frame: &Vec<u8>| frame[..6] == SHUT.0;
    assert_eq!(shut.pending().find(is_probe), None);
}
