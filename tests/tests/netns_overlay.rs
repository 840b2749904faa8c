//! Networks on several hosts that have only IP between them, by VXLAN.
//!
//! ```text
//!     a ---- near ---- R ---- far ---- b
//!                      |
//!                    third ---- c
//! ```

use std::{collections::BTreeSet, time::Duration};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, Pair, World,
    crowd::Crowd,
    frames::{Eth, MacAddr, parse_mac, udp4},
    pair::{self, UNDERLAY, choose},
    raw::RawSocket,
    soak::size,
    teller::{Teller, address_seen},
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, assert_reach_each_other, at, ping, tcp, udp},
    transfer::Pipe,
    watch::{Packet, Watch, is_private},
    world::shell,
};

const POLICY: &str = r#"
version = 1

[networks.wide]
type = "private"
subnets = ["10.44.0.0/24", "fd00:44::/64"]
gateway = ["10.44.0.<1|2|3>", "fd00:44::<1|2|3>"]
vni = 5001
peers = [<"FAR", "THIRD"|"NEAR", "THIRD"|"NEAR", "FAR">]
uplink = "eth0"

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["sg:open"] }]

[ports.a]
network = "wide"
addresses = ["10.44.0.10", "fd00:44::a"]
mac = "02:00:00:00:00:0a"
security_groups = ["open"]
attach = <{ netns = "@a", create = true }|{ remote = "NEAR" }|{ remote = true }>

[ports.b]
network = "wide"
addresses = ["10.44.0.11", "fd00:44::b"]
mac = "02:00:00:00:00:0b"
security_groups = ["open"]
attach = <{ remote = "FAR" }|{ netns = "@b", create = true }|{ remote = true }>

[ports.web]
network = "wide"
addresses = ["10.44.0.12", "fd00:44::c"]
security_groups = ["web"]
attach = <{ remote = true }|{ netns = "@web", create = true }|{ remote = true }>
"#;

const PORT: u16 = 4789;
const VNI: u32 = 5001;
const A: [&str; 2] = ["10.44.0.10", "fd00:44::a"];
const B: [&str; 2] = ["10.44.0.11", "fd00:44::b"];
const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

/// The policy whose underlay is IPv4 (0) or IPv6 (1).
fn over(version: usize) -> String {
    let names = ["NEAR", "FAR", "THIRD"];
    names
        .iter()
        .zip(UNDERLAY)
        .fold(POLICY.to_owned(), |text, (name, addresses)| text.replace(name, addresses[version]))
}

/// Two hosts whose daemons have put the policy into force. The third is not there.
fn running(version: usize) -> Pair {
    Pair::across_a_router(&over(version)).started()
}

/// Whether it is a packet of the overlay.
fn is_outer(packet: &Packet) -> bool {
    packet.protocol == 17 && packet.ports.is_some_and(|(_, to)| to == PORT)
}

/// The header of VXLAN (RFC 7348 section 5) for `vni`, and `frame` behind it.
fn encapsulated(vni: u32, frame: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), frame].concat()
}

/// The frame inside a packet of the overlay over IPv4.
fn inner(outer: &Packet) -> &[u8] {
    &outer.frame[14 + 20 + 8 + 8..]
}

/// Sends `payload` to the near host's overlay, from inside `from`.
fn send_outer(from: &Namespace, payload: &[u8]) {
    from.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.send_to(payload, (UNDERLAY[0][0], PORT)).expect("send");
    });
}

/// A datagram from b to a, as it is within the overlay.
fn lie() -> Vec<u8> {
    udp4(Eth::new(MAC_B, MAC_A), ([10, 44, 0, 11].into(), 9), ([10, 44, 0, 10].into(), 9), b"lie")
}

#[test]
fn members_and_hosts_reach_each_other_and_only_the_overlay_is_on_the_wire() {
    let pair = running(0);
    let watch = Watch::start(&pair.router(), "h0", |packet| is_outer(packet) || is_private(packet.src));
    let (near, far) = (["10.44.0.1", "fd00:44::1"], ["10.44.0.2", "fd00:44::2"]);
    let (a, b) = (&pair.near.port("a"), &pair.far.port("b"));
    assert_reach_each_other((a, A), (b, B));
    assert_reach_each_other((pair.near.host(), near), (b, B));
    assert_reach_each_other((a, A), (pair.far.host(), far));
    assert_reach_each_other((pair.near.host(), near), (pair.far.host(), far));
    let seen = watch.finish().picked;
    assert!(seen.len() > 100, "{} packets", seen.len());
    for packet in seen {
        assert!(is_outer(&packet) && !is_private(packet.src), "{packet}");
        let expected = UNDERLAY.map(|[v4, _]| v4);
        assert!(expected.contains(&packet.src.to_string().as_str()), "{packet}");
        assert_eq!(packet.frame[14 + 28..][..8], encapsulated(VNI, &[]), "{packet}");
        assert!(!matches!(inner(&packet)[12..14], [0x81, 0] | [0x88, 0xa8]), "{packet}");
    }
}

