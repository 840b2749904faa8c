//! What of networks lies beyond this host, and ports that other hosts look after or that are in several networks.

mod members;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use vnet_common::{
    Delivery, Direction, ElasticIp, Endpoint, Forward, ForwardKey, ForwardKind, Ip, JOIN_OUTSIDE, Link,
    LinkFlags, LinkKey, MacAddr, NetworkFlags, PortFlags, PortRecord, Station, V4, limits, link,
};

use super::{World, addr, assign, devices, policy, random::Random};
use crate::{
    compile::{
        Assigned, Compiler, Devices, ExitPlace, Party, Question, SegmentDevice, Source, Tables, UplinkDevice,
        compile, exit_addresses, explain,
    },
    policy::{Attach, NetworkKind, Policy, Protocol, Segment},
};

/// In the order of names: bridges have the indexes 10 to 13, ports 1000 to 1004.
const TEXT: &str = r#"version = 1
[networks.blue]
type = "private"
subnets = ["10.1.0.0/24"]
[networks.lan]
type = "private"
subnets = ["192.0.2.0/24", "2001:db8::/64"]
[networks.red]
type = "nat"
subnets = ["10.2.0.0/24", "fd02::/64"]
[networks.web]
type = "nat"
subnets = ["10.3.0.0/24"]
[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["sg:web"] }]
[ports.a]
network = "web"
attach = { netns = "a" }
security_groups = ["web"]
[ports.far]
network = "web"
addresses = ["10.3.0.77"]
attach = { netns = "far" }
security_groups = ["web"]
[ports.guest]
network = "lan"
attach = { netns = "guest" }
[ports.trunk]
network = "web"
attach = { netns = "trunk" }
security_groups = ["web"]
[ports.vm]
network = "red"
attach = { netns = "vm" }
"#;
const BLUE: u32 = 10;
const LAN: u32 = 11;
const RED: u32 = 12;
const WEB: u32 = 13;
const TRUNK: u32 = 1003;
const DEVICE: u32 = 4;
const MAC: MacAddr = MacAddr([2, 0xaa, 0, 0, 0, 1]);

fn lan(vlan: &[u16], priority: Option<u8>) -> Option<Segment> {
    Some(Segment::Lan { trunk: "eth1".to_owned(), vlan: vlan.to_vec(), priority })
}

fn overlay(vni: u32, peers: &[&str]) -> Option<Segment> {
    Some(Segment::Overlay { vni, peers: peers.iter().map(|peer| addr(peer)).collect(), uplink: None })
}

fn bridged(policy: &mut Policy) {
    let lan_network = policy.networks.get_mut("lan").unwrap();
    (lan_network.kind, lan_network.segment) = (NetworkKind::Bridged, lan(&[], None));
}

/// Each network with a segment has it by the same device.
fn with_segments(policy: &Policy) -> Devices {
    let mut devices = devices(policy);
    let device = SegmentDevice { ifindex: DEVICE, mac: MAC, mtu: 1500 };
    let beyond = policy.networks.iter().filter(|(_, network)| network.segment.is_some());
    devices.segments = beyond.map(|(name, _)| (name.clone(), device)).collect();
    devices
}

/// The policy, changed by `change`, compiled.
fn world(change: impl FnOnce(&mut Policy)) -> World {
    let mut policy = policy(TEXT);
    change(&mut policy);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    let devices = with_segments(&policy);
    let tables = compile(&policy, &assigned, &devices).unwrap();
    World { policy, assigned, devices, tables }
}

/// The segment of one network alone.
fn segment(policy: &mut Policy, network: &str, segment: Option<Segment>) {
    policy.networks.get_mut(network).unwrap().segment = segment;
}

impl World {
    fn endpoint(&self, network: u32, of: &str) -> Option<Endpoint> {
        self.tables.endpoints.get(&(network, addr(of))).copied()
    }

    fn station(&self, network: u32, port: &str) -> Option<Station> {
        self.tables.stations.get(&(network, self.policy.ports[port].mac)).copied()
    }

    fn flags(&self, network: u32) -> NetworkFlags {
        self.tables.networks[&network].flags
    }
}

