//! What a workload may not send: each lie is dropped and counted by its own reason, also while
//! honest flows are established.
//!
//! a (the liar) and b (the victim) are members of one network whose groups allow everything.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use vnet_common::DropReason;
use vnet_tests::{
    World,
    frames::{
        ArpKind, Disguise, Eth, MacAddr, arp, dhcp_offer, dhcpv6_advertise, icmp6, neighbour_advertisement,
        neighbour_solicitation, redirect, router_advertisement, udp4, udp6,
    },
    raw::RawSocket,
    traffic::{ANSWER, Connection, Echo, ping},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
mac = "02:00:00:00:00:0a"
security_groups = ["open"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
mac = "02:00:00:00:00:0b"
security_groups = ["open"]
attach = { netns = "@b", create = true }
"#;

const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const NO_MAC: MacAddr = MacAddr([0; 6]);
const G4: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
const A4: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 10);
const B4: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 11);
const G6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0xa);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0xb);
/// a's own link-local address, derived from its MAC.
const A_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_DHCP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// A frame of a's and the reason for which it is dropped.
type Lie = (&'static str, Vec<u8>, DropReason);

fn to_b() -> Eth {
    Eth::new(MAC_A, MAC_B)
}

fn sources() -> Vec<Lie> {
    let as_b = Eth::new(MAC_B, MacAddr::BROADCAST);
    let stranger = Eth::new(MacAddr([2, 0, 0, 0, 0, 0x77]), MAC_B);
    let (own, b) = ((A4, 9), (B4, 9));
    vec![
        ("IPv4 from a stranger's MAC", udp4(stranger, own, b, b"lie"), DropReason::SpoofedMac),
        ("IPv4 from b's MAC", udp4(as_b, own, b, b"lie"), DropReason::SpoofedMac),
        ("IPv6 from a stranger's MAC", udp6(stranger, (A6, 9), (B6, 9), b"lie"), DropReason::SpoofedMac),
        ("ARP from b's MAC", arp(as_b, ArpKind::Reply, (MAC_B, B4), (NO_MAC, A4)), DropReason::SpoofedMac),
        ("IPv4 from b's address", udp4(to_b(), b, b, b"lie"), DropReason::SpoofedAddress),
        ("IPv4 from the gateway's", udp4(to_b(), (G4, 9), b, b"lie"), DropReason::SpoofedAddress),
        (
            "IPv4 from an address outside the network",
            udp4(to_b(), (Ipv4Addr::new(192, 0, 2, 1), 9), b, b"lie"),
            DropReason::SpoofedAddress,
        ),
        ("IPv4 from loopback", udp4(to_b(), (Ipv4Addr::LOCALHOST, 9), b, b"lie"), DropReason::SpoofedAddress),
        ("IPv6 from b's address", udp6(to_b(), (B6, 9), (B6, 9), b"lie"), DropReason::SpoofedAddress),
        ("IPv6 from the gateway's", udp6(to_b(), (G6, 9), (B6, 9), b"lie"), DropReason::SpoofedAddress),
        (
            "IPv6 from b's link-local address",
            udp6(to_b(), (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xb), 9), (B6, 9), b"lie"),
            DropReason::SpoofedAddress,
        ),
    ]
}

fn neighbours() -> Vec<Lie> {
    let all = Eth::broadcast(MAC_A);
    let all6 = Eth::multicast(MAC_A, ALL_NODES);
    let arp_lie =
        |text, eth, kind, sender, target| (text, arp(eth, kind, sender, target), DropReason::SpoofedArp);
    let nd_lie = |text, frame| (text, frame, DropReason::SpoofedNeighbour);
    vec![
        arp_lie("ARP reply that claims b", to_b(), ArpKind::Reply, (MAC_A, B4), (MAC_B, B4)),
        arp_lie("ARP reply that claims the gateway", to_b(), ArpKind::Reply, (MAC_A, G4), (MAC_B, B4)),
        arp_lie("gratuitous ARP that claims b", all, ArpKind::Request, (MAC_A, B4), (NO_MAC, B4)),
        arp_lie("gratuitous ARP that claims the gateway", all, ArpKind::Reply, (MAC_A, G4), (MAC_A, G4)),
        arp_lie("ARP with another MAC inside", all, ArpKind::Reply, (MAC_B, A4), (NO_MAC, B4)),
        arp_lie("ARP request with another MAC inside", all, ArpKind::Request, (MAC_B, A4), (NO_MAC, G4)),
        nd_lie("NA that claims b", neighbour_advertisement(to_b(), (A_LOCAL, B6), B6, MAC_A)),
        nd_lie(
            "unsolicited NA that claims the gateway",
            neighbour_advertisement(all6, (A_LOCAL, ALL_NODES), G6, MAC_A),
        ),
        nd_lie(
            "unsolicited NA from the own address that claims b",
            neighbour_advertisement(all6, (A6, ALL_NODES), B6, MAC_A),
        ),
        nd_lie(
            "NA for the own address with another MAC inside",
            neighbour_advertisement(all6, (A6, ALL_NODES), A6, MAC_B),
        ),
        nd_lie("NS with another MAC inside", neighbour_solicitation(all6, (A6, ALL_NODES), B6, MAC_B)),
    ]
}

