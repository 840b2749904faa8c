//! Workloads of a `nat` network reach the outside, which sees the uplink's address and never theirs.
//!
//! ```text
//!     web-1    web-2
//!      .10      .11
//!       `--------+---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!                     10.10.0.1      .1                         .254 .254                   .5
//! ```

use std::{fmt::Write as _, io, net::SocketAddr, thread};

use vnet_tests::{
    Namespace, World, eventually,
    teller::{Line, Teller, address_seen, fetched_as, seen_as, try_seen_as},
    traffic::{ANSWER, Echo, Outcome, Probe, ping, tcp, udp},
    watch::Watch,
};

const POLICY: &str = r#"
version = 1

[uplinks.eth0]

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
attach = { netns = "@web-2", create = true }
"#;

/// The addresses of the uplink.
const UPLINK: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];

/// The teller outside sees the uplink's address, whoever asks and however.
fn seen_as_uplink(world: &World, port: &str) {
    let teller = Teller::serve(&world.outside(), 80);
    let from = world.port(port);
    for (to, uplink) in ["203.0.113.5:80", "[2001:db8:5::5]:80"].iter().zip(UPLINK) {
        assert_eq!(fetched_as(&from, &format!("http://{to}/")).ip().to_string(), uplink, "curl from {port}");
        assert_eq!(address_seen(&from, tcp(to)), uplink, "TCP from {port}");
        assert_eq!(address_seen(&from, udp(to)), uplink, "UDP from {port}");
    }
    assert_eq!(teller.asked_by().len(), 6);
}

#[test]
fn nat_fetches_from_outside_with_the_address_of_the_uplink() {
    let world = World::running_with_outside(POLICY);
    for port in ["web-1", "web-2"] {
        seen_as_uplink(&world, port);
    }
    world.assert_forwards_nothing();
}

#[test]
fn nat_leaves_by_the_default_route_when_no_uplink_is_named() {
    let unnamed = POLICY.replace("[uplinks.eth0]\n", "").replace("uplink = \"eth0\"\n", "");
    let world = World::running_with_outside(&unnamed);
    seen_as_uplink(&world, "web-1");
}

#[test]
fn nat_works_whether_or_not_the_host_forwards_by_itself() {
    let mut world = World::with_outside(POLICY);
    world.allow_forwarding(true);
    world.start(&[]);
    seen_as_uplink(&world, "web-1");
    world.allow_forwarding(false);
    seen_as_uplink(&world, "web-1");
}

#[test]
fn nat_pings_the_outside() {
    let world = World::running_with_outside(POLICY);
    for address in ["203.0.113.5", "198.51.100.254", "2001:db8:5::5", "2001:db8:100::fe"] {
        world.assert_reaches("web-1", ping(address));
        world.assert_reaches("web-2", ping(address));
    }
}

#[test]
fn nat_keeps_pings_with_the_same_identifier_apart() {
    let world = World::running_with_outside(POLICY);
    for address in ["203.0.113.5", "2001:db8:5::5"] {
        let argv = ["ping", "-n", "-e", "77", "-i", "0.05", "-c", "20", "-W", "8", address];
        thread::scope(|scope| {
            for port in ["web-1", "web-2"] {
                let (world, argv) = (&world, &argv);
                scope.spawn(move || {
                    let pinged = world.exec(port, argv).ok();
                    assert!(pinged.stdout.contains(" 0% packet loss"), "{pinged}");
                    assert!(!pinged.stdout.contains("DUP!"), "{pinged}");
                });
            }
        });
    }
}

#[test]
fn nat_brings_answers_of_questions_over_udp() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 53);
    for probe in [udp("203.0.113.5:53"), udp("[2001:db8:5::5]:53")] {
        // A resolver asks each question from another port, and some ask all from one.
        for _ in 0..50 {
            seen_as(&world.port("web-1"), probe);
        }
        let mut line = Line::open(&world.port("web-1"), 53, probe);
        let seen: Vec<SocketAddr> = (0..50).map(|_| line.ask(ANSWER).expect("an answer")).collect();
        assert!(seen.iter().all(|one| *one == seen[0]), "one flow, one port: {seen:?}");
    }
}

