//! Puts a policy's tables in force, whole: the side that no packet reads is brought to hold them, then one
//! word is written that makes it the side in force.
//!
//! The other side stays as it was until the next commit, which brings it to its own tables at once. That is
//! one wait and one round of writes for each commit, where bringing it up to date after the flip would take
//! the wait then, with everybody waiting for the answer; and every entry is written once for each side
//! either way. After a large commit, whoever made it brings the other side up to date once the answer is given,
//! so that a small change does not wait for the large one before it. What an entry's write costs is paid twice, the size of the policy never: who knows in what
//! the new tables differ says so, and what the other side lacks is remembered. Only where nothing is known, at the
//! start and after a failure, whole tables are compared.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use vnet_common::{Control, Side, side_of};

use super::{
    names, readers,
    tables::{
        ElasticIps, Endpoints, Exits, Forwards, Joins, Layout, Links, Networks, Peers, Policy, Ports,
        Stations, Table, Uplinks, Vteps, open_map,
    },
};
use crate::compile::{Difference, Tables};

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

/// Entries added or changed, and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Added, or given another value.
    pub put: usize,
    /// Removed.
    pub removed: usize,
}

/// What a commit does with each table. A table takes one line here, and its [`Layout`].
macro_rules! policy_tables {
    ($($(#[$doc:meta])* $field:ident: $layout:ty,)+) => {
        /// Entries that differ, by table.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Changes {
            $($(#[$doc])* pub $field: Count,)+
        }

        impl Changes {
            /// Those of `difference`.
            #[must_use]
            pub fn of(difference: &Difference) -> Self {
                Self { $($field: count::<$layout>(difference),)+ }
            }

            /// The counts, and what they count.
            fn by_table(&self) -> impl Iterator<Item = (Count, &'static str)> {
                [$((self.$field, <$layout>::WHAT),)+].into_iter()
            }
        }

        /// The policy tables' maps.
        struct Maps {
            $($field: Table<$layout>,)+
        }

        impl Maps {
            fn take(object: &Ebpf) -> Result<Self> {
                Ok(Self { $($field: Table::take(object)?,)+ })
            }

            /// What both sides hold.
            fn read(&self) -> Result<[Tables; 2]> {
                let mut sides = [Tables::default(), Tables::default()];
                $(self.$field.read(&mut sides)?;)+
                Ok(sides)
            }

            /// Writes `difference` to `side`.
            fn write(&self, side: Side, difference: &Difference) -> Result<()> {
                $(self.$field.write(side, difference)?;)+
                Ok(())
            }
        }

        /// Refuses tables of which two sides would not fit, before anything is written.
        fn check_sizes(tables: &Tables) -> Result<()> {
            $(check_size::<$layout>(tables)?;)+
            Ok(())
        }
    };
}

policy_tables! {
    /// Records of ports.
    ports: Ports,
    /// Records of networks.
    networks: Networks,
    /// Who has an address.
    endpoints: Endpoints,
    /// Prefixes that rules name.
    peers: Peers,
    /// Prefixes of networks that are joined to others.
    joins: Joins,
    /// Compiled rules.
    policy: Policy,
    /// Devices that lead outside.
    uplinks: Uplinks,
    /// The addresses that networks leave with.
    exits: Exits,
    /// Elastic IPs by private address.
    elastic_ips: ElasticIps,
    /// What stands behind addresses and ports that are translated.
    forwards: Forwards,
    /// By which links networks go beyond this host.
    links: Links,
    /// Who has a MAC.
    stations: Stations,
    /// Peers of overlays.
    vteps: Vteps,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The changes in words, one sentence for each table that differs.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let differing = self.by_table().filter(|(count, _)| *count != Count::default());
        differing
            .map(|(Count { put, removed }, what)| format!("{what}: {put} put in force, {removed} removed"))
            .collect()
    }
}

fn count<L: Layout>(difference: &Difference) -> Count {
    let changes = L::changes(difference);
    let put = changes.values().filter(|change| change.after.is_some()).count();
    Count { put, removed: changes.len() - put }
}

fn check_size<L: Layout>(tables: &Tables) -> Result<()> {
    let (size, most) = (L::of(tables).len(), L::CAPACITY as usize / 2);
    ensure!(
        size <= most,
        "the policy has {size} {}, and vnet has room for {most}; nothing was changed",
        L::WHAT
    );
    Ok(())
}

/// Entries that a commit writes in a few milliseconds besides its own.
const FAR_BEHIND: usize = 4096;

/// Every map that a commit writes, and what it is known to hold.
pub(super) struct Commits {
    control: Array<MapData, Control>,
    generation: u32,
    /// The next generation is above this one, which other maps have had.
    floor: u32,
    /// What each side holds, where somebody may still ask. Nobody does while commits succeed: what is compiled
    /// next is what is known, and what differs is what is written.
    held: [Option<Arc<Tables>>; 2],
    /// What the idle side lacks of what is in force. Unknown at first, and after a write that could not be undone.
    behind: Option<Difference>,
    maps: Maps,
}

impl Commits {
    /// Opens the maps of `object` and reads what they hold.
    pub(super) fn take(object: &Ebpf) -> Result<Self> {
        let control: Array<MapData, Control> = open_map(object, names::CONTROL)?;
        let generation = control.get(&0, 0).context("read the generation in force")?.generation;
        let maps = Maps::take(object)?;
        let held = maps.read()?.map(|tables| Some(Arc::new(tables)));
        Ok(Self { control, generation, floor: 0, held, behind: None, maps })
    }

    /// Has the next commit make a generation above `floor`, whether or not anything differs: flows that are
    /// carried over from other maps are judged again.
    pub(super) const fn stay_above(&mut self, floor: u32) {
        self.floor = floor;
    }

    /// The generation in force.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// What is in force.
    pub(super) fn in_force(&mut self) -> Result<&Arc<Tables>> {
        self.hold(side_of(self.generation))
    }

    /// Puts `tables` in force, compared with what is; on failure, what was in force stays so.
    pub(super) fn commit(&mut self, tables: &Arc<Tables>) -> Result<Committed> {
        let difference = Difference::between(self.in_force()?, tables);
        let committed = self.commit_difference(tables, difference)?;
        self.held[side_of(self.generation) as usize] = Some(Arc::clone(tables));
        Ok(committed)
    }

    /// The same, where it is known in what `tables` differ from what is in force.
    pub(super) fn commit_difference(&mut self, tables: &Tables, difference: Difference) -> Result<Committed> {
        check_sizes(tables)?;
        let changes = Changes::of(&difference);
        if changes.is_empty() && self.generation != 0 && self.generation > self.floor {
            return Ok(Committed { generation: self.generation, flipped: false, changes });
        }
        self.write_idle(tables, &difference)?;
        let generation = next_generation(self.generation, self.floor);
        self.control.set(0, Control::new(generation), 0).context("put the new generation in force")?;
        (self.generation, self.floor) = (generation, 0);
        // The side that was in force has not got it yet.
        self.behind = Some(difference);
        self.held = [None, None];
        Ok(Committed { generation, flipped: true, changes })
    }

    /// Puts in force again what was before the last commit, which made a new generation of `tables`; these are
    /// then as they were.
    pub(super) fn take_back(&mut self, tables: &mut Tables) -> Result<Committed> {
        let last = self.behind.clone().ok_or_else(|| anyhow!("the tables of before are not known"))?;
        let back = last.reversed();
        back.apply(tables);
        self.commit_difference(tables, back)
    }

    /// Whether the next commit would take long because the idle side lacks much of what is in force.
    pub(super) fn is_far_behind(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.len() > FAR_BEHIND)
    }

    /// Brings the idle side to hold what is in force. What was before is then known no more.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let Some(behind) = self.behind.take() else { return Ok(()) };
        let idle = side_of(self.generation) ^ 1;
        let held = self.held[idle as usize].take();
        readers::wait();
        let Err(error) = self.maps.write(idle, &behind) else {
            self.behind = Some(Difference::default());
            return Ok(());
        };
        let back = behind.reversed();
        if self.maps.write(idle, &back).is_ok() {
            self.behind = Some(back.reversed());
            self.held[idle as usize] = held;
        }
        Err(error.context("bring the other side up to date"))
    }

    /// Brings the idle side to hold `tables`, which differ in `difference` from what is in force.
    fn write_idle(&mut self, tables: &Tables, difference: &Difference) -> Result<()> {
        let idle = side_of(self.generation) ^ 1;
        let missing = match self.behind.take() {
            // Not a copy: it may be large.
            Some(behind) if behind.is_empty() => Cow::Borrowed(difference),
            Some(mut behind) => {
                behind.extend(difference.clone());
                Cow::Owned(behind)
            }
            None => Cow::Owned(Difference::between(self.hold(idle)?, tables)),
        };
        let held = self.held[idle as usize].take();
        // The last flip may be so recent that a packet still reads this side.
        readers::wait();
        let Err(error) = self.maps.write(idle, &missing) else { return Ok(()) };
        // Packets do not see this side; undoing only makes room, and keeps what is known of it true.
        let mut missing = missing.into_owned().reversed();
        if self.maps.write(idle, &missing).is_ok() {
            missing = missing.reversed();
            missing.extend(difference.clone().reversed());
            self.behind = Some(missing);
            self.held[idle as usize] = held;
        }
        Err(error.context("prepare the new policy; the old one stays in force"))
    }

    fn hold(&mut self, side: Side) -> Result<&Arc<Tables>> {
        let side = side as usize;
        if self.held[side].is_none() {
            let mut read = self.maps.read()?;
            self.held[side] = Some(Arc::new(std::mem::take(&mut read[side])));
        }
        self.held[side].as_ref().ok_or_else(|| anyhow!("the tables were not read"))
    }
}

