//! A policy of very many rules, drawn at random, and what it allows: a linear search through the
//! rules, against which the datapath's answers are held.

use std::{collections::HashSet, fmt::Write as _, net::Ipv4Addr, ops::RangeInclusive};

use crate::random::Random;

/// Rules of one group and ports with that group: the pool has as many of each.
const GROUPS: usize = 20;
/// Distinct prefixes that rules name: well below the 65,536 that fit.
const PREFIXES: u64 = 30_000;
/// The widest range of TCP or UDP ports.
const WIDEST_RANGE: u64 = 500;
/// The ports' own network; a part of the prefixes lies in it, so that some rules concern them.
const NETWORK: Prefix = Prefix { address: u32::from_be_bytes([10, 10, 0, 0]), len: 16 };

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Prefix {
    address: u32,
    len: u32,
}

impl Prefix {
    fn mask(len: u32) -> u32 {
        u32::MAX.checked_shl(32 - len).unwrap_or(0)
    }

    fn new(address: u32, len: u32) -> Self {
        Self { address: address & Self::mask(len), len }
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & Self::mask(self.len) == self.address
    }

    fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from_bits(self.address), self.len)
    }
}

/// Who may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Prefix(Prefix),
    Group(usize),
}

/// An ingress rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rule {
    protocol: &'static str,
    ports: RangeInclusive<u16>,
    from: Peer,
}

/// Groups of random ingress rules, and one port with each.
#[derive(Clone, Debug)]
pub struct RulePool {
    groups: Vec<Vec<Rule>>,
}

/// A packet's question: may the port number `from` open a TCP connection to `port` of the port number `to`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
    /// The TCP port.
    pub port: u16,
}

impl RulePool {
    /// `count` rules over [`RulePool::ports`] groups, none twice in a group: of that vnet would warn.
    #[must_use]
    pub fn random(random: &mut Random, count: usize) -> Self {
        let prefixes: Vec<_> = (0..PREFIXES).map(|_| prefix(random)).collect();
        let mut groups = vec![Vec::new(); GROUPS];
        let mut known = HashSet::new();
        for n in 0..count {
            let mut new = rule(random, &prefixes);
            while !known.insert((n % GROUPS, new.clone())) {
                new = rule(random, &prefixes);
            }
            groups[n % GROUPS].push(new);
        }
        Self { groups }
    }

    /// How many groups, and ports, there are.
    #[must_use]
    pub fn ports(&self) -> usize {
        self.groups.len()
    }

    /// The address of the port number `port`.
    #[must_use]
    pub fn address(port: usize) -> Ipv4Addr {
        // Spread, so that different prefixes hold them.
        Ipv4Addr::from_bits(NETWORK.address + 10 + u32::try_from(port).expect("few ports") * 3001)
    }

    /// The policy: groups `g0`, `g1`, …, and ports `p0`, `p1`, … in namespaces `@p0`, `@p1`, …
    #[must_use]
    pub fn policy(&self) -> String {
        let mut text = format!(
            "version = 1\n\n[networks.web]\ntype = \"private\"\nsubnets = [\"{}\"]\n",
            NETWORK.text()
        );
        for (number, rules) in self.groups.iter().enumerate() {
            let _ = writeln!(text, "\n[security_groups.g{number}]\ningress = [");
            for Rule { protocol, ports, from } in rules {
                let from = match from {
                    Peer::Prefix(prefix) => prefix.text(),
                    Peer::Group(group) => format!("sg:g{group}"),
                };
                let (first, last) = (ports.start(), ports.end());
                let ports = if first == last { first.to_string() } else { format!("\"{first}-{last}\"") };
                let _ = writeln!(
                    text,
                    "  {{ protocol = \"{protocol}\", ports = [{ports}], from = [\"{from}\"] }},"
                );
            }
            text.push_str("]\n");
        }
        for number in 0..self.ports() {
            let address = Self::address(number);
            let _ = write!(
                text,
                "\n[ports.p{number}]\nnetwork = \"web\"\naddresses = [\"{address}\"]\nsecurity_groups = [\"g{number}\"]\n\
                 attach = {{ netns = \"@p{number}\", create = true }}\n"
            );
        }
        text
    }

