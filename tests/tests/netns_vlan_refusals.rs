//! What does not pass where a network is a VLAN of a trunk: frames that workloads may not send, and stations on the
//! trunk that claim to be somebody else. And policies that are refused.
//!
//! ```text
//!     a ---- near ==== eth1, VLAN 10 ==== far ---- b
//! ```
//!
//! The liar on the trunk is the far host's own end of it, past its daemon: vnet's programs there see what arrives.

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_common::DropReason;
use vnet_tests::{
    Pair, World, eventually,
    frames::{
        ArpKind, CUSTOMER_TAG, Disguise, Eth, MacAddr, SERVICE_TAG, arp, dhcp_offer, neighbour_advertisement,
        parse_mac, router_advertisement, tagged, tags_of, udp4, udp6,
    },
    pair::choose,
    raw::RawSocket,
    traffic::{ANSWER, Connection, Echo},
};

const POLICY: &str = r#"
version = 1

[networks.red]
type = "private"
subnets = ["10.41.0.0/24", "fd00:41::/64"]
gateway = ["10.41.0.<1|2>", "fd00:41::<1|2>"]
vlan = 10
trunk = "eth1"

[networks.blue]
type = "private"
subnets = ["10.42.0.0/24"]
vlan = 20
trunk = "eth1"

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.a]
network = "red"
addresses = ["10.41.0.10", "fd00:41::a"]
mac = "02:00:00:00:00:0a"
security_groups = ["open"]
attach = <{ netns = "@a", create = true }|{ remote = true }>

[ports.b]
network = "red"
addresses = ["10.41.0.11", "fd00:41::b"]
mac = "02:00:00:00:00:0b"
security_groups = ["open"]
attach = <{ remote = true }|{ netns = "@b", create = true }>
"#;

const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
/// Somebody on the trunk whom no policy knows.
const MAC_O: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
const NO_MAC: MacAddr = MacAddr([0; 6]);
const G4: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 1);
const A4: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 10);
const B4: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 11);
const O4: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 77);
const G6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x41, 0, 0, 0, 0, 0, 1);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x41, 0, 0, 0, 0, 0, 0xa);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x41, 0, 0, 0, 0, 0, 0xb);
const O6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x41, 0, 0, 0, 0, 0, 0x77);
/// O's link-local address, derived from its MAC.
const O_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x77);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A frame and the reason for which it is dropped.
type Lie = (&'static str, Vec<u8>, DropReason);

/// Asserts that each of `lies`, sent by `liar`, is counted by its reason at the near host, and that neither a nor the
/// near host's own stack sees it, while a's connection to b goes on.
#[track_caller]
fn assert_dropped(pair: &Pair, liar: &RawSocket, lies: &[Lie]) {
    let (a, b) = (pair.near.port("a"), pair.far.port("b"));
    let _echo = Echo::serve(&b, 7000);
    let mut connection = Connection::from(&a, "10.41.0.11:7000");
    let seen = RawSocket::open(&a, "eth0");
    for (text, frame, reason) in lies {
        let before = pair.near.drops(*reason);
        liar.send(frame);
        eventually(text, || (pair.near.drops(*reason) > before).then_some(()));
        let rest = &frame[14 + 4 * tags_of(frame).len()..];
        let is_lie =
            |seen: &Vec<u8>| seen[6..12] == frame[6..12] && seen.ends_with(rest) && tags_of(seen).is_empty();
        // What a sends itself is seen by itself.
        assert!(frame[6..12] == MAC_A.0 || !seen.pending().any(|seen| is_lie(&seen)), "{text} reached a");
    }
    connection.echo(ANSWER).expect("an established connection");
}

/// `lies` in the VLAN of the network.
fn in_vlan(lies: impl IntoIterator<Item = Lie>) -> Vec<Lie> {
    let tagged = |(text, frame, reason)| (text, tagged(frame, &[(CUSTOMER_TAG, 10)]), reason);
    lies.into_iter().map(tagged).collect()
}

#[test]
fn a_workload_sends_no_tags_and_nothing_but_ip() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let (liar, trunk) =
        (RawSocket::open(&pair.near.port("a"), "eth0"), RawSocket::open(pair.far.host(), "eth1"));
    let truth = || udp4(Eth::new(MAC_A, MAC_B), (A4, 9), (B4, 9), b"the truth");
    let with = |text, tags: &[(u16, u16)]| (text, tagged(truth(), tags), DropReason::VlanTag);
    let llc = |length: u16| [&MAC_B.0[..], &MAC_A.0, &length.to_be_bytes(), &[0x42; 46]].concat();
    assert_dropped(
        &pair,
        &liar,
        &[
            with("a priority tag", &[(CUSTOMER_TAG, 3 << 13)]),
            with("the network's own tag", &[(CUSTOMER_TAG, 10)]),
            with("another network's tag", &[(CUSTOMER_TAG, 20)]),
            with("a tag within the network's", &[(CUSTOMER_TAG, 10), (CUSTOMER_TAG, 20)]),
            with("a service tag", &[(SERVICE_TAG, 10)]),
            with("a service tag around the network's", &[(SERVICE_TAG, 100), (CUSTOMER_TAG, 10)]),
            ("LLC", llc(46), DropReason::EtherType),
            ("spanning tree", [&[1, 0x80, 0xc2, 0, 0, 0][..], &llc(38)[6..]].concat(), DropReason::EtherType),
        ],
    );
    let leaked =
        trunk.pending().filter(|frame| frame.ends_with(b"the truth") || frame.ends_with(&[0x42; 38]));
    assert_eq!(leaked.count(), 0);
}