#[test]
fn groups_hold_across_the_overlay() {
    let pair = running(0);
    let _echoes = [80, 81].map(|port| Echo::serve(&pair.far.port("web"), port));
    pair.near.judge(&[
        ("a", tcp("10.44.0.12:80"), true),
        ("a", tcp("[fd00:44::c]:80"), true),
        ("a", tcp("10.44.0.12:81"), false),
        ("a", ping("fd00:44::c"), false),
    ]);
    // The host is in no group.
    assert_eq!(tcp("10.44.0.12:80").run(pair.near.host(), SILENCE), Outcome::Silence);
    let _teller = Teller::serve(&pair.far.port("b"), 7001);
    assert_eq!(address_seen(&pair.near.port("a"), tcp("10.44.0.11:7001")), "10.44.0.10");
    flows_have_outer_source_ports_of_their_own(&pair);
}

/// So that what is between the hosts spreads them over its links.
fn flows_have_outer_source_ports_of_their_own(pair: &Pair) {
    let _echo = Echo::serve(&pair.far.port("b"), 7000);
    let watch = Watch::start(&pair.router(), "h0", |packet| {
        is_outer(packet) && packet.src.to_string() == UNDERLAY[0][0]
    });
    let mut connections: Vec<_> =
        (0..16).map(|_| Connection::from(&pair.near.port("a"), "10.44.0.11:7000")).collect();
    for connection in &mut connections {
        connection.echo(ANSWER).expect("an echo");
    }
    let seen = watch.finish().picked;
    // What was open before may be ending still.
    let is_theirs =
        |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == 6 && frame[36..38] == 7000_u16.to_be_bytes();
    let tcp = seen.iter().filter(|packet| is_theirs(inner(packet)));
    let pairs: BTreeSet<_> =
        tcp.map(|packet| (inner(packet)[34..36].to_vec(), packet.ports.map(|(from, _)| from))).collect();
    assert_eq!(pairs.len(), 16, "one for each connection: {pairs:?}");
    let ports: BTreeSet<_> = pairs.iter().map(|(_, port)| port).collect();
    assert!(ports.len() > 8, "{ports:?}");
}

/// `blocks` MiB each way, IPv4 and IPv6.
fn carries(pair: &Pair, blocks: u64) {
    let (a, b) = (&pair.near.port("a"), &pair.far.port("b"));
    for address in B {
        let mut pipe = Pipe::open(a, &at(address, 7002), (b, 7002));
        pipe.assert_carries_there(blocks);
        pipe.assert_carries_back(blocks);
    }
}

/// Every device on the way.
fn way(pair: &Pair) -> Vec<(Namespace, String)> {
    let mut devices = ["h0", "h1"].map(|name| (pair.router(), name.to_owned())).to_vec();
    for (world, port) in [(&pair.near, "a"), (&pair.far, "b")] {
        devices.push((world.port(port), "eth0".to_owned()));
        let hosts =
            ["eth0", "vnet-vxlan", &world.device(port)].map(|name| (world.host().clone(), name.to_owned()));
        devices.extend(hosts);
    }
    devices
}

/// Carries much with all offloads, and some without any.
fn carries_with_and_without_offloads(pair: &Pair, blocks: u64) {
    let too_long = |packet: &Packet| packet.frame.len() > 14 + 1500;
    let whole = Watch::start(&pair.router(), "h1", too_long);
    carries(pair, 4);
    assert!(!whole.finish().picked.is_empty(), "segments are cut by the last device only");
    carries(pair, blocks);
    for (namespace, device) in way(pair) {
        for offload in ["tx", "rx", "tso", "gso", "gro"] {
            // Of a VXLAN device some are fixed.
            let _ = namespace.exec(&["ethtool", "-K", &device, offload, "off"]);
        }
    }
    let cut = Watch::start(&pair.router(), "h1", too_long);
    carries(pair, size(16, 256));
    cut.assert_none();
}

