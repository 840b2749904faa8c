//! Where networks leave, and what is translated on the way in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vnet_common::{
    Exit, Forward as Entry, ForwardKey, ForwardKind, Ip, JOIN_OUTSIDE, MacAddr, NetworkFlags, UplinkRecord,
    V4, V6,
};

use super::{World, addr, assign, devices, policy, random::Random};
use crate::{
    compile::{Devices, ExitPlace, UplinkDevice, compile},
    policy::{Affinity, Backend, ElasticIp, Forward, Mapping, Metadata, OnChange, Policy, Protocol},
};

const TEXT: &str = r#"version = 1
[networks.db]
type = "private"
subnets = ["10.20.0.0/24"]
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "10.11.0.0/24", "fd00:10::/64"]
[ports.a]
network = "web"
addresses = ["10.11.0.5", "10.10.0.5", "fd00:10::5"]
attach = { netns = "a" }
[ports.b]
network = "db"
addresses = ["10.20.0.5"]
attach = { netns = "b" }
"#;
const UPLINK: u32 = 4;
const MAC: MacAddr = MacAddr([2, 0xaa, 0, 0, 0, 1]);
const TCP: u8 = 6;

/// The network `web` leaves by a device with two IPv4 addresses and none of IPv6, and the host has one more.
fn uplinked(policy: &Policy) -> Devices {
    let mut devices = devices(policy);
    let addresses = vec![addr("198.51.100.2"), addr("198.51.100.3")];
    devices.addresses = addresses.iter().copied().chain([addr("2001:db8::1")]).collect();
    devices.uplinks.insert("web".to_owned(), UplinkDevice::new(UPLINK, MAC, addresses, 1450));
    devices
}

/// The policy, changed by `change`, compiled.
fn world(change: impl FnOnce(&mut Policy, &mut Devices)) -> World {
    let mut policy = policy(TEXT);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    let mut devices = uplinked(&policy);
    change(&mut policy, &mut devices);
    let tables = compile(&policy, &assigned, &devices).unwrap();
    World { policy, assigned, devices, tables }
}

fn forward(listen: &str, ports: (u16, u16), to: (&str, u16)) -> Forward {
    let to = vec![Backend { port: to.0.to_owned(), to_port: to.1, weight: 1 }];
    Forward { listen: addr(listen), ports, protocol: Protocol::TCP, to, affinity: Affinity::Flow }
}

fn elastic(port: &str) -> ElasticIp {
    ElasticIp { port: port.to_owned(), on_change: OnChange::Cut }
}

impl World {
    fn bridge(&self, network: &str) -> u32 {
        self.devices.bridges[network].ifindex
    }

    /// The addresses that a network leaves with for one IP version, by slot.
    fn exits(&self, network: &str, version: u16) -> Vec<(IpAddr, Exit)> {
        let network = self.bridge(network);
        let exits = (0..).map_while(|slot| self.tables.exits.get(&ExitPlace { network, version, slot }));
        exits.map(|exit| (exit.addr.to_std(), *exit)).collect()
    }

    /// What is behind an address, found as the datapath finds it: who, and which port.
    fn behind(&self, scope: u32, to: &str, protocol: u8, port: u16) -> Vec<(IpAddr, u16, Entry)> {
        let head = ForwardKey::head(scope, 0, Ip::from_std(addr(to)), protocol);
        let sizes = self.tables.forwards.get(&head).map_or(0, Entry::sizes);
        let lengths = (0..=16).filter(|length| sizes & 1 << length != 0);
        let found = lengths.filter_map(|length| self.tables.forwards.get(&head.block(port, length)));
        found.map(|entry| (entry.target.to_std(), entry.translate(port), *entry)).collect()
    }

    /// Whether neighbours on the uplink are told who has an address, found as the datapath finds it.
    fn answers_for(&self, of: &str) -> bool {
        let head = ForwardKey::head(0, 0, Ip::from_std(addr(of)), ForwardKey::ANY_PROTOCOL);
        let elastic = |entry: &&Entry| entry.is(ForwardKind::Elastic);
        self.tables.forwards.get(&head.block(0, 0)).filter(elastic).is_some_and(|entry| {
            let own = self.tables.elastic_ips.get(&(entry.network, entry.target.to_std()));
            own.is_some_and(|own| (own.uplink, own.addr.to_std()) == (UPLINK, addr(of)))
        })
    }

