//! Ports of the host that lead to workloads, for who comes from outside. The workload sees the
//! stranger's own address, and its groups decide.
//!
//! ```text
//!     web-1    web-2
//!      .10      .11
//!       `--------+---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!                     10.10.0.1      .1                         .254 .254                   .5
//! ```

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use vnet_common::DropReason;
use vnet_tests::{
    World,
    frames::{Eth, parse_mac, udp4},
    raw::{RawSocket, send_ip},
    teller::{Line, Teller, address_seen, fetched_as, seen_as},
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, ping, tcp, udp},
    watch::{Packet, Watch},
    world::{rows, shell},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "udp", ports = [53, "30000-30999"], from = ["any"] },
]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["web"]
attach = { netns = "@web-2", create = true }
"#;

/// The address that strangers come from, in both versions.
const STRANGER: [&str; 2] = ["203.0.113.5", "2001:db8:5::5"];

/// A forward to `to`.
fn forward(listen: &str, protocol: &str, to: &str) -> String {
    format!("\n[[forwards]]\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\nto = \"{to}\"\n")
}

/// [`POLICY`] with web-1's service published on port 8080 of all addresses.
fn published() -> String {
    [POLICY, &forward("0.0.0.0:8080", "tcp", "web-1:80"), &forward("[::]:8080", "tcp", "web-1:80")].concat()
}

#[test]
fn forward_brings_strangers_to_the_workload_which_sees_their_address() {
    let world = World::running_with_outside(&published());
    let teller = Teller::serve(&world.port("web-1"), 80);
    let outside = world.outside();
    for (to, stranger) in ["198.51.100.1:8080", "[2001:db8:100::1]:8080"].iter().zip(STRANGER) {
        assert_eq!(address_seen(&outside, tcp(to)), stranger);
        assert_eq!(fetched_as(&outside, &format!("http://{to}/")).ip().to_string(), stranger);
        // The stranger's port too: the workload's log names the very connection.
        assert_eq!(Line::open(&outside, 4567, tcp(to)).ask(ANSWER).expect("an answer").port(), 4567);
    }
    assert_eq!(teller.asked_by().len(), 6);
    world.assert_forwards_nothing();
}

#[test]
fn forward_opens_nothing_by_itself() {
    let closed = published().replace("ports = [80]", "ports = [81]");
    let world = World::running_with_outside(&closed);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    world.assert_counts(DropReason::IngressDenied, || {
        world.judge(&[
            ("outside", tcp("198.51.100.1:8080"), false),
            ("outside", tcp("[2001:db8:100::1]:8080"), false),
        ]);
    });
    world.sg_add(&["web", "ingress", "-p", "tcp", "--port", "80", "--from", "203.0.113.0/24"]);
    world.judge(&[
        ("outside", tcp("198.51.100.1:8080"), true),
        ("outside", tcp("[2001:db8:100::1]:8080"), false),
        ("router", tcp("198.51.100.1:8080"), false),
    ]);
}

#[test]
fn forward_that_no_group_admits_is_warned_of_by_name() {
    let closed = published().replace("ports = [80]", "ports = [81]");
    let world = World::running_with_outside(&closed);
    for verb in ["validate", "apply"] {
        let _ = world.ctl(&[verb]).ok().says(&["warning", "web-1", "8080"]);
    }
    world.write_policy(&published());
    for verb in ["validate", "apply"] {
        let done = world.ctl(&[verb]).ok();
        assert!(!done.stderr.contains("warning"), "{done}");
    }
}

#[test]
fn forward_of_udp_brings_questions_and_answers() {
    let forwards = [forward("0.0.0.0:5353", "udp", "web-1:53"), forward("[::]:5353", "udp", "web-1:53")];
    let world = World::running_with_outside(&[POLICY, &forwards.concat()].concat());
    let _teller = Teller::serve(&world.port("web-1"), 53);
    for (to, stranger) in ["198.51.100.1:5353", "[2001:db8:100::1]:5353"].iter().zip(STRANGER) {
        assert_eq!(address_seen(&world.outside(), udp(to)), stranger);
        let mut line = Line::open(&world.outside(), 53, udp(to));
        for _ in 0..20 {
            assert_eq!(line.ask(ANSWER).expect("an answer").port(), 53, "{to}");
        }
        // The same port of the other protocol is the host's own.
        assert_eq!(tcp(to).run(&world.outside(), ANSWER), Outcome::Refused, "{to}");
    }
}

/// Chunk types of SCTP (RFC 9260 section 3.2).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// An SCTP packet (RFC 9260 section 3.1) with one chunk that opens an association of tag 1.
fn sctp_packet(ports: (u16, u16), tag: u32, chunk: u8) -> Vec<u8> {
    let mut packet = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    packet.extend_from_slice(&tag.to_be_bytes());
    // The checksum, for now; type, flags and length; the tag, a window, a stream each way, a number.
    packet.extend_from_slice(&[0, 0, 0, 0, chunk, 0, 0, 20]);
    packet.extend_from_slice(&[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 7]);
    // CRC32c covers no address (appendix A): it stays right on the way.
    let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let crc = packet.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit));
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