#[test]
fn every_byte_arrives_over_ipv4() {
    carries_with_and_without_offloads(&running(0), size(256, 1024));
}

#[test]
fn every_byte_arrives_over_ipv6() {
    let pair = running(1);
    assert_reach_each_other((&pair.near.port("a"), A), (&pair.far.port("b"), B));
    assert!(pair.near.exec("a", &["ip", "link", "show", "dev", "eth0"]).ok().stdout.contains("mtu 1430"));
    carries_with_and_without_offloads(&pair, size(64, 1024));
}

/// How many packets the kernel's device for overlays carries while a and b exchange a hundred.
fn by_the_kernels_device(pair: &Pair) -> u64 {
    let carried = || {
        let links = pair.near.host_exec(&["ip", "-json", "-stats", "link", "show", "dev", "vnet-vxlan"]).ok();
        let count = |way: &str| links.json()[0]["stats64"][way]["packets"].as_u64().expect("a counter");
        count("rx") + count("tx")
    };
    let before = carried();
    let _ = pair.near.exec("a", &["ping", "-q", "-c", "50", "-i", "0.01", B[0]]).ok();
    carried() - before
}

#[test]
fn packets_between_ipv4_hosts_pass_the_kernels_device_by() {
    // Of its own accord a host says something to everybody now and then.
    assert!(by_the_kernels_device(&running(0)) < 20);
    assert!(by_the_kernels_device(&running(1)) >= 100);
}

/// Sends a datagram of as many bytes as the second argument says, which routers may not fragment; prints the error that
/// comes back, and the MTU of the path.
const DATAGRAM: &str = r"
import errno, select, socket, sys
to, length = sys.argv[1], int(sys.argv[2])
v6 = ':' in to
family, level = (socket.AF_INET6, 41) if v6 else (socket.AF_INET, 0)
discover, mtu = (23, 24) if v6 else (10, 14)
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(level, discover, 2)
s.connect((to, 7011))
s.send(bytes(length))
poll = select.poll()
poll.register(s, 0)
assert poll.poll(8000), 'nobody says that it is too long'
print(errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)], s.getsockopt(level, mtu))
";

#[test]
fn packets_that_would_not_fit_are_refused_with_the_mtu() {
    let mut pair = running(0);
    assert!(pair.near.exec("a", &["ip", "link", "show", "dev", "eth0"]).ok().stdout.contains("mtu 1450"));
    let pinged = |length| pair.near.exec("a", &["ping", "-c", "1", "-M", "do", "-s", length, "10.44.0.11"]);
    let _ = pinged("1422").ok();
    let _ = pinged("1423").fails_with(1);
    assert_eq!(pair.near.drops(DropReason::TooBig), 0, "its own interface refuses it");
    // In fragments they pass.
    for address in B {
        let _ = pair.near.exec("a", &["ping", "-c", "1", "-s", "4000", address]).ok();
    }
    // A link that carries more, as that of a virtual machine may, while nobody is there to put it right.
    let device = pair.near.device("a");
    pair.near.kill();
    shell(&pair.near.port("a"), "ip link set eth0 mtu 1500");
    shell(pair.near.host(), &format!("ip link set {device} mtu 1500"));
    for address in B {
        let told = pair.near.exec("a", &["python3", "-c", DATAGRAM, address, "1440"]).ok().stdout;
        assert_eq!(told.trim(), "EMSGSIZE 1450", "{address}");
    }
    carries(&pair, 4);
    pair.near.start(&[]);
    assert!(pair.near.drops(DropReason::TooBig) >= 2, "one for each");
}

/// An attacker on a second wire of the near host, who says that he is the far host.
fn attacker(pair: &Pair) -> RawSocket {
    let near = &pair.near;
    near.create_namespace("attacker");
    let name = near.netns_name("attacker");
    shell(
        near.host(),
        &format!("ip link add eth9 type veth peer name eth0 netns {name}; ip link set eth9 up"),
    );
    shell(&near.port("attacker"), "ip link set eth0 up");
    shell(near.host(), "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done");
    RawSocket::open(&near.port("attacker"), "eth0")
}

