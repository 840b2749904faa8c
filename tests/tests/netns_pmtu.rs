//! What vnet tells senders itself: the gateway's hop, and how long packets may be.
//!
//! The world is that of `netns_nat`; web-1 has forwards besides.

use std::net::SocketAddr;

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, World, eventually,
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
listen = "0.0.0.0:8080-8081"
protocol = "tcp"
to = "web-1:8080"

[[forwards]]
listen = "[::]:8080-8081"
protocol = "tcp"
to = "web-1:8080"

[[forwards]]
listen = "0.0.0.0:5353"
protocol = "udp"
to = "web-1:53"

[[forwards]]
listen = "[::]:5353"
protocol = "udp"
to = "web-1:53"
"#;

/// O's addresses, and those with which web-1 leaves.
const ENDS: [(&str, &str); 2] = [("203.0.113.5", "198.51.100.1"), ("2001:db8:5::5", "2001:db8:100::1")];

/// Sends a datagram for each number of hops up to the second argument, and prints who says that they were too few.
const TRACE: &str = r"
import select, socket, struct, sys
to, hops = sys.argv[1], int(sys.argv[2])
v6 = ':' in to
family, level = (socket.AF_INET6, 41) if v6 else (socket.AF_INET, 0)
recverr, ttl = (25, 16) if v6 else (11, 2)
for hop in range(1, hops + 1):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(level, recverr, 1)
    s.setsockopt(level, ttl, hop)
    s.sendto(b'probe', (to, 33433 + hop))
    poll = select.poll()
    poll.register(s, 0)
    assert poll.poll(8000), 'nobody says so'
    _, ancillary, _, _ = s.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    offender = next(data for at, kind, data in ancillary if (at, kind) == (level, recverr))[16:]
    print(socket.inet_ntop(family, offender[8:24] if v6 else offender[4:8]))
";

/// Sends a datagram of as many bytes as the third argument says, which routers may not fragment. Prints the error that
/// comes back, that of another attempt, and the MTU of the path.
const DATAGRAM: &str = r"
import errno, select, socket, sys
to, port, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
v6 = ':' in to
family, level = (socket.AF_INET6, 41) if v6 else (socket.AF_INET, 0)
discover, mtu = (23, 24) if v6 else (10, 14)
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(level, discover, 2)
s.connect((to, port))
s.send(bytes(length))
poll = select.poll()
poll.register(s, 0)
assert poll.poll(8000), 'nobody says that it is too long'
told = errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
try:
    s.send(bytes(length))
    again = 'sent'
except OSError as error:
    again = errno.errorcode[error.errno]
print(told, again, s.getsockopt(level, mtu))
";

fn python(namespace: &Namespace, script: &str, args: &[&str]) -> String {
    namespace.exec(&[&["python3", "-c", script], args].concat()).ok().stdout
}

/// Asserts that `namespace` learns from a datagram that the path to `to` carries 1400 bytes.
#[track_caller]
fn assert_learns_mtu(namespace: &Namespace, to: &str, port: &str) {
    assert_eq!(python(namespace, DATAGRAM, &[to, port, "1440"]).trim(), "EMSGSIZE EMSGSIZE 1400", "{to}");
}

/// A world whose uplink carries 1400 bytes from the beginning.
fn with_narrow_uplink(policy: &str) -> World {
    let mut world = World::with_outside(policy);
    narrow_uplink(&world);
    world.start(&[]);
    world
}

/// Lets packets of at most 1400 bytes over the host's wire.
fn narrow_uplink(world: &World) {
    shell(&world.router(), "ip link set h0 mtu 1400");
    shell(world.host(), "ip link set eth0 mtu 1400");
}

