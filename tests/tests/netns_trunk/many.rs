//! What is for everybody in a network: it goes to trunk ports by the network's tag, and comes from them by it.

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_common::DropReason;
use vnet_tests::{
    frames::{ArpKind, Eth, MacAddr, arp, tagged, tags_of, udp4, udp6, untagged},
    raw::RawSocket,
};

use super::{BLUE, NO_MAC, OWN, RED, ROUTER, SEATS, Seat, heard_until, on_one_host, on_two_hosts, parsed};

/// Datagrams to groups, from `mac` and its `addresses`.
fn to_many(mac: MacAddr, addresses: [&str; 2]) -> [Vec<u8>; 2] {
    let ((v4, v6), text) = (parsed(addresses), b"to many");
    let groups = (Ipv4Addr::new(224, 0, 0, 251), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));
    let to_group = Eth::new(mac, MacAddr([1, 0, 0x5e, 0, 0, 0xfb]));
    [
        udp4(to_group, (v4, 5353), (groups.0, 5353), text),
        udp6(Eth::multicast(mac, groups.1), (v6, 5353), (groups.1, 5353), text),
    ]
}

/// The question where somebody is whom vnet does not know, in the network of `addresses`.
fn question(mac: MacAddr, addresses: [&str; 2]) -> Vec<u8> {
    let v4 = parsed(addresses).0;
    let [a, b, c, _] = v4.octets();
    arp(Eth::broadcast(mac), ArpKind::Request, (mac, v4), (NO_MAC, Ipv4Addr::new(a, b, c, 77)))
}

/// A datagram to the one with the MAC `to`, after which nothing is said any more.
fn last(eth: Eth, from: [&str; 2], to: [&str; 2]) -> Vec<u8> {
    udp4(eth, (parsed(from).0, 9), (parsed(to).0, 7000), b"last")
}

/// Asserts that each of `said` is among `heard` once with these tags, and not with others; or not at all.
#[track_caller]
fn assert_heard(heard: &[Vec<u8>], said: &[Vec<u8>], tags: Option<&[(u16, u16)]>) {
    for frame in said {
        let copies = heard.iter().filter(|heard| untagged(heard.to_vec()) == *frame);
        let seen: Vec<_> = copies.map(|copy| tags_of(copy)).collect();
        assert_eq!(seen, tags.map(<[_]>::to_vec).into_iter().collect::<Vec<_>>(), "of {frame:02x?}");
    }
}

#[test]
fn what_is_for_everybody_in_a_network_reaches_a_trunk_port_once_by_its_tag() {
    let (pair, _machine) = on_two_hosts();
    let (near, far) = (&pair.near, &pair.far);
    for (mouth, addresses, Seat { tags, own, .. }) in [
        (near.port("o"), OWN.addresses, OWN),
        (near.port("a"), RED.addresses, RED),
        (near.port("c"), BLUE.addresses, BLUE),
        (far.port("b"), ["10.41.0.11", "fd00:41::b"], RED),
        (far.port("d"), ["10.42.0.11", "fd00:42::b"], BLUE),
    ] {
        let (wire, mac) = (RawSocket::open(near.host(), "tap0"), mouth.mac("eth0"));
        let said = to_many(mac, addresses);
        let last = last(Eth::new(mac, ROUTER), addresses, own);
        let socket = RawSocket::open(&mouth, "eth0");
        said.iter().chain([&last]).for_each(|frame| socket.send(frame));
        assert_heard(&heard_until(&wire, &tagged(last, tags)), &said, Some(tags));
    }
}

#[test]
fn a_question_of_a_network_reaches_a_trunk_port_once_by_its_tag() {
    let (pair, _machine) = on_one_host();
    for Seat { tags, own, port, addresses, .. } in [RED, BLUE] {
        let mouth = pair.near.port(port);
        let (wire, mac) = (RawSocket::open(pair.near.host(), "tap0"), mouth.mac("eth0"));
        let said = question(mac, addresses);
        let last = last(Eth::new(mac, ROUTER), addresses, own);
        let socket = RawSocket::open(&mouth, "eth0");
        [&said, &last].iter().for_each(|frame| socket.send(frame));
        assert_heard(&heard_until(&wire, &tagged(last, tags)), &[said], Some(tags));
    }
}

#[test]
fn what_a_trunk_port_tells_everybody_is_heard_in_the_network_of_its_tag() {
    let (pair, machine) = on_one_host();
    for seat in SEATS {
        let ears = SEATS.map(|Seat { port, .. }| RawSocket::open(&pair.near.port(port), "eth0"));
        let trunk = RawSocket::open(pair.far.host(), "eth1");
        let said = to_many(ROUTER, seat.own);
        let last = last(Eth::new(ROUTER, pair.near.port(seat.port).mac("eth0")), seat.own, seat.addresses);
        said.iter().chain([&last]).for_each(|frame| machine.send(&tagged(frame.clone(), seat.tags)));
        let (in_it, elsewhere): (Vec<_>, Vec<_>) =
            ears.iter().zip(SEATS).partition(|(_, other)| other.network == seat.network);
        assert_heard(&heard_until(in_it[0].0, &last), &said, Some(&[]));
        for (ear, _) in elsewhere {
            assert_heard(&ear.pending().collect::<Vec<_>>(), &said, None);
        }
        // Its own network does not go beyond this host.
        let beyond = (!seat.tags.is_empty()).then_some(seat.tags);
        assert_heard(&trunk.pending().collect::<Vec<_>>(), &said, beyond);
    }
}

#[test]
fn what_is_for_everybody_is_not_heard_by_any_tag_where_no_group_admits_it() {
    let (pair, _machine) = on_one_host();
    let near = &pair.near;
    for (port, addresses) in [("o", OWN.addresses), ("a", RED.addresses)] {
        let (mouth, ear) = (near.port(port), RawSocket::open(&near.port("shut"), "eth0"));
        let socket = RawSocket::open(&mouth, "eth0");
        let said = to_many(mouth.mac("eth0"), addresses);
        for frame in &said {
            near.assert_counts(DropReason::IngressDenied, || socket.send(frame));
        }
        assert_heard(&ear.pending().collect::<Vec<_>>(), &said, None);
    }
}
