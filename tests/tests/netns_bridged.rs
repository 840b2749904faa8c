//! Workloads on the host's own LAN: its only uplink is bridged, which the host does not notice, and each workload is a
//! machine of its own there, held to its groups.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, World, eventually,
    stream::Stream,
    teller::{Teller, address_seen},
    traffic::{ANSWER, Connection, Echo, Outcome, Probe, SILENCE, ping, tcp, udp},
    world::shell,
};

/// The host's own address, which stays on its uplink.
const HOST: &str = "198.51.100.1";

const POLICY: &str = r#"
version = 1

[networks.lan]
type = "bridged"
uplink = "eth0"
subnets = ["198.51.100.0/24", "2001:db8:100::/64"]
gateway = ["198.51.100.254", "2001:db8:100::fe"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "udp", ports = [5353], from = ["any"] },
  { protocol = "icmp", icmp_type = 8, from = ["any"] },
  { protocol = "icmpv6", icmp_type = 128, from = ["any"] },
]

[security_groups.closed]

[ports.a]
network = "lan"
addresses = ["198.51.100.10", "2001:db8:100::10"]
security_groups = ["web"]
attach = { netns = "@a", create = true }

[ports.b]
network = "lan"
addresses = ["198.51.100.11", "2001:db8:100::11"]
security_groups = ["closed"]
attach = { netns = "@b", create = true }
"#;

const EMPTY: &str = "version = 1\n";

fn addresses_of_uplink(world: &World) -> String {
    world.host_exec(&["ip", "-oneline", "address", "show", "dev", "eth0"]).ok().stdout
}

fn fdb(namespace: &Namespace) -> String {
    namespace.exec(&["bridge", "fdb", "show"]).ok().stdout
}

