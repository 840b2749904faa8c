//! Each form of a rule, against real packets: peers, ports, protocols, ICMP types, both versions of
//! IP, both directions, and the group `default`.

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_common::DropReason;
use vnet_tests::{
    World,
    frames::{Eth, MacAddr, icmp4, icmp6, ipv4},
    raw::RawSocket,
    traffic::{ANSWER, Echo, Outcome, ping, tcp, udp},
};

/// Two networks; the ports of each test follow.
const NETWORKS: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[networks.back]
type = "private"
subnets = ["10.20.0.0/24"]
"#;

const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const A: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 0xa);
const B: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 0xb);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0xa);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0xb);

/// A port of `web` with the last byte of its addresses and MAC, in `groups` (TOML, empty for none).
fn port(name: &str, last: u8, groups: &str) -> String {
    let groups = if groups.is_empty() { String::new() } else { format!("security_groups = {groups}") };
    format!(
        r#"
[ports.{name}]
network = "web"
addresses = ["10.10.0.{last}", "fd00:10::{last:x}"]
mac = "02:00:00:00:00:{last:02x}"
{groups}
attach = {{ netns = "@{name}", create = true }}
"#
    )
}

/// A host with `groups` and the ports a (10.10.0.10), b (.11) and c (.12) in those named.
fn world(groups: &str, [a, b, c]: [&str; 3]) -> World {
    World::running(&[NETWORKS, groups, &port("a", 10, a), &port("b", 11, b), &port("c", 12, c)].concat())
}

#[test]
fn members_of_a_peer_group_come_in_and_others_do_not() {
    let groups = r#"
[security_groups.app]
[security_groups.db]
ingress = [{ protocol = "tcp", ports = [5432], from = ["sg:app"] }]
"#;
    let world = world(groups, [r#"["app"]"#, r#"["db"]"#, r#"["db"]"#]);
    let _server = Echo::serve(&world.port("b"), 5432);
    world.judge(&[
        ("a", tcp("10.10.0.11:5432"), true),
        ("a", tcp("[fd00:10::b]:5432"), true),
        ("c", tcp("10.10.0.11:5432"), false),
        ("c", tcp("[fd00:10::b]:5432"), false),
        ("a", udp("10.10.0.11:5432"), false),
    ]);
}

#[test]
fn a_peer_network_means_its_ports() {
    let groups = r#"
[security_groups.client]
[security_groups.db]
ingress = [
  { protocol = "tcp", ports = [1000], from = ["net:web"] },
  { protocol = "tcp", ports = [1001], from = ["net:back"] },
]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["db"]"#, r#"["client"]"#]);
    let _servers = [1000, 1001].map(|port| Echo::serve(&world.port("b"), port));
    world.judge(&[
        ("a", tcp("10.10.0.11:1000"), true),
        ("c", tcp("[fd00:10::b]:1000"), true),
        ("a", tcp("10.10.0.11:1001"), false),
        ("c", tcp("[fd00:10::b]:1001"), false),
    ]);
}

#[test]
fn peers_by_address_prefix_and_list() {
    let groups = r#"
[prefix_lists]
office = ["10.10.0.10/32", "fd00:10::a/128"]

[security_groups.client]
[security_groups.db]
ingress = [
  { protocol = "tcp", ports = [1000], from = ["list:office"] },
  { protocol = "tcp", ports = [1001], from = ["10.10.0.12"] },
  { protocol = "tcp", ports = [1002], from = ["10.10.0.8/30", "fd00:10::c/126"] },
  { protocol = "tcp", ports = [1003], from = ["10.0.0.0/8"] },
]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["db"]"#, r#"["client"]"#]);
    let _servers = [1000, 1001, 1002, 1003].map(|port| Echo::serve(&world.port("b"), port));
    world.judge(&[
        ("a", tcp("10.10.0.11:1000"), true),
        ("a", tcp("[fd00:10::b]:1000"), true),
        ("c", tcp("10.10.0.11:1000"), false),
        ("c", tcp("[fd00:10::b]:1000"), false),
        ("a", tcp("10.10.0.11:1001"), false),
        ("c", tcp("10.10.0.11:1001"), true),
        ("c", tcp("[fd00:10::b]:1001"), false),
        ("a", tcp("10.10.0.11:1002"), true),
        ("c", tcp("10.10.0.11:1002"), false),
        ("a", tcp("[fd00:10::b]:1002"), false),
        ("c", tcp("[fd00:10::b]:1002"), true),
        ("a", tcp("10.10.0.11:1003"), true),
        ("c", tcp("10.10.0.11:1003"), true),
    ]);
}

#[test]
fn port_ranges_end_where_they_say() {
    let groups = r#"
[security_groups.client]
[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80, "8000-8010"], from = ["any"] },
  { protocol = "udp", ports = ["65534-65535"], from = ["any"] },
]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["web"]"#, ""]);
    let ports = [79, 80, 81, 7999, 8000, 8001, 8007, 8008, 8010, 8011, 65533, 65534, 65535];
    let _servers = ports.map(|port| Echo::serve(&world.port("b"), port));
    let cases = ports.map(|port| {
        let (v4, v6) = (format!("10.10.0.11:{port}"), format!("[fd00:10::b]:{port}"));
        let (over_tcp, over_udp) = (port == 80 || (8000..=8010).contains(&port), port >= 65534);
        [("a", tcp(&v4), over_tcp), ("a", udp(&v6), over_udp)]
    });
    world.judge(cases.as_flattened());
}