#[test]
fn a_vlan_is_a_link_by_which_frames_come_and_go_and_flood() {
    let world = world(|policy| segment(policy, "web", lan(&[10], Some(5))));
    let link = Link {
        number: link::segment(WEB),
        network: WEB,
        device: DEVICE,
        vlan: 5 << 13 | 10,
        mtu: 1500,
        ..Link::default()
    };
    let keys = [LinkKey::arrival(DEVICE, 10), LinkKey::departure(link.number, 0), LinkKey::flood(WEB, 0)];
    assert_eq!(world.tables.links, keys.map(|key| (key, link)).into());
    assert!(world.flags(WEB).has(NetworkFlags::EXTENDS) && !world.flags(RED).has(NetworkFlags::EXTENDS));
    assert!(world.tables.vteps.is_empty());
    assert!(world.tables.ports.values().all(|port| port.flags == PortFlags::NONE));
}

#[test]
fn two_tags_are_the_service_one_and_the_one_next_to_the_payload() {
    let world = world(|policy| segment(policy, "web", lan(&[100, 10], None)));
    let link = world.tables.links[&LinkKey::arrival(DEVICE, 100 << 12 | 10)];
    assert_eq!((link.outer, link.vlan), (100, 10));
}

#[test]
fn without_its_device_a_network_has_no_links() {
    let mut world = world(|policy| segment(policy, "web", lan(&[10], None)));
    world.devices.segments.clear();
    let tables = compile(&world.policy, &world.assigned, &world.devices).unwrap();
    assert!(tables.links.is_empty() && tables.networks[&WEB].flags.has(NetworkFlags::EXTENDS));
}

#[test]
fn who_has_a_mac_is_known_where_a_network_extends() {
    let world = world(|policy| segment(policy, "web", lan(&[10], None)));
    let stations: Vec<_> = world.tables.stations.iter().collect();
    assert_eq!(stations.len(), 4, "three ports and the gateway: {stations:?}");
    assert!(stations.iter().all(|((network, _), _)| *network == WEB));
    let peer = Station { device: 1000, delivery: Delivery::Peer as u16, peer: 0 };
    assert_eq!(world.station(WEB, "a"), Some(peer));
    let gateway = Station { device: WEB, delivery: Delivery::Host as u16, peer: 0 };
    assert_eq!(world.tables.stations[&(WEB, world.devices.bridges["web"].mac)], gateway);
}

#[test]
fn what_comes_from_beyond_has_an_address_of_the_network() {
    let world = world(|policy| segment(policy, "web", lan(&[10], None)));
    let net = "10.3.0.0/24".parse::<IpNet>().unwrap();
    assert_eq!(world.tables.joins.get(&(WEB, net)), Some(&WEB));
    assert!(!world.tables.joins.keys().any(|(network, _)| *network == RED));
}

#[test]
fn an_overlay_leads_to_each_of_its_peers() {
    let world = world(|policy| segment(policy, "web", overlay(7, &["203.0.113.9", "203.0.113.2"])));
    let common = Link {
        number: link::segment(WEB),
        network: WEB,
        device: DEVICE,
        vni: 7,
        flags: LinkFlags::OVERLAY,
        mtu: 1500,
        ..Link::default()
    };
    let peer = |number, text| Link { outer: number, remote: Ip::from_std(addr(text)), ..common };
    let (first, second) = (peer(1, "203.0.113.2"), peer(2, "203.0.113.9"));
    let none = Link { device: DEVICE, flags: LinkFlags::OVERLAY, ..Link::default() };
    let expected = [
        (LinkKey::arrival(DEVICE, 7), common),
        (LinkKey::arrival(DEVICE, 0), none),
        (LinkKey::departure(common.number, 1), first),
        (LinkKey::departure(common.number, 2), second),
        (LinkKey::flood(WEB, 0), first),
        (LinkKey::flood(WEB, 1), second),
    ];
    assert_eq!(world.tables.links, expected.into());
    assert_eq!(world.tables.vteps, [((7, addr("203.0.113.2")), 1), ((7, addr("203.0.113.9")), 2)].into());
    assert!(world.tables.ports.values().all(|port| port.flags == PortFlags::NO_OVERLAY), "of any network");
}