fn servers() -> Vec<Lie> {
    let all = Eth::multicast(MAC_A, ALL_NODES);
    let advertise = |disguise| router_advertisement(all, (A_LOCAL, ALL_NODES), disguise);
    let to_clients = Eth::multicast(MAC_A, ALL_DHCP);
    vec![
        ("RA", advertise(Disguise::Plain), DropReason::RouterAdvertisement),
        (
            "RA behind destination options",
            advertise(Disguise::DestinationOptions),
            DropReason::RouterAdvertisement,
        ),
        (
            "RA to b alone",
            router_advertisement(to_b(), (A_LOCAL, B6), Disguise::Plain),
            DropReason::RouterAdvertisement,
        ),
        ("redirect", redirect(to_b(), (A_LOCAL, B6), A_LOCAL, G6), DropReason::RouterAdvertisement),
        ("DHCP offer", dhcp_offer(Eth::broadcast(MAC_A), A4, B4), DropReason::DhcpServer),
        ("DHCP offer to b alone", udp4(to_b(), (A4, 67), (B4, 68), &[2; 244]), DropReason::DhcpServer),
        ("DHCPv6 advertise", dhcpv6_advertise(to_clients, A_LOCAL, ALL_DHCP), DropReason::DhcpServer),
        ("DHCPv6 advertise to b alone", dhcpv6_advertise(to_b(), A_LOCAL, B6), DropReason::DhcpServer),
    ]
}

/// Sends each lie, and asserts that it is counted by its reason at a and never seen by b or the host.
fn assert_dropped(world: &World, lies: &[Lie]) {
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let victim = RawSocket::open(&world.port("b"), "eth0");
    let host = RawSocket::open(world.host(), "vnet-web");
    for (text, frame, reason) in lies {
        let before = world.port_drops("a", *reason);
        sender.send(frame);
        // The program runs in the course of sending, so the count is there when the frame is gone.
        vnet_tests::eventually(&format!("{text}: `{}` to be counted at a", reason.label()), || {
            (world.port_drops("a", *reason) > before).then_some(())
        });
    }
    let sent: BTreeSet<&[u8]> = lies.iter().map(|(_, frame, _)| &frame[14..]).collect();
    for (seen_by, socket) in [("b", &victim), ("the host", &host)] {
        for frame in socket.pending() {
            assert!(!sent.contains(&frame[14..]), "{seen_by} saw a lie: {frame:02x?}");
        }
    }
}

/// All of it, without flows and beside some.
fn dropped_before_and_beside_flows(lies: &[Lie]) {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 9);
    assert_dropped(&world, lies);
    let mut connections = ["10.10.0.11:9", "[fd00:10::b]:9"].map(|to| Connection::from(&world.port("a"), to));
    for address in ["10.10.0.11", "fd00:10::b", "10.10.0.1", "fd00:10::1"] {
        world.assert_reaches("a", ping(address));
    }
    assert_dropped(&world, lies);
    for connection in &mut connections {
        connection.echo(ANSWER).expect("the honest connections live on");
    }
    world.assert_reaches("b", ping("10.10.0.1"));
}

#[test]
fn spoofed_sources_are_dropped() {
    dropped_before_and_beside_flows(&sources());
}

#[test]
fn spoofed_neighbour_messages_are_dropped() {
    dropped_before_and_beside_flows(&neighbours());
}

#[test]
fn rogue_servers_and_routers_are_dropped() {
    dropped_before_and_beside_flows(&servers());
}

#[test]
fn a_disguised_router_advertisement_never_arrives() {
    let world = World::running(POLICY);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let victim = RawSocket::open(&world.port("b"), "eth0");
    for (disguise, reason) in [
        (Disguise::AtomicFragment, [DropReason::Fragment, DropReason::RouterAdvertisement]),
        (Disguise::VlanZero, [DropReason::VlanTag, DropReason::RouterAdvertisement]),
    ] {
        let eth = Eth::multicast(MAC_A, ALL_NODES);
        let count = || reason.iter().map(|reason| world.port_drops("a", *reason)).sum::<u64>();
        let before = count();
        sender.send(&router_advertisement(eth, (A_LOCAL, ALL_NODES), disguise));
        vnet_tests::eventually("the disguised RA to be counted", || (count() > before).then_some(()));
    }
    // ICMPv6 type 134 anywhere: b's own kernel would have taken it.
    let routes = world.exec("b", &["ip", "-6", "route", "show", "default", "proto", "ra"]).ok().stdout;
    assert!(routes.is_empty(), "{routes}");
    let from_a =
        |frame: &[u8]| frame[6..12] == MAC_A.0 && frame.windows(8).any(|w| w == [134, 0, 0, 0, 64, 0, 7, 8]);
    assert!(!victim.pending().any(|frame| from_a(&frame)));
}

