//! Puts a policy's tables in force, whole: the side that no packet reads is brought to hold them, then one
//! word is written that makes it the side in force.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use vnet_common::{Control, Side, side_of};

use super::{
    names, sys,
    tables::{Endpoints, Layout, Networks, Peers, Policy, Ports, Table, take_map},
};
use crate::compile::Tables;

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The generation in force afterwards.
    pub generation: u32,
    /// Whether it is a new one; when every table held already, it is not.
    pub flipped: bool,
    /// Ports, networks, addresses, prefixes and compiled rules, against what was in force before.
    pub changes: Changes,
}

/// Entries that differ, by table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Records of ports.
    pub ports: Count,
    /// Records of networks.
    pub networks: Count,
    /// Who has an address.
    pub endpoints: Count,
    /// Prefixes that rules name.
    pub peers: Count,
    /// Compiled rules.
    pub policy: Count,
}

/// Entries added or changed, and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Added, or given another value.
    pub put: usize,
    /// Removed.
    pub removed: usize,
}

impl Changes {
    /// Between two sets of tables.
    #[must_use]
    pub fn between(old: &Tables, new: &Tables) -> Self {
        Self {
            ports: count::<Ports>(old, new),
            networks: count::<Networks>(old, new),
            endpoints: count::<Endpoints>(old, new),
            peers: count::<Peers>(old, new),
            policy: count::<Policy>(old, new),
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The changes in words, one sentence for each table that differs.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let tables = [
            (self.ports, Ports::WHAT),
            (self.networks, Networks::WHAT),
            (self.endpoints, Endpoints::WHAT),
            (self.peers, Peers::WHAT),
            (self.policy, Policy::WHAT),
        ];
        let differing = tables.into_iter().filter(|(count, _)| *count != Count::default());
        differing
            .map(|(Count { put, removed }, what)| format!("{what}: {put} put in force, {removed} removed"))
            .collect()
    }
}

fn count<L: Layout>(old: &Tables, new: &Tables) -> Count {
    let (old, new) = (L::of(old), L::of(new));
    Count { put: to_put(old, new).count(), removed: to_remove(old, new).count() }
}

fn to_remove<'a, K: Ord, V>(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> impl Iterator<Item = &'a K> {
    old.keys().filter(|key| !new.contains_key(key))
}

fn to_put<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    new.iter().filter(|(key, value)| old.get(key) != Some(value))
}

/// Every map that a commit writes, and what it is known to hold.
pub(super) struct Commits {
    control: Array<MapData, Control>,
    generation: u32,
    /// What each side holds; unknown after a write that failed and could not be undone.
    held: [Option<Tables>; 2],
    maps: Maps,
}

impl Commits {
    /// Takes the maps out of `object` and reads what they hold.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        let control: Array<MapData, Control> = take_map(object, names::CONTROL)?;
        let generation = control.get(&0, 0).context("read the generation in force")?.generation;
        let maps = Maps::take(object)?;
        let held = maps.read()?.map(Some);
        Ok(Self { control, generation, held, maps })
    }

    /// The generation in force.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// What is in force.
    pub(super) fn in_force(&mut self) -> Result<&Tables> {
        self.hold(side_of(self.generation))
    }

    /// Puts `tables` in force; on failure, what was in force stays so.
    pub(super) fn commit(&mut self, tables: &Tables) -> Result<Committed> {
        check_sizes(tables)?;
        let changes = Changes::between(self.in_force()?, tables);
        if changes.is_empty() && self.generation != 0 {
            return Ok(Committed { generation: self.generation, flipped: false, changes });
        }
        self.write_idle(tables)?;
        let generation = self.generation.wrapping_add(1);
        self.control.set(0, Control::new(generation), 0).context("put the new generation in force")?;
        self.generation = generation;
        Ok(Committed { generation, flipped: true, changes })
    }

    fn write_idle(&mut self, tables: &Tables) -> Result<()> {
        let idle = side_of(self.generation) ^ 1;
        self.hold(idle)?;
        let held = self.held[idle as usize].take().unwrap_or_default();
        // The last flip may be so recent that a packet still reads this side.
        sys::wait_for_readers();
        if let Err(error) = self.maps.write(idle, &held, tables) {
            // Packets do not see this side; undoing only makes room, and keeps `held` true.
            if self.maps.write(idle, tables, &held).is_ok() {
                self.held[idle as usize] = Some(held);
            }
            return Err(error.context("prepare the new policy; the old one stays in force"));
        }
        self.held[idle as usize] = Some(tables.clone());
        Ok(())
    }

    fn hold(&mut self, side: Side) -> Result<&Tables> {
        let side = side as usize;
        if self.held[side].is_none() {
            let mut read = self.maps.read()?;
            self.held[side] = Some(std::mem::take(&mut read[side]));
        }
        self.held[side].as_ref().ok_or_else(|| anyhow!("the tables were not read"))
    }
}