#[test]
fn the_programs_encapsulate_for_peers_whom_the_host_reaches_by_the_underlay() {
    const UNDERLAY: u32 = 77;
    let mut policy = policy(TEXT);
    segment(&mut policy, "web", overlay(7, &["203.0.113.2", "203.0.113.9"]));
    let mut devices = with_segments(&policy);
    let source = Source { ifindex: UNDERLAY, address: Ipv4Addr::new(192, 0, 2, 1) };
    devices.sources = [(("web".to_owned(), addr("203.0.113.9")), source)].into();
    let links = compile(&policy, &assign(&policy, &BTreeMap::new()).unwrap(), &devices).unwrap().links;
    let way = |peer| {
        let Link { underlay, local, .. } = links[&LinkKey::departure(link::segment(WEB), peer)];
        (underlay, local)
    };
    assert_eq!(way(1), (0, V4::default()), "the overlays' device does it");
    assert_eq!(way(2), (UNDERLAY, V4::from_octets([192, 0, 2, 1])));
    assert_eq!(links[&LinkKey::encapsulated(UNDERLAY, 7)].number, link::segment(WEB));
}

#[test]
fn more_peers_than_frames_are_copied_to_are_refused_in_words() {
    let most = limits::FLOODS as usize;
    let world = |count: usize| {
        let mut policy = policy(TEXT);
        let peers: Vec<_> = (1..=count).map(|host| format!("203.0.113.{host}")).collect();
        let peers: Vec<_> = peers.iter().map(String::as_str).collect();
        segment(&mut policy, "web", overlay(7, &peers));
        let assigned = assign(&policy, &BTreeMap::new()).unwrap();
        compile(&policy, &assigned, &with_segments(&policy))
    };
    assert!(world(most).is_ok());
    let error = world(most + 1).unwrap_err();
    assert_eq!((error.needed, error.limit), (most + 1, most));
    assert!(error.to_string().contains("fewer peers"), "{error}");
}

#[test]
fn a_remote_port_is_known_beyond_the_segment() {
    let world = world(|policy| {
        segment(policy, "web", overlay(7, &["203.0.113.2", "203.0.113.9"]));
        policy.ports.get_mut("far").unwrap().attach = Attach::Remote { remote: Some(addr("203.0.113.9")) };
        policy.ports.get_mut("trunk").unwrap().attach = Attach::Remote { remote: None };
    });
    let number = link::segment(WEB);
    let far = world.endpoint(WEB, "10.3.0.77").unwrap();
    assert_eq!(
        (far.device, far.delivery(), far.mac),
        (number, Ok(Delivery::Link), world.policy.ports["far"].mac)
    );
    let near = world.endpoint(WEB, "10.3.0.2").unwrap();
    assert_eq!((far.identity, far.group_set), (near.identity, near.group_set), "they have the same groups");
    let link_local = world.policy.ports["far"].mac.link_local().to_std().to_string();
    assert_eq!(world.endpoint(WEB, &link_local).unwrap().device, number);
    let station = Station { device: number, delivery: Delivery::Link as u16, peer: 2 };
    assert_eq!(world.station(WEB, "far"), Some(station));
    assert_eq!(world.station(WEB, "trunk"), Some(Station { peer: 0, ..station }));
    assert_eq!(world.tables.ports.keys().collect::<Vec<_>>(), [&1000, &1002, &1004]);
    assert_eq!(world.assigned["trunk"], Vec::<IpAddr>::new(), "its host gives it an address");
    assert!(world.probe("a", Direction::Ingress, addr("10.3.0.77"), (6, 80)).is_some());
}

