//! The addresses of workloads on a LAN, where the LAN gives them: by DHCP, by what they configure themselves, by router
//! advertisements. vnet learns them, binds the workload to them, and lets nobody take what is another's.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, World,
    dhcp::{Client, Kind, Lease, Message, Server, Terms, discovery},
    eventually,
    frames::{
        ArpKind, Disguise, Eth, MacAddr, arp, dhcp_offer, neighbour_advertisement, neighbour_solicitation,
        prefix_advertisement, router_advertisement, udp4,
    },
    raw::RawSocket,
    traffic::{ANSWER, Echo, Outcome, SILENCE, ping, tcp},
    world::shell,
};

const POLICY: &str = r#"
version = 1

[networks.lan]
type = "bridged"
uplink = "eth0"

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "icmp", from = ["any"] },
  { protocol = "icmpv6", from = ["any"] },
  { protocol = "udp", ports = [7], from = ["sg:web"] },
]

[ports.a]
network = "lan"
mac = "02:00:00:00:00:0a"
security_groups = ["web"]
attach = { netns = "@a", create = true }

[ports.b]
network = "lan"
mac = "02:00:00:00:00:0b"
security_groups = ["web"]
attach = { netns = "@b", create = true }
"#;

const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const NO_MAC: MacAddr = MacAddr([0; 6]);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
const STATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
const A_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long it takes at most until an address that a workload has just configured works.
const SOON: Duration = Duration::from_secs(4);

/// The LAN's server: it has a hundred addresses.
fn serve(world: &World) -> Server {
    let terms = Terms { server: ROUTER, first: Ipv4Addr::new(198, 51, 100, 100), count: 100, secs: 600 };
    Server::serve(&world.router(), "eth0", terms)
}

fn learned(world: &World, port: &str) -> Vec<IpAddr> {
    let row = world.port_row(port);
    let listed = row["learned"].as_array().map(Vec::as_slice).unwrap_or_default();
    listed.iter().map(|addr| addr.as_str().expect("an address").parse().expect("an address")).collect()
}

fn wait_until_learned(world: &World, port: &str, addr: impl Into<IpAddr>) {
    let addr = addr.into();
    eventually(&format!("{port} to be known by {addr}"), || {
        learned(world, port).contains(&addr).then_some(())
    });
}

/// `port` has a lease that vnet knows, and a default route.
fn obtain(world: &World, port: &str) -> (Client, Lease) {
    let client = Client::on(&world.port(port), "eth0");
    let lease = client.obtain();
    wait_until_learned(world, port, lease.addr);
    (client, lease)
}

/// The groups of a hold for `addr`, and a can be nobody else.
fn assert_bound(world: &World, addr: Ipv4Addr) {
    let _servers = [80, 81].map(|port| Echo::serve(&world.port("a"), port));
    for from in [world.station(), world.outside(), world.port("b")] {
        assert_eq!(tcp(&format!("{addr}:80")).run(&from, ANSWER), Outcome::Answered, "{from:?}");
    }
    assert_eq!(tcp(&format!("{addr}:81")).run(&world.station(), SILENCE), Outcome::Silence);
    world.assert_reaches("a", ping(&STATION.to_string()));
    world.assert_reaches("a", ping("203.0.113.5"));
    let mac = world.station().mac("eth0");
    let stranger = (Ipv4Addr::new(198, 51, 100, 66), 9);
    let wire = RawSocket::open(&world.station(), "eth0");
    let raw = RawSocket::open(&world.port("a"), "eth0");
    world.assert_counts(DropReason::SpoofedAddress, || {
        raw.send(&udp4(Eth::new(MAC_A, mac), stranger, (STATION, 9), b"a lie"));
    });
    raw.send(&udp4(Eth::new(MAC_A, mac), (addr, 9), (STATION, 9), b"the truth"));
    let said = |frame: &[u8], text: &[u8]| frame.windows(text.len()).any(|bytes| bytes == text);
    let frame = wire.receive("a's word", |frame| said(frame, b"a lie") || said(frame, b"the truth"));
    assert!(said(&frame, b"the truth"));
}

