//! Many random policies and packets: the compiled tables and the policy itself must agree on each.

use std::{net::IpAddr, sync::Arc};

use vnet_common::{Direction, GROUP_SET_HOST, Identity, PolicyKey};

use super::{World, addr};
use crate::{
    compile::{
        Compiler, Tables,
        evaluate::{Packet, PeerView, deciding_entry, deciding_rule, failsafe},
    },
    policy::{AclAction, OnChange},
};

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// From one to `most` of `items`, written as a TOML list.
    fn list(&mut self, items: &[&str], most: usize) -> String {
        let count = 1 + self.below(most);
        let items: Vec<_> = (0..count).map(|_| format!("\"{}\"", self.one_of(items))).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Prefixes that nest in one another, hit the addresses below, or both.
const CIDRS: [&str; 18] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.0/29",
    "10.0.0.2/31",
    "10.0.0.3",
    "10.0.1.0/24",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "::/1",
    "8000::/1",
    "fd00::/16",
    "fd00::/64",
    "fd00::3",
    "fe80::/10",
    "2001:db8::/32",
];

const OUTSIDE: [&str; 7] =
    ["192.0.2.1", "192.0.2.200", "198.51.100.1", "10.0.0.200", "2001:db8::1", "fd00::99", "9000::1"];

const RANGES: [&str; 9] =
    ["80", "443", "79-81", "1-65535", "1024-65535", "8000-8010", "8008-8015", "65535", "1-1023"];

const VALUES: [u16; 20] = [
    1, 53, 79, 80, 81, 82, 443, 1023, 1024, 7999, 8000, 8007, 8008, 8010, 8011, 8015, 8016, 49152, 65534,
    65535,
];

/// A policy in pieces, so that some of it can be changed.
pub(super) struct Pieces {
    pieces: Vec<String>,
}

impl Pieces {
    /// A random policy.
    pub(super) fn new(random: &mut Random) -> Self {
        Self { pieces: (0..Self::COUNT).map(|piece| Self::piece(piece, random)).collect() }
    }

    /// The host, a network, two lists, the acl, four groups and six ports.
    const COUNT: usize = 15;

    fn piece(piece: usize, random: &mut Random) -> String {
        match piece {
            0 => match random.below(3) {
                0 => String::new(),
                _ => {
                    format!("[host]\nfailsafe_ports = [{}]\n", random.one_of(&["", "\"tcp/22\", \"udp/53\""]))
                }
            },
            1 => {
                let connect = random.one_of(&["", "connect = [\"n0\"]\n", "host = false\n"]);
                format!(
                    "[networks.n1]\ntype = \"private\"\nsubnets = [\"10.0.1.0/24\", \"fd01::/64\"]\n{connect}"
                )
            }
            2 | 3 => format!("[prefix_lists]\nl{} = {}\n", piece - 2, random.list(&CIDRS, 4)),
            4 => random_acl(random),
            5..=8 => random_group(["g0", "g1", "g2", "default"][piece - 5], random),
            _ => random_port(piece - 9, random),
        }
    }

    /// Changes one to three pieces.
    pub(super) fn change(&mut self, random: &mut Random) {
        for _ in 0..=random.below(3) {
            let piece = random.below(Self::COUNT);
            self.pieces[piece] = Self::piece(piece, random);
        }
    }

    /// The policy as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "version = 1\n[networks.n0]\ntype = \"nat\"\nsubnets = [\"10.0.0.0/24\", \"fd00::/64\"]\n",
        );
        for (index, piece) in self.pieces.iter().enumerate() {
            text += if index == 3 { piece.trim_start_matches("[prefix_lists]\n") } else { piece };
        }
        text
    }
}

fn random_acl(random: &mut Random) -> String {
    let count = if random.below(2) == 0 { 0 } else { 1 + random.below(5) };
    let entry = |random: &mut Random| {
        let (direction, peers) = *random.one_of(&[("ingress", "from"), ("egress", "to")]);
        let action = random.one_of(&["deny", "allow"]);
        let rule = random_rule(random, peers);
        let keys =
            rule.trim_matches(['{', '}', ' ']).replace(", ports", "\nports").replace(", icmp", "\nicmp");
        let keys = keys.replace(&format!(", {peers}"), &format!("\n{peers}"));
        format!("[[acl]]\naction = \"{action}\"\ndirection = \"{direction}\"\n{keys}\n")
    };
    (0..count).map(|_| entry(random)).collect()
}

