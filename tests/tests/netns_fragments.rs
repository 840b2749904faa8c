//! Datagrams in fragments, between workloads and through every translation.
//!
//! The wire is that of `netns_nat.rs`; who reorders fragments writes frames to it.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, World,
    cases::frame::{carried, fragment, packet},
    frames::{MacAddr, parse_mac},
    raw::RawSocket,
    traffic::{ANSWER, SILENCE, bind},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.open]
ingress = [{ protocol = "udp", ports = [4000], from = ["any"] }, { protocol = "icmp", icmp_type = 8, from = ["any"] },
  { protocol = "icmpv6", icmp_type = 128, from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["open"]
attach = { netns = "@web-2", create = true }

[[forwards]]
listen = "0.0.0.0:5000"
protocol = "udp"
to = "web-1:4000"

[[forwards]]
listen = "[::]:5000"
protocol = "udp"
to = "web-1:4000"

[elastic_ips]
"198.51.100.20" = { port = "web-2" }
"#;

const UDP: u8 = 17;

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A wire to write frames to: to whom they go, and from whom.
struct Wire {
    socket: RawSocket,
    src: MacAddr,
    dst: MacAddr,
}

impl Wire {
    /// From the router to the host.
    fn to_host(world: &World) -> Self {
        let (src, dst) =
            (parse_mac(&world.mac(&world.router(), "h0")), parse_mac(&world.mac(world.host(), "eth0")));
        Self { socket: RawSocket::open(&world.router(), "h0"), src, dst }
    }

    /// From web-1 to its gateway.
    fn to_gateway(world: &World) -> Self {
        let web = world.port("web-1");
        let (src, dst) =
            (parse_mac(&world.mac(&web, "eth0")), parse_mac(&world.mac(world.host(), "vnet-web")));
        Self { socket: RawSocket::open(&web, "eth0"), src, dst }
    }

    fn send(&self, packet: &[u8]) {
        self.socket.send(&carried(self.src, self.dst, packet));
    }
}

/// A UDP datagram with so many bytes of data, all of them `fill`.
fn datagram((src, dst): (&str, &str), len: usize, fill: u8) -> Vec<u8> {
    let [src, dst]: [SocketAddr; 2] = [src, dst].map(|address| address.parse().expect("an address"));
    let mut payload = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    payload.extend_from_slice(&(8 + len as u16).to_be_bytes());
    payload.extend_from_slice(&[0; 2]);
    payload.resize(8 + len, fill);
    packet(src.ip(), dst.ip(), UDP, &payload)
}

/// What `socket` receives next, and from whom.
fn received(socket: &UdpSocket, patience: Duration) -> Option<(Vec<u8>, IpAddr)> {
    let mut buffer = vec![0; 65_536];
    socket.set_read_timeout(Some(patience)).expect("a time to wait");
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    Some((buffer[..len].to_vec(), from.ip().to_canonical()))
}

/// A datagram of 3,000 bytes in three fragments, in every order, arrives whole as from `seen`.
fn arrives_in_every_order(wire: &Wire, ends: (&str, &str), at: &UdpSocket, seen: &str, first_id: u16) {
    for (id, order) in (first_id..).zip(ORDERS) {
        let whole = datagram(ends, 2992, id as u8);
        let parts = [0..1000, 1000..2000, 2000..3000];
        for part in order {
            wire.send(&fragment(&whole, id, parts[part].clone()));
        }
        let (data, from) = received(at, ANSWER).unwrap_or_else(|| panic!("{ends:?}, in the order {order:?}"));
        assert_eq!((data.len(), from.to_string().as_str()), (2992, seen), "{ends:?}, in the order {order:?}");
        assert!(data.iter().all(|byte| *byte == id as u8), "{ends:?}, in the order {order:?}");
    }
}

#[test]
fn fragments_in_every_order_reach_a_forward() {
    let world = World::running_with_outside(POLICY);
    let (wire, server) = (Wire::to_host(&world), bind(&world.port("web-1"), 4000));
    let v4 = ("203.0.113.5:7000", "198.51.100.1:5000");
    arrives_in_every_order(&wire, v4, &server, "203.0.113.5", 100);
    let v6 = ("[2001:db8:5::5]:7000", "[2001:db8:100::1]:5000");
    arrives_in_every_order(&wire, v6, &server, "2001:db8:5::5", 100);
}

#[test]
fn fragments_in_every_order_leave_with_the_address_of_the_uplink() {
    let world = World::running_with_outside(POLICY);
    let (wire, server) = (Wire::to_gateway(&world), bind(&world.outside(), 4000));
    let v4 = ("10.10.0.10:7000", "203.0.113.5:4000");
    arrives_in_every_order(&wire, v4, &server, "198.51.100.1", 100);
    let v6 = ("[fd00:10::a]:7000", "[2001:db8:5::5]:4000");
    arrives_in_every_order(&wire, v6, &server, "2001:db8:100::1", 100);
}

#[test]
fn fragments_in_every_order_reach_the_host_itself() {
    let world = World::running_with_outside(POLICY);
    let (wire, server) = (Wire::to_host(&world), bind(world.host(), 4000));
    let ends = ("203.0.113.5:7000", "198.51.100.1:4000");
    arrives_in_every_order(&wire, ends, &server, "203.0.113.5", 100);
}

#[test]
fn fragments_that_overlap_make_no_datagram() {
    let world = World::running_with_outside(POLICY);
    let (wire, server) = (Wire::to_host(&world), bind(&world.port("web-1"), 4000));
    let ends = ("203.0.113.5:7000", "198.51.100.1:5000");
    for (id, order) in [(200, [0, 1]), (201, [1, 0])] {
        let whole = datagram(ends, 1992, 7);
        // They share the eight bytes from 992 to 1000.
        let parts = [0..1000, 992..2000];
        for part in order {
            wire.send(&fragment(&whole, id, parts[part].clone()));
        }
        // What would make it whole without the one that overlaps does not help any more.
        wire.send(&fragment(&whole, id, 1000..2000));
    }
    assert_eq!(received(&server, SILENCE), None);
    arrives_in_every_order(&wire, ends, &server, "203.0.113.5", 210);
}

#[test]
fn fragments_of_large_pings_and_datagrams_go_everywhere() {
    let world = World::running_with_outside(POLICY);
    let ping = |from: &Namespace, to: &str| {
        let pinged = from.exec(&["ping", "-n", "-c", "3", "-i", "0.1", "-s", "8000", "-W", "8", to]).ok();
        assert!(pinged.stdout.contains(" 0% packet loss"), "{pinged}");
    };
    for to in ["203.0.113.5", "2001:db8:5::5", "10.10.0.11", "fd00:10::b", "10.10.0.1", "198.51.100.20"] {
        ping(&world.port("web-1"), to);
    }
    ping(&world.outside(), "198.51.100.20");
    ping(world.host(), "10.10.0.10");
    let (client, server) = (bind(&world.outside(), 7000), bind(&world.port("web-1"), 4000));
    for to in ["198.51.100.1:5000", "[2001:db8:100::1]:5000"] {
        let data: Vec<u8> = (0..60_000_u32).map(|byte| byte as u8).collect();
        client.send_to(&data, to).expect("send");
        let (seen, _) = received(&server, ANSWER).expect("the datagram");
        assert!(seen == data, "60,000 bytes to {to}");
    }
}

/// A workload's fragments that make nothing whole take only so much memory, and only of what is its own.
#[test]
fn fragments_that_lead_nowhere_do_no_harm() {
    let world = World::running_with_outside(POLICY);
    let (wire, server) = (Wire::to_gateway(&world), bind(&world.outside(), 4000));
    let ends = ("10.10.0.10:7000", "203.0.113.5:4000");
    let whole = datagram(ends, 1992, 7);
    for id in 1000..11_000 {
        wire.send(&fragment(&whole, id, 1000..2000));
    }
    for port in ["web-2", "web-1"] {
        let argv = ["ping", "-n", "-c", "3", "-i", "0.1", "-s", "8000", "-W", "8", "203.0.113.5"];
        let pinged = world.exec(port, &argv).ok();
        assert!(pinged.stdout.contains(" 0% packet loss"), "{port}: {pinged}");
    }
    arrives_in_every_order(&wire, ends, &server, "198.51.100.1", 100);
}

#[test]
fn fragments_without_their_ports_are_dropped() {
    let world = World::running_with_outside(POLICY);
    let wire = Wire::to_gateway(&world);
    let whole = packet("10.10.0.10".parse().unwrap(), "203.0.113.5".parse().unwrap(), 6, &[0; 40]);
    world.assert_counts(DropReason::Truncated, || wire.send(&fragment(&whole, 1, 0..8)));
    world.assert_counts(DropReason::Fragment, || wire.send(&fragment(&whole, 1, 8..40)));
}
