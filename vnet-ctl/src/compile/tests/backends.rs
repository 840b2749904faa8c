//! Forwards to several workloads: slots, members, and what a change of them costs.

use std::{collections::BTreeMap, net::IpAddr};

use vnet_common::{Forward as Entry, ForwardKey, ForwardKind, Ip};

use super::{addr, assign, devices, policy};
use crate::{
    compile::{Assigned, Compiler, Devices, compile},
    policy::{Affinity, Policy},
};

const TEXT: &str = r#"version = 1
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
[networks.db]
type = "nat"
subnets = ["10.20.0.0/24"]
[ports]
a = { network = "web", addresses = ["10.10.0.5", "fd00:10::5"], attach = { netns = "a" } }
b = { network = "web", addresses = ["10.10.0.6", "fd00:10::6"], attach = { netns = "b" } }
c = { network = "db", addresses = ["10.20.0.7"], attach = { netns = "c" } }
"#;

/// A policy with forwards to lists, and what belongs to it.
struct World {
    policy: Policy,
    assigned: Assigned,
    devices: Devices,
}

impl World {
    /// Each forward is what is listened on, where it leads, and more of its keys.
    fn new(forwards: &[(&str, &str, &str)]) -> Self {
        let forward = |(listen, to, more): &(&str, &str, &str)| {
            format!("[[forwards]]\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nto = {to}\n{more}\n")
        };
        let policy = policy(&format!("{TEXT}{}", forwards.iter().map(forward).collect::<String>()));
        let assigned = assign(&policy, &BTreeMap::new()).unwrap();
        let mut devices = devices(&policy);
        devices.addresses = ["198.51.100.2", "198.51.100.3", "2001:db8::1"].map(addr).into();
        Self { policy, assigned, devices }
    }

    fn forwards(&self) -> BTreeMap<ForwardKey, Entry> {
        compile(&self.policy, &self.assigned, &self.devices).unwrap().forwards
    }
}

/// What stands behind tcp/8080 of `to`.
fn behind(table: &BTreeMap<ForwardKey, Entry>, to: &str) -> Option<Entry> {
    table.get(&ForwardKey::head(0, 0, Ip::from_std(addr(to)), 6).block(8080, 16)).copied()
}

/// Who has the slots of a list: how many of whom, with which port 8080 becomes.
fn owners(table: &BTreeMap<ForwardKey, Entry>, list: Entry) -> BTreeMap<(IpAddr, u16), usize> {
    assert!(list.is(ForwardKind::List));
    let mut owners = BTreeMap::new();
    for slot in 0..list.listen {
        let to = table.get(&ForwardKey::slot(list.network, 0, slot)).expect("a slot");
        assert!(to.is(ForwardKind::Forward));
        *owners.entry((to.target.to_std(), to.translate(8080))).or_default() += 1;
    }
    assert_eq!(table.get(&ForwardKey::slot(list.network, 0, list.listen)), None);
    owners
}

/// Which of `addrs` are members of a list.
fn members<'a>(table: &BTreeMap<ForwardKey, Entry>, list: Entry, addrs: &[&'a str]) -> Vec<&'a str> {
    let is_member =
        |to: &&&str| table.contains_key(&ForwardKey::member(list.network, 0, Ip::from_std(addr(to))));
    addrs.iter().filter(is_member).copied().collect()
}

const ALL: [&str; 3] = ["10.10.0.5", "10.10.0.6", "10.20.0.7"];
const LIST: &str = "[\"a:80\", { port = \"b:81\", weight = 3 }, { port = \"c:82\", weight = 0 }]";

#[test]
fn a_list_has_slots_by_weight_and_all_of_its_backends_as_members() {
    let world = World::new(&[
        ("0.0.0.0:8080", LIST, "affinity = \"client\""),
        ("[::]:8080", "[\"a:80\", \"b:80\"]", ""),
    ]);
    let table = world.forwards();
    let list = behind(&table, "198.51.100.2").unwrap();
    assert!(list.is_by_client());
    let expected = [((addr("10.10.0.5"), 80), 63), ((addr("10.10.0.6"), 81), 188)];
    assert_eq!(owners(&table, list), expected.into());
    assert_eq!(members(&table, list, &ALL), ALL);
    // All that is listened on leads to the same list.
    for to in ["198.51.100.3", "10.10.0.1", "10.20.0.1"] {
        assert_eq!(behind(&table, to), Some(list), "{to}");
    }
    let v6 = behind(&table, "2001:db8::1").unwrap();
    assert!(v6.network != list.network && !v6.is_by_client());
    let expected = [((addr("fd00:10::5"), 80), 126), ((addr("fd00:10::6"), 80), 125)];
    let mut parts: Vec<_> = owners(&table, v6).into_values().collect();
    parts.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(parts, expected.map(|(_, part)| part));
    let network = |name: &str| world.devices.bridges[name].ifindex;
    let of = |to: &str| table[&ForwardKey::member(list.network, 0, Ip::from_std(addr(to)))].network;
    assert_eq!((of("10.10.0.6"), of("10.20.0.7")), (network("web"), network("db")));
}

