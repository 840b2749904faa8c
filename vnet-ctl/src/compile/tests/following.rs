//! A compiler that follows a policy makes the same tables as one that begins anew, and changes little.

use std::{collections::BTreeMap, sync::Arc};

use vnet_common::{GATE_EGRESS_ACL, GATE_INGRESS_ACL, GroupSet, Identity, limits};

use super::{
    World, devices, policy,
    random::{Pieces, Random},
    translation::disturb,
};
use crate::compile::{Compiler, Difference, Tables, assign, compile};

const GATES: GroupSet = GATE_INGRESS_ACL | GATE_EGRESS_ACL;

/// Asserts that two tables differ in the numbers of identities and group sets at most.
#[track_caller]
fn assert_alike(found: &Tables, expected: &Tables) {
    let mut identities = Renaming::default();
    let mut sets = Renaming::default();
    assert!(found.peers.keys().eq(expected.peers.keys()), "prefixes");
    found.peers.values().zip(expected.peers.values()).for_each(|(a, b)| identities.add(*a, *b));
    assert!(found.endpoints.keys().eq(expected.endpoints.keys()), "addresses");
    for (a, b) in found.endpoints.values().zip(expected.endpoints.values()) {
        identities.add(a.identity, b.identity);
        sets.add(a.group_set & !GATES, b.group_set & !GATES);
        assert_eq!((a.device, a.mac, a.group_set & GATES), (b.device, b.mac, b.group_set & GATES));
        assert_eq!((a.is_gateway(), a.delivery()), (b.is_gateway(), b.delivery()));
    }
    assert!(found.ports.keys().eq(expected.ports.keys()), "ports");
    for (a, b) in found.ports.values().zip(expected.ports.values()) {
        sets.add(a.group_set & !GATES, b.group_set & !GATES);
        assert_eq!((a.network, a.mac, a.gateway_mac), (b.network, b.mac, b.gateway_mac));
    }
    assert_eq!((&found.networks, &found.joins), (&expected.networks, &expected.joins));
    assert_eq!((&found.uplinks, &found.exits), (&expected.uplinks, &expected.exits));
    assert_eq!((&found.elastic_ips, &found.forwards), (&expected.elastic_ips, &expected.forwards));
    let renamed = found.policy.iter().map(|(key, entry)| {
        let (set, identity) = (sets.of(key.set()), identities.of(key.identity().0));
        (key.renumbered(set, Identity(identity)), *entry)
    });
    assert_eq!(renamed.collect::<BTreeMap<_, _>>(), expected.policy);
}

/// Which number stands for which, both ways.
#[derive(Debug, Default)]
struct Renaming(BTreeMap<u32, u32>, BTreeMap<u32, u32>);

impl Renaming {
    fn add(&mut self, from: u32, to: u32) {
        assert_eq!((*self.0.entry(from).or_insert(to), *self.1.entry(to).or_insert(from)), (to, from));
    }

    /// Numbers that nobody has are fixed ones.
    fn of(&self, number: u32) -> u32 {
        self.0.get(&number).copied().unwrap_or(number)
    }
}

#[test]
fn following_a_policy_makes_the_same_tables_as_beginning_anew() {
    let mut random = Random(3);
    let mut pieces = Pieces::new(&mut random);
    let mut compiler = Compiler::default();
    let mut settled = Tables::default();
    for round in 0..300 {
        if random.below(4) > 0 {
            pieces.change(&mut random);
        }
        let mut fresh = World::new(&pieces.text());
        disturb(&mut fresh.policy, &mut fresh.devices, &mut random);
        fresh.tables = compile(&fresh.policy, &fresh.assigned, &fresh.devices).unwrap();
        compiler.update(&fresh.policy, &fresh.assigned, &fresh.devices).unwrap();
        assert_alike(compiler.tables(), &fresh.tables);

        let difference = compiler.difference();
        assert_eq!(difference, Difference::between(&settled, compiler.tables()), "round {round}");
        if random.below(3) > 0 {
            difference.apply(&mut settled);
            assert_eq!(settled, **compiler.tables());
            compiler.settle();
        }
        if random.below(10) == 0 {
            compiler = Compiler::resume(Arc::new(settled.clone()));
        }
    }
}

#[test]
fn a_restart_numbers_everything_as_before() {
    let mut random = Random(4);
    let mut pieces = Pieces::new(&mut random);
    let mut compiler = Compiler::default();
    for _ in 0..100 {
        pieces.change(&mut random);
        let World { policy, assigned, devices, .. } = World::new(&pieces.text());
        compiler.update(&policy, &assigned, &devices).unwrap();
        compiler.settle();
        let mut resumed = Compiler::resume(Arc::clone(compiler.tables()));
        resumed.update(&policy, &assigned, &devices).unwrap();
        assert!(resumed.difference().is_empty(), "{:#?}", resumed.difference());
    }
}