    fn forwarded(&self, to: &str, port: u16) -> Option<(IpAddr, u16)> {
        let found = self.behind(0, to, TCP, port);
        assert!(found.len() <= 1, "{found:?}");
        found.first().map(|(target, port, entry)| {
            assert!(entry.is(ForwardKind::Forward));
            (*target, *port)
        })
    }
}

#[test]
fn a_network_leaves_with_the_first_address_of_its_uplink() {
    let world = world(|_, _| ());
    assert_eq!(world.tables.uplinks, [(UPLINK, UplinkRecord::new(MAC, 1450))].into());
    let [(addr_, exit)] = world.exits("web", 4)[..] else { panic!("{:?}", world.tables.exits) };
    assert_eq!(addr_, addr("198.51.100.2"));
    assert_eq!((exit.uplink, exit.slots, exit.first_port, exit.last_port), (UPLINK, 1, 1024, 32767));
    assert!(world.exits("web", 6).is_empty(), "the uplink has no IPv6 address");
    assert!(world.exits("db", 4).is_empty(), "it does not lead outside");
    let record = world.tables.networks[&world.bridge("web")];
    assert!(record.flags.has(NetworkFlags::LEADS_OUTSIDE));
    assert!(!record.flags.has(NetworkFlags::JOINED));
}