/// Asserts what becomes of each probe from each namespace.
fn judge(cases: &[(&Namespace, Probe, bool)]) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let start = |(from, probe, allowed): &(&Namespace, Probe, bool)| {
            let (from, probe, allowed) = ((*from).clone(), *probe, *allowed);
            scope.spawn(move || {
                let outcome = probe.run(&from, if allowed { ANSWER } else { SILENCE });
                let expected = if allowed { Outcome::Answered } else { Outcome::Silence };
                let told =
                    || format!("{probe:?} from {}: {outcome:?}, not {expected:?}", from.path().display());
                (outcome != expected).then(told)
            })
        };
        let attempts: Vec<_> = cases.iter().map(start).collect();
        attempts.into_iter().filter_map(|attempt| attempt.join().expect("an outcome")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_host_does_not_notice_that_its_only_uplink_is_bridged_and_given_back() {
    let mut world = World::with_lan(EMPTY);
    let (before, entries) = (world.snapshot(), fdb(world.host()));
    world.start(&[]);
    let addresses = addresses_of_uplink(&world);
    let _server = Echo::serve(world.host(), 22);
    let mut sessions = [
        Connection::from(&world.station(), "198.51.100.1:22"),
        Connection::from(&world.outside(), "198.51.100.1:22"),
        Connection::from(&world.station(), "[2001:db8:100::1]:22"),
    ];
    let stream = Stream::start(&world.station(), world.host(), "198.51.100.1:9000".parse().unwrap(), 1000);
    let mut check = |world: &World, when: &str| {
        assert_eq!(addresses_of_uplink(world), addresses, "{when}");
        for session in &mut sessions {
            session.echo(ANSWER).unwrap_or_else(|error| panic!("{when}: {error}"));
        }
    };

    world.write_policy(POLICY);
    let _ = world.ctl(&["apply"]).ok();
    check(&world, "bridged");
    world.assert_reaches("a", tcp("198.51.100.1:22"));
    world.kill();
    check(&world, "bridged, without a daemon");
    world.start(&[]);
    check(&world, "bridged, with another daemon");
    world.write_policy(EMPTY);
    let _ = world.ctl(&["apply"]).ok();
    check(&world, "given back");
    world.write_policy(POLICY);
    let _ = world.ctl(&["apply"]).ok();
    check(&world, "bridged again");
    world.stop();
    let _ = world.teardown().ok();
    check(&world, "torn down");

    let report = stream.finish();
    assert_eq!((report.lost(), report.duplicates, report.refused), (0, 0, 0), "{report:?}");
    before.assert_same(&world.snapshot());
    assert_eq!(fdb(world.host()), entries);
}

#[test]
fn ports_are_machines_on_the_lan_held_to_their_groups() {
    let world = World::running_with_lan(POLICY);
    let (station, outside, host, router) = (world.station(), world.outside(), world.host(), world.router());
    let (a, b) = (world.port("a"), world.port("b"));
    let _servers = [&station, &outside, host, &router, &a, &b]
        .map(|place| [80, 81].map(|port| Echo::serve(place, port)));
    let mut cases = Vec::new();
    for others in [&station, &outside, &router, &b] {
        cases.extend([
            (others, tcp("198.51.100.10:80"), true),
            (others, tcp("198.51.100.10:81"), false),
            (others, ping("198.51.100.10"), true),
            (others, tcp("[2001:db8:100::10]:80"), true),
            (others, tcp("[2001:db8:100::10]:81"), false),
            (others, ping("2001:db8:100::10"), true),
        ]);
    }
    for others in [&station, &outside, &router, &a] {
        cases.extend([
            (others, tcp("198.51.100.11:80"), false),
            (others, ping("198.51.100.11"), false),
            (others, tcp("[2001:db8:100::11]:80"), false),
            (others, ping("2001:db8:100::11"), false),
        ]);
    }
    // The host is trusted, as in every network.
    for port in ["198.51.100.10", "198.51.100.11"] {
        cases.push((host, ping(port), true));
    }
    cases.extend([(host, tcp("198.51.100.11:81"), true), (host, tcp("[2001:db8:100::11]:81"), true)]);
    for port in [&a, &b] {
        for place in ["198.51.100.1", "198.51.100.77", "198.51.100.254", "203.0.113.5"] {
            cases.extend([(port, udp(&format!("{place}:81")), true), (port, ping(place), true)]);
        }
        for place in ["2001:db8:100::1", "2001:db8:100::77", "2001:db8:100::fe", "2001:db8:5::5"] {
            cases.extend([(port, tcp(&format!("[{place}]:81")), true), (port, ping(place), true)]);
        }
    }
    judge(&cases);
}

#[test]
fn ports_are_seen_on_the_lan_and_outside_by_their_own_addresses() {
    let world = World::running_with_lan(POLICY);
    let _tellers =
        [world.station(), world.outside(), world.host().clone()].map(|place| Teller::serve(&place, 80));
    for to in ["198.51.100.77:80", "203.0.113.5:80", "198.51.100.1:80"] {
        assert_eq!(address_seen(&world.port("b"), tcp(to)), "198.51.100.11", "{to}");
    }
    for to in ["[2001:db8:100::77]:80", "[2001:db8:5::5]:80", "[2001:db8:100::1]:80"] {
        assert_eq!(address_seen(&world.port("b"), tcp(to)), "2001:db8:100::11", "{to}");
    }
    // And so is everybody by them.
    let _teller = Teller::serve(&world.port("a"), 80);
    for (from, own) in [(world.station(), "198.51.100.77"), (world.outside(), "203.0.113.5")] {
        assert_eq!(address_seen(&from, tcp("198.51.100.10:80")), own);
    }
    assert_eq!(address_seen(world.host(), tcp("198.51.100.10:80")), HOST);
}

#[test]
fn what_the_host_forwards_to_the_lan_is_judged_as_what_comes_by_it() {
    let world = World::running_with_lan(POLICY);
    world.create_namespace("behind");
    let behind = world.port("behind");
    world.allow_forwarding(true);
    shell(
        world.host(),
        &format!("ip link add inner type veth peer name eth0 netns {}", world.netns_name("behind")),
    );
    shell(world.host(), "ip link set inner up; ip addr add 10.99.0.1/24 dev inner");
    shell(
        &behind,
        "ip link set eth0 up; ip addr add 10.99.0.2/24 dev eth0; ip route add default via 10.99.0.1",
    );
    for port in ["a", "b"] {
        shell(&world.port(port), &format!("ip route add 10.99.0.0/24 via {HOST}"));
    }
    let _servers = [world.port("a"), world.port("b"), behind.clone()]
        .map(|place| [80, 81].map(|port| Echo::serve(&place, port)));
    judge(&[
        (&behind, tcp("198.51.100.10:80"), true),
        (&behind, udp("198.51.100.10:80"), false),
        (&behind, tcp("198.51.100.10:81"), false),
        (&behind, tcp("198.51.100.11:80"), false),
        (&world.port("a"), tcp("10.99.0.2:81"), true),
        (&world.port("b"), udp("10.99.0.2:81"), true),
    ]);
}

/// A socket that takes what is sent to many on port 5353.
fn ear(namespace: &Namespace) -> UdpSocket {
    namespace.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).expect("the port");
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED).expect("join the group");
        socket.set_broadcast(true).expect("may broadcast");
        socket.set_multicast_loop_v4(false).expect("hears others only");
        socket
    })
}

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Whether `socket` hears `text`: once, and nothing else.
fn hears(socket: &UdpSocket, text: &str) -> bool {
    let mut bytes = [0; 64];
    let mut next = |patience| {
        socket.set_read_timeout(Some(patience)).expect("a limit");
        socket.recv(&mut bytes).ok().map(|len| String::from_utf8_lossy(&bytes[..len]).into_owned())
    };
    let first = next(SILENCE);
    assert!(first.as_deref().is_none_or(|heard| heard == text), "{first:?} instead of {text:?}");
    if first.is_some() {
        assert_eq!(next(Duration::from_millis(100)), None, "{text:?} came once more");
    }
    first.is_some()
}

