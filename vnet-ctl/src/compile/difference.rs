//! What differs between two generations of the tables.

use std::{
    collections::{BTreeMap, btree_map},
    mem,
    net::IpAddr,
};

use ipnet::IpNet;
use vnet_common::{
    ElasticIp, Endpoint, Exit, Forward, ForwardKey, Link, LinkKey, MacAddr, NetworkRecord, PolicyEntry,
    PolicyKey, PortRecord, Station, UplinkRecord,
};

use super::{ExitPlace, Tables};

/// One entry of a table is looked up about as fast as so many are walked past.
const MOST_LOOKUPS: usize = 16;

/// What entries that were changed were before; `None` is absent.
pub(super) type Before<K, V> = BTreeMap<K, Option<V>>;

/// The entries of one table that differ.
pub type Changes<K, V> = BTreeMap<K, Change<V>>;

/// What an entry was and is; `None` is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<V> {
    /// What it was.
    pub before: Option<V>,
    /// What it is.
    pub after: Option<V>,
}

impl<V> Change<V> {
    fn reversed(self) -> Self {
        Self { before: self.after, after: self.before }
    }
}

/// What has to be written to get from one generation of the tables to another. Whoever keeps several copies
/// of the tables writes it to each of them; nothing else needs to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ports by their device.
    pub ports: Changes<u32, PortRecord>,
    /// Networks by their bridge.
    pub networks: Changes<u32, NetworkRecord>,
    /// Who has an address in the network of a bridge.
    pub endpoints: Changes<(u32, IpAddr), Endpoint>,
    /// Identities of the prefixes that rules name.
    pub peers: Changes<IpNet, u32>,
    /// Prefixes of joined networks, and their bridges.
    pub joins: Changes<(u32, IpNet), u32>,
    /// Heads and blocks of the rules.
    pub policy: Changes<PolicyKey, PolicyEntry>,
    /// Uplinks by their device.
    pub uplinks: Changes<u32, UplinkRecord>,
    /// The addresses that networks leave with.
    pub exits: Changes<ExitPlace, Exit>,
    /// Elastic IPs by private address in the network of a bridge.
    pub elastic_ips: Changes<(u32, IpAddr), ElasticIp>,
    /// Heads and blocks of forwards.
    pub forwards: Changes<ForwardKey, Forward>,
    /// By which links networks go beyond this host.
    pub links: Changes<LinkKey, Link>,
    /// Who has a MAC in the network of a bridge.
    pub stations: Changes<(u32, MacAddr), Station>,
    /// Peers of overlays.
    pub vteps: Changes<(u32, IpAddr), u32>,
}

impl Difference {
    /// What leads from `old` to `new`, each entry compared.
    #[must_use]
    pub fn between(old: &Tables, new: &Tables) -> Self {
        Self {
            ports: compare(&old.ports, &new.ports),
            networks: compare(&old.networks, &new.networks),
            endpoints: compare(&old.endpoints, &new.endpoints),
            peers: compare(&old.peers, &new.peers),
            joins: compare(&old.joins, &new.joins),
            policy: compare(&old.policy, &new.policy),
            uplinks: compare(&old.uplinks, &new.uplinks),
            exits: compare(&old.exits, &new.exits),
            elastic_ips: compare(&old.elastic_ips, &new.elastic_ips),
            forwards: compare(&old.forwards, &new.forwards),
            links: compare(&old.links, &new.links),
            stations: compare(&old.stations, &new.stations),
            vteps: compare(&old.vteps, &new.vteps),
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.len()
            + self.networks.len()
            + self.endpoints.len()
            + self.peers.len()
            + self.joins.len()
            + self.policy.len()
            + self.uplinks.len()
            + self.exits.len()
            + self.elastic_ips.len()
            + self.forwards.len()
            + self.links.len()
            + self.stations.len()
            + self.vteps.len()
    }

    /// What leads back.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            ports: reversed(self.ports),
            networks: reversed(self.networks),
            endpoints: reversed(self.endpoints),
            peers: reversed(self.peers),
            joins: reversed(self.joins),
            policy: reversed(self.policy),
            uplinks: reversed(self.uplinks),
            exits: reversed(self.exits),
            elastic_ips: reversed(self.elastic_ips),
            forwards: reversed(self.forwards),
            links: reversed(self.links),
            stations: reversed(self.stations),
            vteps: reversed(self.vteps),
        }
    }

    /// This, and then `next`.
    pub fn extend(&mut self, next: Self) {
        extend(&mut self.ports, next.ports);
        extend(&mut self.networks, next.networks);
        extend(&mut self.endpoints, next.endpoints);
        extend(&mut self.peers, next.peers);
        extend(&mut self.joins, next.joins);
        extend(&mut self.policy, next.policy);
        extend(&mut self.uplinks, next.uplinks);
        extend(&mut self.exits, next.exits);
        extend(&mut self.elastic_ips, next.elastic_ips);
        extend(&mut self.forwards, next.forwards);
        extend(&mut self.links, next.links);
        extend(&mut self.stations, next.stations);
        extend(&mut self.vteps, next.vteps);
    }

    /// Brings `tables` from the old generation to the new one.
    pub fn apply(&self, tables: &mut Tables) {
        apply(&self.ports, &mut tables.ports);
        apply(&self.networks, &mut tables.networks);
        apply(&self.endpoints, &mut tables.endpoints);
        apply(&self.peers, &mut tables.peers);
        apply(&self.joins, &mut tables.joins);
        apply(&self.policy, &mut tables.policy);
        apply(&self.uplinks, &mut tables.uplinks);
        apply(&self.exits, &mut tables.exits);
        apply(&self.elastic_ips, &mut tables.elastic_ips);
        apply(&self.forwards, &mut tables.forwards);
        apply(&self.links, &mut tables.links);
        apply(&self.stations, &mut tables.stations);
        apply(&self.vteps, &mut tables.vteps);
    }
}