/// What `attacker` sends to the near host's overlay, from the address of the far one.
fn as_far(pair: &Pair, payload: &[u8]) -> Vec<u8> {
    let to = parse_mac(&pair.near.mac(pair.near.host(), "eth9"));
    let [near, far] = [UNDERLAY[0][0], UNDERLAY[1][0]].map(|text| text.parse().expect("an address"));
    udp4(Eth::new(MacAddr([2, 0, 0, 0, 0, 0x66]), to), (far, 50_000), (near, PORT), payload)
}

/// HAZARDS case 18.
#[test]
fn case_18_nobody_injects_what_b_would_say() {
    let pair = running(0);
    let (near, a) = (&pair.near, pair.near.port("a"));
    let _echo = Echo::serve(&pair.far.port("b"), 7000);
    let mut connection = Connection::from(&a, "10.44.0.11:7000");
    let seen = RawSocket::open(&a, "eth0");
    let valid = encapsulated(VNI, &lie());
    near.assert_counts(DropReason::UnknownPeer, || send_outer(&pair.router(), &valid));
    // From a port, to the host that is its gateway and to the other one.
    for to in ["10.44.0.1", UNDERLAY[0][0], UNDERLAY[1][0], "10.44.0.2"] {
        near.assert_counts(DropReason::OverlayFromPort, || {
            a.enter(|| {
                let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
                socket.send_to(&valid, (to, PORT)).expect("send");
            });
        });
    }
    let attacker = attacker(&pair);
    near.assert_counts(DropReason::WrongUnderlay, || attacker.send(&as_far(&pair, &valid)));
    // The right peer on the right device may speak for its own only.
    for (src, mac, reason) in [
        ([10, 44, 0, 10], MacAddr([2, 0, 0, 0, 0, 0x66]), DropReason::SpoofedAddress),
        ([10, 44, 0, 1], MacAddr([2, 0, 0, 0, 0, 0x66]), DropReason::SpoofedAddress),
        ([10, 44, 0, 11], MacAddr([2, 0, 0, 0, 0, 0x66]), DropReason::SpoofedMac),
        ([10, 44, 0, 66], MAC_A, DropReason::SpoofedMac),
    ] {
        let frame = udp4(Eth::new(mac, MAC_A), (src.into(), 9), ([10, 44, 0, 10].into(), 9), b"lie");
        near.assert_counts(reason, || send_outer(pair.far.host(), &encapsulated(VNI, &frame)));
    }
    assert!(!seen.pending().any(|frame| frame.ends_with(b"lie") && frame[6..12] != MAC_A.0));
    connection.echo(ANSWER).expect("an established connection");
}

#[test]
fn what_comes_from_strangers_or_for_nobody_is_dropped_and_not_for_the_hosts_stack() {
    let pair = running(0);
    let (near, attacker) = (&pair.near, attacker(&pair));
    let stack = RawSocket::in_place_of_stack(near.host(), "vnet-vxlan", 0x800);
    for (reason, from, vni) in [
        (DropReason::UnknownPeer, &pair.router(), VNI),
        (DropReason::UnknownVni, pair.far.host(), 77),
        (DropReason::UnknownVni, &pair.router(), 77),
    ] {
        near.assert_counts(reason, || send_outer(from, &encapsulated(vni, &lie())));
    }
    let to = parse_mac(&near.mac(near.host(), "vnet-vxlan"));
    let eth = Eth::new(MacAddr([2, 0, 0, 0, 0, 0x66]), to);
    let frame = || udp4(eth, ([10, 44, 0, 66].into(), 9), ([10, 44, 0, 1].into(), 9), b"lie");
    // The kernel's stack would take a priority tag off.
    for tags in [
        vec![],
        vec![(0x8100, 0)],
        vec![(0x8100, 3 << 13)],
        vec![(0x8100, 99)],
        vec![(0x88a8, 0), (0x8100, 0)],
    ] {
        let tagged = vnet_tests::frames::tagged(frame(), &tags);
        near.assert_counts(DropReason::WrongUnderlay, || {
            attacker.send(&as_far(&pair, &encapsulated(VNI, &tagged)));
        });
    }
    assert_eq!(stack.pending().count(), 0);
}