#[test]
fn icmp_types_are_told_apart() {
    let groups = r#"
[security_groups.client]
[security_groups.echo]
ingress = [{ protocol = "icmp", icmp_type = 8, from = ["any"] }]
[security_groups.stamp]
ingress = [{ protocol = "icmp", icmp_type = 13, icmp_code = 0, from = ["any"] }]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["stamp"]"#, r#"["echo"]"#]);
    world.judge(&[
        ("a", ping("10.10.0.12"), true),
        ("a", ping("10.10.0.11"), false),
        ("a", ping("fd00:10::c"), false),
        ("a", tcp("10.10.0.12:80"), false),
    ]);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let receiver = RawSocket::open(&world.port("b"), "eth0");
    let request = |code: u8, id: u8| icmp4(Eth::new(MAC_A, MAC_B), A, B, (13, code), [0, id, 0, 1]);
    world.assert_counts(DropReason::IngressDenied, || sender.send(&request(1, 1)));
    sender.send(&request(0, 2));
    let is_request = |frame: &[u8]| frame.len() > 37 && frame[23] == 1 && frame[34] == 13;
    let arrived = receiver.receive("timestamp request", is_request);
    assert_eq!((arrived[35], arrived[39]), (0, 2), "only code 0 arrives");
}

#[test]
fn icmpv6_has_rules_of_its_own() {
    let groups = r#"
[security_groups.client]
[security_groups.six]
ingress = [{ protocol = "icmpv6", icmp_type = 128, from = ["any"] }]
[security_groups.four]
ingress = [{ protocol = "icmp", from = ["any"] }]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["six"]"#, r#"["four"]"#]);
    world.judge(&[
        ("a", ping("fd00:10::b"), true),
        ("a", ping("10.10.0.11"), false),
        ("a", ping("10.10.0.12"), true),
        ("a", ping("fd00:10::c"), false),
    ]);
    // A listener report is for routers; sent to one address it is judged like any other message.
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let report = icmp6(Eth::new(MAC_A, MAC_B), A6, B6, (143, 0), [0; 4]);
    world.assert_counts(DropReason::IngressDenied, || sender.send(&report));
}

