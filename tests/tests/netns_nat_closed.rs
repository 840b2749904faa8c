//! What a `nat` network keeps closed: to strangers outside, to other networks, and to whatever its own
//! groups do not let out.
//!
//! ```text
//!     web-1 ---- vnet-web ---.
//!      .10       10.10.0.1   |
//!                            H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!     app-1 ---- vnet-app ---'  .1                   .254 .254                       .5
//!      .10       10.20.0.1
//! ```

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, World,
    teller::{Line, Teller, address_seen},
    traffic::{ANSWER, Connection, Echo, Outcome, Probe, SILENCE, ping, tcp, udp},
    watch::{Watch, is_private},
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

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = { netns = "@web-1", create = true }

[ports.app-1]
network = "app"
addresses = ["10.20.0.10", "fd00:20::a"]
security_groups = ["open"]
attach = { netns = "@app-1", create = true }
"#;

const ROUTER: [&str; 2] = ["198.51.100.254", "2001:db8:100::fe"];
const TO_OUTSIDE: [&str; 2] = ["203.0.113.5:7000", "[2001:db8:5::5]:7000"];

/// [`POLICY`] with an egress of the group `open`.
fn with_egress(egress: &str) -> String {
    let ingress = "ingress = [{ protocol = \"any\", from = [\"any\"] }]";
    POLICY.replace(ingress, &format!("{ingress}\negress = {egress}"))
}

/// Everything to `address`, on the port of the echoes.
fn all_to(address: &str) -> [Probe; 3] {
    let ip: IpAddr = address.parse().expect("an address");
    let to = SocketAddr::new(ip, 7000);
    [Probe::Ping(ip), Probe::Tcp(to), Probe::Udp(to)]
}

#[test]
fn nat_lets_nothing_out_that_egress_does_not_allow() {
    let world = World::running_with_outside(&with_egress("[]"));
    let _echo = Echo::serve(&world.outside(), 7000);
    let watch = Watch::start(&world.router(), "h0", |packet| packet.ports.is_some());
    world.assert_counts(DropReason::EgressDenied, || {
        let probes = ["203.0.113.5", "2001:db8:5::5"].map(all_to);
        world.judge(&probes.as_flattened().iter().map(|probe| ("web-1", *probe, false)).collect::<Vec<_>>());
    });
    watch.finish().assert_none();
}

#[test]
fn nat_lets_out_what_egress_allows_and_its_answers_in() {
    let rule = "[{ protocol = \"any\", to = [\"203.0.113.0/24\"] }]";
    // Nobody may come in; the answers come all the same.
    let closed = with_egress(rule).replace("from = [\"any\"]", "from = [\"192.0.2.1\"]");
    let world = World::running_with_outside(&closed);
    let _echoes = [world.outside(), world.router()].map(|at| Echo::serve(&at, 7000));
    let cases = [("203.0.113.5", true), ("198.51.100.254", false), ("2001:db8:5::5", false)];
    let cases = cases.map(|(address, allowed)| all_to(address).map(|probe| ("web-1", probe, allowed)));
    world.judge(cases.as_flattened());
}

#[test]
fn nat_obeys_a_changed_egress_at_once() {
    let world = World::running_with_outside(POLICY);
    let _echo = Echo::serve(&world.outside(), 7000);
    let mut connection = Connection::from(&world.port("web-1"), TO_OUTSIDE[0]);
    connection.echo(ANSWER).expect("an echo");
    world.write_policy(&with_egress("[]"));
    let _ = world.ctl(&["apply"]).ok();
    assert_eq!(connection.outcome(SILENCE), Outcome::Silence, "cut");
    world.assert_silent("web-1", tcp(TO_OUTSIDE[0]));
    world.write_policy(POLICY);
    let _ = world.ctl(&["apply"]).ok();
    world.assert_reaches("web-1", tcp(TO_OUTSIDE[0]));
}

#[test]
fn nat_admits_nobody_but_the_one_who_was_asked() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 7000);
    for to in TO_OUTSIDE {
        let mut line = Line::open(&world.port("web-1"), 0, udp(to));
        let mapped = line.ask(ANSWER).expect("an answer");
        let uninvited = Watch::start(&world.port("web-1"), "eth0", |packet| {
            packet.ports.is_some_and(|(from, _)| from != 7000 || ROUTER.contains(&&*packet.src.to_string()))
                && !is_private(packet.src)
        });
        // The one who was asked, from another port; the router, from the same one; TCP to the same port.
        for (who, source) in [(world.outside(), 7001), (world.router(), 7000), (world.router(), 7001)] {
            send(&who, source, mapped);
        }
        let opened = Line::try_open(&world.outside(), 7001, Probe::Tcp(mapped), SILENCE);
        assert!(opened.is_err(), "a connection from outside to {mapped}");
        let Line::Udp(socket) = &line else { panic!("a UDP line") };
        socket.set_read_timeout(Some(SILENCE)).expect("a limit");
        assert!(socket.recv(&mut [0; 64]).is_err(), "an uninvited datagram arrived");
        assert_eq!(line.ask(ANSWER).expect("an answer"), mapped, "the flow is as it was");
        uninvited.assert_none();
    }
}