#[test]
fn a_lease_of_the_lans_server_is_the_ports_address_until_it_is_given_back() {
    let mut world = World::running_with_lan(POLICY);
    let server = serve(&world);
    let (_, _) = obtain(&world, "b");
    let (client, lease) = obtain(&world, "a");
    assert_eq!(server.lease_of(MAC_A), Some(lease.addr));
    assert_bound(&world, lease.addr);

    client.renew(lease);
    assert_bound(&world, lease.addr);
    for end in [World::stop, World::kill] {
        end(&mut world);
        client.renew(lease);
        world.start(&[]);
        assert!(learned(&world, "a").contains(&lease.addr.into()));
        assert_bound(&world, lease.addr);
    }

    client.release(lease);
    eventually("the lease to be forgotten", || {
        (!learned(&world, "a").contains(&lease.addr.into())).then_some(())
    });
    assert_eq!(server.lease_of(MAC_A), None);
    assert_eq!(tcp(&format!("{}:80", lease.addr)).run(&world.port("b"), SILENCE), Outcome::Silence);
}

#[test]
fn a_client_that_is_answered_by_broadcasts_is_known_too() {
    let world = World::running_with_lan(POLICY);
    let _server = serve(&world);
    obtain(&world, "b");
    let client = Client::on(&world.port("a"), "eth0").answered_by_broadcasts();
    let lease = client.obtain();
    wait_until_learned(&world, "a", lease.addr);
    assert_bound(&world, lease.addr);
}

#[test]
fn an_address_that_a_workload_configures_itself_works_within_moments() {
    let world = World::running_with_lan(POLICY);
    let _echo = Echo::serve(&world.station(), 80);
    shell(&world.port("a"), "ip addr add 198.51.100.60/24 dev eth0; ip route add default via 198.51.100.254");
    let begun = Instant::now();
    world.assert_reaches("a", tcp("198.51.100.77:80"));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    wait_until_learned(&world, "a", Ipv4Addr::new(198, 51, 100, 60));
    shell(&world.port("b"), "ip addr add 198.51.100.61/24 dev eth0; ip route add default via 198.51.100.254");
    world.assert_reaches("b", tcp("198.51.100.77:80"));
    assert_bound(&world, Ipv4Addr::new(198, 51, 100, 60));
}

#[test]
fn ipv6_addresses_are_known_by_the_check_for_duplicates() {
    let world = World::running_with_lan(POLICY);
    let (a, station) = (world.port("a"), world.station());
    shell(&a, "ip addr add 2001:db8:100::60/64 dev eth0");
    wait_until_learned(&world, "a", "2001:db8:100::60".parse::<Ipv6Addr>().unwrap());
    eventually("the end of the check", || {
        let tentative = a.exec(&["ip", "-6", "-oneline", "address", "show", "tentative"]).ok().stdout;
        tentative.trim().is_empty().then_some(())
    });
    let _echoes = [&a, &station].map(|place| Echo::serve(place, 80));
    world.assert_reaches("a", tcp("[2001:db8:100::77]:80"));
    assert_eq!(tcp("[2001:db8:100::60]:80").run(&station, ANSWER), Outcome::Answered);

    // The LAN's router tells of another prefix, and of itself.
    let (mac, router) = (world.router().mac("eth0"), world.router());
    shell(&router, "ip addr add 2001:db8:101::fe/64 dev eth0 nodad");
    let wire = RawSocket::open(&router, "eth0");
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0x101, 0, 0, 0, 0, 0);
    let local = link_local(mac);
    wire.send(&prefix_advertisement(Eth::multicast(mac, ALL_NODES), (local, ALL_NODES), prefix));
    let own = Ipv6Addr::new(0x2001, 0xdb8, 0x101, 0, 0, 0xff, 0xfe00, 0xa);
    wait_until_learned(&world, "a", own);
    let routes = a.exec(&["ip", "-6", "route", "show", "default"]).ok().stdout;
    assert!(routes.contains(&local.to_string()), "{routes}");
    shell(&world.outside(), "ip -6 route replace default via 2001:db8:5::fe");
    world.assert_reaches("a", ping("2001:db8:5::5"));
    assert_eq!(tcp(&format!("[{own}]:80")).run(&world.outside(), ANSWER), Outcome::Answered);
}