#[test]
fn an_overlay_outlives_its_daemons_and_leaves_nothing_behind() {
    let mut pair = Pair::across_a_router(&over(0));
    let before = [&pair.near, &pair.far].map(World::snapshot);
    pair = pair.started();
    let (a, b) = (pair.near.port("a"), pair.far.port("b"));
    let crowds = B.map(|address| Crowd::open(&a, &b, at(address, 7100).parse().expect("an address"), 30));
    pair.near.kill();
    pair.far.kill();
    assert_reach_each_other((&a, A), (&b, B));
    pair::start([&mut pair.near, &mut pair.far]);
    for report in crowds.map(Crowd::finish) {
        assert!(report.lost.is_empty(), "{}", report.lost.join("\n"));
        assert!(report.longest_gap < Duration::from_secs(2), "{:?}", report.longest_gap);
    }
    for (world, before) in [&mut pair.near, &mut pair.far].into_iter().zip(before) {
        let objects = world.kernel_objects();
        assert!(world.stop().success());
        let _ = world.teardown().ok();
        before.assert_same(&world.snapshot());
        objects.assert_gone();
    }
}

/// Three hosts, of which the near one does not know that there is b, which has IPv4 alone and has said nothing yet.
fn three_hosts() -> [World; 3] {
    let policy = over(0);
    let without_b = |text: String| {
        let (before, after) = (text.find("[ports.b]").expect("b"), text.find("[ports.web]").expect("web"));
        text[..before].to_owned() + &text[after..]
    };
    let mut hosts = [0, 1, 2].map(|index| {
        let text = choose(&policy, index);
        World::prepare(&if index == 1 { text.replace(r#", "fd00:44::b""#, "") } else { without_b(text) })
    });
    pair::join(&hosts.each_ref());
    let [near, far, third] = &mut hosts;
    pair::start([&mut *far, third]);
    // With IPv6, b's stack would speak of its own accord (RFC 4861 section 6.3.7), and the near host learn where it is.
    shell(&far.port("b"), "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1");
    pair::start([near]);
    hosts
}

#[test]
fn who_is_not_known_is_looked_for_at_all_peers_and_then_spoken_to_at_his_own() {
    let [near, far, third] = three_hosts();
    let router = near.port("router");
    // A question for it would be answered, and the answer would tell where it is.
    let neighbour = format!("ip neigh replace 10.44.0.11 lladdr {MAC_B} dev eth0 nud permanent");
    shell(&near.port("a"), &neighbour);
    let to_b = |packet: &Packet| is_outer(packet) && inner(packet)[..6] == MAC_B.0;
    let watch = || ["h1", "h2"].map(|device| Watch::start(&router, device, to_b));
    let first = watch();
    assert_eq!(ping("10.44.0.11").run(&near.port("a"), ANSWER), Outcome::Answered);
    let [at_far, at_third] = first.map(|watch| watch.finish().picked.len());
    assert!(at_far > 0 && at_third > 0, "{at_far} to the one who has it, {at_third} to the other");
    assert!(third.drops(DropReason::UnknownStation) > 0, "who does not have it drops it");
    let next = watch();
    let _echo = Echo::serve(&far.port("b"), 7000);
    for probe in [ping("10.44.0.11"), tcp("10.44.0.11:7000"), udp("10.44.0.11:7000")] {
        assert_eq!(probe.run(&near.port("a"), ANSWER), Outcome::Answered, "{probe:?}");
    }
    let [at_far, at_third] = next.map(|watch| watch.finish().picked.len());
    assert!(at_far > 3 && at_third == 0, "{at_far} to the one who has it, {at_third} to the other");
    everybody_hears_once([&near, &far, &third]);
}

/// What is for everybody goes to each peer once.
fn everybody_hears_once([near, far, third]: [&World; 3]) {
    let group = |frame: &Vec<u8>| frame.ends_with(b"everybody");
    let stacks = [far, third].map(|world| RawSocket::in_place_of_stack(world.host(), "vnet-wide", 0x800));
    let at_b = RawSocket::open(&far.port("b"), "eth0");
    let [src, dst] = [[10, 44, 0, 10], [239, 1, 2, 3]].map(std::net::Ipv4Addr::from);
    let eth = Eth::new(MAC_A, MacAddr([1, 0, 0x5e, 1, 2, 3]));
    let wire = RawSocket::open(&near.port("a"), "eth0");
    wire.send(&udp4(eth, (src, 9), (dst, 9), b"everybody"));
    at_b.receive("multicast", |frame| frame.ends_with(b"everybody"));
    for stack in stacks {
        stack.receive("multicast", |frame| frame.ends_with(b"everybody"));
        assert_eq!(stack.pending().filter(group).count(), 0, "once");
    }
    assert_eq!(at_b.pending().filter(group).count(), 0, "once");
}