/// One datagram from port `source` of `who`.
fn send(who: &Namespace, source: u16, to: SocketAddr) {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let socket = who.enter(|| UdpSocket::bind((any, source)).expect("a free port"));
    socket.send_to(b"uninvited", to).expect("a way to the host");
}

#[test]
fn nat_keeps_private_addresses_closed_to_strangers_who_know_the_way() {
    let world = World::running_with_outside(POLICY);
    let _echo = Echo::serve(&world.port("web-1"), 7000);
    for prefix in ["10.10.0.0/24", "fd00:10::/64"] {
        world.lead_to_host(prefix);
    }
    // The host's own forwarding would not make a way in either.
    for forwards in [false, true] {
        world.allow_forwarding(forwards);
        let strangers = Watch::start(&world.port("web-1"), "eth0", |packet| {
            let strangers = ["203.0.113.5", "198.51.100.254", "2001:db8:5::5", "2001:db8:100::fe"];
            strangers.contains(&packet.src.to_string().as_str())
        });
        let probes = ["10.10.0.10", "fd00:10::a"].map(all_to);
        let cases = probes.as_flattened().iter();
        let cases = cases.flat_map(|probe| ["outside", "router"].map(|from| (from, *probe, false)));
        world.judge(&cases.collect::<Vec<_>>());
        strangers.finish().assert_none();
    }
}

#[test]
fn nat_joins_no_two_networks_through_their_outside() {
    let world = World::running_with_outside(POLICY);
    // A router that sends back what it should never see.
    for prefix in ["10.10.0.0/24", "10.20.0.0/24", "fd00:10::/64", "fd00:20::/64"] {
        world.lead_to_host(prefix);
    }
    let _echoes = ["web-1", "app-1"].map(|port| Echo::serve(&world.port(port), 7000));
    let watch = Watch::for_leaks(&world.router());
    let pairs = [
        ("web-1", "10.20.0.10"),
        ("web-1", "fd00:20::a"),
        ("app-1", "10.10.0.10"),
        ("app-1", "fd00:10::a"),
        ("web-1", "10.20.0.1"),
        ("app-1", "fd00:10::1"),
    ];
    let cases = pairs.map(|(from, to)| all_to(to).map(|probe| (from, probe, false)));
    world.judge(cases.as_flattened());
    watch.finish().assert_none();
}

#[test]
fn nat_gives_no_way_in_by_the_mapped_port_of_another_network() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 7000);
    for to in TO_OUTSIDE {
        let mut line = Line::open(&world.port("app-1"), 0, udp(to));
        let mapped = line.ask(ANSWER).expect("an answer");
        let uninvited = Watch::start(&world.port("app-1"), "eth0", |packet| {
            packet.ports.is_some_and(|(from, to)| from != 7000 && to != 7000)
        });
        thread::scope(|scope| {
            for probe in [Probe::Udp(mapped), Probe::Tcp(mapped)] {
                let from = world.port("web-1");
                scope.spawn(move || assert_ne!(probe.run(&from, SILENCE), Outcome::Answered, "{probe:?}"));
            }
        });
        assert_eq!(line.ask(ANSWER).expect("an answer"), mapped);
        uninvited.finish().assert_none();
    }
}

#[test]
fn nat_keeps_link_local_addresses_and_broadcasts_inside() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 7000);
    let watch = Watch::for_leaks(&world.router());
    for to in ["255.255.255.255", "224.0.0.251", "10.10.0.255"] {
        // Whether the kernel sends them at all is its own affair.
        let _ = world.exec("web-1", &["ping", "-n", "-b", "-c", "1", "-W", "0.3", to]);
    }
    let _ = world.exec("web-1", &["ping", "-n", "-c", "1", "-W", "0.3", "ff02::1%eth0"]);
    assert_eq!(address_seen(&world.port("web-1"), tcp(TO_OUTSIDE[0])), "198.51.100.1");
    world.assert_reaches("web-1", ping("203.0.113.5"));
    watch.assert_none();
}