#[test]
fn differences_add_up_and_can_be_taken_back() {
    let mut random = Random(5);
    let mut pieces = Pieces::new(&mut random);
    let mut compiler = Compiler::default();
    let (mut sum, mut first) = (Difference::default(), None);
    for _ in 0..50 {
        pieces.change(&mut random);
        let World { policy, assigned, devices, .. } = World::new(&pieces.text());
        compiler.update(&policy, &assigned, &devices).unwrap();
        let first = first.get_or_insert_with(|| Tables::clone(compiler.tables()));
        if !sum.is_empty() || **compiler.tables() != *first {
            sum.extend(compiler.difference());
        }
        compiler.settle();
        let mut tables = first.clone();
        sum.apply(&mut tables);
        assert_eq!(tables, **compiler.tables());
        sum.clone().reversed().apply(&mut tables);
        assert_eq!(tables, *first);
    }
}

/// A thousand groups of one rule each for a port of its own, whose prefixes lie in one another.
fn large() -> String {
    let mut text =
        String::from("version = 1\n[networks.n]\ntype = \"nat\"\nsubnets = [\"192.168.0.0/16\"]\n");
    for group in 0..1000 {
        let net = format!("10.{}.{}.0/{}", group / 256, group % 256, 24);
        text += &format!(
            "[security_groups.g{group}]\ningress = [{{ protocol = \"tcp\", ports = [{}], from = [\"{net}\"] }}]\n\
             [ports.p{group}]\nnetwork = \"n\"\nattach = {{ netns = \"p{group}\" }}\nsecurity_groups = [\"g{group}\"]\n",
            group + 1
        );
    }
    text
}

/// What changes when `from` becomes `to` in the large policy.
fn change(from: &str, to: &str) -> Difference {
    let text = large();
    let world = World::new(&text);
    let mut compiler = Compiler::resume(Arc::new(world.tables));
    compiler.update(&world.policy, &world.assigned, &world.devices).unwrap();
    compiler.settle();
    let changed = World::new(&text.replacen(from, to, 1));
    compiler.update(&changed.policy, &changed.assigned, &changed.devices).unwrap();
    assert_alike(compiler.tables(), &changed.tables);
    compiler.difference()
}

#[test]
fn a_change_of_one_rule_touches_only_its_difference() {
    // One block goes, another comes; the head stays.
    assert_eq!(change("ports = [1]", "ports = [2]").len(), 2);
    // Another prefix: itself, a head and a block for it, and the other block, whose rule has a new id.
    assert_eq!(change("\"10.0.0.0/24\"", "\"10.0.0.0/24\", \"9.9.9.9\"").len(), 4);
    // A prefix around 256 others: the same, and a head and a block for 255 more.
    assert_eq!(change("\"10.0.0.0/24\"", "\"10.0.0.0/24\", \"10.0.0.0/16\"").len(), 4 + 2 * 255);
    // A group with another: a number for the set, its rules, and who it is.
    let groups = change("[\"g7\"]", "[\"g7\", \"g8\"]");
    assert!(groups.len() < 20, "{groups:#?}");
    // An acl where there was none: two entries, and the gate of each port and each of its two addresses.
    let acl = "version = 1\n[[acl]]\naction = \"deny\"\ndirection = \"egress\"\nprotocol = \"udp\"\nto = [\"9.9.9.9\"]\n";
    assert_eq!(change("version = 1\n", acl).len(), 1 + 2 + 3 * 1000);
}

#[test]
fn a_policy_that_does_not_fit_leaves_the_tables_as_they_were() {
    let world = World::new(&large());
    let mut compiler = Compiler::default();
    compiler.update(&world.policy, &world.assigned, &world.devices).unwrap();
    compiler.settle();
    let before = Arc::clone(compiler.tables());
    let ports: Vec<_> = (0..1200).map(|port| (2 * port + 1).to_string()).collect();
    let text = large().replacen(
        "ports = [1], from = [\"10.0.0.0/24\"]",
        &format!("ports = [{}], from = [\"10.0.0.0/8\"]", ports.join(", ")),
        1,
    );
    let large = policy(&text);
    let assigned = assign(&large, &world.assigned).unwrap();

    let error = compiler.update(&large, &assigned, &devices(&large)).unwrap_err();

    assert_eq!(error.limit, limits::POLICY as usize / 2);
    assert!(compile(&large, &assigned, &devices(&large)).is_err());
    assert_eq!(*compiler.tables(), before);
    assert!(compiler.difference().is_empty());
    compiler.update(&world.policy, &world.assigned, &world.devices).unwrap();
    assert!(compiler.difference().is_empty());
}
