//! Floods that fill the flow table: what is established loses nothing, the host is reached, and who is really there gets
//! through.
//!
//! ```text
//!     web     other
//!      .10      .11
//!       `--------+---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!                     10.10.0.1      .1                         .254 .254                   .5
//! ```

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, World,
    flood::{Flood, nobody},
    frames::{Eth, parse_mac, syn4, udp4},
    traffic::{ANSWER, Echo, SILENCE, listen, tcp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80, 81], from = ["any"] },
  { protocol = "udp", ports = ["5000-5099"], from = ["any"] },
]
egress = [{ protocol = "any", to = ["any"] }]

[ports.web]
network = "web"
addresses = ["10.10.0.10"]
security_groups = ["web"]
attach = { netns = "@web", create = true }

[ports.other]
network = "web"
addresses = ["10.10.0.11"]
security_groups = ["web"]
attach = { netns = "@other", create = true }

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "web:80"

[[forwards]]
listen = "0.0.0.0:8081"
protocol = "tcp"
to = "web:81"
"#;

/// Flows that the tables have room for, here.
const ROOM: u32 = 1 << 15;
/// Established connections, from outside and inside each.
const CONNECTIONS: usize = 500;
/// Sockets on each side of the established flows over UDP: each speaks with each of the other side's.
const SOCKETS: u16 = 95;
/// Flows that are established, all together.
const ESTABLISHED: u32 = 2 * CONNECTIONS as u32 + (SOCKETS as u32).pow(2);
/// Connections that are tried during a flood.
const TRIED: usize = 40;
/// How long one may take: a flood takes all of a CPU, and its packets come first.
const PATIENCE: Duration = Duration::from_secs(30);
/// One flood at a time: two take all CPUs that some machines have.
static ALONE: Mutex<()> = Mutex::new(());

/// Connections that are idle, but for what asks them whether they are still there.
struct Established(Vec<(TcpStream, TcpStream)>);

impl Established {
    /// Opens connections from `from` to `address`, behind which `port` of `to` stands.
    fn open(from: &Namespace, address: &str, (to, port): (&Namespace, u16), count: usize) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let listener = listen(to, port);
        Self(from.enter(|| {
            let connect = || TcpStream::connect_timeout(&address, ANSWER).expect("connect");
            (0..count).map(|_| (connect(), listener.accept().expect("accept").0)).collect()
        }))
    }

    /// Says a byte on each, both ways.
    fn assert_alive(&mut self) {
        for (number, (near, far)) in self.0.iter_mut().enumerate() {
            for (from, to) in [(&*near, &*far), (far, near)] {
                to.set_read_timeout(Some(ANSWER)).expect("a timeout");
                (&*from).write_all(&[7]).unwrap_or_else(|error| panic!("connection {number}: {error}"));
                let heard = (&*to).read_exact(&mut [0]);
                heard.unwrap_or_else(|error| panic!("connection {number} has lost what was said: {error}"));
            }
        }
    }
}

/// Flows over UDP that are idle, but for what asks them likewise.
struct Answered {
    near: Vec<UdpSocket>,
    far: Vec<UdpSocket>,
    address: Ipv4Addr,
    /// Those that have been opened: by the numbers of both ends' sockets.
    flows: Vec<(usize, usize)>,
}

impl Answered {
    /// Opens flows from `from` to ports from 5000 on of `to`, which has `address`: each socket of the one speaks with each of
    /// the other's.
    fn open(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> Self {
        let opened = Self::open_while(from, to, address, || true);
        assert_eq!(opened.flows.len() as u32, u32::from(SOCKETS).pow(2));
        opened
    }

    /// The same for as long as `goes_on` says, which is asked after each socket.
    fn open_while(from: &Namespace, to: &Namespace, address: Ipv4Addr, goes_on: impl Fn() -> bool) -> Self {
        let socket = |port| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a socket");
            socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
            socket
        };
        let near: Vec<_> = from.enter(|| (0..SOCKETS).map(|_| socket(0)).collect());
        let far: Vec<_> = to.enter(|| (0..SOCKETS).map(|number| socket(5000 + number)).collect());
        let mut opened = Self { near, far, address, flows: Vec::new() };
        for near in 0..opened.near.len() {
            let answers = |far: &usize| opened.is_alive((near, *far));
            let answered: Vec<_> = (0..opened.far.len()).take_while(answers).map(|far| (near, far)).collect();
            opened.flows.extend(answered);
            if !goes_on() {
                break;
            }
        }
        opened
    }