fn random_group(name: &str, random: &mut Random) -> String {
    // The built-in group is there in half of the policies.
    if name == "default" && random.below(2) == 0 {
        return String::new();
    }
    let mut text = format!("[security_groups.{name}]\ningress = [{}]\n", random_rules(random, "from"));
    if random.below(3) > 0 {
        text += &format!("egress = [{}]\n", random_rules(random, "to"));
    }
    if random.below(2) == 0 {
        text += "on_change = \"keep\"\n";
    }
    text
}

fn random_port(port: usize, random: &mut Random) -> String {
    let network = random.one_of(&["n0", "n0", "n1"]).to_owned();
    let mut text = format!("[ports.p{port}]\nnetwork = \"{network}\"\nattach = {{ device = \"d{port}\" }}\n");
    if random.below(4) > 0 {
        text += &format!("security_groups = {}\n", random.list(&["g0", "g1", "g2", "default"], 3));
    }
    text
}

fn random_rules(random: &mut Random, peers: &str) -> String {
    let rules: Vec<_> = (0..random.below(5)).map(|_| random_rule(random, peers)).collect();
    rules.join(", ")
}

fn random_rule(random: &mut Random, peers: &str) -> String {
    let protocol = *random.one_of(&["tcp", "tcp", "tcp", "udp", "sctp", "icmp", "icmpv6", "any", "47"]);
    let mut rule = format!("protocol = \"{protocol}\"");
    match protocol {
        "tcp" | "udp" | "sctp" if random.below(4) > 0 => {
            rule += &format!(", ports = {}", random.list(&RANGES, 3))
        }
        "icmp" | "icmpv6" if random.below(3) > 0 => {
            rule += &format!(", icmp_type = {}", random.one_of(&[0, 3, 8, 128]));
            if random.below(2) == 0 {
                rule += &format!(", icmp_code = {}", random.below(3));
            }
        }
        _ => {}
    }
    let mut names =
        vec!["any", "sg:g0", "sg:g1", "sg:g2", "sg:default", "net:n0", "net:n1", "list:l0", "list:l1"];
    names.extend(CIDRS);
    format!("{{ {rule}, {peers} = {} }}", random.list(&names, 3))
}

/// Somebody whom a port may talk to, and what rules can know of them.
pub(super) struct Peer<'w> {
    addr: IpAddr,
    groups: &'w [String],
    network: Option<&'w str>,
}

/// Everybody whom the ports of `network` may meet.
fn peers<'w>(world: &'w World, network: &'w str) -> Vec<Peer<'w>> {
    let joined = world.policy.joined(network);
    let mut peers = Vec::new();
    for (name, port) in &world.policy.ports {
        if port.network == network || joined.contains(port.network.as_str()) {
            let link_local = Some(port.mac.link_local().to_std()).filter(|_| port.network == network);
            let own = world.assigned[name].iter().copied().chain(link_local);
            let peer = |addr| Peer { addr, groups: &port.security_groups, network: Some(&port.network) };
            peers.extend(own.map(peer));
        }
    }
    let bridge = world.devices.bridges[network].mac.link_local().to_std();
    let gateways = world.policy.networks[network].subnets.iter().map(|subnet| subnet.gateway).chain([bridge]);
    peers.extend(gateways.map(|addr| Peer { addr, groups: &[], network: Some(network) }));
    peers.extend(OUTSIDE.iter().map(|text| Peer { addr: addr(text), groups: &[], network: None }));
    peers
}

fn random_packet(random: &mut Random, is_ipv4: bool) -> Packet {
    let protocol = *random.one_of(&[6, 6, 6, 17, 132, if is_ipv4 { 1 } else { 58 }, 47]);
    let value = match protocol {
        6 | 17 | 132 => *random.one_of(&VALUES),
        1 | 58 => u16::from_be_bytes([*random.one_of(&[0, 3, 8, 128, 129]), random.below(4) as u8]),
        _ => 0,
    };
    Packet { protocol, value, is_ipv4 }
}