#[test]
fn what_is_for_everybody_on_the_lan_reaches_everybody_once() {
    let world = World::running_with_lan(POLICY);
    let names = ["station", "a", "b", "host"];
    let places = [world.station(), world.port("a"), world.port("b"), world.host().clone()];
    for place in &places {
        shell(place, "ip route add 224.0.0.0/4 dev eth0");
    }
    let ears = places.map(|place| ear(&place));
    for (mouth, from) in ears.iter().zip(names) {
        for to in [Ipv4Addr::new(198, 51, 100, 255), Ipv4Addr::BROADCAST, GROUP] {
            let text = format!("{from} to {to}");
            mouth.send_to(text.as_bytes(), (to, 5353)).unwrap_or_else(|error| panic!("{text}: {error}"));
            for (ear, name) in ears.iter().zip(names).filter(|(_, name)| *name != from) {
                // b's group lets nobody in.
                let expected = name != "b";
                assert_eq!(hears(ear, &text), expected, "{name} hears {text}");
            }
            // Who broadcasts hears its own.
            let _ = hears(mouth, &text);
        }
    }
}

/// Another host on the LAN, with a network in the same VLAN, of which it is the gateway.
const FAR: &str = r#"
version = 1

[networks.far]
type = "private"
trunk = "eth0"
vlan = 120
subnets = ["192.0.2.0/24", "2001:db8:120::/64"]
gateway = ["192.0.2.77", "2001:db8:120::77"]
"#;

#[test]
fn a_vlan_of_the_uplink_is_another_lan_beside_the_hosts() {
    let policy = POLICY
        .replace("uplink = \"eth0\"", "uplink = \"eth0\"\nvlan = 120")
        .replace("198.51.100.", "192.0.2.")
        .replace("2001:db8:100::", "2001:db8:120::");
    let near = World::running_with_lan(&policy);
    let mut far = World::prepare(FAR);
    near.plug(far.host(), ("eth0", "far"));
    shell(far.host(), "ip link set eth0 up; ip addr add 198.51.100.88/24 dev eth0");
    far.start(&[]);
    let (a, b, station, host) = (near.port("a"), near.port("b"), near.station(), near.host());
    let _servers =
        [&a, &b, &station, host, far.host()].map(|place| [80, 81].map(|port| Echo::serve(place, port)));
    judge(&[
        (far.host(), tcp("192.0.2.10:80"), true),
        (far.host(), tcp("192.0.2.10:81"), false),
        (far.host(), tcp("[2001:db8:120::10]:80"), true),
        (far.host(), ping("192.0.2.11"), false),
        (&a, tcp("192.0.2.77:81"), true),
        (&b, udp("[2001:db8:120::77]:81"), true),
        // The host takes part in its own LAN only.
        (&station, tcp("198.51.100.1:81"), true),
        (far.host(), tcp("198.51.100.1:81"), true),
        (host, tcp("198.51.100.77:81"), true),
    ]);
}

#[test]
fn a_station_that_moves_on_the_lan_is_found_again() {
    let world = World::running_with_lan(POLICY);
    let station = world.station();
    let _server = Echo::serve(&station, 80);
    let mut session = Connection::from(&world.port("a"), "198.51.100.77:80");
    session.echo(ANSWER).expect("before it moves");
    world.plug(&station, ("eth1", "other"));
    let mac = station.mac("eth0");
    shell(
        &station,
        &format!(
            "ip link set eth0 down; ip addr flush dev eth0; ip link set eth1 address {mac}; ip link set eth1 up; \
             ip addr add 198.51.100.77/24 dev eth1"
        ),
    );
    session.echo(ANSWER).expect("after it has moved");
    world.assert_reaches("b", ping("198.51.100.77"));
}

/// A workload with two ports, who hear everybody.
const LOOP: &str = r#"
[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.one]
network = "lan"
addresses = ["198.51.100.31"]
security_groups = ["open"]
attach = { netns = "@loop", create = true, name = "eth0" }

[ports.two]
network = "lan"
addresses = ["198.51.100.32"]
security_groups = ["open"]
attach = { netns = "@loop", create = true, name = "eth1" }
"#;

