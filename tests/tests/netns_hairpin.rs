//! Forwards and elastic IPs for who is behind vnet itself: other ports of the same network, those of
//! other networks, and the very workload. The one who answers sees the asker's external address.
//!
//! ```text
//!     web-1 (:8080, 198.51.100.20)    web-2
//!              `---- vnet-web ----------' \
//!                                          H ---- 198.51.100.0/24 ---- R ---- O
//!     app-1 ---- vnet-app ----------------'  .1
//!     db-1 ----- vnet-db (leaves with 192.0.2.9)
//! ```

use vnet_common::DropReason;
use vnet_tests::{
    World,
    teller::{Line, Teller, address_seen},
    traffic::{ANSWER, Outcome, Probe, ping, tcp, udp},
    transfer::Pipe,
    watch::Watch,
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[networks.app]
type = "nat"
uplink = "eth0"
subnets = ["10.20.0.0/24", "fd00:20::/64"]

[networks.db]
type = "nat"
uplink = "eth0"
subnets = ["10.30.0.0/24"]
snat = "192.0.2.9"

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "udp", ports = [53], from = ["any"] },
  { protocol = "icmp", icmp_type = 8, from = ["any"] },
]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
attach = { netns = "@web-2", create = true }

[ports.app-1]
network = "app"
addresses = ["10.20.0.10", "fd00:20::a"]
attach = { netns = "@app-1", create = true }

[ports.db-1]
network = "db"
addresses = ["10.30.0.10"]
attach = { netns = "@db-1", create = true }

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "web-1:80"

[[forwards]]
listen = "[::]:8080"
protocol = "tcp"
to = "web-1:80"

[[forwards]]
listen = "198.51.100.1:5353"
protocol = "udp"
to = "web-1:53"

[elastic_ips]
"198.51.100.20" = { port = "web-1" }
"198.51.100.21" = { port = "app-1" }
"#;

/// The forward of TCP, in both versions.
const FORWARD: [&str; 2] = ["198.51.100.1:8080", "[2001:db8:100::1]:8080"];

fn with_tellers(world: &World) -> [Teller; 2] {
    [80, 53].map(|port| Teller::serve(&world.port("web-1"), port))
}

#[test]
fn hairpin_of_a_forward_reaches_a_port_of_the_same_network() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    let from = world.port("web-2");
    assert_eq!(address_seen(&from, tcp(FORWARD[0])), "198.51.100.1");
    assert_eq!(address_seen(&from, tcp(FORWARD[1])), "2001:db8:100::1");
    assert_eq!(address_seen(&from, udp("198.51.100.1:5353")), "198.51.100.1");
}

#[test]
fn hairpin_of_a_forward_reaches_a_port_of_another_network() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    // app-1 leaves with its elastic IP, db-1 with its network's own address.
    for (port, external) in [("app-1", "198.51.100.21"), ("db-1", "192.0.2.9")] {
        assert_eq!(address_seen(&world.port(port), tcp(FORWARD[0])), external, "{port}");
        assert_eq!(address_seen(&world.port(port), udp("198.51.100.1:5353")), external, "{port}");
    }
    assert_eq!(address_seen(&world.port("app-1"), tcp(FORWARD[1])), "2001:db8:100::1");
}

#[test]
fn hairpin_of_a_forward_reaches_the_very_workload() {
    let alone = POLICY.replace("\"198.51.100.20\" = { port = \"web-1\" }\n", "");
    let world = World::running_with_outside(&alone);
    let _tellers = with_tellers(&world);
    let own = world.port("web-1");
    assert_eq!(address_seen(&own, tcp(FORWARD[0])), "198.51.100.1");
    assert_eq!(address_seen(&own, tcp(FORWARD[1])), "2001:db8:100::1");
    assert_eq!(address_seen(&own, udp("198.51.100.1:5353")), "198.51.100.1");
}

#[test]
fn hairpin_by_the_gateway_reaches_a_published_port() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    for gateway in ["10.10.0.1:8080", "[fd00:10::1]:8080"] {
        world.assert_reaches("web-2", Probe::Tcp(gateway.parse().expect("an address")));
    }
}

