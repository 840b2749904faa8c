//! Networks with the same addresses: what tells them apart.

use std::{collections::BTreeMap, net::IpAddr};

use vnet_common::{Direction, Endpoint, EndpointKey, ForwardKey, Identity, Ip, NetworkFlags, PolicyKey};

use super::{World, addr, policy};
use crate::{
    compile::{Assigned, Party, Question, Released, assign, assign_rested, explain},
    policy::Protocol,
};

/// The host is in `open`; `closed` has the same subnets, and one of its own. `near` is joined with it.
const TEXT: &str = r#"version = 1
[networks.closed]
type = "nat"
subnets = ["10.10.0.0/24", "10.11.0.0/24", "fd00:10::/64"]
gateway = ["10.10.0.254"]
host = false
[networks.near]
type = "private"
subnets = ["10.20.0.0/24"]
connect = ["closed"]
[networks.open]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["10.10.0.0/24"] },
  { protocol = "tcp", ports = [81], from = ["net:open"] },
  { protocol = "tcp", ports = [82], from = ["sg:web"] },
]
[ports.a]
network = "closed"
addresses = ["10.10.0.5", "10.11.0.5", "fd00:10::5"]
security_groups = ["web"]
attach = { netns = "a" }
[ports.b]
network = "open"
addresses = ["10.10.0.5", "fd00:10::5"]
security_groups = ["web"]
attach = { netns = "b" }
[ports.c]
network = "near"
addresses = ["10.20.0.5"]
attach = { netns = "c" }
[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "a:80"
"#;

impl World {
    fn known(&self, network: &str, abroad: u32, of: &str) -> Option<&Endpoint> {
        let bridge = self.devices.bridges[network].ifindex;
        self.tables.endpoints.get(&(bridge | abroad, addr(of)))
    }

    /// The ports of the group `web` that who has `identity` may reach.
    fn open_to(&self, identity: u32) -> Vec<u16> {
        let set = self.group_set("a");
        let key = PolicyKey::head(0, set, Direction::Ingress, Identity(identity), 6);
        let is_open = |port: &u16| self.tables.policy.contains_key(&key.block(*port, 16));
        (80..=83).filter(is_open).collect()
    }
}

#[test]
fn an_address_is_somebody_else_in_each_network() {
    let world = World::new(TEXT);
    for (network, port) in [("closed", "a"), ("open", "b")] {
        let own = world.known(network, 0, "10.10.0.5").unwrap();
        assert_eq!(own.device, world.devices.ports[port].ifindex);
        let record = world.tables.networks[&world.devices.bridges[network].ifindex];
        assert!(record.flags.has(NetworkFlags::SHARES_ADDRESSES));
    }
    let near = world.tables.networks[&world.devices.bridges["near"].ifindex];
    assert!(!near.flags.has(NetworkFlags::SHARES_ADDRESSES));
}

#[test]
fn prefixes_mean_nothing_between_networks_that_share_addresses() {
    let world = World::new(TEXT);
    let open_to = |network, abroad| {
        world.known(network, abroad, "10.10.0.5").map(|found| world.open_to(found.identity))
    };
    assert_eq!(open_to("closed", 0), Some(vec![80, 82]));
    assert_eq!(open_to("closed", EndpointKey::ABROAD), Some(vec![82]));
    assert_eq!(open_to("open", 0), Some(vec![80, 81, 82]));
    assert_eq!(open_to("open", EndpointKey::ABROAD), Some(vec![81, 82]));
    assert!(world.known("near", EndpointKey::ABROAD, "10.20.0.5").is_none(), "its own tells enough");
    assert!(world.known("open", EndpointKey::ABROAD, "10.10.0.1").is_none(), "the host is no workload");
}

#[test]
fn who_is_apart_from_the_host_is_told_address_by_address() {
    let world = World::new(TEXT);
    let is_apart = |network, of| world.known(network, 0, of).unwrap().is_apart_from_host();
    for of in ["10.10.0.254", "10.10.0.5", "fd00:10::1", "fd00:10::5"] {
        assert!(is_apart("closed", of), "{of}");
    }
    for (network, of) in
        [("closed", "10.11.0.1"), ("closed", "10.11.0.5"), ("open", "10.10.0.1"), ("open", "10.10.0.5")]
    {
        assert!(!is_apart(network, of), "{of}");
    }
    assert!(world.known("closed", 0, "10.10.0.254").unwrap().is_gateway());
}

#[test]
fn a_gateway_that_is_not_the_hosts_listens_for_those_who_know_it() {
    let world = World::new(TEXT);
    let listens = |scope, of: &str| {
        let head = ForwardKey::head(scope, 0, Ip::from_std(addr(of)), 6);
        world.tables.forwards.contains_key(&head)
    };
    for of in ["10.10.0.1", "10.11.0.1", "10.20.0.1"] {
        assert!(listens(0, of), "{of}");
    }
    assert!(!listens(0, "10.10.0.254"), "that may be a workload of `open`");
    let bridge = |network: &str| world.devices.bridges[network].ifindex;
    let known: Vec<_> =
        ["closed", "near", "open"].map(|network| listens(bridge(network), "10.10.0.254")).into();
    assert_eq!(known, [true, true, false]);
}

#[test]
fn each_network_gives_its_own_addresses() {
    let mut text = "version = 1\n".to_owned();
    for n in 1..=3 {
        text += &format!(
            "[networks.n{n}]\ntype = \"nat\"\nsubnets = [\"10.0.0.0/30\"]\nhost = false\n\
             [ports.p{n}]\nnetwork = \"n{n}\"\nattach = {{ netns = \"p{n}\" }}\n"
        );
    }
    let policy = policy(&text);
    let all_have = |assigned: &Assigned| assigned.values().all(|has| *has == [addr("10.0.0.2")]);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    assert!(all_have(&assigned), "{assigned:?}");
    assert_eq!(assign(&policy, &assigned).unwrap(), assigned, "and keeps them");

    let released = |network: Option<&str>| Released {
        address: addr("10.0.0.2"),
        port: "x".to_owned(),
        network: network.map(str::to_owned),
    };
    let wide = super::policy(&text.replace("/30", "/29"));
    let rested = |network| -> Vec<IpAddr> {
        assign_rested(&wide, &Assigned::new(), &[released(network)])
            .unwrap()
            .into_values()
            .flatten()
            .collect()
    };
    assert_eq!(rested(Some("n2")), [addr("10.0.0.2"), addr("10.0.0.3"), addr("10.0.0.2")]);
    assert_eq!(rested(None), [addr("10.0.0.3"); 3], "older files do not tell where it was");
}

#[test]
fn an_address_that_several_have_is_that_of_the_others_network() {
    let world = World::new(TEXT);
    let ask = |from: &str, to: &str, port| {
        let party = |text: &str| text.parse::<Party>().unwrap();
        let question = Question {
            from: party(from),
            to: party(to),
            protocol: Protocol::TCP,
            port: Some(port),
            icmp: None,
        };
        explain(&world.policy, &world.assigned, &question)
    };
    assert!(ask("b", "10.10.0.5", 80).unwrap().delivered, "itself");
    assert!(ask("c", "10.10.0.5", 80).unwrap().obstacle.is_none(), "of the network that is joined");
    assert!(ask("host", "10.10.0.5", 80).unwrap().delivered, "where the host has a route");
    let error = ask("192.0.2.1", "10.10.0.5", 80).unwrap_err().to_string();
    assert!(error.contains("the networks `closed`, `open` all have 10.10.0.5; name the port"), "{error}");

    // A failsafe port is none where the host has no way back.
    assert!(ask("b", "10.10.0.1", 22).unwrap().delivered);
    let refused = ask("a", "10.10.0.254", 22).unwrap();
    assert_eq!(refused.obstacle.unwrap().reason, vnet_common::DropReason::HostExcluded);
}

#[test]
fn a_lan_with_the_same_addresses_is_in_nobodys_way() {
    let lan = r#"[networks.lan]
type = "bridged"
uplink = "eth1"
vlan = 10
subnets = ["10.20.0.0/24"]
[ports.d]
network = "lan"
addresses = ["10.20.0.5"]
attach = { netns = "d" }
"#;
    let world = World::new(&[TEXT, lan].concat());
    let (near, on_lan) =
        (world.known("near", 0, "10.20.0.5").unwrap(), world.known("lan", 0, "10.20.0.5").unwrap());
    assert_ne!(near.device, on_lan.device);
    assert!(!near.is_apart_from_host() && !on_lan.is_apart_from_host(), "the host may be on either");
    assert!(world.known("lan", 0, "10.20.0.1").is_none(), "the router is somebody else");
    assert!(world.known("lan", EndpointKey::ABROAD, "10.20.0.5").is_some());
    let bridge = |network: &str| world.devices.bridges[network].ifindex;
    let leads = |asker| world.tables.joins.get(&(asker, "10.20.0.0/24".parse().unwrap())).copied();
    assert_eq!(leads(0), Some(bridge("near")), "what is the LAN's is outside");
    assert_eq!(leads(bridge("closed")), Some(bridge("near")));
}

#[test]
fn networks_of_a_trunk_port_each_give_it_an_address() {
    let text = r#"version = 1
[networks.a]
type = "nat"
subnets = ["10.0.0.0/29"]
host = false
vlan = 10
trunk = "eth1"
[networks.b]
type = "nat"
subnets = ["10.0.0.0/29"]
host = false
[networks.c]
type = "nat"
subnets = ["10.9.0.0/29"]
[ports.other]
network = "b"
addresses = ["10.0.0.2"]
attach = { netns = "other" }
[ports.t]
network = "c"
vlans = ["a"]
attach = { netns = "t" }
[ports.u]
network = "a"
attach = { netns = "u" }
"#;
    let assigned = assign(&policy(text), &BTreeMap::new()).unwrap();
    assert_eq!(assigned["t"], [addr("10.9.0.2"), addr("10.0.0.2")]);
    assert_eq!(assigned["u"], [addr("10.0.0.3")]);
    assert_eq!(assign(&policy(text), &assigned).unwrap(), assigned, "and they keep them");
}