#[test]
fn a_backend_without_a_device_is_left_out() {
    let mut world = World::new(&[("0.0.0.0:8080", LIST, "")]);
    world.devices.ports.remove("b");
    let table = world.forwards();
    let list = behind(&table, "198.51.100.2").unwrap();
    assert_eq!(owners(&table, list), [((addr("10.10.0.5"), 80), 251)].into());
    assert_eq!(members(&table, list, &ALL), ["10.10.0.5", "10.20.0.7"]);
    world.devices.ports.remove("a");
    let table = world.forwards();
    let list = behind(&table, "198.51.100.2").unwrap();
    assert_eq!((list.listen, members(&table, list, &ALL)), (0, vec!["10.20.0.7"]), "it drains");
    world.devices.ports.remove("c");
    assert!(world.forwards().is_empty());
}

#[test]
fn one_backend_alone_needs_no_list() {
    let mut world = World::new(&[("198.51.100.2:8080", "[\"a:80\", \"b:80\"]", "")]);
    assert_eq!(world.forwards().len(), 2 + 251 + 2);
    world.devices.ports.remove("b");
    let table = world.forwards();
    assert_eq!(table.len(), 2);
    let to = behind(&table, "198.51.100.2").unwrap();
    assert!(to.is(ForwardKind::Forward) && to.target.to_std() == addr("10.10.0.5"));
}

#[test]
fn a_change_of_one_list_touches_only_its_difference() {
    let lists = |first: &'static str| {
        [
            ("198.51.100.2:8080", first, ""),
            ("198.51.100.3:8080", "[\"a:80\", \"b:80\", \"c:80\"]", ""),
            ("198.51.100.3:9090", "[\"c:80\", \"b:80\"]", ""),
        ]
    };
    let before = World::new(&lists("[\"a:80\", \"b:80\"]"));
    let mut compiler = Compiler::default();
    compiler.update(&before.policy, &before.assigned, &before.devices).unwrap();
    compiler.settle();
    // A third of the slots is the new one's, and itself a member; the others keep the rest, but for a few.
    for (to, least, most) in [
        ("[\"b:80\", \"a:80\"]", 0, 0),
        ("[\"a:80\", \"b:80\", \"c:80\"]", 84, 95),
        ("[\"a:80\", { port = \"b:80\", weight = 2 }]", 41, 50),
        ("[\"a:80\", \"b:81\"]", 126, 127),
    ] {
        let after = World::new(&lists(to));
        compiler.update(&after.policy, &after.assigned, &after.devices).unwrap();
        let changed = compiler.difference().len();
        assert!((least..=most).contains(&changed), "{to}: {changed}");
        compiler.update(&before.policy, &before.assigned, &before.devices).unwrap();
        assert!(compiler.difference().is_empty());
    }
    let mut client = World::new(&lists("[\"a:80\", \"b:80\"]"));
    client.policy.forwards[0].affinity = Affinity::Client;
    compiler.update(&client.policy, &client.assigned, &client.devices).unwrap();
    assert_eq!(compiler.difference().len(), 1, "the block that leads to it");
    // Another forward before it, or none any more.
    let fewer = World::new(&lists("[\"a:80\", \"b:80\"]")[1..]);
    compiler.update(&fewer.policy, &fewer.assigned, &fewer.devices).unwrap();
    assert_eq!(compiler.difference().len(), 2 + 251 + 2);
}

#[test]
fn more_lists_than_there_is_room_for_are_refused() {
    let listens: Vec<String> = (1..=300).map(|port| format!("198.51.100.2:{port}")).collect();
    let lists: Vec<_> = listens.iter().map(|listen| (listen.as_str(), "[\"a:80\", \"b:80\"]", "")).collect();
    let world = World::new(&lists);
    let error = compile(&world.policy, &world.assigned, &world.devices).unwrap_err();
    assert!(error.to_string().contains("above all those to several backends"), "{error}");
    let world = World::new(&lists[..250]);
    assert!(compile(&world.policy, &world.assigned, &world.devices).is_ok());
}