/// HAZARDS case 16, from beyond the host.
#[test]
fn case_16_nobody_on_the_trunk_claims_the_gateway_or_a_port() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let liar = RawSocket::open(pair.far.host(), "eth1");
    let (all, to_a) = (Eth::broadcast(MAC_O), Eth::new(MAC_O, MAC_A));
    let all6 = Eth::multicast(MAC_O, ALL_NODES);
    let said =
        |text, eth, kind, sender, target| (text, arp(eth, kind, sender, target), DropReason::SpoofedArp);
    let nd = |text, frame| (text, frame, DropReason::SpoofedNeighbour);
    let gateway = parse_mac(&pair.near.mac(pair.near.host(), "vnet-red"));
    let source = |text, src| (text, udp4(to_a, (src, 9), (A4, 9), b"lie"), DropReason::SpoofedAddress);
    let source6 = |text, src| (text, udp6(to_a, (src, 9), (A6, 9), b"lie"), DropReason::SpoofedAddress);
    let mac =
        |text, src| (text, udp4(Eth::new(src, MAC_A), (O4, 9), (A4, 9), b"lie"), DropReason::SpoofedMac);
    let lies = in_vlan([
        said("ARP reply that claims the gateway", to_a, ArpKind::Reply, (MAC_O, G4), (MAC_A, A4)),
        said("ARP reply that claims b", to_a, ArpKind::Reply, (MAC_O, B4), (MAC_A, A4)),
        said("gratuitous ARP that claims the gateway", all, ArpKind::Request, (MAC_O, G4), (NO_MAC, G4)),
        said("gratuitous ARP that claims a", all, ArpKind::Reply, (MAC_O, A4), (MAC_O, A4)),
        said("gratuitous ARP that claims b", all, ArpKind::Reply, (MAC_O, B4), (MAC_O, B4)),
        said("ARP with another MAC inside", all, ArpKind::Reply, (MAC_B, O4), (NO_MAC, A4)),
        said("ARP request as the gateway", all, ArpKind::Request, (MAC_O, G4), (NO_MAC, A4)),
        nd("NA that claims the gateway", neighbour_advertisement(to_a, (O_LOCAL, A6), G6, MAC_O)),
        nd(
            "unsolicited NA that claims the gateway",
            neighbour_advertisement(all6, (O_LOCAL, ALL_NODES), G6, MAC_O),
        ),
        nd("unsolicited NA that claims a", neighbour_advertisement(all6, (O_LOCAL, ALL_NODES), A6, MAC_O)),
        nd("unsolicited NA that claims b", neighbour_advertisement(all6, (O_LOCAL, ALL_NODES), B6, MAC_O)),
        nd(
            "NA of b's with another MAC inside",
            neighbour_advertisement(Eth::new(MAC_B, MAC_A), (B6, A6), B6, MAC_O),
        ),
        nd(
            "unsolicited NA for the own address with b's MAC inside",
            neighbour_advertisement(all6, (O6, ALL_NODES), O6, MAC_B),
        ),
        source("IPv4 from the gateway's address", G4),
        source("IPv4 from a's own address", A4),
        source("IPv4 from another network's", Ipv4Addr::new(10, 42, 0, 5)),
        source("IPv4 from outside", Ipv4Addr::new(192, 0, 2, 1)),
        source6("IPv6 from the gateway's address", G6),
        source6("IPv6 from outside", Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        mac("IPv4 from the gateway's MAC", gateway),
        mac("IPv4 from a's MAC", MAC_A),
        ("IPv4 from b's address", udp4(to_a, (B4, 9), (A4, 9), b"lie"), DropReason::SpoofedMac),
        ("IPv6 from b's address", udp6(to_a, (B6, 9), (A6, 9), b"lie"), DropReason::SpoofedMac),
    ]);
    assert_dropped(&pair, &liar, &lies);
    // Who lies about nothing is a station as any.
    let seen = RawSocket::open(&pair.near.port("a"), "eth0");
    liar.send(&tagged(udp4(to_a, (O4, 9), (A4, 9), b"the truth"), &[(CUSTOMER_TAG, 10)]));
    seen.receive("datagram of a stranger", |frame| frame.ends_with(b"the truth"));
}