#[test]
fn forwards_and_elastic_ips_lead_to_a_remote_port() {
    let text = TEXT
        .replace("attach = { netns = \"far\" }", "attach = { remote = true }")
        .replace("[networks.web]\n", "[networks.web]\nvlan = 10\ntrunk = \"eth1\"\n")
        + r#"
[[forwards]]
listen = "198.51.100.1:8080"
protocol = "tcp"
to = "far:80"
[[forwards]]
listen = "198.51.100.1:8081"
protocol = "tcp"
to = ["a:80", "far:80"]
[elastic_ips]
"198.51.100.9" = { port = "far" }
"#;
    let policy = policy(&text);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    let mut devices = with_segments(&policy);
    devices.ports.remove("far");
    let uplink = UplinkDevice::new(7, MAC, vec![addr("198.51.100.2")], 1500);
    devices.uplinks.insert("web".to_owned(), uplink);
    let tables = compile(&policy, &assigned, &devices).unwrap();

    let to_far = |kind, ports| Forward::to(kind, WEB, Ip::from_std(addr("10.3.0.77")), ports);
    let head = |listen, protocol| ForwardKey::head(0, 0, Ip::from_std(addr(listen)), protocol);
    let block = head("198.51.100.1", 6).block(8080, 16);
    assert_eq!(tables.forwards.get(&block), Some(&to_far(ForwardKind::Forward, (8080, 80))));
    let members = tables.forwards.values().filter(|to| **to == to_far(ForwardKind::Forward, (8081, 80)));
    assert!(members.count() > 1, "a slot, and the member");
    let block = head("198.51.100.9", ForwardKey::ANY_PROTOCOL).block(0, 0);
    assert_eq!(tables.forwards.get(&block), Some(&to_far(ForwardKind::Elastic, (0, 0))));
    let elastic = ElasticIp { addr: Ip::from_std(addr("198.51.100.9")), uplink: 7 };
    assert_eq!(tables.elastic_ips.get(&(WEB, addr("10.3.0.77"))), Some(&elastic));
    assert_eq!(tables.endpoints[&(WEB, addr("10.3.0.77"))].device, link::segment(WEB));
}

#[test]
fn the_host_is_nobody_in_a_bridged_network() {
    let world = world(bridged);
    let record = world.tables.networks[&LAN];
    let flags = NetworkFlags::EXTENDS.and(NetworkFlags::BRIDGED);
    assert_eq!(record.flags, flags);
    assert_eq!((record.gateway4, record.gateway6), (Ip::UNSPECIFIED, Ip::UNSPECIFIED));
    assert_eq!(world.endpoint(LAN, "192.0.2.1"), None, "it is the LAN's router");
    assert!(!world.tables.endpoints.values().any(|endpoint| endpoint.is_gateway() && endpoint.device == LAN));
    let net = "192.0.2.0/24".parse::<IpNet>().unwrap();
    assert!(!world.tables.joins.keys().any(|(_, found)| *found == net), "others reach the LAN outside");
    let link = world.tables.links[&LinkKey::arrival(DEVICE, 0)];
    assert_eq!((link.network, link.vlan, link.flags), (LAN, 0, LinkFlags::SHARED));
    // The host is there by the same device, and by no other MAC.
    let host = Station { device: DEVICE, delivery: Delivery::Host as u16, peer: 0 };
    assert_eq!(world.tables.stations.get(&(LAN, MAC)), Some(&host));
    assert!(!world.tables.stations.contains_key(&(LAN, world.devices.bridges["lan"].mac)));
}

#[test]
fn a_bridged_network_with_a_tag_is_not_shared_with_the_host() {
    let world = world(|policy| {
        bridged(policy);
        segment(policy, "lan", lan(&[10], None));
    });
    assert_eq!(world.tables.links[&LinkKey::arrival(DEVICE, 10)].flags, LinkFlags::NONE);
    assert!(!world.tables.stations.contains_key(&(LAN, MAC)));
}