#[test]
fn forward_of_sctp_brings_packets_both_ways() {
    const SCTP: u8 = 132;
    let group = POLICY.replace(
        "ports = [80]",
        "ports = [80], from = [\"any\"] },\n  { protocol = \"sctp\", ports = [3868]",
    );
    let world = World::running_with_outside(&(group + &forward("0.0.0.0:3868", "sctp", "web-1:3868")));
    let (there, back) = (sctp_packet((4000, 3868), 0, INIT), sctp_packet((3868, 4000), 1, INIT_ACK));
    let at_workload = RawSocket::open(&world.port("web-1"), "eth0");
    let at_stranger = RawSocket::open(&world.outside(), "eth0");
    let carries = |frame: &[u8], src: &str, dst: &str, payload: &[u8]| {
        let Some(packet) = Packet::parse(frame) else { return false };
        let between = (packet.src.to_string(), packet.dst.to_string());
        between == (src.to_owned(), dst.to_owned()) && packet.protocol == SCTP && frame.ends_with(payload)
    };
    send_ip(&world.outside(), SCTP, "198.51.100.1", &there);
    at_workload.receive("the stranger's INIT", |frame| carries(frame, "203.0.113.5", "10.10.0.10", &there));
    send_ip(&world.port("web-1"), SCTP, "203.0.113.5", &back);
    at_stranger
        .receive("the workload's INIT ACK", |frame| carries(frame, "198.51.100.1", "203.0.113.5", &back));
}

#[test]
fn forward_of_a_range_maps_port_by_port_in_one_go() {
    let world = World::running_with_outside(POLICY);
    let text = world.policy_text() + &forward("0.0.0.0:20000-20999", "udp", "web-1:30000");
    let workload: Vec<UdpSocket> = world.port("web-1").enter(|| {
        (30_000..=30_999).map(|port| UdpSocket::bind(("0.0.0.0", port)).expect("a free port")).collect()
    });
    world.write_policy(&text);
    let begin = Instant::now();
    let _ = world.ctl(&["apply"]).ok();
    assert!(begin.elapsed() < Duration::from_secs(5), "1,000 ports in {:?}", begin.elapsed());
    let stranger = world.outside().enter(|| UdpSocket::bind("203.0.113.5:6000").expect("a socket"));
    for (port, socket) in (20_000_u16..).zip(&workload) {
        stranger.send_to(&port.to_be_bytes(), ("198.51.100.1", port)).expect("a way");
        socket.set_read_timeout(Some(ANSWER)).expect("a limit");
        let mut told = [0; 16];
        let received = socket.recv_from(&mut told).unwrap_or_else(|error| panic!("port {port}: {error}"));
        assert_eq!(
            (received.0, &told[..2], received.1.to_string().as_str()),
            (2, &port.to_be_bytes()[..], "203.0.113.5:6000")
        );
        socket.send_to(b"back", received.1).expect("a way back");
        let (_, from) = stranger.recv_from(&mut told).expect("the answer");
        assert_eq!(from.to_string(), format!("198.51.100.1:{port}"));
    }
    let listed = world.json(&["forward", "list"]);
    assert_eq!(rows(&listed, "forwards").len(), 1, "a range is one: {listed}");
    // Its neighbours are not part of it.
    for beside in ["198.51.100.1:19999", "198.51.100.1:21000"] {
        assert_eq!(udp(beside).run(&world.outside(), ANSWER), Outcome::Refused, "{beside}");
    }
}

#[test]
fn forward_listens_only_on_its_own_address() {
    let mut world = World::with_outside(&[POLICY, &forward("198.51.100.2:8080", "tcp", "web-1:80")].concat());
    shell(world.host(), "ip addr add 198.51.100.2/24 dev eth0");
    world.start(&[]);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let outside = world.outside();
    assert_eq!(address_seen(&outside, tcp("198.51.100.2:8080")), "203.0.113.5");
    assert_eq!(tcp("198.51.100.1:8080").run(&outside, ANSWER), Outcome::Refused, "the host's own word");
    assert_eq!(tcp("[2001:db8:100::1]:8080").run(&outside, ANSWER), Outcome::Refused);
    assert_eq!(tcp("198.51.100.2:8081").run(&outside, ANSWER), Outcome::Refused);
}

#[test]
fn forward_on_all_addresses_of_one_version_is_none_of_the_other() {
    let world = World::running_with_outside(&[POLICY, &forward("[::]:8080", "tcp", "web-1:80")].concat());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    assert_eq!(address_seen(&world.outside(), tcp("[2001:db8:100::1]:8080")), "2001:db8:5::5");
    assert_eq!(tcp("198.51.100.1:8080").run(&world.outside(), ANSWER), Outcome::Refused);
}

