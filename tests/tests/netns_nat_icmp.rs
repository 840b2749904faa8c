//! ICMP errors about translated packets reach the one whose packet it was, both headers translated.
//!
//! The world is that of `netns_nat`; web-1 has a forward besides.

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv6Addr, SocketAddr, UdpSocket},
};

use vnet_tests::{
    Namespace, World, eventually,
    teller::{Line, Teller},
    traffic::{ANSWER, Outcome, ping, tcp, udp},
    transfer::Pipe,
    watch::{Packet, Watch},
    world::shell,
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = { netns = "@web-1", create = true }

[[forwards]]
listen = "0.0.0.0:5353"
protocol = "udp"
to = "web-1:53"

[[forwards]]
listen = "[::]:5353"
protocol = "udp"
to = "web-1:53"
"#;

/// The ICMP errors that `watch` saw.
fn errors(watch: Watch) -> Vec<Packet> {
    let seen = watch.finish().picked;
    assert!(!seen.is_empty(), "an ICMP error crossed the wire");
    seen
}

/// Picks ICMP messages, of which the tests here only cause errors.
fn is_icmp_error(packet: &Packet) -> bool {
    let error4 = packet.protocol == 1 && matches!(packet.frame.get(34), Some(3 | 11 | 12));
    let error6 = packet.protocol == 58 && matches!(packet.frame.get(54), Some(1..=4));
    error4 || error6
}

#[test]
fn icmp_port_unreachable_reaches_the_workload_and_leaves_the_flow() {
    let world = World::running_with_outside(POLICY);
    for to in ["203.0.113.5:7009", "[2001:db8:5::5]:7009"] {
        let mut line = Line::open(&world.port("web-1"), 0, udp(to));
        let refused = line.ask(ANSWER).expect_err("nobody is there yet");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
        let _teller = Teller::serve(&world.outside(), 7009);
        let first = line.ask(ANSWER).expect("the same flow, now answered");
        assert_eq!(line.ask(ANSWER).expect("an answer"), first, "{to}");
    }
}

#[test]
fn icmp_host_unreachable_of_the_router_reaches_the_workload() {
    let world = World::running_with_outside(POLICY);
    for address in ["203.0.113.77/32", "2001:db8:5::77/128"] {
        shell(&world.router(), &format!("ip route add unreachable {address}"));
    }
    for probe in [tcp("203.0.113.77:80"), tcp("[2001:db8:5::77]:80"), ping("203.0.113.77")] {
        assert_eq!(probe.run(&world.port("web-1"), ANSWER), Outcome::Refused, "{probe:?}");
    }
    let pinged = world.exec("web-1", &["ping", "-n", "-c", "1", "-W", "8", "2001:db8:5::77"]);
    assert!(pinged.stdout.contains("From 2001:db8:100::fe"), "the router says so: {pinged}");
}

#[test]
fn icmp_time_exceeded_shows_the_way_to_a_traceroute() {
    let world = World::running_with_outside(POLICY);
    for (to, hop) in [("203.0.113.5", "198.51.100.254"), ("2001:db8:5::5", "2001:db8:100::fe")] {
        let hops = (1..=4).map(|ttl: u8| {
            world.exec("web-1", &["ping", "-n", "-c", "1", "-W", "2", "-t", &ttl.to_string(), to]).stdout
        });
        let told: Vec<String> = hops.collect();
        assert!(told.iter().any(|text| text.contains(&format!("From {hop}"))), "{told:?}");
        assert!(told.iter().any(|text| text.contains(&format!("from {to}"))), "{told:?}");
    }
}

#[test]
fn icmp_errors_of_a_workload_about_a_forward_are_of_the_host_for_the_stranger() {
    let world = World::running_with_outside(POLICY);
    for (to, private) in [("198.51.100.1:5353", "10.10.0.10"), ("[2001:db8:100::1]:5353", "fd00:10::a")] {
        let watch = Watch::start(&world.router(), "h0", is_icmp_error);
        // Nobody listens on port 53 of web-1, which says so.
        let refused = Line::open(&world.outside(), 0, udp(to)).ask(ANSWER).expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
        let private = private.parse().expect("an address");
        for error in errors(watch) {
            assert!(!error.mentions(private), "{error}: {:02x?}", error.frame);
        }
    }
}

#[test]
fn icmp_errors_about_a_translated_flow_never_show_it_outside() {
    let world = World::running_with_outside(POLICY);
    let watch = Watch::start(&world.router(), "h0", |packet| packet.protocol == 1 || packet.protocol == 58);
    let server = world.outside().enter(|| UdpSocket::bind("203.0.113.5:7010").expect("a socket outside"));
    server.set_read_timeout(Some(ANSWER)).expect("a limit");
    let client = world.port("web-1").enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    client.send_to(b"a question", "203.0.113.5:7010").expect("a way out");
    let (_, from) = server.recv_from(&mut [0; 64]).expect("the question");
    // The workload closes its socket: its kernel refuses the answer.
    drop(client);
    server.connect(from).expect("a way back");
    server.send(b"an answer").expect("a way back");
    let refused = server.recv(&mut [0; 64]).expect_err("the refusal reaches the one who answered");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let private = "10.10.0.10".parse().expect("an address");
    for packet in watch.finish().picked {
        assert!(!packet.mentions(private), "{packet}: {:02x?}", packet.frame);
    }
}

/// Lets packets of at most 1400 bytes from the router to the outside.
fn narrow(world: &World) {
    shell(&world.router(), "ip link set o0 mtu 1400");
}

#[test]
fn icmp_lets_a_transfer_find_the_mtu_of_the_path() {
    let world = World::running_with_outside(POLICY);
    narrow(&world);
    for to in ["203.0.113.5:7002", "[2001:db8:5::5]:7002"] {
        let mut pipe = Pipe::open(&world.port("web-1"), to, (&world.outside(), 7002));
        pipe.assert_carries_there(8);
    }
    for to in ["203.0.113.5", "2001:db8:5::5"] {
        assert_path_mtu(&world.port("web-1"), to);
    }
}

#[test]
fn icmp_tells_a_sender_of_datagrams_the_mtu_of_the_path() {
    let world = World::running_with_outside(POLICY);
    narrow(&world);
    for to in ["203.0.113.5", "2001:db8:5::5"] {
        let to = SocketAddr::new(to.parse().expect("an address"), 7011);
        let received = world.outside().enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 7011)));
        let received = received.expect("a socket outside");
        received.set_read_timeout(Some(ANSWER)).expect("a limit");
        let sender = world.port("web-1").enter(|| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let sender = UdpSocket::bind(any).expect("a socket");
            sender.connect(to).expect("a way out");
            sender
        });
        // Linux asks routers not to fragment what fits the MTU that it knows.
        sender.send(&[0x55; 1440]).expect("it fits the first link");
        assert_path_mtu(&world.port("web-1"), &to.ip().to_string());
        // The sender may be told of it as an error first.
        let small = [0x56; 1300];
        sender.send(&small).or_else(|_| sender.send(&small)).expect("it fits the path");
        let mut buffer = [0; 2000];
        let (len, _) = received.recv_from(&mut buffer).expect("what fits arrives");
        assert_eq!(buffer[..len], small, "and the first one did not");
    }
}