#[test]
fn honest_frames_pass_the_same_checks() {
    let world = World::running(POLICY);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let receiver = RawSocket::open(&world.port("b"), "eth0");
    for frame in [
        udp4(to_b(), (A4, 9000), (B4, 9000), b"honest"),
        udp6(to_b(), (A6, 9000), (B6, 9000), b"honest"),
        udp6(to_b(), (A6, 9000), (B6, 68), b"honest"),
    ] {
        sender.send(&frame);
        let arrived = receiver.receive("honest frame", |seen| seen[12..] == frame[12..]);
        assert_eq!(arrived[..12], frame[..12], "within a network nothing is rewritten");
    }
}

#[test]
fn messages_to_routers_are_for_the_host_alone() {
    let world = World::running(POLICY);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let neighbour = RawSocket::open(&world.port("b"), "eth0");
    let host = RawSocket::open(world.host(), "vnet-web");
    // No rule speaks of them, so they must not carry anything to a neighbour either.
    const SECRET: [u8; 4] = *b"psst";
    const ROUTER_SOLICITATION: u8 = 133;
    for kind in [ROUTER_SOLICITATION, 130, 131, 132, 143] {
        let message = icmp6(Eth::multicast(MAC_A, ALL_NODES), A_LOCAL, ALL_NODES, (kind, 0), SECRET);
        sender.send(&message);
        host.receive(&format!("message of type {kind}"), |seen| seen[14..] == message[14..]);
    }
    let honest = udp6(to_b(), (A6, 9000), (B6, 9000), b"honest");
    sender.send(&honest);
    neighbour.receive("honest frame", |seen| {
        assert!(!seen.windows(4).any(|bytes| bytes == SECRET), "b saw {seen:02x?}");
        seen[12..] == honest[12..]
    });
}

#[test]
fn questions_for_the_gateway_and_neighbours_are_answered() {
    let world = World::running(POLICY);
    let socket = RawSocket::open(&world.port("a"), "eth0");
    let bridge = world.host_exec(&["ip", "-o", "link", "show", "dev", "vnet-web"]).ok().stdout;
    for (address, mac) in [(G4, None), (B4, Some(MAC_B))] {
        socket.send(&arp(Eth::broadcast(MAC_A), ArpKind::Request, (MAC_A, A4), (NO_MAC, address)));
        let answer = socket.receive("ARP reply", |frame| {
            frame.len() >= 42
                && frame[12..14] == [8, 6]
                && frame[21] == 2
                && frame[28..32] == address.octets()
        });
        let told = MacAddr(answer[22..28].try_into().expect("six bytes"));
        match mac {
            Some(mac) => assert_eq!(told, mac),
            None => assert!(bridge.contains(&told.to_string()), "{told} is not the gateway's: {bridge}"),
        }
        assert_eq!(answer[..6], MAC_A.0, "to the one who asked");
    }
}

#[test]
fn a_question_for_nobody_is_not_spread() {
    let world = World::running(POLICY);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let other = RawSocket::open(&world.port("b"), "eth0");
    let nobody = Ipv4Addr::new(10, 10, 0, 99);
    world.assert_counts(DropReason::UnknownNeighbour, || {
        sender.send(&arp(Eth::broadcast(MAC_A), ArpKind::Request, (MAC_A, A4), (NO_MAC, nobody)));
    });
    assert!(!other.pending().any(|frame| frame.len() >= 42 && frame[38..42] == nobody.octets()));
}

#[test]
fn frames_that_are_no_ip_are_dropped() {
    let world = World::running(POLICY);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let raw = |ether_type: [u8; 2], body: &[u8]| [&MAC_B.0[..], &MAC_A.0, &ether_type, body].concat();
    // LLDP; an 802.3 length with an LLC header (a spanning tree frame).
    for frame in [raw([0x88, 0xcc], &[0; 46]), raw([0, 38], &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0])] {
        world.assert_counts(DropReason::EtherType, || sender.send(&frame));
    }
    // VLAN 10 around an honest packet; QinQ around another.
    let honest = udp4(to_b(), (A4, 9), (B4, 9), b"tagged");
    let tagged = [&honest[..12], &[0x81, 0, 0, 10], &honest[12..]].concat();
    let double = [&honest[..12], &[0x88, 0xa8, 0, 10, 0x81, 0, 0, 10], &honest[12..]].concat();
    for frame in [tagged, double] {
        world.assert_counts(DropReason::VlanTag, || sender.send(&frame));
    }
}