/// How often something was decided.
#[derive(Debug, Default)]
struct Seen {
    allowed: usize,
    denied: usize,
    kept: usize,
    acl: usize,
}

/// Asks both sides about `packets` packets of each port.
fn compare(world: &World, random: &mut Random, packets: usize, seen: &mut Seen) {
    for (name, port) in &world.policy.ports {
        let peers = peers(world, &port.network);
        for _ in 0..packets {
            let peer = random.one_of(&peers);
            let packet = random_packet(random, peer.addr.is_ipv4());
            let direction = *random.one_of(&[Direction::Ingress, Direction::Egress]);
            compare_one(world, (name, direction), peer, packet, seen);
        }
    }
    for (protocol, port) in [(6, 22), (17, 53), (17, 22), (6, 23)] {
        for (any, is_ipv4) in [(Identity::ANY_V4, true), (Identity::ANY_V6, false)] {
            let head = PolicyKey::head(0, GROUP_SET_HOST, Direction::Ingress, any, protocol);
            let sizes = world.tables.policy.get(&head).map_or(0, |head| head.sizes());
            let found = (0..=16).filter(|size| sizes & 1 << size != 0);
            let found = found.filter_map(|size| world.tables.policy.get(&head.block(port, size))).count();
            let packet = Packet { protocol, value: port, is_ipv4 };
            assert_eq!(found == 1, failsafe(&world.policy, packet).is_some(), "failsafe {protocol}/{port}");
        }
    }
}

fn compare_one(
    world: &World,
    (name, direction): (&str, Direction),
    peer: &Peer<'_>,
    packet: Packet,
    seen: &mut Seen,
) {
    let what = || format!("{name} {direction:?} {} {packet:?}\n{:#?}", peer.addr, world.policy);
    let view = PeerView { addr: peer.addr, groups: peer.groups, network: peer.network };
    let groups = &world.policy.ports[name].security_groups;
    let expected = deciding_rule(&world.policy, groups, direction, &view, packet);
    let expected = expected.map(|deciding| (deciding.rule.id, deciding.on_change == OnChange::Keep));
    let found = world.entry(name, direction, peer.addr, (packet.protocol, packet.value));
    assert_eq!(found.map(|entry| (entry.rule(), entry.keeps())), expected, "{}", what());
    *(if found.is_some() { &mut seen.allowed } else { &mut seen.denied }) += 1;
    seen.kept += usize::from(found.is_some_and(|entry| entry.keeps()));

    let expected = deciding_entry(&world.policy, direction, &view, packet)
        .map(|(before, entry)| (before as u32, entry.rule.id, entry.action == AclAction::Deny));
    let found = world.acl_entry(name, direction, peer.addr, (packet.protocol, packet.value));
    let found = found.map(|entry| (entry.position(), entry.rule(), entry.denies()));
    assert_eq!(found, expected, "acl: {}", what());
    seen.acl += usize::from(found.is_some());
}

#[test]
fn tables_and_policy_agree_on_every_packet() {
    let mut random = Random(1);
    let mut seen = Seen::default();
    for _ in 0..400 {
        let world = World::new(&Pieces::new(&mut random).text());
        compare(&world, &mut random, 100, &mut seen);
    }
    let Seen { allowed, denied, kept, acl } = seen;
    assert!(allowed > 40_000 && denied > 40_000 && kept > 10_000 && acl > 10_000, "one-sided: {seen:?}");
}

#[test]
fn tables_that_follow_a_policy_agree_with_it_on_every_packet() {
    let mut random = Random(2);
    let mut seen = Seen::default();
    let mut pieces = Pieces::new(&mut random);
    let mut world = World::new(&pieces.text());
    let mut compiler = Compiler::resume(Arc::new(world.tables));
    for _ in 0..200 {
        pieces.change(&mut random);
        world = World::new(&pieces.text());
        compiler.update(&world.policy, &world.assigned, &world.devices).unwrap();
        compiler.settle();
        world.tables = Tables::clone(compiler.tables());
        compare(&world, &mut random, 30, &mut seen);
    }
    assert!(seen.allowed > 5_000 && seen.acl > 1_000, "one-sided: {seen:?}");
}