#[test]
fn nat_survives_thousands_of_short_connections_to_one_server() {
    let world = World::running_with_outside(POLICY);
    let teller = Teller::serve(&world.outside(), 80);
    let total = 10_000;
    let (from, to) = (world.port("web-1"), tcp("203.0.113.5:80"));
    let failed: Vec<io::Error> = thread::scope(|scope| {
        let ask = || (0..total / 8).filter_map(|_| try_seen_as(&from, to, ANSWER).err()).collect();
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        workers
            .into_iter()
            .flat_map(|worker| -> Vec<io::Error> { worker.join().expect("a client") })
            .collect()
    });
    assert!(failed.is_empty(), "{} of {total} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(teller.asked_by().len(), total);
    assert!(teller.asked_by().iter().all(|from| from.ip().to_string() == UPLINK[0]));
}

#[test]
fn nat_takes_source_ports_below_those_of_the_host_itself() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 80);
    for probe in [tcp("203.0.113.5:80"), udp("[2001:db8:5::5]:80")] {
        for _ in 0..50 {
            let port = seen_as(&world.port("web-1"), probe).port();
            assert!((1024..=32767).contains(&port), "{probe:?}: {port}");
        }
    }
}

#[test]
fn nat_leaves_the_host_its_own_traffic() {
    let world = World::running_with_outside(POLICY);
    let _servers = [Echo::serve(world.host(), 2222), Echo::serve(&world.outside(), 7000)];
    for probe in [
        tcp("203.0.113.5:7000"),
        udp("203.0.113.5:7000"),
        tcp("[2001:db8:5::5]:7000"),
        udp("[2001:db8:5::5]:7000"),
        ping("203.0.113.5"),
        ping("2001:db8:5::5"),
    ] {
        assert_eq!(probe.run(world.host(), ANSWER), Outcome::Answered, "{probe:?} from the host");
        assert_eq!(probe.run(&world.port("web-1"), ANSWER), Outcome::Answered, "{probe:?} from web-1");
    }
    for probe in [
        tcp("198.51.100.1:2222"),
        udp("198.51.100.1:2222"),
        tcp("[2001:db8:100::1]:2222"),
        udp("[2001:db8:100::1]:2222"),
        ping("198.51.100.1"),
        ping("2001:db8:100::1"),
    ] {
        assert_eq!(probe.run(&world.outside(), ANSWER), Outcome::Answered, "{probe:?} from outside");
    }
}

#[test]
fn nat_lists_both_sides_of_a_flow() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 80);
    let mut line = Line::open(&world.port("web-1"), 0, tcp("203.0.113.5:80"));
    let seen = line.ask(ANSWER).expect("an answer");
    let flows = world.json(&["flows", "list"]).to_string();
    for word in ["10.10.0.10", "203.0.113.5", "198.51.100.1", &seen.port().to_string()] {
        assert!(flows.contains(word), "no {word} in {flows}");
    }
}

/// Everything that a workload may try, whether or not it comes to anything.
fn try_everything(world: &World, from: &Namespace) {
    let probes: [Probe; 10] = [
        ping("203.0.113.5"),
        ping("2001:db8:5::5"),
        ping("203.0.113.99"),
        tcp("203.0.113.5:80"),
        tcp("[2001:db8:5::5]:80"),
        tcp("203.0.113.5:81"),
        udp("203.0.113.5:80"),
        udp("203.0.113.5:81"),
        udp("[2001:db8:5::5]:81"),
        tcp("192.168.77.1:80"),
    ];
    thread::scope(|scope| {
        for probe in probes {
            scope.spawn(move || probe.run(from, std::time::Duration::from_secs(2)));
        }
    });
    // Other protocols, and packets with a source of their own choice.
    for argv in [
        &["python3", "-c", RAW_PACKETS][..],
        &["sh", "-c", "ip addr add 10.66.0.1/32 dev lo; ping -c 2 -W 1 -I 10.66.0.1 203.0.113.5"],
    ] {
        let _ = from.exec(argv);
    }
    let _ = world.ctl(&["flows", "flush"]).ok();
    seen_as(from, tcp("203.0.113.5:80"));
}