#[test]
fn forward_on_loopback_is_out_of_reach_from_outside() {
    let forwards =
        [forward("127.0.0.1:8080", "tcp", "web-1:80"), forward("127.0.0.1:5353", "udp", "web-1:53")];
    let world = World::running_with_outside(&[POLICY, &forwards.concat()].concat());
    let _tellers = [80, 53].map(|port| Teller::serve(&world.port("web-1"), port));
    let watch = Watch::start(&world.port("web-1"), "eth0", |packet| packet.src.to_string() == "203.0.113.5");
    for probe in [tcp("198.51.100.1:8080"), udp("198.51.100.1:5353")] {
        assert_eq!(probe.run(&world.outside(), ANSWER), Outcome::Refused, "{probe:?}");
    }
    // A stranger on the wire may write any address into a packet.
    let [host, router] = [(world.host().clone(), "eth0"), (world.router(), "h0")]
        .map(|(at, device)| parse_mac(&world.mac(&at, device)));
    let wire = RawSocket::open(&world.router(), "h0");
    for dst in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(198, 51, 100, 1)] {
        let src = Ipv4Addr::new(203, 0, 113, 5);
        wire.send(&udp4(Eth::new(router, host), (src, 5353), (dst, 5353), b"from the wire"));
    }
    assert_eq!(ping("198.51.100.1").run(&world.outside(), ANSWER), Outcome::Answered, "behind them");
    watch.finish().assert_none();
}

#[test]
fn forward_that_is_removed_ends() {
    let world = World::running_with_outside(&published());
    let _echo = Echo::serve(&world.port("web-1"), 80);
    for to in ["198.51.100.1:8080", "[2001:db8:100::1]:8080"] {
        let mut connection = Connection::from(&world.outside(), to);
        connection.echo(ANSWER).expect("an echo");
        world.write_policy(POLICY);
        let _ = world.ctl(&["apply"]).ok();
        assert_ne!(
            connection.outcome(SILENCE),
            Outcome::Answered,
            "an established connection to {to} is cut"
        );
        assert_ne!(tcp(to).run(&world.outside(), SILENCE), Outcome::Answered, "{to} leads nowhere");
        world.write_policy(&published());
        let _ = world.ctl(&["apply"]).ok();
        assert_eq!(tcp(to).run(&world.outside(), ANSWER), Outcome::Answered, "{to} is back");
    }
}

#[test]
fn forward_commands_edit_the_file_and_take_effect_at_once() {
    let world = World::running_with_outside(POLICY);
    let before = world.policy_text();
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let add = ["forward", "add", "--listen", "0.0.0.0:8080", "-p", "tcp", "--to", "web-1:80"];
    let _ = world.ctl(&add).ok();
    assert_eq!(address_seen(&world.outside(), tcp("198.51.100.1:8080")), "203.0.113.5");
    assert!(world.policy_text().contains("0.0.0.0:8080"), "{}", world.policy_text());
    let _ = world.ctl(&add).fails_with(5);
    let listed = world.json(&["forward", "list"]);
    let row = &rows(&listed, "forwards")[0];
    assert!(row.to_string().contains("web-1") && row.to_string().contains("8080"), "{listed}");
    let _ = world.ctl(&["forward", "remove", "--listen", "0.0.0.0:8080", "-p", "tcp"]).ok();
    assert_ne!(tcp("198.51.100.1:8080").run(&world.outside(), SILENCE), Outcome::Answered);
    assert_eq!(world.policy_text().trim_end(), before.trim_end());
}

#[test]
fn forward_leaves_the_other_ports_of_the_host_alone() {
    let world = World::running_with_outside(&published());
    let _servers = [Echo::serve(world.host(), 2222), Echo::serve(&world.outside(), 7000)];
    for probe in [
        tcp("198.51.100.1:2222"),
        udp("198.51.100.1:2222"),
        tcp("[2001:db8:100::1]:2222"),
        ping("198.51.100.1"),
    ] {
        assert_eq!(probe.run(&world.outside(), ANSWER), Outcome::Answered, "{probe:?} from outside");
    }
    for probe in [tcp("203.0.113.5:7000"), udp("[2001:db8:5::5]:7000"), ping("203.0.113.5")] {
        assert_eq!(probe.run(world.host(), ANSWER), Outcome::Answered, "{probe:?} from the host");
    }
}

#[test]
fn forward_keeps_the_stranger_apart_from_what_the_workload_opens_itself() {
    let world = World::running_with_outside(&published());
    let _tellers = [Teller::serve(&world.port("web-1"), 80), Teller::serve(&world.outside(), 80)];
    let mut inbound = Line::open(&world.outside(), 5000, tcp("198.51.100.1:8080"));
    assert_eq!(inbound.ask(ANSWER).expect("an answer").to_string(), "203.0.113.5:5000");
    let own = seen_as(&world.port("web-1"), tcp("203.0.113.5:80"));
    assert_eq!(own.ip().to_string(), "198.51.100.1");
    assert_eq!(inbound.ask(ANSWER).expect("an answer").to_string(), "203.0.113.5:5000");
}