/// The kernel of `namespace` learns that packets to `to` may have 1400 bytes.
fn assert_path_mtu(namespace: &Namespace, to: &str) {
    eventually(&format!("the path MTU to {to}"), || {
        let route = namespace.exec(&["ip", "route", "get", to]).ok().stdout;
        route.contains("mtu 1400").then_some(())
    });
}

#[test]
fn icmp_errors_that_quote_no_flow_are_dropped() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 80);
    let mut line = Line::open(&world.port("web-1"), 0, tcp("203.0.113.5:80"));
    let mapped = line.ask(ANSWER).expect("an answer").port();
    let errors = Watch::start(&world.port("web-1"), "eth0", is_icmp_error);
    // About a packet of web-1's that never was: another port than the mapped one.
    let forged = FORGED_ERROR.replace("MAPPED", &mapped.wrapping_add(1).to_string());
    let mut script = tempfile::NamedTempFile::new().expect("a file");
    script.write_all(forged.as_bytes()).expect("write the script");
    let path = script.path().to_string_lossy();
    let _ = world.outside().exec(&["python3", &path]).ok();
    assert_eq!(line.ask(ANSWER).expect("the flow is as it was").port(), mapped);
    errors.assert_none();
}

/// Port unreachable about a segment from 198.51.100.1 to 203.0.113.5, port 80.
const FORGED_ERROR: &str = r"
import socket, struct
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
addresses = socket.inet_aton('198.51.100.1') + socket.inet_aton('203.0.113.5')
inner = struct.pack('!BBHHHBBH', 0x45, 0, 40, 1, 0, 64, 6, 0) + addresses
inner = inner[:10] + struct.pack('!H', checksum(inner)) + inner[12:]
inner += struct.pack('!HHI', MAPPED, 80, 1)
message = struct.pack('!BBHI', 3, 3, 0, 0) + inner
message = message[:2] + struct.pack('!H', checksum(message)) + message[4:]
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(message, ('198.51.100.1', 0))
";