#[test]
fn everybody_by_one_version_of_ip_only() {
    let groups = r#"
[security_groups.client]
[security_groups.mixed]
ingress = [
  { protocol = "tcp", ports = [1000], from = ["::/0"] },
  { protocol = "tcp", ports = [1001], from = ["0.0.0.0/0"] },
  { protocol = "tcp", ports = [1002], from = ["any"] },
  { protocol = "tcp", ports = [1003], from = ["fd00:10::/64"] },
]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["mixed"]"#, ""]);
    let _servers = [1000, 1001, 1002, 1003].map(|port| Echo::serve(&world.port("b"), port));
    let expected = [(1000, false, true), (1001, true, false), (1002, true, true), (1003, false, true)];
    let cases = expected.map(|(port, over_v4, over_v6)| {
        let (v4, v6) = (format!("10.10.0.11:{port}"), format!("[fd00:10::b]:{port}"));
        [("a", tcp(&v4), over_v4), ("a", tcp(&v6), over_v6)]
    });
    world.judge(cases.as_flattened());
}

#[test]
fn ports_without_groups_reach_each_other_only() {
    let groups = "[security_groups.lone]\n";
    let world = world(groups, ["", "", r#"["lone"]"#]);
    let _servers = ["a", "b", "c"].map(|port| Echo::serve(&world.port(port), 80));
    world.judge(&[
        ("a", tcp("10.10.0.11:80"), true),
        ("b", udp("[fd00:10::a]:80"), true),
        ("a", ping("10.10.0.11"), true),
        ("a", ping("fd00:10::b"), true),
        ("c", tcp("10.10.0.11:80"), false),
        ("c", ping("fd00:10::a"), false),
        ("a", tcp("10.10.0.12:80"), false),
        ("a", ping("10.10.0.1"), true),
    ]);
}

#[test]
fn the_file_may_redefine_the_default_group() {
    let groups = r#"
[security_groups.default]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]
[security_groups.lone]
"#;
    let world = world(groups, ["", "", r#"["lone"]"#]);
    let _servers = [Echo::serve(&world.port("b"), 80), Echo::serve(&world.port("b"), 81)];
    world.judge(&[
        ("a", tcp("10.10.0.11:80"), true),
        ("c", tcp("10.10.0.11:80"), true),
        ("a", tcp("10.10.0.11:81"), false),
        ("a", ping("10.10.0.11"), false),
    ]);
}

#[test]
fn no_egress_rule_lets_nothing_out_but_replies() {
    let groups = r#"
[security_groups.jail]
ingress = [{ protocol = "any", from = ["any"] }]
egress = []
[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]
"#;
    let world = world(groups, [r#"["jail"]"#, r#"["open"]"#, r#"["open"]"#]);
    let _servers = ["a", "b"].map(|port| Echo::serve(&world.port(port), 80));
    world.assert_counts(DropReason::EgressDenied, || world.assert_silent("a", tcp("10.10.0.11:80")));
    world.judge(&[
        ("a", udp("[fd00:10::b]:80"), false),
        ("a", ping("10.10.0.11"), false),
        ("a", ping("10.10.0.1"), false),
        ("a", ping("fd00:10::1"), false),
        ("b", tcp("10.10.0.10:80"), true),
        ("b", ping("fd00:10::a"), true),
    ]);
    assert_eq!(ping("10.10.0.10").run(world.host(), ANSWER), Outcome::Answered, "the host comes in");
}

#[test]
fn egress_rules_choose_destinations() {
    let groups = r#"
[security_groups.app]
egress = [
  { protocol = "tcp", ports = [5432], to = ["sg:db"] },
  { protocol = "icmp", to = ["10.10.0.1"] },
]
[security_groups.db]
ingress = [{ protocol = "any", from = ["any"] }]
[security_groups.other]
ingress = [{ protocol = "any", from = ["any"] }]
"#;
    let world = world(groups, [r#"["app"]"#, r#"["db"]"#, r#"["other"]"#]);
    let _servers = ["b", "c"].map(|port| Echo::serve(&world.port(port), 5432));
    let _other = Echo::serve(&world.port("b"), 80);
    world.judge(&[
        ("a", tcp("10.10.0.11:5432"), true),
        ("a", tcp("[fd00:10::b]:5432"), true),
        ("a", tcp("10.10.0.12:5432"), false),
        ("a", tcp("10.10.0.11:80"), false),
        ("a", ping("10.10.0.11"), false),
        ("a", ping("10.10.0.1"), true),
        ("a", ping("fd00:10::1"), false),
    ]);
}

#[test]
fn both_ends_must_agree() {
    let groups = r#"
[security_groups.quiet]
ingress = [{ protocol = "any", from = ["any"] }]
egress = [{ protocol = "udp", to = ["any"] }]
[security_groups.deaf]
ingress = [{ protocol = "tcp", from = ["any"] }]
"#;
    let world = world(groups, [r#"["quiet"]"#, r#"["deaf"]"#, r#"["quiet"]"#]);
    let _servers = ["b", "c"].map(|port| Echo::serve(&world.port(port), 80));
    // a may send UDP, b takes TCP: neither passes, each stopped at its own end.
    world.assert_counts(DropReason::EgressDenied, || world.assert_silent("a", tcp("10.10.0.11:80")));
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", udp("10.10.0.11:80")));
    world.assert_reaches("a", udp("10.10.0.12:80"));
}

#[test]
fn a_port_has_the_union_of_its_groups() {
    let groups = r#"
[security_groups.client]
[security_groups.one]
ingress = [{ protocol = "tcp", ports = [1000], from = ["any"] }]
egress = []
[security_groups.two]
ingress = [{ protocol = "tcp", ports = [1001], from = ["any"] }]
egress = [{ protocol = "icmp", to = ["any"] }]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["one", "two"]"#, r#"["one"]"#]);
    let _servers = [1000, 1001].map(|port| Echo::serve(&world.port("b"), port));
    let _on_c = [1000, 1001].map(|port| Echo::serve(&world.port("c"), port));
    world.judge(&[
        ("a", tcp("10.10.0.11:1000"), true),
        ("a", tcp("10.10.0.11:1001"), true),
        ("a", tcp("10.10.0.12:1000"), true),
        ("a", tcp("10.10.0.12:1001"), false),
        ("b", ping("10.10.0.1"), true),
        ("c", ping("10.10.0.1"), false),
    ]);
}

#[test]
fn any_other_protocol_goes_by_its_number_and_sctp_by_its_ports() {
    let groups = r#"
[security_groups.client]
[security_groups.gre]
ingress = [
  { protocol = 47, from = ["any"] },
  { protocol = "sctp", ports = [9899], from = ["any"] },
]
"#;
    let world = world(groups, [r#"["client"]"#, r#"["gre"]"#, ""]);
    let sender = RawSocket::open(&world.port("a"), "eth0");
    let receiver = RawSocket::open(&world.port("b"), "eth0");
    let send =
        |protocol: u8, payload: &[u8]| sender.send(&ipv4(Eth::new(MAC_A, MAC_B), A, B, protocol, payload));
    // An SCTP header: ports, verification tag, checksum; then an INIT chunk.
    let sctp = |port: u16| {
        let mut header = [0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20].to_vec();
        header[2..4].copy_from_slice(&port.to_be_bytes());
        header.resize(32, 0);
        header
    };
    let proto =
        |number: u8| move |frame: &[u8]| frame.len() > 34 && frame[12..14] == [8, 0] && frame[23] == number;
    send(47, &[0, 0, 0x08, 0, 1, 2, 3, 4]);
    receiver.receive("GRE packet", proto(47));
    world.assert_counts(DropReason::IngressDenied, || send(50, &[0; 24]));
    world.assert_counts(DropReason::IngressDenied, || send(132, &sctp(9898)));
    send(132, &sctp(9899));
    let arrived = receiver.receive("SCTP packet", proto(132));
    assert_eq!(arrived[36..38], 9899_u16.to_be_bytes(), "only the allowed port arrives");
    assert!(!receiver.pending().any(|frame| proto(50)(&frame)), "protocol 50 has no rule");
}