fn reversed<K: Ord, V>(changes: Changes<K, V>) -> Changes<K, V> {
    changes.into_iter().map(|(key, change)| (key, change.reversed())).collect()
}

fn apply<K: Ord + Copy, V: Copy>(changes: &Changes<K, V>, table: &mut BTreeMap<K, V>) {
    for (key, change) in changes {
        match change.after {
            Some(value) => table.insert(*key, value),
            None => table.remove(key),
        };
    }
}

fn extend<K: Ord, V: PartialEq + Copy>(changes: &mut Changes<K, V>, mut next: Changes<K, V>) {
    // What is less is put into what is more.
    if changes.len() < next.len() {
        mem::swap(changes, &mut next);
        join(changes, next, |later, earlier| Change { before: earlier.before, after: later.after });
    } else {
        join(changes, next, |earlier, later| Change { before: earlier.before, after: later.after });
    }
}

/// Puts `others` into `changes`; `both` makes one change of one of each.
fn join<K: Ord, V: PartialEq + Copy>(
    changes: &mut Changes<K, V>,
    others: Changes<K, V>,
    both: impl Fn(Change<V>, Change<V>) -> Change<V>,
) {
    for (key, other) in others {
        match changes.entry(key) {
            btree_map::Entry::Vacant(entry) => _ = entry.insert(other),
            btree_map::Entry::Occupied(mut entry) => {
                let change = both(*entry.get(), other);
                if change.before == change.after {
                    entry.remove();
                } else {
                    entry.insert(change);
                }
            }
        }
    }
}

/// All entries in which two tables differ: one walk through both.
fn compare<K: Ord + Copy, V: PartialEq + Copy>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Changes<K, V> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes.into_iter().collect(),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let before = old.next_if(|_| order.is_le());
        let after = new.next_if(|_| order.is_ge());
        let Some(key) = before.or(after).map(|(key, _)| *key) else { continue };
        let change =
            Change { before: before.map(|(_, value)| *value), after: after.map(|(_, value)| *value) };
        if change.before != change.after {
            changes.push((key, change));
        }
    }
}

/// Puts `new` in the place of `table`, and records in `before` what entries that differ were.
pub(super) fn replace<K: Ord + Copy, V: PartialEq + Copy>(
    table: &mut BTreeMap<K, V>,
    new: BTreeMap<K, V>,
    before: &mut Before<K, V>,
) {
    let differing = compare(table, &new).into_iter().map(|(key, change)| (key, change.before));
    if before.is_empty() {
        *before = differing.collect();
    } else {
        differing.for_each(|(key, was)| _ = before.entry(key).or_insert(was));
    }
    *table = new;
}

/// The entries of `table` that differ from what they were.
pub(super) fn since<K: Ord + Copy, V: PartialEq + Copy>(
    before: &Before<K, V>,
    table: &BTreeMap<K, V>,
) -> Changes<K, V> {
    // Many are found faster by one walk through both.
    let mut walk = (before.len() > table.len() / MOST_LOOKUPS).then(|| table.iter().peekable());
    let mut find = |key: &K| match &mut walk {
        Some(walk) => {
            while walk.next_if(|(other, _)| *other < key).is_some() {}
            walk.next_if(|(other, _)| *other == key).map(|(_, value)| *value)
        }
        None => table.get(key).copied(),
    };
    let change = |(key, before): (&K, &Option<V>)| {
        let change = Change { before: *before, after: find(key) };
        (change.before != change.after).then_some((*key, change))
    };
    before.iter().filter_map(change).collect()
}