#[test]
fn an_uplinks_routers_are_told_with_what_they_do_not_lead_to() {
    let world = world(|_, devices| {
        let uplink = devices.uplinks.get_mut("web").unwrap();
        uplink.gateways = vec![addr("198.51.100.254"), addr("fe80::1:2")];
        uplink.aside = vec!["198.51.100.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()];
    });
    let record = world.tables.uplinks[&UPLINK];
    let v4 = V4::from_octets([198, 51, 100, 254]);
    let v6 = V6::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
    assert_eq!(record, UplinkRecord::new(MAC, 1450).behind(Some(v4), Some(v6)));
    assert_ne!(record, UplinkRecord::new(MAC, 1450), "both are told");
    for net in ["198.51.100.0/24", "2001:db8::/64"] {
        assert_eq!(world.tables.joins.get(&(UPLINK, net.parse().unwrap())), Some(&JOIN_OUTSIDE), "{net}");
    }
}

#[test]
fn a_network_is_known_by_its_first_gateways_and_its_mtu() {
    let world = world(|policy, devices| {
        policy.networks.get_mut("web").unwrap().mtu = 1400;
        devices.uplinks.get_mut("web").unwrap().mtu = 65536;
    });
    let record = |network: &str| world.tables.networks[&world.bridge(network)];
    let web = record("web");
    assert_eq!(
        (web.gateway4, web.gateway6),
        (Ip::from_std(addr("10.10.0.1")), Ip::from_std(addr("fd00:10::1")))
    );
    assert_eq!((web.mtu, record("db").mtu), (1400, 1500));
    assert_eq!(record("db").gateway6, Ip::UNSPECIFIED, "it has no subnet of IPv6");
    assert_eq!(world.tables.uplinks[&UPLINK].mtu, 0, "no packet is as long as that");
}

#[test]
fn a_network_says_whether_it_clamps_and_keeps_its_source_ports() {
    let world = world(|policy, _| {
        policy.networks.get_mut("web").unwrap().mapping = Mapping::EndpointIndependent;
        policy.networks.get_mut("db").unwrap().clamp_mss = true;
    });
    let has = |network: &str| {
        let flags = world.tables.networks[&world.bridge(network)].flags;
        (flags.has(NetworkFlags::CLAMPS_MSS), flags.has(NetworkFlags::ENDPOINT_INDEPENDENT))
    };
    assert_eq!((has("web"), has("db")), ((false, true), (true, false)));
}

#[test]
fn a_network_leaves_with_the_addresses_and_ports_that_it_is_given() {
    let world = world(|policy, _| {
        let web = policy.networks.get_mut("web").unwrap();
        web.snat = ["203.0.113.9", "2001:db8::9", "203.0.113.8"].map(addr).into();
        web.snat_ports = (2000, 2999);
    });
    let (v4, v6) = (world.exits("web", 4), world.exits("web", 6));
    let addresses: Vec<_> = v4.iter().map(|(addr, _)| *addr).collect();
    assert_eq!(addresses, ["203.0.113.9", "203.0.113.8"].map(addr));
    assert!(v4.iter().all(|(_, exit)| (exit.slots, exit.first_port, exit.last_port) == (2, 2000, 2999)));
    assert_eq!((v6.len(), v6[0].0, v6[0].1.slots), (1, addr("2001:db8::9"), 1));
}

#[test]
fn an_address_to_leave_with_that_nobody_has_is_answered_for_and_leads_nowhere() {
    let (own, v4, v6) = ("198.51.100.3", "198.51.100.9", "2001:db8::9");
    let given = |policy: &mut Policy| {
        policy.networks.get_mut("web").unwrap().snat = [own, v4, v6].map(addr).into();
    };
    let world = world(|policy, _| given(policy));
    assert!(!world.answers_for(own), "the host does");
    for homeless in [v4, v6] {
        assert!(world.answers_for(homeless));
        assert!(world.behind(0, homeless, TCP, 80).is_empty());
        assert!(world.behind(0, homeless, ForwardKey::ANY_PROTOCOL, 0).is_empty(), "it stands for nobody");
    }
    let given_to_the_host = self::world(|policy, devices| {
        given(policy);
        devices.addresses.insert(addr(v4));
    });
    assert!(!given_to_the_host.answers_for(v4) && given_to_the_host.answers_for(v6));
}

#[test]
fn a_network_without_uplink_has_no_exit() {
    let world = world(|policy, devices| {
        devices.uplinks.clear();
        policy.elastic_ips.insert(addr("203.0.113.20"), elastic("a"));
    });
    let tables = &world.tables;
    assert!(tables.uplinks.is_empty() && tables.exits.is_empty() && tables.elastic_ips.is_empty());
    assert!(tables.forwards.is_empty());
}

#[test]
fn an_elastic_ip_stands_for_all_addresses_of_its_version_and_leads_to_the_first() {
    let world = world(|policy, _| {
        policy.elastic_ips.insert(addr("203.0.113.20"), elastic("a"));
        policy.elastic_ips.insert(addr("2001:db8::20"), elastic("a"));
        policy.elastic_ips.insert(addr("203.0.113.21"), elastic("b"));
    });
    let bridge = world.bridge("web");
    let found: Vec<_> = world.tables.elastic_ips.iter().map(|(key, it)| (*key, it.addr.to_std())).collect();
    let private = |private: &str, public: &str| ((bridge, addr(private)), addr(public));
    assert_eq!(
        found,
        [
            private("10.10.0.5", "203.0.113.20"),
            private("10.11.0.5", "203.0.113.20"),
            private("fd00:10::5", "2001:db8::20"),
        ]
    );
    assert!(world.tables.elastic_ips.values().all(|it| it.uplink == UPLINK));
    for port in [0, 80, 65535] {
        let found = world.behind(0, "203.0.113.20", ForwardKey::ANY_PROTOCOL, port);
        let [(target, kept, entry)] = found[..] else { panic!("{found:?}") };
        assert_eq!((target, kept, entry.network), (addr("10.11.0.5"), port, bridge));
        assert!(entry.is(ForwardKind::Elastic));
    }
    assert!(world.behind(0, "203.0.113.21", ForwardKey::ANY_PROTOCOL, 80).is_empty(), "no uplink");
}

#[test]
fn an_elastic_ip_that_the_host_has_is_the_hosts() {
    let world = world(|policy, _| {
        policy.elastic_ips.insert(addr("198.51.100.3"), elastic("a"));
    });
    assert!(world.tables.elastic_ips.is_empty() && world.tables.forwards.is_empty());
}

#[test]
fn a_forward_of_one_address_holds_there_alone() {
    let world = world(|policy, _| policy.forwards.push(forward("198.51.100.3", (8080, 8080), ("a", 80))));
    assert_eq!(world.forwarded("198.51.100.3", 8080), Some((addr("10.11.0.5"), 80)));
    assert_eq!(world.tables.forwards.len(), 2, "a head and a block");
    let [(.., entry)] = world.behind(0, "198.51.100.3", TCP, 8080)[..] else { panic!() };
    assert_eq!(entry.network, world.bridge("web"));
    for (to, port) in [("198.51.100.3", 8081), ("198.51.100.2", 8080), ("10.10.0.1", 8080)] {
        assert_eq!(world.forwarded(to, port), None, "{to}:{port}");
    }
}

#[test]
fn a_wildcard_holds_for_every_address_of_the_host_and_every_gateway() {
    let world = world(|policy, _| {
        policy.forwards.push(forward("0.0.0.0", (8080, 8080), ("a", 80)));
        policy.forwards.push(forward("::", (8080, 8080), ("a", 81)));
        policy.forwards.push(forward("0.0.0.0", (90, 90), ("b", 90)));
    });
    for to in ["198.51.100.2", "198.51.100.3", "10.10.0.1", "10.11.0.1", "10.20.0.1"] {
        assert_eq!(world.forwarded(to, 8080), Some((addr("10.11.0.5"), 80)), "{to}");
        assert_eq!(world.forwarded(to, 90), Some((addr("10.20.0.5"), 90)), "{to}");
    }
    for to in ["2001:db8::1", "fd00:10::1"] {
        assert_eq!(world.forwarded(to, 8080), Some((addr("fd00:10::5"), 81)), "{to}");
        assert_eq!(world.forwarded(to, 90), None, "{to}");
    }
    assert_eq!(world.forwarded("127.0.0.1", 8080), None);
}

#[test]
fn loopback_leads_to_ports_for_the_hosts_processes_alone() {
    let world = world(|policy, _| {
        policy.forwards.push(forward("0.0.0.0", (8080, 8081), ("a", 80)));
        policy.forwards.push(forward("::", (8080, 8080), ("a", 81)));
        policy.forwards.push(forward("127.0.0.1", (90, 90), ("b", 91)));
        policy.forwards.push(forward("::1", (90, 90), ("a", 92)));
        policy.forwards.push(forward("198.51.100.3", (70, 70), ("a", 70)));
    });
    for (loopback, port, target) in [
        ("127.0.0.1", 8081, Some(("10.11.0.5", 81))),
        ("::1", 8080, Some(("fd00:10::5", 81))),
        ("127.0.0.1", 90, Some(("10.20.0.5", 91))),
        ("::1", 90, Some(("fd00:10::5", 92))),
        ("127.0.0.1", 70, None),
        ("127.0.0.1", 8082, None),
    ] {
        let found = world.behind(ForwardKey::HOST, loopback, TCP, port);
        let found: Vec<_> = found.into_iter().map(|(to, port, _)| (to, port)).collect();
        assert_eq!(found, Vec::from_iter(target.map(|(to, port)| (addr(to), port))), "{loopback}:{port}");
        assert_eq!(world.forwarded(loopback, port), None, "{loopback}:{port}");
    }
    assert_eq!(world.forwarded("198.51.100.2", 90), None);
}

#[test]
fn a_range_moves_as_a_whole_in_few_blocks() {
    let world = world(|policy, _| policy.forwards.push(forward("198.51.100.2", (5000, 5999), ("a", 80))));
    assert!(world.tables.forwards.len() <= 20, "{}", world.tables.forwards.len());
    for port in 4990..6010 {
        let expected = (5000..=5999).contains(&port).then(|| (addr("10.11.0.5"), 80 + (port - 5000)));
        assert_eq!(world.forwarded("198.51.100.2", port), expected, "{port}");
    }
}

#[test]
fn forwards_of_one_address_share_a_head() {
    let world = world(|policy, _| {
        policy.forwards.push(forward("198.51.100.2", (80, 80), ("a", 80)));
        policy.forwards.push(forward("198.51.100.2", (1024, 2047), ("b", 1024)));
    });
    assert_eq!(world.tables.forwards.len(), 3);
    assert_eq!(world.forwarded("198.51.100.2", 80), Some((addr("10.11.0.5"), 80)));
    assert_eq!(world.forwarded("198.51.100.2", 1500), Some((addr("10.20.0.5"), 1500)));
}

#[test]
fn nothing_leads_to_a_port_without_a_device() {
    let world = world(|policy, devices| {
        policy.forwards.push(forward("198.51.100.2", (80, 80), ("a", 80)));
        policy.elastic_ips.insert(addr("203.0.113.20"), elastic("a"));
        devices.ports.remove("a");
    });
    assert!(world.tables.forwards.is_empty() && world.tables.elastic_ips.is_empty());
}

#[test]
fn metadata_is_a_matter_of_one_network_and_its_gateway() {
    let world = world(|policy, _| {
        for (network, listen) in [("web", "169.254.169.254:80"), ("web", "[fd00:ec2::254]:80")] {
            let (network, listen) = (network.to_owned(), listen.parse().unwrap());
            policy.metadata.push(Metadata { network, listen, to_port: 8775 });
        }
    });
    let bridge = world.bridge("web");
    for (listen, gateway) in [("169.254.169.254", "10.10.0.1"), ("fd00:ec2::254", "fd00:10::1")] {
        let found = world.behind(bridge, listen, TCP, 80);
        let [(target, port, entry)] = found[..] else { panic!("{found:?}") };
        assert_eq!((target, port, entry.network), (addr(gateway), 8775, bridge));
        assert!(entry.is(ForwardKind::Metadata));
        assert!(world.behind(bridge, listen, TCP, 81).is_empty());
        for scope in [0, world.bridge("db")] {
            assert!(world.behind(scope, listen, TCP, 80).is_empty(), "{scope}");
        }
    }
}

#[test]
fn what_is_not_masqueraded_stands_among_the_joins() {
    let world = world(|policy, _| {
        policy.networks.get_mut("web").unwrap().no_snat = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let bridge = world.bridge("web");
    let expected = ((bridge, "10.0.0.0/8".parse().unwrap()), JOIN_OUTSIDE);
    let (of_all, of_networks): (Vec<_>, Vec<_>) =
        world.tables.joins.iter().partition(|((of, _), _)| *of == 0);
    assert_eq!(of_networks, [(&expected.0, &expected.1)]);
    assert!(of_all.contains(&(&(0, "10.10.0.0/24".parse().unwrap()), &bridge)), "{of_all:?}");
    assert_eq!(of_all.len(), 4, "each subnet stands there once: {of_all:?}");
    assert!(world.tables.networks[&bridge].flags.has(NetworkFlags::JOINED));
}

/// Changes what is translated in `policy` and `devices`, at random.
pub(super) fn disturb(policy: &mut Policy, devices: &mut Devices, random: &mut Random) {
    let ports: Vec<String> = policy.ports.keys().cloned().collect();
    let public = |random: &mut Random| addr(&format!("203.0.113.{}", random.below(4)));
    let networks: Vec<String> = policy.networks.keys().cloned().collect();
    for name in &networks {
        if random.below(3) > 0 {
            let addresses = (0..random.below(3)).map(|_| public(random)).collect();
            let ifindex = 2 + random.below(2) as u32;
            devices.uplinks.insert(name.clone(), UplinkDevice::new(ifindex, MAC, addresses, 1500));
        }
    }
    devices.addresses = (0..random.below(3)).map(|_| public(random)).collect::<BTreeSet<_>>();
    for name in networks {
        let Some(network) = policy.networks.get_mut(&name) else { continue };
        network.snat = (0..random.below(2)).map(|_| public(random)).collect();
        network.no_snat = ["10.0.0.0/8".parse().unwrap()].into_iter().take(random.below(2)).collect();
    }
    for port in ports {
        if random.below(2) == 0 {
            policy.elastic_ips.insert(public(random), elastic(&port));
        }
        let listen = ["0.0.0.0", "203.0.113.1", "127.0.0.1"][random.below(3)];
        let first = 1 + random.below(60000) as u16;
        policy.forwards.push(forward(listen, (first, first + random.below(9) as u16), (&port, 80)));
    }
}