/// Picks what says that a packet is too big, from one of these addresses.
fn too_big_from(sources: [&'static str; 2]) -> impl Fn(&Packet) -> bool + Send + 'static {
    move |packet: &Packet| {
        let at = if packet.protocol == 1 { 34 } else { 54 };
        let kind = (packet.protocol, packet.frame.get(at).copied().unwrap_or_default());
        matches!(kind, (1, 3) | (58, 2)) && sources.contains(&packet.src.to_string().as_str())
    }
}

/// 8 MiB each way, through SNAT and through a forward.
fn carries(world: &World) {
    let (web, outside) = (&world.port("web-1"), &world.outside());
    for (out, back) in
        [("203.0.113.5:7002", "198.51.100.1:8080"), ("[2001:db8:5::5]:7002", "[2001:db8:100::1]:8080")]
    {
        for mut pipe in [Pipe::open(web, out, (outside, 7002)), Pipe::open(outside, back, (web, 8080))] {
            pipe.assert_carries_there(8);
            pipe.assert_carries_back(8);
        }
    }
}

#[test]
fn pmtu_the_gateway_is_the_first_hop_of_a_trace() {
    let world = World::running_with_outside(POLICY);
    for (to, hops) in [
        ("203.0.113.5", ["10.10.0.1", "198.51.100.254", "203.0.113.5"]),
        ("2001:db8:5::5", ["fd00:10::1", "2001:db8:100::fe", "2001:db8:5::5"]),
    ] {
        let told = python(&world.port("web-1"), TRACE, &[to, "3"]);
        assert_eq!(told.lines().collect::<Vec<_>>(), hops);
        let pinged = world.exec("web-1", &["ping", "-n", "-c", "1", "-W", "8", "-t", "1", to]);
        assert!(pinged.stdout.contains(&format!("From {}", hops[0])), "{pinged}");
    }
}

#[test]
fn pmtu_outside_the_host_is_the_hop_before_a_workload() {
    let world = World::running_with_outside(POLICY);
    for (_, address) in ENDS {
        let watch = Watch::start(&world.outside(), "eth0", |packet| {
            packet.protocol == 1 && packet.frame.get(34) == Some(&11)
                || packet.protocol == 58 && packet.frame.get(54) == Some(&3)
        });
        let hops = if address.contains(':') { "IPV6_UNICAST_HOPS" } else { "IP_TTL" };
        let script = format!(
            "import select, socket, sys; v6 = ':' in sys.argv[1]; \
             s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM); \
             level, recverr = (41, 25) if v6 else (0, 11); s.setsockopt(level, recverr, 1); \
             s.setsockopt(level, socket.{hops}, 2); s.sendto(b'probe', (sys.argv[1], 5353)); \
             poll = select.poll(); poll.register(s, 0); assert poll.poll(8000), 'nobody says so'"
        );
        let _ = python(&world.outside(), &script, &[address]);
        let told = watch.finish().picked;
        assert!(told.iter().any(|packet| packet.src.to_string() == address), "{address}: {told:?}");
        let private = ["10.10.0.10", "fd00:10::a"].map(|text| text.parse().expect("an address"));
        assert!(!told.iter().any(|packet| private.iter().any(|address| packet.mentions(*address))));
    }
}

#[test]
fn pmtu_of_the_path_is_found() {
    let world = World::running_with_outside(POLICY);
    shell(&world.router(), "ip link set o0 mtu 1400");
    shell(&world.outside(), "ip link set eth0 mtu 1400");
    carries(&world);
    for (to, _) in ENDS {
        shell(&world.port("web-1"), "ip route flush cache; ip -6 route flush cache");
        assert_learns_mtu(&world.port("web-1"), to, "7011");
    }
}

#[test]
fn pmtu_of_the_uplink_is_told_by_the_gateway() {
    let world = with_narrow_uplink(POLICY);
    let watch = Watch::start(&world.port("web-1"), "eth0", too_big_from(["10.10.0.1", "fd00:10::1"]));
    for (to, _) in ENDS {
        assert_learns_mtu(&world.port("web-1"), to, "7011");
    }
    assert_eq!(watch.finish().picked.len(), 2, "one for each");
    carries(&world);
    assert!(world.drops(DropReason::TooBig) > 0, "they are counted");
}

#[test]
fn pmtu_of_the_uplink_may_change() {
    let world = World::running_with_outside(POLICY);
    let web = world.port("web-1");
    let mut pipes = ENDS.map(|(to, _)| {
        let to = SocketAddr::new(to.parse().expect("an address"), 7002);
        let mut pipe = Pipe::open(&web, &to.to_string(), (&world.outside(), 7002));
        pipe.assert_carries_there(1);
        pipe
    });
    narrow_uplink(&world);
    // Nothing on these wires cuts long segments, so they pass until the daemon has heard of it.
    for (pipe, (to, _)) in pipes.iter_mut().zip(ENDS) {
        eventually(&format!("the MTU of the path to {to}"), || {
            pipe.assert_carries_there(1);
            pipe.assert_carries_back(1);
            world.exec("web-1", &["ip", "route", "get", to]).ok().stdout.contains("mtu 1400").then_some(())
        });
    }
}

/// Asserts that web-1 has learned how long packets to the outside may be.
#[track_caller]
fn assert_paths_carry_1400(world: &World) {
    for (to, _) in ENDS {
        let route = world.exec("web-1", &["ip", "route", "get", to]).ok().stdout;
        assert!(route.contains("mtu 1400"), "{route}");
    }
}

#[test]
fn pmtu_of_a_network_is_told_outside() {
    let narrow = POLICY.replace("type = \"nat\"", "type = \"nat\"\nmtu = 1400");
    let world = World::running_with_outside(&narrow);
    let watch = Watch::start(&world.outside(), "eth0", too_big_from(ENDS.map(|(_, host)| host)));
    for (_, host) in ENDS {
        assert_learns_mtu(&world.outside(), host, "5353");
    }
    assert_eq!(watch.finish().picked.len(), 2, "one for each");
    carries(&world);
}

/// Errors are made of packets whose checksum is left to a device. Devices that compute none have the kernel do it.
#[test]
fn pmtu_errors_are_whole_where_no_device_computes_checksums() {
    let world = with_narrow_uplink(POLICY);
    let narrow = [(world.host(), world.device("web-1")), (world.host(), "eth0".to_owned())];
    for (namespace, device) in narrow {
        let _ = namespace.exec(&["ethtool", "-K", &device, "tx", "off"]).ok();
    }
    carries(&world);
    assert_paths_carry_1400(&world);
}

/// The segment size that a SYN announces first of its options.
fn segment_size(packet: &Packet) -> Option<u16> {
    let at = if packet.src.is_ipv4() { 34 } else { 54 };
    let segment = packet.frame.get(at..)?;
    let is_syn = packet.protocol == 6 && segment.get(13)? & 2 != 0;
    (is_syn && segment.get(20..22)? == [2, 4]).then_some(())?;
    Some(u16::from_be_bytes([*segment.get(22)?, *segment.get(23)?]))
}

#[test]
fn pmtu_clamped_segments_need_no_errors() {
    let policy = POLICY.replace("type = \"nat\"", "type = \"nat\"\nclamp_mss = true");
    let world = with_narrow_uplink(&policy);
    let is_syn = |packet: &Packet| segment_size(packet).is_some();
    let wires = [(world.router(), "h0"), (world.port("web-1"), "eth0")];
    let watches = wires.map(|(namespace, device)| Watch::start(&namespace, device, is_syn));
    carries(&world);
    let [outside, inside] = watches.map(|watch| watch.finish().picked);
    let from_host = outside.iter().filter(|packet| packet.src.to_string().starts_with("198.51.100.1"));
    let sizes: Vec<_> = from_host.filter_map(segment_size).collect();
    assert_eq!(sizes, [1360, 1360], "a SYN and a SYN-ACK");
    for packet in outside.iter().filter(|packet| packet.src.to_string() == "2001:db8:100::1") {
        assert_eq!(segment_size(packet), Some(1340), "{packet}");
    }
    let to_web = inside.iter().filter(|packet| packet.dst.to_string() == "10.10.0.10");
    assert_eq!(to_web.filter_map(segment_size).collect::<Vec<_>>(), [1360, 1360]);
    assert_eq!(world.drops(DropReason::TooBig), 0, "nothing is too big");
}

#[test]
fn pmtu_errors_are_not_without_limit() {
    let world = World::running_with_outside(POLICY);
    let told = Watch::start(&world.port("web-1"), "eth0", |packet| {
        packet.protocol == 1 && packet.src.to_string() == "10.10.0.1"
    });
    let script = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
        s.setsockopt(0, 2, 1); [s.sendto(b'probe', ('203.0.113.5', 7000)) for _ in range(2000)]";
    let _ = python(&world.port("web-1"), script, &[]);
    assert_eq!(world.drops(DropReason::TtlExceeded), 2000, "each is dropped");
    let errors = told.finish().picked.len();
    // 2000 take far less than a second, on at most as many CPUs as there are.
    let cpus = std::thread::available_parallelism().expect("a number").get();
    assert!((1..=2 * 50 * cpus).contains(&errors), "{errors} errors on {cpus} CPUs");
}