    /// Says a byte, both ways; again if it got lost on its way through a machine that is flooded.
    fn is_alive(&self, (near, far): (usize, usize)) -> bool {
        let (port, near, far) = (5000 + far as u16, &self.near[near], &self.far[far]);
        let ask = || {
            near.send_to(&[7], (self.address, port)).ok()?;
            let (_, from) = far.recv_from(&mut [0]).ok()?;
            far.send_to(&[7], from).ok()?;
            near.recv_from(&mut [0]).ok()
        };
        (0..5).any(|_| ask().is_some())
    }

    /// Says a byte on each.
    fn assert_alive(&self) {
        let lost: Vec<_> = self.flows.iter().filter(|flow| !self.is_alive(**flow)).collect();
        assert!(lost.is_empty(), "{} of {} are lost, such as {:?}", lost.len(), self.flows.len(), lost[0]);
    }
}

/// Waits until a flood has sent `count` more frames, and says how fast it is.
fn see_out(flood: &Flood, count: u32) {
    flood.wait_for(count);
    let (sent, took) = (flood.sent(), flood.elapsed());
    println!("{sent} frames in {took:.1?}: {:.0} a second", f64::from(sent) / took.as_secs_f64());
}

/// Tries to open a connection from `from` to `address` again and again; how long the slowest took.
fn try_to_connect(from: &Namespace, address: &str) -> Duration {
    let address: SocketAddr = address.parse().expect("an address");
    from.enter(|| {
        let slowest = (0..TRIED).map(|number| {
            let begin = Instant::now();
            let opened = TcpStream::connect_timeout(&address, PATIENCE);
            opened.unwrap_or_else(|error| panic!("connection {number} to {address}: {error}"));
            begin.elapsed()
        });
        slowest.max().unwrap_or_default()
    })
}

#[test]
fn a_flood_of_syns_under_false_addresses_costs_nobody_a_connection() {
    withstands_syns(POLICY);
}

#[test]
fn nor_does_one_that_is_answered_before_there_are_socket_buffers() {
    withstands_syns(&format!("{POLICY}\n[uplinks.eth0]\nxdp = \"generic\"\n"));
}

/// Floods a host with this policy with SYNs.
fn withstands_syns(policy: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = World::with_outside(policy);
    world.start(&["--flows", &ROOM.to_string()]);
    let (web, other, outside, router) =
        (world.port("web"), world.port("other"), world.outside(), world.router());
    let _served = (Echo::serve(world.host(), 22), Echo::serve(&web, 80));
    let mut inside = Established::open(&other, "10.10.0.10:81", (&web, 81), CONNECTIONS);
    let mut from_outside = Established::open(&outside, "198.51.100.1:8081", (&web, 81), CONNECTIONS);
    let over_udp = Answered::open(&other, &web, Ipv4Addr::new(10, 10, 0, 10));
    let before = world.last_event();

    let [host, next_hop] =
        [(world.host(), "eth0"), (&router, "h0")].map(|(of, name)| parse_mac(&world.mac(of, name)));
    let syn = move |number| {
        syn4(Eth::new(next_hop, host), nobody(number), (Ipv4Addr::new(198, 51, 100, 1), 8080), number)
    };
    let flood = Flood::begin((&router, "h0"), syn);
    let told = world.event(before, "problem", &["flow table fills up", "eth0"]);
    println!("after {:.1?}: {told}", flood.elapsed());
    let slowest = try_to_connect(&outside, "198.51.100.1:8080");
    println!("the slowest of {TRIED} connections from outside took {slowest:.1?}");
    let slowest = try_to_connect(&other, "10.10.0.10:80");
    println!("the slowest of {TRIED} connections inside took {slowest:.1?}");
    world.judge(&[("outside", tcp("198.51.100.1:22"), true), ("other", tcp("10.10.0.1:22"), true)]);
    inside.assert_alive();
    from_outside.assert_alive();
    over_udp.assert_alive();
    see_out(&flood, 2 * ROOM);
    drop(flood);
    assert!(world.drops(DropReason::SynChallenged) > u64::from(ROOM), "most of them were challenged");
    // It is over, and nobody is asked any more.
    let _ = world.event(before, "repaired", &["room again"]);
    world.assert_none_dropped(DropReason::SynChallenged, || {
        let _ = try_to_connect(&router, "198.51.100.1:8080");
    });
    inside.assert_alive();
    from_outside.assert_alive();
    over_udp.assert_alive();
    let flows = &world.json(&["status"])["flows"];
    assert!(flows["v4"].as_u64() >= Some(ESTABLISHED.into()), "{flows}");
    assert_eq!(flows["most_v4"], ROOM);
}