#[test]
fn addresses_in_a_bridged_network_are_declared_or_learned() {
    let learns = |world: &World| world.record_of("guest").flags.has(PortFlags::LEARNS);
    let mut learning = world(bridged);
    assert_eq!(learning.assigned["guest"], Vec::<IpAddr>::new());
    assert!(learns(&learning) && !learning.record_of("a").flags.has(PortFlags::LEARNS));
    let own = |world: &World| {
        let own = world.tables.endpoints.iter().filter(|(_, endpoint)| endpoint.device == 1002);
        own.map(|((_, addr), _)| addr.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(own(&learning).len(), 1, "the link-local one: {:?}", own(&learning));
    // What was heard of it.
    learning.assigned.insert("guest".to_owned(), vec![addr("192.0.2.44")]);
    learning.tables = compile(&learning.policy, &learning.assigned, &learning.devices).unwrap();
    assert!(own(&learning).contains(&"192.0.2.44".to_owned()));

    let declared = world(|policy| {
        bridged(policy);
        policy.ports.get_mut("guest").unwrap().addresses = vec![addr("192.0.2.9")];
    });
    assert!(!learns(&declared) && own(&declared).contains(&"192.0.2.9".to_owned()));
}

#[test]
fn a_routed_network_leaves_as_it_is_by_its_uplink() {
    let mut world = world(|policy| policy.networks.get_mut("red").unwrap().kind = NetworkKind::Routed);
    let uplink = UplinkDevice::new(DEVICE, MAC, vec![addr("198.51.100.2")], 1450);
    world.devices.uplinks.insert("red".to_owned(), uplink.clone());
    let tables = compile(&world.policy, &world.assigned, &world.devices).unwrap();
    let flags = NetworkFlags::LEADS_OUTSIDE.and(NetworkFlags::JOINED).and(NetworkFlags::ROUTED);
    assert_eq!(tables.networks[&RED].flags, flags);
    for (version, everywhere) in [(4, "0.0.0.0/0"), (6, "::/0")] {
        let exit = tables.exits[&ExitPlace { network: RED, version, slot: 0 }];
        assert_eq!((exit.uplink, exit.slots), (DEVICE, 1), "also where the uplink has no address");
        assert_eq!(tables.joins[&(RED, everywhere.parse().unwrap())], JOIN_OUTSIDE);
    }
    assert!(tables.uplinks.contains_key(&DEVICE));
    assert!(
        tables.forwards.is_empty() && tables.elastic_ips.is_empty(),
        "its gateway is told to nobody outside"
    );
    assert!(exit_addresses(&world.policy.networks["red"], &uplink, true).is_empty());
}

/// What becomes of a packet to TCP port 80: whether it is delivered, or why it makes no sense to ask.
fn ask(world: &World, from: &str, to: &str) -> Result<bool, String> {
    let party = |text: &str| text.parse::<Party>().unwrap();
    let question =
        Question { from: party(from), to: party(to), protocol: Protocol::TCP, port: Some(80), icmp: None };
    let decision = explain(&world.policy, &world.assigned, &question).map_err(|error| error.to_string())?;
    Ok(decision.allowed && decision.obstacle.is_none())
}

#[test]
fn rules_hold_for_ports_that_other_hosts_look_after() {
    let world = world(|policy| {
        segment(policy, "web", overlay(7, &["203.0.113.2"]));
        policy.ports.get_mut("far").unwrap().attach = Attach::Remote { remote: None };
    });
    assert_eq!(ask(&world, "far", "a"), Ok(true));
    assert_eq!(ask(&world, "a", "far"), Ok(true));
    assert_eq!(ask(&world, "10.3.0.99", "a"), Ok(false), "a stranger has no group");
    assert_eq!(ask(&world, "a", "10.3.0.99"), Ok(true), "but may be there");
    assert_eq!(ask(&world, "host", "10.3.0.99"), Ok(true));
    assert_eq!(ask(&world, "vm", "10.3.0.99"), Ok(false), "not for other networks");
}

#[test]
fn a_bridged_network_leads_on_by_its_router() {
    let mut world = world(bridged);
    let words = ask(&world, "guest", "192.0.2.1").unwrap_err();
    assert!(words.contains("`guest` has no address yet"), "{words}");
    world.assigned = Assigned::from([("guest".to_owned(), vec![addr("192.0.2.44")])]);
    world
        .assigned
        .extend(assign(&world.policy, &BTreeMap::new()).unwrap().into_iter().filter(|it| it.0 != "guest"));
    for there in ["192.0.2.1", "192.0.2.200", "198.51.100.1"] {
        assert_eq!(ask(&world, "guest", there), Ok(true), "{there}");
    }
    assert_eq!(ask(&world, "guest", "10.3.0.2"), Ok(false));
    let words = ask(&world, "guest", "host").unwrap_err();
    assert!(words.contains("nobody in network `lan`"), "{words}");
}

#[test]
fn a_routed_network_is_reached_from_outside() {
    let text = TEXT.replace("from = [\"sg:web\"]", "from = [\"any\"]");
    let mut world = World::new(&text);
    assert_eq!(ask(&world, "198.51.100.1", "a"), Ok(false));
    world.policy.networks.get_mut("web").unwrap().kind = NetworkKind::Routed;
    assert_eq!(ask(&world, "198.51.100.1", "a"), Ok(true));
    assert_eq!(ask(&world, "a", "198.51.100.1"), Ok(true));
}

#[test]
fn nothing_is_beyond_a_host_without_segments() {
    let Tables { links, stations, vteps, .. } = world(|_| ()).tables;
    assert!(links.is_empty() && stations.is_empty() && vteps.is_empty());
}
