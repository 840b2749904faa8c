//! Many random policies and packets: the compiled tables and the policy itself must agree on each.

use std::net::IpAddr;

use vnet_common::Direction;

use super::{World, addr};
use crate::compile::evaluate::{Packet, PeerView, deciding_rule};

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
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

fn random_policy(random: &mut Random) -> String {
    let mut text = String::from(
        "version = 1\n\
         [networks.n0]\ntype = \"nat\"\nsubnets = [\"10.0.0.0/24\", \"fd00::/64\"]\n\
         [networks.n1]\ntype = \"private\"\nsubnets = [\"10.0.1.0/24\", \"fd01::/64\"]\n[prefix_lists]\n",
    );
    for name in ["l0", "l1"] {
        text += &format!("{name} = {}\n", random.list(&CIDRS, 4));
    }
    for group in ["g0", "g1", "g2", "default"] {
        // The built-in group is there in half of the policies.
        if group == "default" && random.below(2) == 0 {
            continue;
        }
        text += &format!("[security_groups.{group}]\n");
        text += &format!("ingress = [{}]\n", random_rules(random, "from"));
        if random.below(3) > 0 {
            text += &format!("egress = [{}]\n", random_rules(random, "to"));
        }
    }
    for port in 0..6 {
        let network = random.one_of(&["n0", "n0", "n1"]).to_owned();
        text += &format!("[ports.p{port}]\nnetwork = \"{network}\"\nattach = {{ device = \"d{port}\" }}\n");
        if random.below(4) > 0 {
            text += &format!("security_groups = {}\n", random.list(&["g0", "g1", "g2", "default"], 3));
        }
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
struct Peer<'w> {
    addr: IpAddr,
    groups: &'w [String],
    network: Option<&'w str>,
}

/// Everybody whom the ports of `network` may meet.
fn peers<'w>(world: &'w World, network: &'w str) -> Vec<Peer<'w>> {
    let mut peers = Vec::new();
    for (name, port) in world.policy.ports.iter().filter(|(_, port)| port.network == network) {
        let own = world.assigned[name].iter().copied().chain([port.mac.link_local().to_std()]);
        peers.extend(own.map(|addr| Peer { addr, groups: &port.security_groups, network: Some(network) }));
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

#[test]
fn tables_and_policy_agree_on_every_packet() {
    let mut random = Random(1);
    let (mut allowed, mut denied) = (0, 0);
    for round in 0..400 {
        let text = random_policy(&mut random);
        let world = World::new(&text);
        for (name, port) in &world.policy.ports {
            let peers = peers(&world, &port.network);
            for _ in 0..100 {
                let peer = random.one_of(&peers);
                let packet = random_packet(&mut random, peer.addr.is_ipv4());
                let direction = *random.one_of(&[Direction::Ingress, Direction::Egress]);
                let view = PeerView { addr: peer.addr, groups: peer.groups, network: peer.network };
                let expected = deciding_rule(&world.policy, &port.security_groups, direction, &view, packet);
                let expected = expected.map(|(_, rule)| rule.id);
                let found = world.probe(name, direction, peer.addr, (packet.protocol, packet.value));
                assert_eq!(
                    found, expected,
                    "round {round}: {name} {direction:?} {} {packet:?}\n{text}",
                    peer.addr
                );
                *(if found.is_some() { &mut allowed } else { &mut denied }) += 1;
            }
        }
    }
    assert!(allowed > 40_000 && denied > 40_000, "one-sided: {allowed} allowed, {denied} denied");
}
