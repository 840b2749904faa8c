//! What stands in the tables.

use std::collections::BTreeMap;

use vnet_common::{Direction, Identity, NetworkFlags, limits};

use super::{World, addr, devices, policy};
use crate::compile::{Assigned, assign, compile};

const TEXT: &str = r#"version = 1
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24"]
[networks.backend]
type = "private"
subnets = ["10.20.0.0/24"]
[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["10.10.0.0/28", "10.0.0.0/8", "sg:web"] }]
[ports.a]
network = "web"
attach = { netns = "a" }
security_groups = ["web"]
[ports.b]
network = "web"
attach = { netns = "b" }
security_groups = ["web", "default"]
[ports.c]
network = "backend"
attach = { netns = "c" }
"#;

#[test]
fn ports_networks_and_endpoints_are_complete() {
    let world = World::new(TEXT);
    let tables = &world.tables;
    let (web, a) = (&world.devices.bridges["web"], &world.devices.ports["a"]);
    let record = &tables.ports[&a.ifindex];
    assert_eq!((record.network, record.gateway_mac), (web.ifindex, web.mac));
    assert_eq!(record.mac, world.policy.ports["a"].mac);
    assert!(tables.networks[&web.ifindex].flags.has(NetworkFlags::LEADS_OUTSIDE));
    let backend = &world.devices.bridges["backend"];
    assert!(!tables.networks[&backend.ifindex].flags.has(NetworkFlags::LEADS_OUTSIDE));
    // Three ports and two gateways, each with one address and a link-local one.
    assert_eq!(tables.endpoints.len(), 10);
    let link_local = record.mac.link_local().to_std();
    let endpoint = &tables.endpoints[&(web.ifindex, link_local)];
    assert_eq!(
        (endpoint.device, endpoint.mac, endpoint.group_set),
        (a.ifindex, record.mac, record.group_set)
    );
    let gateway = &tables.endpoints[&(web.ifindex, addr("10.10.0.1"))];
    assert!(gateway.is_gateway() && gateway.device == web.ifindex && gateway.group_set == 0);
}

#[test]
fn identities_tell_apart_only_what_rules_name() {
    let world = World::new(TEXT);
    let identity = |text: &str| world.identity("web", addr(text));
    // a and b share their group and prefixes; b's other group is named by `default` itself.
    assert_ne!(identity("10.10.0.2"), identity("10.10.0.3"));
    assert_eq!(identity("10.99.0.1"), identity("10.98.0.1"));
    assert_ne!(identity("10.99.0.1"), identity("10.10.0.15"));
    assert_eq!(identity("192.0.2.1"), Identity::UNKNOWN.0);
    assert!(world.tables.peers.values().all(|identity| *identity >= Identity::FIRST.0));
}

#[test]
fn equal_groups_share_a_set_in_any_order() {
    let text = format!(
        "{TEXT}[ports.d]\nnetwork = \"web\"\nattach = {{ netns = \"d\" }}\nsecurity_groups = [\"default\", \"web\"]\n"
    );
    let world = World::new(&text);
    assert_eq!(world.group_set("b"), world.group_set("d"));
    assert_ne!(world.group_set("a"), world.group_set("b"));
    assert!(world.tables.ports.values().all(|port| port.group_set >= 1));
}

#[test]
fn an_ipv6_prefix_never_takes_ipv4_addresses_in() {
    let text = TEXT.replace("\"sg:web\"", "\"::/1\"");
    let world = World::new(&text);
    let passes = |peer: &str| world.probe("a", Direction::Ingress, addr(peer), (6, 80)).is_some();
    assert!(passes("2001:db8::1") && !passes("192.0.2.1"));
}

#[test]
fn all_addresses_of_one_version_are_not_those_of_the_other() {
    let text = TEXT.replace("\"sg:web\"", "\"::/0\"");
    let world = World::new(&text);
    let passes = |peer: &str| world.probe("a", Direction::Ingress, addr(peer), (6, 80)).is_some();
    assert!(passes("2001:db8::1") && !passes("192.0.2.1"));
    assert!(world.tables.peers.keys().all(|net| net.prefix_len() > 0));
}

#[test]
fn what_has_no_device_is_left_out() {
    let policy = policy(TEXT);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    let mut devices = devices(&policy);
    devices.ports.remove("a");
    devices.bridges.remove("backend");
    let tables = compile(&policy, &assigned, &devices).unwrap();
    assert_eq!((tables.ports.len(), tables.networks.len()), (1, 1));
    assert_eq!(tables.endpoints.len(), 4);
}

#[test]
fn the_same_policy_gives_the_same_tables() {
    assert_eq!(World::new(TEXT).tables, World::new(TEXT).tables);
}

#[test]
fn a_policy_beyond_the_maps_is_refused_in_words() {
    // 60 sets of groups, 2200 prefixes, and a head with 8 blocks for each: over a million entries.
    let peers: Vec<_> = (0..2200).map(|n| format!("\"10.{}.{}.0/24\"", 100 + n / 200, n % 200)).collect();
    let ports = "[1, 3, 5, 7, 9, 11, 13, 15]";
    let mut text = TEXT.replace("[80]", ports).replace("\"sg:web\"", &peers.join(", "));
    for port in 0..60 {
        text += &format!(
            "[security_groups.g{port}]\n[ports.p{port}]\nnetwork = \"web\"\nattach = {{ netns = \"p{port}\" }}\n\
             security_groups = [\"web\", \"g{port}\"]\n"
        );
    }
    let policy = policy(&text);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    let error = compile(&policy, &assigned, &devices(&policy)).unwrap_err();
    assert_eq!(error.limit, limits::POLICY as usize / 2);
    assert!(error.to_string().contains("entries of compiled rules"), "{error}");
}

#[test]
fn too_many_prefixes_are_refused_in_words() {
    let limit = limits::PEERS as usize / 2;
    let peers: Vec<_> =
        (0..=limit).map(|n| format!("\"10.{}.{}.{}\"", n >> 16 & 255, n >> 8 & 255, n & 255)).collect();
    let text = format!(
        "version = 1\n[networks.n]\ntype = \"nat\"\nsubnets = [\"192.168.0.0/24\"]\n[prefix_lists]\nmany = [{}]\n\
         [security_groups.default]\ningress = [{{ protocol = \"any\", from = [\"list:many\"] }}]\n\
         [ports.a]\nnetwork = \"n\"\nattach = {{ netns = \"a\" }}\n",
        peers.join(", ")
    );
    let policy = policy(&text);
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    let error = compile(&policy, &assigned, &devices(&policy)).unwrap_err();
    assert_eq!((error.what, error.needed, error.limit), ("prefixes of rules", limit + 1, limit));
}

#[test]
fn a_network_has_no_more_ports_than_a_linux_bridge() {
    let of = |ports: usize| {
        let network = "version = 1\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.0.0.0/16\"]\n";
        let port =
            |number| format!("[ports.p{number}]\nnetwork = \"web\"\nattach = {{ device = \"t{number}\" }}\n");
        let text = (0..ports).map(port).fold(network.to_owned(), |text, port| text + &port);
        let policy = policy(&text);
        let assigned = assign(&policy, &Assigned::default()).unwrap();
        compile(&policy, &assigned, &devices(&policy)).map(|_| ())
    };
    assert_eq!(of(1023), Ok(()));
    let error = of(1024).unwrap_err().to_string();
    assert!(error.contains("1024 ports in one network") && error.contains("divide the network"), "{error}");
}
