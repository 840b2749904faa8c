//! The outside of a host, before anything is translated: who is there, what they know, and that vnet
//! changes nothing of the host's own traffic with them.
//!
//! ```text
//!     a ---- vnet-back ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!    .10     10.20.0.1      .1                         .254 .254                   .5
//! ```

use vnet_tests::{
    World,
    teller::{Line, Teller, address_seen, fetched_as, seen_as},
    traffic::{ANSWER, Echo, Outcome, ping, tcp, udp},
    transfer::Pipe,
    watch::{Watch, is_private},
    world::shell,
};

const POLICY: &str = r#"
version = 1

[networks.back]
type = "private"
subnets = ["10.20.0.0/24", "fd00:20::/64"]

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.a]
network = "back"
addresses = ["10.20.0.10", "fd00:20::a"]
security_groups = ["open"]
attach = { netns = "@a", create = true }
"#;

/// The host reaches the outside and is reached from there, over IPv4 and IPv6.
fn reach_each_other(world: &World) {
    let (host, outside) = (world.host(), &world.outside());
    let _servers = [Echo::serve(host, 2222), Echo::serve(outside, 7000)];
    let out = [ping("203.0.113.5"), tcp("203.0.113.5:7000"), udp("203.0.113.5:7000")];
    let out6 = [ping("2001:db8:5::5"), tcp("[2001:db8:5::5]:7000"), udp("[2001:db8:5::5]:7000")];
    for probe in out.into_iter().chain(out6) {
        assert_eq!(probe.run(host, ANSWER), Outcome::Answered, "{probe:?} from the host");
    }
    let back = [ping("198.51.100.1"), tcp("198.51.100.1:2222"), udp("198.51.100.1:2222")];
    let back6 = [ping("2001:db8:100::1"), tcp("[2001:db8:100::1]:2222"), udp("[2001:db8:100::1]:2222")];
    for probe in back.into_iter().chain(back6) {
        assert_eq!(probe.run(outside, ANSWER), Outcome::Answered, "{probe:?} from outside");
    }
}

#[test]
fn the_host_and_the_outside_reach_each_other_while_vnet_runs() {
    let mut world = World::with_outside(POLICY);
    reach_each_other(&world);
    world.start(&[]);
    reach_each_other(&world);
    world.assert_forwards_nothing();
    let _ = world.teardown().ok();
    reach_each_other(&world);
}

#[test]
fn a_private_network_stays_closed() {
    let world = World::running_with_outside(POLICY);
    for prefix in ["10.20.0.0/24", "fd00:20::/64"] {
        world.lead_to_host(prefix);
    }
    let _servers = [Echo::serve(&world.outside(), 7000), Echo::serve(&world.port("a"), 7000)];
    let wire = Watch::for_leaks(&world.router());
    world.judge(&[
        ("a", ping("203.0.113.5"), false),
        ("a", tcp("203.0.113.5:7000"), false),
        ("a", udp("[2001:db8:5::5]:7000"), false),
        ("outside", ping("10.20.0.10"), false),
        ("outside", tcp("10.20.0.10:7000"), false),
        ("outside", udp("[fd00:20::a]:7000"), false),
    ]);
    wire.assert_none();
}

#[test]
fn a_teller_tells_who_asks() {
    let world = World::with_outside(POLICY);
    let teller = Teller::serve(&world.outside(), 80);
    let asked = ["203.0.113.5:80", "[2001:db8:5::5]:80"];
    for (to, own) in asked.iter().zip(["198.51.100.1", "2001:db8:100::1"]) {
        assert_eq!(address_seen(world.host(), tcp(to)), own);
        assert_eq!(address_seen(world.host(), udp(to)), own);
        assert_eq!(fetched_as(world.host(), &format!("http://{to}/")).ip().to_string(), own);
    }
    assert_eq!(teller.asked_by().len(), 6);
    for probe in asked.map(tcp).into_iter().chain(asked.map(udp)) {
        assert_eq!(probe.run(world.host(), ANSWER), Outcome::Answered, "{probe:?}");
    }
    for probe in [tcp("203.0.113.5:80"), udp("[2001:db8:5::5]:80")] {
        let mut line = Line::open(world.host(), 4000, probe);
        for _ in 0..2 {
            assert_eq!(line.ask(ANSWER).expect("an answer").port(), 4000, "{probe:?}");
        }
    }
}

#[test]
fn a_watch_sees_what_passes() {
    let world = World::with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 80);
    let watch = Watch::start(&world.router(), "h0", |packet| packet.ports.is_some_and(|ports| ports.1 == 80));
    let seen = [tcp("203.0.113.5:80"), udp("[2001:db8:5::5]:80")].map(|probe| seen_as(world.host(), probe));
    let packets = watch.finish().picked;
    for from in seen {
        assert!(packets.iter().any(|p| p.src == from.ip() && p.ports == Some((from.port(), 80))), "{from}");
    }
    assert!(packets.iter().all(|packet| !is_private(packet.src)));
}

#[test]
fn a_leaking_host_is_found_out() {
    let world = World::with_outside(POLICY);
    shell(world.host(), "ip addr add 10.77.0.1/32 dev lo");
    let watch = Watch::for_leaks(&world.router());
    let leaking = world.host_exec(&["ping", "-n", "-c", "1", "-W", "1", "-I", "10.77.0.1", "203.0.113.5"]);
    assert!(!leaking.success(), "nobody can answer a private address: {leaking}");
    let leaked = watch.finish().picked;
    assert!(leaked.iter().any(|packet| packet.src.to_string() == "10.77.0.1"), "{leaked:?}");
}

#[test]
fn a_pipe_carries_each_byte() {
    let world = World::with_outside(POLICY);
    let mut pipe = Pipe::open(world.host(), "203.0.113.5:7002", (&world.outside(), 7002));
    pipe.assert_carries_there(8);
    pipe.assert_carries_back(8);
}

#[test]
fn nobody_outside_knows_the_way_to_a_private_address() {
    let world = World::with_outside(POLICY);
    for namespace in [world.router(), world.outside()] {
        for address in ["10.20.0.10", "fd00:20::a"] {
            let route = namespace.exec(&["ip", "route", "get", address]);
            assert!(!route.success(), "{route}");
        }
    }
}