/// The link-local address that a host derives from `mac`.
fn link_local(mac: MacAddr) -> Ipv6Addr {
    mac.link_local().to_string().parse().expect("an address")
}

#[test]
fn nobody_takes_an_address_that_is_the_hosts_the_routers_or_another_ports() {
    let world = World::running_with_lan(POLICY);
    let _server = serve(&world);
    let (_, b) = obtain(&world, "b");
    obtain(&world, "a");
    let raw = RawSocket::open(&world.port("a"), "eth0");
    let wire = RawSocket::open(&world.station(), "eth0");
    let before = learned(&world, "a");
    for victim in [HOST, ROUTER, b.addr] {
        let everybody = Eth::broadcast(MAC_A);
        let mac = world.station().mac("eth0");
        for frame in [
            arp(everybody, ArpKind::Request, (MAC_A, victim), (NO_MAC, victim)),
            arp(everybody, ArpKind::Reply, (MAC_A, victim), (MAC_A, victim)),
            arp(Eth::new(MAC_A, mac), ArpKind::Reply, (MAC_A, victim), (mac, STATION)),
        ] {
            world.assert_counts(DropReason::SpoofedArp, || raw.send(&frame));
        }
        world.assert_counts(DropReason::SpoofedAddress, || {
            raw.send(&udp4(Eth::new(MAC_A, mac), (victim, 9), (STATION, 9), b"a lie"));
        });
    }
    for victim in ["2001:db8:100::1", "2001:db8:100::fe"] {
        let victim: Ipv6Addr = victim.parse().unwrap();
        let everybody = Eth::multicast(MAC_A, ALL_NODES);
        world.assert_counts(DropReason::SpoofedNeighbour, || {
            raw.send(&neighbour_advertisement(everybody, (A_LOCAL, ALL_NODES), victim, MAC_A));
        });
    }
    // A claim that is true comes after all lies, and is the only one that anybody has heard.
    let own = Ipv4Addr::new(198, 51, 100, 62);
    eventually("the true claim to be known", || {
        raw.send(&arp(Eth::broadcast(MAC_A), ArpKind::Request, (MAC_A, own), (NO_MAC, STATION)));
        learned(&world, "a").contains(&own.into()).then_some(())
    });
    let mut expected = before;
    expected.push(own.into());
    assert_eq!(learned(&world, "a"), expected);
    let is_of_a = |frame: &[u8]| frame[6..12] == MAC_A.0;
    // ARP from a: the sender's address is at bytes 28 to 31.
    let lies = wire.pending().filter(|frame| {
        let is_arp = frame[12..14] == [8, 6];
        is_of_a(frame)
            && is_arp
            && [HOST, ROUTER, b.addr].iter().any(|victim| frame[28..32] == victim.octets())
    });
    assert_eq!(lies.count(), 0);
    // And the host, the router and b are where they were.
    for addr in [HOST, ROUTER, b.addr] {
        assert_eq!(ping(&addr.to_string()).run(&world.station(), ANSWER), Outcome::Answered, "{addr}");
    }
}