/// The next generation after `last` that is above `floor`: it is read from the side that is idle now.
const fn next_generation(last: u32, floor: u32) -> u32 {
    let next = last.wrapping_add(1);
    if next > floor || floor > u32::MAX - 2 {
        return next;
    }
    let above = floor + 1;
    if side_of(above) == side_of(next) { above } else { above + 1 }
}

#[cfg(test)]
mod tests {
    use vnet_common::{Direction, Identity, MacAddr, PolicyEntry, PolicyKey, PortRecord};

    use super::*;

    fn tables(ports: &[(u32, u32)]) -> Tables {
        let record = |network| PortRecord::new(network, 1, MacAddr([2; 6]), MacAddr([4; 6]));
        Tables {
            ports: ports.iter().map(|&(ifindex, network)| (ifindex, record(network))).collect(),
            ..Tables::default()
        }
    }

    #[test]
    fn the_next_generation_is_above_others_and_on_the_idle_side() {
        assert_eq!(next_generation(4, 0), 5);
        assert_eq!(next_generation(0, 6), 7);
        assert_eq!(next_generation(0, 7), 9);
        assert_eq!(next_generation(9, 9), 10);
        // 0 means that there is no policy yet.
        assert_eq!(next_generation(u32::MAX, 0), 2);
    }

    #[test]
    fn only_what_differs_counts() {
        let old = tables(&[(1, 1), (2, 1), (3, 1)]);
        let changes = Changes::of(&Difference::between(&old, &tables(&[(2, 1), (3, 2), (4, 1)])));
        assert_eq!(changes.ports, Count { put: 2, removed: 1 });
        assert!(Changes::of(&Difference::between(&old, &old)).is_empty());
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