/// Bridges the two ports of [`LOOP`]. What the workload says by the bridge's own address goes round, for that is the one of
/// a port: it says nothing of its own accord.
fn tie(world: &World) -> Namespace {
    let workload = world.port("loop");
    shell(&workload, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    shell(&workload, "ip link add knot type bridge mcast_snooping 0");
    shell(&workload, "ip link set eth0 master knot; ip link set eth1 master knot");
    shell(&workload, "ip link set knot up; ip addr flush dev eth0; ip addr add 198.51.100.31/24 dev knot");
    workload
}

/// Says something to everybody on the LAN.
fn broadcast(from: &Namespace) {
    let mouth = from.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket"));
    mouth.set_broadcast(true).expect("may broadcast");
    mouth.send_to(b"round and round", (Ipv4Addr::new(198, 51, 100, 255), 5353)).expect("a broadcast");
}

#[test]
fn what_a_workload_broadcasts_round_its_own_ports_is_held_to_a_budget() {
    let world = World::running_with_lan(&[POLICY, LOOP].concat());
    let workload = tie(&world);
    world.assert_counts(DropReason::Storm, || {
        broadcast(&workload);
        eventually("an end of the budget", || {
            let drops = ["one", "two"].map(|port| world.port_drops(port, DropReason::Storm));
            (drops.iter().sum::<u64>() > 0).then_some(())
        });
    });
    // The frame was lost with the budget: nothing goes round any more.
    let _server = Echo::serve(&world.port("a"), 80);
    judge(&[(&world.station(), tcp("198.51.100.10:80"), true)]);
}

#[test]
fn what_others_broadcast_does_not_go_round_through_a_workload_that_bridges_its_ports() {
    let world = World::running_with_lan(&[POLICY, LOOP].concat());
    let _workload = tie(&world);
    let carried = |text: &str| {
        let links = world.host_exec(&["ip", "-json", "-stats", "link"]).ok().json();
        let links = links.as_array().unwrap_or_else(|| panic!("no links {text}"));
        links.iter().filter_map(|link| link["stats64"]["rx"]["packets"].as_u64()).sum::<u64>()
    };
    for from in [world.station(), world.host().clone(), world.port("a")] {
        broadcast(&from);
    }
    // What goes round has come to an end: the machine is idle but for what hosts say now and then.
    eventually("an end of it", || {
        let before = carried("before");
        std::thread::sleep(Duration::from_millis(500));
        (carried("after") - before < 100).then_some(())
    });
    let _server = Echo::serve(&world.port("a"), 80);
    judge(&[(&world.station(), tcp("198.51.100.10:80"), true)]);
}

#[test]
fn an_uplink_of_nat_networks_is_not_bridged_and_the_refusal_says_what_works() {
    let nat = r#"
[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24"]
"#;
    let world = World::running_with_lan(&[EMPTY, nat].concat());
    world.write_policy(&[POLICY, nat].concat());
    let _ = world.ctl(&["apply"]).refused().says(&["eth0", "bridged", "vlan"]);
    world
        .write_policy(&[&POLICY.replace("uplink = \"eth0\"", "uplink = \"eth0\"\nvlan = 120"), nat].concat());
    let _ = world.ctl(&["apply"]).ok();
}

#[test]
fn a_default_route_by_the_bridged_uplink_may_be_no_nat_networks_way_out() {
    let nat = "[networks.web]\ntype = \"nat\"\nsubnets = [\"10.10.0.0/24\"]\n";
    let world = World::running_with_lan(EMPTY);
    world.write_policy(&[POLICY, nat].concat());
    let applied = world.ctl(&["apply"]);
    let told = format!("{}{}", applied.stdout, applied.stderr);
    assert!(told.contains("eth0"), "{applied}");
}

#[test]
fn ipv6_multicast_of_the_lan_comes_in() {
    let world = World::running_with_lan(POLICY);
    let a = world.port("a");
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    let index = |namespace: &Namespace| {
        namespace.enter(|| nix::net::if_::if_nametoindex("eth0").expect("an interface"))
    };
    let open = |namespace: &Namespace| {
        let index = index(namespace);
        namespace.enter(|| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 5353)).expect("the port");
            socket.join_multicast_v6(&group, index).expect("join the group");
            socket.set_multicast_loop_v6(false).expect("hears others only");
            socket
        })
    };
    let (ours, theirs) = (open(&a), open(&world.station()));
    let to = |namespace: &Namespace| SocketAddrV6::new(group, 5353, 0, index(namespace));
    theirs.send_to(b"in", to(&world.station())).expect("a multicast");
    assert!(hears(&ours, "in"));
    ours.send_to(b"out", to(&a)).expect("a multicast");
    assert!(hears(&theirs, "out"));
    assert_eq!(world.drops(DropReason::SpoofedAddress), 0);
}
