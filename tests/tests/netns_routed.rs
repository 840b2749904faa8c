//! Networks of type `routed`: their addresses are known outside, nothing is translated, and groups decide both ways.
//!
//! ```text
//!   web-1 10.60.0.10 ── vnet-pub ── H ── 198.51.100.0/24 ── R ── 203.0.113.0/24 ── O 203.0.113.5
//!   db-1  10.61.0.10 ── vnet-back (private, connected with pub)
//! ```
//!
//! R and O know the way to the routed prefixes. The host itself forwards nothing: vnet does not need it to.

use vnet_common::DropReason;
use vnet_tests::{
    World,
    teller::{Teller, address_seen, fetched_as},
    traffic::{ANSWER, Echo, Outcome, ping, tcp, udp},
};

const POLICY: &str = r#"
version = 1

[networks.pub]
type = "routed"
uplink = "eth0"
subnets = ["10.60.0.0/24", "2001:db8:60::/64"]
connect = ["back"]

[networks.back]
type = "private"
subnets = ["10.61.0.0/24", "fd00:61::/64"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "icmp", icmp_type = 8, from = ["203.0.113.0/24"] },
  { protocol = "icmpv6", icmp_type = 128, from = ["2001:db8:5::/64"] },
]

[security_groups.db]
ingress = [{ protocol = "tcp", ports = [5432], from = ["sg:web"] }]

[ports.web-1]
network = "pub"
addresses = ["10.60.0.10", "2001:db8:60::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[ports.db-1]
network = "back"
addresses = ["10.61.0.10", "fd00:61::a"]
security_groups = ["db"]
attach = { netns = "@db-1", create = true }
"#;

/// A host with a routed network, which the outside knows the way to.
fn routed() -> World {
    let world = World::running_with_outside(POLICY);
    for prefix in ["10.60.0.0/24", "2001:db8:60::/64"] {
        world.lead_to_host(prefix);
    }
    world
}

#[test]
fn a_routed_workload_is_known_outside_by_its_own_address() {
    let world = routed();
    let _teller = Teller::serve(&world.outside(), 7000);
    for (to, own) in [("203.0.113.5:7000", "10.60.0.10"), ("[2001:db8:5::5]:7000", "2001:db8:60::a")] {
        assert_eq!(address_seen(&world.port("web-1"), tcp(to)), own);
        assert_eq!(address_seen(&world.port("web-1"), udp(to)), own);
    }
    world.assert_forwards_nothing();
}

#[test]
fn a_routed_workload_is_reached_from_outside_as_its_groups_say() {
    let world = routed();
    let web = world.port("web-1");
    let (_web, _closed) = (Teller::serve(&web, 80), Echo::serve(&web, 7000));
    for (to, from) in [("10.60.0.10:80", "203.0.113.5"), ("[2001:db8:60::a]:80", "2001:db8:5::5")] {
        let seen = fetched_as(&world.outside(), &format!("http://{to}/"));
        assert_eq!(seen.ip().to_string(), from, "the workload sees who asks");
    }
    for address in ["10.60.0.10", "2001:db8:60::a"] {
        assert_eq!(ping(address).run(&world.outside(), ANSWER), Outcome::Answered, "{address}");
    }
    // The router is in none of the prefixes of the rule for echo requests.
    world.assert_counts(DropReason::IngressDenied, || {
        world.judge(&[
            ("outside", tcp("10.60.0.10:7000"), false),
            ("outside", udp("[2001:db8:60::a]:7000"), false),
            ("router", ping("10.60.0.10"), false),
            ("router", ping("2001:db8:60::a"), false),
        ]);
    });
}

#[test]
fn networks_that_are_connected_are_routed_and_judged_at_both_ends() {
    let world = routed();
    world.lead_to_host("10.61.0.0/24");
    let db = world.port("db-1");
    let _servers = [Echo::serve(&db, 5432), Echo::serve(&db, 5433), Echo::serve(&world.port("web-1"), 80)];
    world.judge(&[
        ("web-1", tcp("10.61.0.10:5432"), true),
        ("web-1", tcp("[fd00:61::a]:5432"), true),
        ("web-1", tcp("10.61.0.10:5433"), false),
        ("db-1", tcp("10.60.0.10:80"), true),
        ("db-1", tcp("[2001:db8:60::a]:80"), true),
        // The private network is none of the outside's, connected or not.
        ("outside", tcp("10.61.0.10:5432"), false),
    ]);
}

#[test]
fn an_address_of_a_routed_network_that_nobody_has_is_dropped() {
    let world = routed();
    world.assert_counts(DropReason::NoRoute, || {
        world.judge(&[("outside", ping("10.60.0.99"), false), ("outside", ping("2001:db8:60::99"), false)]);
    });
}