/// IP packets of protocols 47, 50, 132 and 253, and TCP segments that belong to no connection.
const RAW_PACKETS: &str = r"
import socket
for protocol in (47, 50, 132, 253, 6):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    for n in range(20):
        s.sendto(b'\x10\x00\x00\x50' + bytes([n]) * 28, ('203.0.113.5', 0))
";

#[test]
fn nat_never_lets_a_private_source_out() {
    let mut world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 80);
    let watch = Watch::for_leaks(&world.router());
    try_everything(&world, &world.port("web-1"));
    let mut lines = [tcp("203.0.113.5:80"), udp("[2001:db8:5::5]:80")]
        .map(|probe| Line::open(&world.port("web-1"), 0, probe));
    world.kill();
    try_asking(&mut lines);
    world.start(&[]);
    try_asking(&mut lines);
    try_everything(&world, &world.port("web-2"));
    // The network turns private: what was translated must not leave as it is.
    let text = world.policy_text();
    let private = text.replace("\"nat\"", "\"private\"").replace("uplink = \"eth0\"\n", "");
    world.write_policy(&private);
    let _ = world.ctl(&["apply"]).ok();
    for line in &mut lines {
        assert!(line.ask(std::time::Duration::from_millis(300)).is_err(), "a private network leads nowhere");
    }
    world.write_policy(&text);
    let _ = world.ctl(&["apply"]).ok();
    eventually("the way out to be back", || {
        try_seen_as(&world.port("web-2"), tcp("203.0.113.5:80"), ANSWER).ok()
    });
    watch.assert_none();
}

fn try_asking(lines: &mut [Line]) {
    for line in lines {
        line.ask(ANSWER).expect("the flow lives on");
    }
}

/// `count` networks with the same addresses, each with one workload in the namespace `@wN`.
fn many_networks(count: u8) -> String {
    let mut policy = "version = 1\n".to_owned();
    for n in 0..count {
        let _ = write!(
            policy,
            r#"
[networks.n{n}]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
host = false

[ports.w{n}]
network = "n{n}"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = {{ netns = "@w{n}", create = true }}
"#
        );
    }
    policy
}

#[test]
fn nat_tells_a_hundred_workloads_with_the_same_address_and_port_apart() {
    let networks = 100;
    let world = World::running_with_outside(&many_networks(networks));
    let _teller = Teller::serve(&world.outside(), 80);
    for probe in
        [tcp("203.0.113.5:80"), udp("203.0.113.5:80"), tcp("[2001:db8:5::5]:80"), udp("[2001:db8:5::5]:80")]
    {
        let open = |n: u8| Line::open(&world.port(&format!("w{n}")), 5000, probe);
        let mut lines: Vec<Line> = thread::scope(|scope| {
            let started: Vec<_> = (0..networks)
                .map(|n| {
                    scope.spawn({
                        let open = &open;
                        move || open(n)
                    })
                })
                .collect();
            started.into_iter().map(|thread| thread.join().expect("a line")).collect()
        });
        let mut ask = || lines.iter_mut().map(|line| line.ask(ANSWER).expect("an answer")).collect();
        let (first, again): (Vec<SocketAddr>, Vec<SocketAddr>) = (ask(), ask());
        assert_eq!(first, again, "{probe:?}: each keeps its port");
        let mut distinct = first.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), usize::from(networks), "{probe:?}: {first:?}");
        let all_public = first.iter().all(|seen| UPLINK.contains(&seen.ip().to_string().as_str()));
        assert!(all_public, "{probe:?}: {first:?}");
    }
}