#[test]
fn a_port_is_neither_router_nor_dhcp_server_on_the_lan() {
    let world = World::running_with_lan(POLICY);
    let raw = RawSocket::open(&world.port("a"), "eth0");
    let wire = RawSocket::open(&world.station(), "eth0");
    let eth = Eth::multicast(MAC_A, ALL_NODES);
    for (disguise, reason) in [
        (Disguise::Plain, DropReason::RouterAdvertisement),
        (Disguise::DestinationOptions, DropReason::RouterAdvertisement),
        (Disguise::AtomicFragment, DropReason::Fragment),
        (Disguise::VlanZero, DropReason::VlanTag),
    ] {
        world.assert_counts(reason, || {
            raw.send(&router_advertisement(eth, (A_LOCAL, ALL_NODES), disguise));
        });
    }
    world.assert_counts(DropReason::DhcpServer, || {
        let offered = Ipv4Addr::new(198, 51, 100, 66);
        raw.send(&dhcp_offer(Eth::broadcast(MAC_A), ROUTER, offered));
    });
    let forged = Message {
        your_addr: Ipv4Addr::new(198, 51, 100, 67),
        server: Some(ROUTER),
        secs: Some(600),
        ..Message::of(Kind::Ack, MAC_B)
    };
    let to_b = Eth::new(MAC_A, MAC_B);
    world.assert_counts(DropReason::DhcpServer, || {
        raw.send(&udp4(to_b, (ROUTER, 67), (Ipv4Addr::BROADCAST, 68), &forged.bytes()));
    });
    // What a says after them arrives, and nothing of them did.
    raw.send(&neighbour_solicitation(eth, (A_LOCAL, ALL_NODES), "2001:db8:100::77".parse().unwrap(), MAC_A));
    let target = "2001:db8:100::77".parse::<Ipv6Addr>().unwrap().octets();
    let is_question = |frame: &[u8]| frame[54] == 135 && frame[62..78] == target;
    // IPv4, and the type of ICMPv6 with and without an extension header in front.
    let is_lie = |frame: &[u8]| frame[12..14] == [8, 0] || frame[54] == 134 || frame[62] == 134;
    let frame = wire.receive("a's question", |frame| {
        let is_arp = frame[12..14] == [8, 6];
        frame[6..12] == MAC_A.0 && !is_arp && frame.len() >= 78 && (is_lie(frame) || is_question(frame))
    });
    assert!(is_question(&frame), "not a question but {frame:02x?}");
    assert_eq!(learned(&world, "b"), Vec::<IpAddr>::new());
}

#[test]
fn one_port_gets_one_lease_however_many_clients_it_pretends_to_be() {
    let world = World::running_with_lan(POLICY);
    let server = serve(&world);
    let raw = RawSocket::open(&world.port("a"), "eth0");
    for number in 0..10_000_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        raw.send(&discovery(MAC_A, MacAddr([2, 0, 0, 1, high, low])));
    }
    let (_, lease) = obtain(&world, "b");
    assert_eq!(server.lease_of(MAC_B), Some(lease.addr));
    assert!(server.leases() <= 2, "{} leases", server.leases());
    obtain(&world, "a");
}

#[test]
fn a_flood_of_macs_is_dropped_and_disturbs_nobody() {
    let world = World::running_with_lan(POLICY);
    let _server = serve(&world);
    let (_, b) = obtain(&world, "b");
    let (_, a) = obtain(&world, "a");
    let station: Namespace = world.station();
    let raw = RawSocket::open(&world.port("a"), "eth0");
    let before = world.port_drops("a", DropReason::SpoofedMac);
    for number in 0..10_000_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let mac = MacAddr([2, 0, 0, 2, high, low]);
        raw.send(&udp4(Eth::broadcast(mac), (a.addr, 9), (Ipv4Addr::BROADCAST, 9), b"flood"));
    }
    eventually("all of them to be dropped", || {
        (world.port_drops("a", DropReason::SpoofedMac) >= before + 10_000).then_some(())
    });
    let _echoes = [world.port("a"), world.port("b")].map(|port| Echo::serve(&port, 80));
    for addr in [a.addr, b.addr] {
        assert_eq!(tcp(&format!("{addr}:80")).run(&station, ANSWER), Outcome::Answered, "{addr}");
    }
    let entries = world.port("switch").exec(&["bridge", "fdb", "show", "br", "lan"]).ok().stdout;
    assert!(!entries.contains("02:00:00:02:"), "{entries}");
    let entries = world.host_exec(&["bridge", "fdb", "show"]).ok().stdout;
    assert!(!entries.contains("02:00:00:02:"), "{entries}");
}
