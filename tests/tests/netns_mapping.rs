//! `mapping = "endpoint-independent"`: a workload's port becomes the same one outside, whomever it speaks to (RFC 4787
//! REQ-1, RFC 5382 REQ-1), and lets in only whom it spoke to.
//!
//! ```text
//!     web-1    web-2
//!      .10      .11
//!       `--------+---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!                     10.10.0.1      .1                         .254 .254                   .5
//! ```

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use vnet_tests::{
    Namespace, World,
    teller::{Line, Teller},
    traffic::{ANSWER, Probe, SILENCE},
    world::rows,
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
mapping = "endpoint-independent"

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
attach = { netns = "@web-2", create = true }
"#;

/// The option as it stands in the policy.
const OPTION: &str = "mapping = \"endpoint-independent\"\n";
/// A source port that both workloads use. The first one keeps it, the second one cannot.
const SOURCE: u16 = 5000;
/// Ports on which whoever is outside tells whom it sees.
const TOLD: [u16; 3] = [7000, 7001, 7002];
/// Two addresses outside of each version of IP: the stranger's and the router's.
const OUTSIDE: [[&str; 2]; 2] = [["203.0.113.5", "198.51.100.254"], ["2001:db8:5::5", "2001:db8:100::fe"]];

fn tellers(world: &World) -> Vec<Teller> {
    let at = [world.outside(), world.router()];
    at.iter().flat_map(|namespace| TOLD.map(|port| Teller::serve(namespace, port))).collect()
}

/// Ways to speak to `port` of each address in `to`.
fn ways(kind: fn(SocketAddr) -> Probe, to: [&str; 2], port: u16) -> [Probe; 2] {
    to.map(|address| kind(at(address, port)))
}

/// Lines from [`SOURCE`] of `port` to all of `to`.
fn lines(world: &World, port: &str, to: &[Probe]) -> Vec<Line> {
    to.iter().map(|probe| Line::open(&world.port(port), SOURCE, *probe)).collect()
}

fn seen(lines: &mut [Line]) -> Vec<SocketAddr> {
    lines.iter_mut().map(|line| line.ask(ANSWER).expect("an answer")).collect()
}

#[track_caller]
fn assert_all_same(seen: &[SocketAddr]) {
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

/// Both workloads speak from the same port to two ports of two addresses each.
fn everybody_sees_the_same_port(kind: fn(SocketAddr) -> Probe) {
    let world = World::running_with_outside(POLICY);
    let _tellers = tellers(&world);
    for to in OUTSIDE {
        let all = TOLD.map(|port| ways(kind, to, port));
        let mut of_first = lines(&world, "web-1", all.as_flattened());
        let mut of_second = lines(&world, "web-2", all.as_flattened());
        let (first, second) = (seen(&mut of_first), seen(&mut of_second));
        assert_all_same(&first);
        assert_all_same(&second);
        assert_eq!(first[0].port(), SOURCE, "it was free");
        assert_ne!(second[0].port(), SOURCE, "it was another's");
        assert_eq!((seen(&mut of_first), seen(&mut of_second)), (first, second));
    }
}

#[test]
fn mapping_is_the_same_for_every_server_over_udp() {
    everybody_sees_the_same_port(Probe::Udp);
}

#[test]
fn mapping_is_the_same_for_every_server_over_tcp() {
    everybody_sees_the_same_port(Probe::Tcp);
}

#[test]
fn mapping_outlives_the_daemon() {
    let mut world = World::running_with_outside(POLICY);
    let _tellers = tellers(&world);
    for (kind, to) in [Probe::Udp, Probe::Tcp].into_iter().flat_map(|kind| OUTSIDE.map(|to| (kind, to))) {
        let speak = |world: &World, port| {
            let to = ways(kind, to, port);
            (lines(world, "web-1", &to), lines(world, "web-2", &to))
        };
        let mut before = speak(&world, TOLD[0]);
        let (first, second) = (seen(&mut before.0), seen(&mut before.1));
        assert_ne!(first[0], second[0]);
        world.kill();
        let mut meanwhile = speak(&world, TOLD[1]);
        world.start(&[]);
        let mut after = speak(&world, TOLD[2]);
        for lines in [&mut meanwhile, &mut after, &mut before] {
            assert_eq!((seen(&mut lines.0), seen(&mut lines.1)), (first.clone(), second.clone()));
        }
    }
}

#[test]
fn mapping_is_not_listed_as_a_flow() {
    let world = World::running_with_outside(POLICY);
    let _tellers = tellers(&world);
    let to = TOLD.map(|port| ways(Probe::Udp, OUTSIDE[0], port));
    let mut lines = lines(&world, "web-1", to.as_flattened());
    let seen = seen(&mut lines);
    let list = world.json(&["flows", "list", "--filter", "port=web-1"]);
    let flows = rows(&list, "flows");
    assert_eq!(flows.len(), lines.len(), "{list}");
    for flow in flows {
        assert_eq!(flow["translated"]["src_port"], seen[0].port(), "{flow}");
        assert!(TOLD.iter().any(|port| flow["dst_port"] == *port), "{flow}");
    }
    // Flushing the port's flows leaves it able to speak.
    let _ = world.ctl(&["flows", "flush"]).ok();
    assert!(lines.iter_mut().all(|line| line.ask(ANSWER).is_ok()));
}

/// A UDP socket at `address`, which waits for an answer.
fn socket(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(address).expect("a free port"));
    socket.set_read_timeout(Some(ANSWER)).expect("a limit");
    socket
}

/// What `socket` receives next, and from whom.
fn received(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 64];
    let (len, from) = socket.recv_from(&mut buffer)?;
    Ok((buffer[..len].to_vec(), from))
}

