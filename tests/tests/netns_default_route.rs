//! What becomes of a network's flows when the host's default route goes: nothing for a while, for it may come back.
//!
//! ```text
//!     web-1 ---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//! ```

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use vnet_tests::{
    World, eventually,
    teller::{Line, Teller, address_seen},
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, tcp, udp},
    transfer::Pipe,
    world::shell,
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = { netns = "@web-1", create = true }
"#;

const REMOVE: &str = "ip route del default; ip -6 route del default";
const PUT_BACK: &str = "ip route add default via 198.51.100.254; ip route add default via 2001:db8:100::fe";
const GONE: [&str; 3] = ["no default route", "web", "eth0"];
const BACK: [&str; 3] = ["default route again", "web", "eth0"];
const LOST: [&str; 3] = ["the way out by eth0 is gone", "web", "dropped"];

/// Nobody has these addresses.
const NOBODY: [&str; 2] = ["198.51.100.99", "2001:db8:100::99"];
/// The router's.
const ROUTER: [&str; 2] = ["198.51.100.254", "2001:db8:100::fe"];

/// What names a router for the flows has to follow every change of the way, under the flows that there are.
#[test]
fn a_change_of_the_hosts_routes_is_followed_by_flows_that_there_are() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 53);
    let ways = [("203.0.113.5:53", "203.0.113.0/24", ""), ("[2001:db8:5::5]:53", "2001:db8:5::/64", "-6 ")];
    for ((to, prefix, version), (nobody, router)) in ways.into_iter().zip(NOBODY.iter().zip(ROUTER)) {
        let mut line = Line::open(&world.port("web-1"), 4000, udp(to));
        let before = line.ask(ANSWER).expect("an answer");
        // Each leads to nobody, and is undone.
        let changes = [
            (
                format!("ip {version}route replace default via {nobody} dev eth0"),
                format!("ip {version}route replace default via {router} dev eth0"),
            ),
            (
                format!("ip {version}route add {prefix} via {nobody} dev eth0"),
                format!("ip {version}route del {prefix} via {nobody} dev eth0"),
            ),
            (
                format!(
                    "ip {version}route add {prefix} via {nobody} dev eth0 table 100; \
                     ip {version}rule add to {prefix} lookup 100 priority 100"
                ),
                format!("ip {version}rule del to {prefix} lookup 100 priority 100"),
            ),
        ];
        for (change, undo) in changes {
            shell(world.host(), &change);
            eventually(&format!("silence after {change}"), || line.ask(SILENCE).is_err().then_some(()));
            shell(world.host(), &undo);
            let seen = eventually(&format!("an answer after {undo}"), || line.ask(SILENCE).ok());
            assert_eq!(seen, before, "{undo}");
        }
    }
}

#[test]
fn a_default_route_that_comes_back_loses_nothing() {
    let world = World::running_with_outside(POLICY);
    let outside = world.outside();
    let _teller = Teller::serve(&outside, 80);
    let mut line = Line::open(&world.port("web-1"), 4000, tcp("[2001:db8:5::5]:80"));
    let before = line.ask(ANSWER).expect("an answer");
    let mut pipe = Pipe::open(&world.port("web-1"), "203.0.113.5:7002", (&outside, 7002));
    let (is_over, carried) = (AtomicBool::new(false), AtomicU64::new(0));
    let wait_for_more = || {
        let begin = carried.load(Ordering::Relaxed);
        eventually("the transfer to go on", || (carried.load(Ordering::Relaxed) > begin).then_some(()));
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                pipe.assert_carries_there(1);
                carried.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_for_more();
        let last = world.last_event();
        let begin = Instant::now();
        shell(world.host(), REMOVE);
        world.event(last, "problem", &GONE);
        // As long as a slow DHCP client takes.
        thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
        shell(world.host(), PUT_BACK);
        world.event(last, "followed", &BACK);
        wait_for_more();
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(line.ask(ANSWER).expect("the same connection"), before);
}

#[test]
fn flows_end_when_the_default_route_does_not_come_back() {
    let world = World::running_with_outside(POLICY);
    let _echo = Echo::serve(&world.outside(), 7000);
    let mut connections = ["203.0.113.5:7000", "[2001:db8:5::5]:7000"]
        .map(|address| Connection::from(&world.port("web-1"), address));
    for connection in &mut connections {
        connection.echo(ANSWER).expect("an echo");
    }
    let last = world.last_event();
    shell(world.host(), REMOVE);
    world.event(last, "problem", &GONE);
    let begin = Instant::now();
    world.event(last, "problem", &LOST);
    assert!(begin.elapsed() > Duration::from_secs(4), "it lasts for a while: {:?}", begin.elapsed());
    for connection in &mut connections {
        assert_ne!(connection.outcome(SILENCE), Outcome::Answered);
    }
    let last = world.last_event();
    shell(world.host(), PUT_BACK);
    world.event(last, "followed", &["the way out is eth0", "web"]);
    assert_eq!(tcp("203.0.113.5:7000").run(&world.port("web-1"), ANSWER), Outcome::Answered);
}

#[test]
fn a_device_that_goes_down_is_no_way_out_any_more() {
    let world = World::running_with_outside(POLICY);
    let last = world.last_event();
    let begin = Instant::now();
    shell(world.host(), "ip link set eth0 down");
    world.event(last, "problem", &LOST);
    assert!(begin.elapsed() < Duration::from_secs(4), "at once, not after {:?}", begin.elapsed());
}

#[test]
fn another_default_route_is_followed_at_once() {
    let world = World::with_outside(POLICY);
    let router = world.netns_name("router");
    shell(world.host(), &format!("ip link add eth1 type veth peer name h1 netns {router}"));
    shell(world.host(), "ip addr add 192.0.2.1/24 dev eth1; ip link set eth1 up");
    shell(&world.router(), "ip addr add 192.0.2.254/24 dev h1; ip link set h1 up");
    shell(&world.outside(), "ip route add 192.0.2.0/24 via 203.0.113.254");
    let mut world = world;
    world.start(&[]);
    let _teller = Teller::serve(&world.outside(), 80);
    assert_eq!(address_seen(&world.port("web-1"), tcp("203.0.113.5:80")), "198.51.100.1");
    let last = world.last_event();
    shell(world.host(), "ip route replace default via 192.0.2.254");
    world.event(last, "followed", &["the way out is eth1", "web"]);
    assert_eq!(address_seen(&world.port("web-1"), tcp("203.0.113.5:80")), "192.0.2.1");
}