/// Refuses tables of which two sides would not fit, before anything is written.
fn check_sizes(tables: &Tables) -> Result<()> {
    fn check<L: Layout>(tables: &Tables) -> Result<()> {
        let (size, most) = (L::of(tables).len(), L::CAPACITY as usize / 2);
        ensure!(
            size <= most,
            "the policy has {size} {}, and vnet has room for {most}; nothing was changed",
            L::WHAT
        );
        Ok(())
    }
    check::<Ports>(tables)?;
    check::<Networks>(tables)?;
    check::<Endpoints>(tables)?;
    check::<Peers>(tables)?;
    check::<Policy>(tables)
}

/// The policy tables' maps.
struct Maps {
    ports: Table<Ports>,
    networks: Table<Networks>,
    endpoints: Table<Endpoints>,
    peers: Table<Peers>,
    policy: Table<Policy>,
}

impl Maps {
    fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            ports: Table::take(object)?,
            networks: Table::take(object)?,
            endpoints: Table::take(object)?,
            peers: Table::take(object)?,
            policy: Table::take(object)?,
        })
    }

    fn read(&self) -> Result<[Tables; 2]> {
        let mut sides = [Tables::default(), Tables::default()];
        self.ports.read(&mut sides)?;
        self.networks.read(&mut sides)?;
        self.endpoints.read(&mut sides)?;
        self.peers.read(&mut sides)?;
        self.policy.read(&mut sides)?;
        Ok(sides)
    }

    /// Brings `side` from `old` to `new`.
    fn write(&mut self, side: Side, old: &Tables, new: &Tables) -> Result<()> {
        write(&mut self.ports, side, old, new)?;
        write(&mut self.networks, side, old, new)?;
        write(&mut self.endpoints, side, old, new)?;
        write(&mut self.peers, side, old, new)?;
        write(&mut self.policy, side, old, new)
    }
}

/// Removals come first: they make room.
fn write<L: Layout>(table: &mut Table<L>, side: Side, old: &Tables, new: &Tables) -> Result<()> {
    let (old, new) = (L::of(old), L::of(new));
    for key in to_remove(old, new) {
        table.delete(side, key)?;
    }
    for (key, value) in to_put(old, new) {
        table.put(side, key, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vnet_common::{Direction, Identity, MacAddr, PolicyEntry, PolicyKey, PortRecord};

    use super::*;

    fn tables(ports: &[(u32, u32)]) -> Tables {
        let record = |network| PortRecord {
            network,
            group_set: 1,
            mac: MacAddr([2; 6]),
            gateway_mac: MacAddr([4; 6]),
        };
        Tables {
            ports: ports.iter().map(|&(ifindex, network)| (ifindex, record(network))).collect(),
            ..Tables::default()
        }
    }

    #[test]
    fn only_what_differs_counts() {
        let changes =
            Changes::between(&tables(&[(1, 1), (2, 1), (3, 1)]), &tables(&[(2, 1), (3, 2), (4, 1)]));
        assert_eq!(changes.ports, Count { put: 2, removed: 1 });
        assert!(Changes::between(&tables(&[(1, 1)]), &tables(&[(1, 1)])).is_empty());
    }

    #[test]
    fn a_policy_that_does_not_fit_twice_is_refused_with_both_numbers() {
        let half = Policy::CAPACITY / 2;
        let key = |n| PolicyKey::head(0, n, Direction::Ingress, Identity::ANY_V4, 6);
        let mut tables = Tables {
            policy: (0..half).map(|n| (key(n), PolicyEntry::head(1))).collect(),
            ..Tables::default()
        };
        check_sizes(&tables).unwrap();
        tables.policy.insert(key(half), PolicyEntry::head(1));
        let text = check_sizes(&tables).unwrap_err().to_string();
        assert!(text.contains("1048577 compiled rules") && text.contains("room for 1048576"), "{text}");
    }
}