    /// Whether a rule admits it.
    #[must_use]
    pub fn allows(&self, question: Question) -> bool {
        let sender = Self::address(question.from);
        self.groups[question.to].iter().any(|rule| {
            let peer = match rule.from {
                Peer::Prefix(prefix) => prefix.contains(sender),
                Peer::Group(group) => group == question.from,
            };
            peer && rule.protocol == "tcp" && rule.ports.contains(&question.port)
        })
    }

    /// `count` questions, of which about half are about a port at the edge of some rule.
    #[must_use]
    pub fn questions(&self, random: &mut Random, count: usize) -> Vec<Question> {
        (0..count).map(|_| self.question(random)).collect()
    }

    fn question(&self, random: &mut Random) -> Question {
        let mut below = |end: usize| usize::try_from(random.within(0..end as u64)).expect("an index");
        let (from, to) = (below(self.ports()), below(self.ports()));
        let to = if from == to { (to + 1) % self.ports() } else { to };
        let sender = Self::address(from);
        let concerned: Vec<_> = self.groups[to]
            .iter()
            .filter(|rule| match rule.from {
                Peer::Prefix(prefix) => prefix.contains(sender),
                Peer::Group(group) => group == from,
            })
            .collect();
        let edge = below(4);
        let port = match concerned.get(below(concerned.len().max(1))) {
            Some(rule) if edge == 0 => *rule.ports.start(),
            Some(rule) if edge == 1 => *rule.ports.end(),
            Some(rule) if edge == 2 => rule.ports.end().saturating_add(1),
            _ => u16::try_from(below(65_535) + 1).expect("a port"),
        };
        Question { from, to, port }
    }
}

/// Mostly networks and hosts, and now and then something wide; every fiftieth in the ports' own network.
fn prefix(random: &mut Random) -> Prefix {
    let len = match random.within(0..100) {
        0 => random.within(12..16),
        1..20 => random.within(16..24),
        20..70 => 24,
        _ => random.within(25..33),
    };
    let len = u32::try_from(len).expect("at most 32");
    let bits = random.number() as u32;
    // Few and narrow: a rule takes an entry for each prefix inside its own.
    if random.within(0..50) == 0 {
        let port = random.within(0..GROUPS as u64 * 2) as usize;
        let address =
            if port < GROUPS { RulePool::address(port).to_bits() } else { NETWORK.address | (bits & 0xffff) };
        return Prefix::new(address, len.max(20));
    }
    // From 11.0.0.0 to 126.255.255.255: none is private, loopback or multicast.
    Prefix::new((bits % (116 << 24)) + (11 << 24), len)
}

fn rule(random: &mut Random, prefixes: &[Prefix]) -> Rule {
    let first = random.within(1..65_000);
    let width = if random.within(0..4) == 0 { random.within(1..WIDEST_RANGE) } else { 0 };
    let port = |number: u64| u16::try_from(number).expect("a port");
    let index = |end: usize, random: &mut Random| random.within(0..end as u64) as usize;
    let from = match random.within(0..10) {
        0 => Peer::Group(index(GROUPS, random)),
        _ => Peer::Prefix(prefixes[index(prefixes.len(), random)]),
    };
    let protocol = if random.within(0..4) == 0 { "udp" } else { "tcp" };
    Rule { protocol, ports: port(first)..=port(first + width), from }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_its_rules_and_answers_for_them() {
        let pool = RulePool::random(&mut Random::seeded(1), 2000);
        assert_eq!(pool.policy().matches("protocol = ").count(), 2000);
        let questions = pool.questions(&mut Random::seeded(2), 200);
        let allowed = questions.iter().filter(|question| pool.allows(**question)).count();
        assert!((10..190).contains(&allowed), "{allowed} of 200");
    }

    #[test]
    fn a_prefix_contains_what_begins_as_it_does() {
        let prefix = Prefix::new(u32::from_be_bytes([10, 10, 3, 7]), 24);
        assert_eq!(prefix.text(), "10.10.3.0/24");
        assert!(prefix.contains([10, 10, 3, 255].into()) && !prefix.contains([10, 10, 4, 0].into()));
        assert!(Prefix::new(0, 0).contains([1, 2, 3, 4].into()));
    }
}
