//! Rules as entries of the datapath's policy table.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::{GroupSet, Identity, OnChange, PolicyEntry, PolicyKey, RuleId, limits};

use super::{
    identity::{Atom, Identities},
    ports::blocks_of,
    tables::TooLarge,
};
use crate::policy::{Peer, Policy, Rule};

/// Entries that fit one of the two sides.
const MAX_ENTRIES: usize = limits::POLICY as usize / 2;

/// The distinct combinations of groups that ports have, and the number of each.
#[derive(Debug, Default)]
pub(super) struct GroupSets<'p> {
    numbers: BTreeMap<BTreeSet<&'p str>, GroupSet>,
}

impl<'p> GroupSets<'p> {
    /// Numbers the combinations of `policy` from 1, in an order that depends on nothing else.
    pub(super) fn of(policy: &'p Policy) -> Self {
        let distinct: BTreeSet<_> = policy.ports.values().map(|port| as_set(&port.security_groups)).collect();
        Self { numbers: distinct.into_iter().zip(1..).collect() }
    }

    /// The number of a port's groups.
    pub(super) fn number(&self, groups: &[String]) -> GroupSet {
        self.numbers.get(&as_set(groups)).copied().unwrap_or(0)
    }

    /// Each combination's rules.
    pub(super) fn rules<'a>(&'a self, policy: &'p Policy) -> impl Iterator<Item = (GroupSet, &'p Rule)> + 'a {
        self.numbers.iter().flat_map(move |(groups, &number)| {
            let groups = groups.iter().filter_map(|group| policy.security_groups.get(*group));
            let rules = groups.flat_map(|group| group.ingress.iter().chain(&group.egress));
            rules.map(move |rule| (number, rule))
        })
    }
}

fn as_set(groups: &[String]) -> BTreeSet<&str> {
    groups.iter().map(String::as_str).collect()
}

/// Heads and blocks of all rules in use.
///
/// # Errors
/// When there are more than the map holds.
pub(super) fn expand(
    policy: &Policy,
    sets: &GroupSets<'_>,
    identities: &Identities<'_>,
) -> Result<BTreeMap<PolicyKey, PolicyEntry>, TooLarge> {
    let mut entries: BTreeMap<PolicyKey, u32> = BTreeMap::new();
    for (set, rule) in sets.rules(policy) {
        let blocks = blocks_of(rule);
        let lengths = blocks.iter().fold(0, |lengths, block| lengths | 1 << block.len);
        for identity in peers_of(policy, rule, identities) {
            let head = PolicyKey::head(0, set, rule.direction, Identity(identity), rule.protocol.0);
            *entries.entry(head).or_insert(0) |= lengths;
            for block in &blocks {
                let winner: &mut RuleId = entries.entry(head.block(block.base, block.len)).or_insert(rule.id);
                // Which of two equal rules is told must not depend on the order of groups.
                *winner = rule.id.min(*winner);
            }
            if entries.len() > MAX_ENTRIES {
                return Err(TooLarge {
                    what: "entries of compiled rules",
                    needed: entries.len(),
                    limit: MAX_ENTRIES,
                    help: "use fewer port ranges, or peers that stand for fewer combinations of groups",
                });
            }
        }
    }
    let entry = |(key, word): (PolicyKey, u32)| {
        let entry =
            if key.is_head() { PolicyEntry::head(word) } else { PolicyEntry::group(word, OnChange::Cut) };
        (key, entry)
    };
    Ok(entries.into_iter().map(entry).collect())
}

/// All identities that are a peer of `rule`.
fn peers_of(policy: &Policy, rule: &Rule, identities: &Identities<'_>) -> BTreeSet<u32> {
    let mut peers = BTreeSet::new();
    let any = |is_ipv4: bool| if is_ipv4 { Identity::ANY_V4.0 } else { Identity::ANY_V6.0 };
    for peer in &rule.peers {
        match peer {
            Peer::Any => {
                peers.extend([true, false].into_iter().filter(|v4| rule.protocol.fits(*v4)).map(any))
            }
            Peer::Group(name) => peers.extend(identities.holders(&Atom::Group(name))),
            Peer::Network(name) => peers.extend(identities.holders(&Atom::Network(name))),
            Peer::Cidr(_) | Peer::List(_) => {
                for net in policy.prefixes(peer) {
                    let is_ipv4 = net.addr().is_ipv4();
                    if !rule.protocol.fits(is_ipv4) {
                        continue;
                    }
                    if net.prefix_len() == 0 {
                        peers.insert(any(is_ipv4));
                    } else {
                        peers.extend(identities.holders(&Atom::Prefix(*net)));
                    }
                }
            }
        }
    }
    peers
}
