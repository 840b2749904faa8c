//! With which address and port a network leaves: those of `snat` and `snat_ports`, the uplink's that
//! it has now, and none at all for prefixes of `no_snat`.
//!
//! The world is that of `netns_nat`; R has routes to H for what else the host leaves with.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use vnet_common::DropReason;
use vnet_tests::{
    World,
    teller::{Line, Teller, address_seen, seen_as, try_seen_as},
    traffic::{ANSWER, Probe, SILENCE, ping, tcp, udp},
    watch::Watch,
    world::shell,
};

/// A policy whose network `web` has `extra` keys.
fn policy(extra: &str) -> String {
    format!(
        r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
{extra}

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = {{ netns = "@web-1", create = true }}

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
attach = {{ netns = "@web-2", create = true }}
"#
    )
}

const OUTSIDE: [&str; 2] = ["203.0.113.5:80", "[2001:db8:5::5]:80"];

/// TCP and UDP to the teller outside, IPv4 and IPv6.
fn to_outside() -> [Probe; 4] {
    [tcp(OUTSIDE[0]), udp(OUTSIDE[0]), tcp(OUTSIDE[1]), udp(OUTSIDE[1])]
}

#[test]
fn nat_leaves_with_the_address_of_snat() {
    let world = World::running_with_outside(&policy("snat = \"192.0.2.9\""));
    world.lead_to_host("192.0.2.0/28");
    let _teller = Teller::serve(&world.outside(), 80);
    assert_eq!(address_seen(&world.port("web-1"), tcp(OUTSIDE[0])), "192.0.2.9");
    assert_eq!(address_seen(&world.port("web-1"), udp(OUTSIDE[0])), "192.0.2.9");
    world.assert_reaches("web-1", ping("203.0.113.5"));
    // Nothing is said about IPv6.
    assert_eq!(address_seen(&world.port("web-1"), tcp(OUTSIDE[1])), "2001:db8:100::1");
    let addresses = world.host_exec(&["ip", "-oneline", "address"]).ok().stdout;
    assert!(!addresses.contains("192.0.2.9"), "the host does not need to have it: {addresses}");
}

#[test]
fn nat_leaves_with_a_second_address_of_the_uplink() {
    let mut world = World::with_outside(&policy("snat = [\"198.51.100.9\", \"2001:db8:100::9\"]"));
    shell(world.host(), "ip addr add 198.51.100.9/24 dev eth0");
    shell(world.host(), "ip addr add 2001:db8:100::9/64 dev eth0");
    world.start(&[]);
    let _teller = Teller::serve(&world.outside(), 80);
    assert_eq!(address_seen(&world.port("web-1"), tcp(OUTSIDE[0])), "198.51.100.9");
    assert_eq!(address_seen(&world.port("web-1"), tcp(OUTSIDE[1])), "2001:db8:100::9");
}

#[test]
fn nat_gives_a_workload_always_the_same_address_of_a_pool() {
    let pool = ["192.0.2.9", "192.0.2.10", "2001:db8:9::9", "2001:db8:9::10"];
    let world = World::running_with_outside(&policy(&format!("snat = {pool:?}")));
    for prefix in ["192.0.2.0/28", "2001:db8:9::/64"] {
        world.lead_to_host(prefix);
    }
    let _teller = Teller::serve(&world.outside(), 80);
    for port in ["web-1", "web-2"] {
        for to in OUTSIDE {
            let ask = || [tcp(to), udp(to)].map(|probe| address_seen(&world.port(port), probe));
            let seen: BTreeSet<String> = (0..10).flat_map(|_| ask()).collect();
            assert_eq!(seen.len(), 1, "{port} to {to}: {seen:?}");
            assert!(seen.iter().all(|address| pool.contains(&address.as_str())), "{seen:?}");
        }
        world.assert_reaches(port, ping("203.0.113.5"));
    }
}

#[test]
fn nat_keeps_to_its_source_ports() {
    let world = World::running_with_outside(&policy("snat_ports = \"4000-4099\""));
    let watch = Watch::start(&world.router(), "h0", |packet| {
        packet.ports.is_some_and(|(from, to)| to == 80 && !(4000..=4099).contains(&from))
    });
    let teller = Teller::serve(&world.outside(), 80);
    for probe in to_outside() {
        for source in [0, 0, 80, 3999, 4100, 4050, 65535] {
            let mut line = Line::open(&world.port("web-1"), source, probe);
            line.ask(ANSWER).expect("an answer");
        }
    }
    let ports: Vec<u16> = teller.asked_by().iter().map(SocketAddr::port).collect();
    assert!(ports.iter().all(|port| (4000..=4099).contains(port)), "{ports:?}");
    watch.assert_none();
}