#[test]
fn hairpin_of_an_elastic_ip_shows_the_external_address_of_the_asker() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    let askers = [
        // By its network's uplink, by its own elastic IP, by its network's `snat`, and itself.
        ("web-2", "198.51.100.1"),
        ("app-1", "198.51.100.21"),
        ("db-1", "192.0.2.9"),
        ("web-1", "198.51.100.20"),
    ];
    for (port, external) in askers {
        assert_eq!(address_seen(&world.port(port), tcp("198.51.100.20:80")), external, "{port}");
        assert_eq!(address_seen(&world.port(port), udp("198.51.100.20:53")), external, "{port}");
        world.assert_reaches(port, ping("198.51.100.20"));
    }
}

#[test]
fn hairpin_stays_inside() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    let watch = Watch::start(&world.router(), "h0", |packet| packet.ports.is_some());
    for port in ["web-1", "web-2", "app-1", "db-1"] {
        for to in [FORWARD[0], "198.51.100.20:80"] {
            let _ = address_seen(&world.port(port), tcp(to));
        }
    }
    watch.finish().assert_none();
}

#[test]
fn hairpin_is_judged_by_the_groups_of_the_workload() {
    let closed =
        POLICY.replace("ports = [80], from = [\"any\"]", "ports = [80], from = [\"203.0.113.0/24\"]");
    let world = World::running_with_outside(&closed);
    let _tellers = with_tellers(&world);
    world.assert_counts(DropReason::IngressDenied, || {
        world.judge(&[
            ("web-2", tcp(FORWARD[0]), false),
            ("app-1", tcp(FORWARD[0]), false),
            ("app-1", tcp("198.51.100.20:80"), false),
            ("outside", tcp(FORWARD[0]), true),
        ]);
    });
}

#[test]
fn hairpin_is_judged_by_the_egress_of_the_asker() {
    let closed = format!("{POLICY}\n[security_groups.default]\negress = []\n");
    let world = World::running_with_outside(&closed);
    let _tellers = with_tellers(&world);
    world.assert_counts(DropReason::EgressDenied, || {
        world.judge(&[
            ("web-2", tcp(FORWARD[0]), false),
            ("app-1", tcp("198.51.100.20:80"), false),
            ("outside", tcp(FORWARD[0]), true),
        ]);
    });
}

#[test]
fn hairpin_carries_large_transfers() {
    let world = World::running_with_outside(POLICY);
    let web = world.port("web-1");
    for (from, to) in [("web-1", FORWARD[0]), ("web-2", FORWARD[1]), ("app-1", "198.51.100.20:80")] {
        let mut pipe = Pipe::open(&world.port(from), to, (&web, 80));
        pipe.assert_carries_there(20);
        pipe.assert_carries_back(20);
    }
}

#[test]
fn hairpin_tells_askers_with_the_same_source_port_apart() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    for probe in [tcp(FORWARD[0]), udp("198.51.100.1:5353")] {
        let mut lines = ["web-1", "web-2", "app-1", "db-1", "outside"]
            .map(|port| (port, Line::open(&world.port(port), 5000, probe)));
        let mut ask = || lines.each_mut().map(|(_, line)| line.ask(ANSWER).expect("an answer"));
        let (first, again) = (ask(), ask());
        assert_eq!(first, again, "{probe:?}");
        for (number, one) in first.iter().enumerate() {
            assert!(!first[..number].contains(one), "{probe:?}: {first:?}");
        }
    }
}

#[test]
fn hairpin_to_a_port_that_nobody_forwards_ends_at_the_host() {
    let world = World::running_with_outside(POLICY);
    let _tellers = with_tellers(&world);
    for from in ["web-1", "web-2", "app-1"] {
        let outcome = tcp("198.51.100.1:8099").run(&world.port(from), ANSWER);
        assert_ne!(outcome, Outcome::Answered, "{from}");
    }
}