#[test]
fn mapping_of_one_socket_is_the_same_for_whoever_it_asks() {
    let world = World::running_with_outside(POLICY);
    for to in OUTSIDE {
        // A port that is not among those to leave with.
        let asker = socket(&world.port("web-1"), at(unspecified(to[0]), 40_000));
        let mut seen = Vec::new();
        for (address, namespace) in to.iter().zip([world.outside(), world.router()]) {
            for port in TOLD {
                let server = socket(&namespace, at(address, port));
                asker.send_to(b"a question", server.local_addr().expect("an address")).expect("a way out");
                let (_, from) = received(&server).expect("the question");
                server.send_to(b"an answer", from).expect("a way back");
                assert_eq!(received(&asker).expect("the answer").1, at(address, port));
                seen.push(from);
            }
        }
        assert_all_same(&seen);
        assert!((1024..=32767).contains(&seen[0].port()), "{seen:?}");
    }
}

#[test]
fn mapping_lets_in_nobody_who_was_not_asked() {
    let world = World::running_with_outside(POLICY);
    for to in OUTSIDE {
        // It would take what comes from anybody.
        let asker = socket(&world.port("web-1"), at(unspecified(to[0]), SOURCE));
        let asked = socket(&world.outside(), at(to[0], TOLD[0]));
        asker.send_to(b"a question", at(to[0], TOLD[0])).expect("a way out");
        let (_, mapped) = received(&asked).expect("the question");
        // The one who was asked from another port, and somebody else from the same one.
        let strangers =
            [socket(&world.outside(), at(to[0], TOLD[1])), socket(&world.router(), at(to[1], TOLD[0]))];
        for stranger in &strangers {
            stranger.send_to(b"uninvited", mapped).expect("a way to the host");
        }
        let opened = Line::try_open(&world.outside(), TOLD[2], Probe::Tcp(mapped), SILENCE);
        assert!(opened.is_err(), "a connection from outside to {mapped}");
        asked.send_to(b"an answer", mapped).expect("a way back");
        assert_eq!(received(&asker).expect("the answer"), (b"an answer".to_vec(), at(to[0], TOLD[0])));
        asker.set_read_timeout(Some(SILENCE)).expect("a limit");
        assert!(received(&asker).is_err(), "an uninvited datagram arrived");
        // Who is asked in turn is let in, by the same port.
        asker.set_read_timeout(Some(ANSWER)).expect("a limit");
        asker.send_to(b"a question", at(to[1], TOLD[0])).expect("a way out");
        assert_eq!(received(&strangers[1]).expect("the question").1, mapped);
        strangers[1].send_to(b"an answer", mapped).expect("a way back");
        assert_eq!(received(&asker).expect("the answer").1, at(to[1], TOLD[0]));
    }
}

/// Without the option a port that is free for another server is kept for that one.
#[test]
fn mapping_depends_on_the_server_without_the_option() {
    let world = World::running_with_outside(&POLICY.replace(OPTION, ""));
    let _tellers = tellers(&world);
    for (kind, to) in [Probe::Udp, Probe::Tcp].into_iter().flat_map(|kind| OUTSIDE.map(|to| (kind, to))) {
        let [one, other] = ways(kind, to, TOLD[0]);
        let mut of_first = lines(&world, "web-1", &[one]);
        assert_eq!(seen(&mut of_first)[0].port(), SOURCE);
        let of_second = seen(&mut lines(&world, "web-2", &[one, other]));
        assert_ne!(of_second[0].port(), SOURCE, "it was another's: {of_second:?}");
        assert_eq!(of_second[1].port(), SOURCE, "it was free: {of_second:?}");
    }
}

/// The option is given and taken while flows live.
#[test]
fn mapping_changes_with_the_policy_and_cuts_no_flow() {
    let world = World::running_with_outside(&POLICY.replace(OPTION, ""));
    let _tellers = tellers(&world);
    let to = ways(Probe::Tcp, OUTSIDE[0], TOLD[0]);
    let mut early = lines(&world, "web-2", &to);
    let first = seen(&mut early);
    let text = world.policy_text();
    let with_option = text.replace("type = \"nat\"\n", &format!("type = \"nat\"\n{OPTION}"));
    for (policy, port) in [(&with_option, TOLD[1]), (&text, TOLD[2])] {
        world.write_policy(policy);
        let _ = world.ctl(&["apply"]).ok();
        let mut blocker = lines(&world, "web-1", &ways(Probe::Tcp, OUTSIDE[0], port)[..1]);
        let mut later = lines(&world, "web-2", &ways(Probe::Tcp, OUTSIDE[0], port));
        let [one, other] = seen(&mut later)[..] else { panic!("two lines") };
        assert_eq!(one == other, policy == &with_option, "{one} and {other}");
        assert_eq!(seen(&mut blocker).len(), 1);
        assert_eq!(seen(&mut early), first, "what was there goes on");
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

fn unspecified(of: &str) -> &'static str {
    if of.contains(':') { "::" } else { "0.0.0.0" }
}