#[test]
fn nat_leaves_prefixes_of_no_snat_untranslated() {
    let world = World::running_with_outside(&policy("no_snat = [\"203.0.113.0/24\", \"2001:db8:5::/64\"]"));
    for prefix in ["10.10.0.0/24", "fd00:10::/64"] {
        world.lead_to_host(prefix);
    }
    let _tellers = [Teller::serve(&world.outside(), 80), Teller::serve(&world.router(), 80)];
    let from = world.port("web-1");
    for probe in [tcp(OUTSIDE[0]), udp(OUTSIDE[0])] {
        assert_eq!(address_seen(&from, probe), "10.10.0.10", "{probe:?}");
    }
    for probe in [tcp(OUTSIDE[1]), udp(OUTSIDE[1])] {
        assert_eq!(address_seen(&from, probe), "fd00:10::a", "{probe:?}");
    }
    world.assert_reaches("web-1", ping("203.0.113.5"));
    world.assert_reaches("web-1", ping("2001:db8:5::5"));
    // Every other destination is translated as ever.
    assert_eq!(address_seen(&from, tcp("198.51.100.254:80")), "198.51.100.1");
    assert_eq!(address_seen(&from, tcp("[2001:db8:100::fe]:80")), "2001:db8:100::1");
    world.assert_forwards_nothing();
}

/// Gives the uplink other addresses, as a DHCP client does after a new lease; then asks until the new
/// ones are seen, and gives how long that took. It asks from one port, which no later asker gets by chance:
/// a flow that has left with the old address loses a packet.
fn renumber(world: &World) -> Duration {
    let begin = Instant::now();
    shell(
        world.host(),
        "ip addr del 198.51.100.1/24 dev eth0; ip addr add 198.51.100.7/24 dev eth0; \
         ip route add default via 198.51.100.254; \
         ip addr del 2001:db8:100::1/64 dev eth0; ip addr add 2001:db8:100::7/64 dev eth0",
    );
    for (to, new) in OUTSIDE.iter().zip(["198.51.100.7", "2001:db8:100::7"]) {
        let mut line = Line::open(&world.port("web-1"), 4242, udp(to));
        while !line.ask(Duration::from_millis(50)).is_ok_and(|seen| seen.ip().to_string() == new) {
            assert!(begin.elapsed() < ANSWER, "{new} is never used");
        }
    }
    begin.elapsed()
}

#[test]
fn nat_follows_the_addresses_of_the_uplink() {
    let world = World::running_with_outside(&policy(""));
    let _teller = Teller::serve(&world.outside(), 80);
    for probe in to_outside() {
        assert!(["198.51.100.1", "2001:db8:100::1"].contains(&&*address_seen(&world.port("web-1"), probe)));
    }
    let took = renumber(&world);
    assert!(took < Duration::from_secs(1), "new connections used the new addresses after {took:?}");
    for probe in to_outside() {
        assert!(["198.51.100.7", "2001:db8:100::7"].contains(&&*address_seen(&world.port("web-1"), probe)));
    }
}

#[test]
fn nat_follows_addresses_that_changed_while_no_daemon_ran() {
    let mut world = World::running_with_outside(&policy(""));
    let _teller = Teller::serve(&world.outside(), 80);
    world.stop();
    shell(world.host(), "ip addr del 198.51.100.1/24 dev eth0; ip addr add 198.51.100.7/24 dev eth0");
    shell(world.host(), "ip route add default via 198.51.100.254");
    world.start(&[]);
    assert_eq!(address_seen(&world.port("web-1"), tcp(OUTSIDE[0])), "198.51.100.7");
}

#[test]
fn nat_drops_what_finds_no_free_port_and_keeps_the_others() {
    let world = World::running_with_outside(&policy("snat_ports = \"4000-4009\""));
    let _tellers = [80, 81].map(|port| Teller::serve(&world.outside(), port));
    let from = world.port("web-1");
    for probe in to_outside() {
        let mut lines: Vec<Line> = (0..10).map(|_| Line::open(&from, 0, probe)).collect();
        let mut ask = || lines.iter_mut().map(|line| line.ask(ANSWER).expect("an answer")).collect();
        let first: Vec<SocketAddr> = ask();
        world.assert_counts(DropReason::PortsExhausted, || {
            assert!(try_seen_as(&from, probe, SILENCE).is_err(), "{probe:?}: an eleventh");
        });
        assert!(world.port_drops("web-1", DropReason::PortsExhausted) > 0, "it is told whose they are");
        let again: Vec<SocketAddr> = ask();
        assert_eq!(first, again, "{probe:?}: the ten go on");
        // Another destination is another matter.
        assert!((4000..=4009).contains(&seen_as(&from, beside(probe)).port()), "{probe:?}");
    }
}

/// The teller's other port.
fn beside(probe: Probe) -> Probe {
    let next = |mut to: SocketAddr| {
        to.set_port(81);
        to
    };
    match probe {
        Probe::Tcp(to) => Probe::Tcp(next(to)),
        Probe::Udp(to) => Probe::Udp(next(to)),
        Probe::Ping(_) => probe,
    }
}