#[test]
fn a_workload_that_scans_leaves_room_for_others_and_is_named() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = World::with_outside(POLICY);
    world.start(&["--flows", &ROOM.to_string()]);
    let (web, other) = (world.port("web"), world.port("other"));
    let _served = Echo::serve(&web, 80);
    let before = world.last_event();
    let (own, gateway) = (world.mac(&other, "eth0"), world.mac(world.host(), "vnet-web"));
    let eth = Eth::new(parse_mac(&own), parse_mac(&gateway));
    // Whoever is asked does not answer.
    let question = move |number: u32| {
        let to = Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 113, 6)) + number % 200);
        udp4(eth, (Ipv4Addr::new(10, 10, 0, 11), 1024 + (number / 200 % 60_000) as u16), (to, 53), b"x")
    };
    let flood = Flood::begin((&other, "eth0"), question);
    let told = world.event(before, "problem", &["flow table fills up", "other"]);
    println!("after {:.1?}: {told}", flood.elapsed());
    let slowest = try_to_connect(&world.outside(), "198.51.100.1:8080");
    println!("the slowest of {TRIED} connections from outside took {slowest:.1?}");
    see_out(&flood, 2 * ROOM);
    drop(flood);
    assert!(world.port_drops("other", DropReason::NewFlowLimit) > 0, "{}", world.json(&["drops"]));
    assert_eq!(world.port_drops("web", DropReason::NewFlowLimit), 0);
    let _ = world.event(before, "repaired", &["room again"]);
}

#[test]
fn a_workload_whose_flows_all_come_about_leaves_room_for_others() {
    /// Flows that the tables have room for: fewer than the workload opens.
    const ROOM: u32 = 6000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = World::with_outside(POLICY);
    world.start(&["--flows", &ROOM.to_string()]);
    let (web, other) = (world.port("web"), world.port("other"));
    let _served = (Echo::serve(&web, 80), Echo::serve(world.host(), 22));
    let (before, opened) = (world.last_event(), Cell::new(0));
    let answered = Answered::open_while(&other, &web, Ipv4Addr::new(10, 10, 0, 10), || {
        opened.set(opened.get() + u32::from(SOCKETS));
        if opened.get() > ROOM / 2 {
            // It has been looked who has opened most.
            let _ = world.event(before, "problem", &["flow table fills up", "other"]);
        }
        world.port_drops("other", DropReason::FlowQuota) == 0
    });
    println!("{} flows are answered", answered.flows.len());
    assert!((ROOM as usize / 4..ROOM as usize).contains(&answered.flows.len()), "it may have a quarter");
    let slowest = try_to_connect(&world.outside(), "198.51.100.1:8080");
    println!("the slowest of {TRIED} connections from outside took {slowest:.1?}");
    world.judge(&[("outside", tcp("198.51.100.1:22"), true), ("web", tcp("10.10.0.1:22"), true)]);
    answered.assert_alive();
    assert_eq!(world.port_drops("web", DropReason::FlowQuota), 0);
}