/// HAZARDS case 15, from beyond the host: which is the router of the network.
#[test]
fn case_15_nobody_on_the_trunk_is_a_router() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let liar = RawSocket::open(pair.far.host(), "eth1");
    let all6 = Eth::multicast(MAC_O, ALL_NODES);
    let disguised = |text, disguise| {
        (text, router_advertisement(all6, (O_LOCAL, ALL_NODES), disguise), DropReason::RouterAdvertisement)
    };
    let lies = in_vlan([
        disguised("RA", Disguise::Plain),
        disguised("RA behind destination options", Disguise::DestinationOptions),
    ]);
    assert_dropped(&pair, &liar, &lies);
    // Two tags of this kind are of no network, whatever is behind them; fragments to many do not pass at all.
    let seen = RawSocket::open(&pair.near.port("a"), "eth0");
    for hidden in [Disguise::VlanZero, Disguise::AtomicFragment] {
        liar.send(&tagged(disguised("", hidden).1, &[(CUSTOMER_TAG, 10)]));
    }
    liar.send(&tagged(udp4(Eth::new(MAC_O, MAC_A), (O4, 9), (A4, 9), b"the truth"), &[(CUSTOMER_TAG, 10)]));
    let next = seen.receive("frame of O's", |frame| frame[6..12] == MAC_O.0);
    assert!(next.ends_with(b"the truth"), "{next:02x?}");
    let routes = pair.near.exec("a", &["ip", "-6", "route", "show", "default"]).ok().stdout;
    assert!(!routes.contains("fe80::ff:fe00:77"), "{routes}");
}

/// HAZARDS case 15, from a workload to the other host.
#[test]
fn case_15_no_workload_is_a_router_of_the_other_hosts_workloads() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let (liar, trunk) =
        (RawSocket::open(&pair.near.port("a"), "eth0"), RawSocket::open(pair.far.host(), "eth1"));
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);
    let all6 = Eth::multicast(MAC_A, ALL_NODES);
    let disguised =
        |text, disguise, reason| (text, router_advertisement(all6, (local, ALL_NODES), disguise), reason);
    let to_b = Eth::new(MAC_A, MAC_B);
    assert_dropped(
        &pair,
        &liar,
        &[
            disguised("RA", Disguise::Plain, DropReason::RouterAdvertisement),
            disguised("RA with options", Disguise::DestinationOptions, DropReason::RouterAdvertisement),
            disguised("RA under VLAN 0", Disguise::VlanZero, DropReason::VlanTag),
            (
                "RA to b",
                router_advertisement(to_b, (local, B6), Disguise::Plain),
                DropReason::RouterAdvertisement,
            ),
            ("DHCP offer", dhcp_offer(Eth::broadcast(MAC_A), A4, B4), DropReason::DhcpServer),
        ],
    );
    // ICMPv6 of the type of a router advertisement, and what comes from a DHCP server.
    let leaked =
        trunk.pending().filter(|frame| frame.get(58) == Some(&134) || frame.get(38..40) == Some(&[0, 67]));
    assert_eq!(leaked.count(), 0);
}

/// What `validate` says of `policy`.
fn mistakes(policy: &str) -> String {
    let world = World::prepare(policy);
    world.ctl(&["validate"]).refused().stderr
}

#[test]
fn vlans_and_trunks_that_cannot_be_are_refused_with_their_place() {
    let network = |name: &str, number: u8, vlan: &str| {
        format!(
            "[networks.{name}]\ntype = \"private\"\nsubnets = [\"10.{number}.0.0/24\"]\nvlan = {vlan}\ntrunk = \"eth1\"\n"
        )
    };
    for (policy, words) in [
        (network("red", 41, "0"), ["policy.toml:5:8", "vlan = 0", "there is no VLAN 0", "1 to 4094"]),
        (
            network("red", 41, "4095"),
            ["policy.toml:5:8", "vlan = 4095", "there is no VLAN 4095", "1 to 4094"],
        ),
        (
            network("red", 41, "10") + &network("blue", 42, "10"),
            ["policy.toml:10:8", "VLAN 10", "network `red` already", "another trunk"],
        ),
        (
            network("red", 41, "10")
                + "[ports.a]\nnetwork = \"red\"\nsecurity_groups = []\nattach = { device = \"eth1\" }\n",
            [
                "policy.toml:10:21",
                "`eth1` is the trunk of network `red`",
                "not a port's device",
                "a veth or a tap",
            ],
        ),
    ] {
        let told = mistakes(&format!("version = 1\n{policy}"));
        for word in words {
            assert!(told.contains(word), "no {word:?} in:\n{told}");
        }
    }
}

#[test]
fn a_trunk_that_is_not_there_is_told() {
    let pair = Pair::on_a_trunk(POLICY).started();
    pair.near.write_policy(&choose(&POLICY.replace("eth1", "eth7"), 0));
    let _ = pair.near.ctl(&["apply"]).refused().says(&["red", "eth7"]);
    let _ = pair.near.ctl(&["apply"]).refused().says(&["blue", "eth7"]);
}
