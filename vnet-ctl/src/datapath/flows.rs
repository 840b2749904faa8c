//! The tracked flows: listing, flushing and expiring them.
//!
//! A flow is two entries. What they mean is the datapath's affair; here they are paired, shown, and
//! removed once both directions have been silent for longer than the flow's timeout.
//!
//! Removing takes three steps, for the kernel gives an element's memory away at once while a packet may be
//! reading it: the program `expire` marks the entries, from when on no packet uses what they say; whoever found one
//! before is waited for; then `expire` removes those in which no new flow has begun meanwhile. What a daemon that was killed
//! has marked, the next one removes.

use std::ops::Deref;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, IterableMap as _, MapData},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use vnet_common::{
    Address, ExpireAnswer, ExpireHeader, ExpireQuestion, Flow, FlowImage4, FlowImage6, FlowKey, FlowState,
    V4, V6,
};

use super::{
    links::causes,
    names,
    pairs::{Pair, Patience, forgotten, pair_up},
    pressure::Openers,
    programs, readers, sys, tables,
};
use crate::api::types::{FlowCounts, FlowInfo};

/// Both flow tables.
pub(super) struct FlowTables {
    v4: Table<V4>,
    v6: Table<V6>,
}

/// An address whose flows have a table.
pub(super) trait Version: Address {
    /// Name of the map.
    const MAP: &str;
    /// The version as the program `expire` knows it.
    const NUMBER: u32;
    /// A copy of an entry.
    type Image: Pod + Deref<Target = Flow<Self>>;
    /// The bytes of a key.
    fn key_bytes(key: &FlowKey<Self>) -> Vec<u8>;
}

impl Version for V4 {
    const MAP: &str = names::FLOWS4;
    const NUMBER: u32 = 4;
    type Image = FlowImage4;

    fn key_bytes(key: &FlowKey<Self>) -> Vec<u8> {
        [&origin_bytes(key)[..], &key.src.octets(), &key.dst.octets(), &port_bytes(key)].concat()
    }
}

impl Version for V6 {
    const MAP: &str = names::FLOWS6;
    const NUMBER: u32 = 6;
    type Image = FlowImage6;

    fn key_bytes(key: &FlowKey<Self>) -> Vec<u8> {
        [&origin_bytes(key)[..], &key.src.octets(), &key.dst.octets(), &port_bytes(key)].concat()
    }
}

fn origin_bytes<A>(key: &FlowKey<A>) -> [u8; 4] {
    (key.origin.ifindex() | u32::from(key.origin.protocol()) << 24).to_ne_bytes()
}

fn port_bytes<A>(key: &FlowKey<A>) -> [u8; 4] {
    let ([a, b], [c, d]) = (key.ports.src().to_bytes(), key.ports.dst().to_bytes());
    [a, b, c, d]
}

impl FlowTables {
    pub(super) fn take(object: &Ebpf) -> Result<Self> {
        Ok(Self { v4: Table::take(object)?, v6: Table::take(object)? })
    }

    /// The flows that `wanted` accepts; `name` tells what people call a device.
    pub(super) fn list(
        &self,
        name: &dyn Fn(u32) -> String,
        wanted: &dyn Fn(&FlowInfo) -> bool,
    ) -> Result<Vec<FlowInfo>> {
        let now = sys::now_ticks()?;
        let mut flows = Vec::new();
        flows.extend(self.v4.flows()?.iter().map(|pair| pair.show(now, name)).filter(wanted));
        flows.extend(self.v6.flows()?.iter().map(|pair| pair.show(now, name)).filter(wanted));
        Ok(flows)
    }

    /// How many flows there are.
    pub(super) fn count(&self) -> Result<FlowCounts> {
        let (v4, v6) = (self.v4.flows()?.len() as u64, self.v6.flows()?.len() as u64);
        let [most_v4, most_v6] = self.capacity()?;
        Ok(FlowCounts { v4, v6, most_v4, most_v6 })
    }

    /// Removes the flows that `wanted` accepts, whatever passes on them; how many.
    pub(super) fn flush(
        &self,
        object: &Ebpf,
        name: &dyn Fn(u32) -> String,
        wanted: &dyn Fn(&FlowInfo) -> bool,
    ) -> Result<u64> {
        let (marker, now) = (Marker::of(object, Mark::Always)?, sys::now_ticks()?);
        let removed = self.v4.remove_flows(&marker, |pair| wanted(&pair.show(now, name)))?;
        Ok(removed + self.v6.remove_flows(&marker, |pair| wanted(&pair.show(now, name)))?)
    }

    /// Removes the flows of devices that are gone; how many.
    pub(super) fn forget_devices(&self, object: &Ebpf, gone: &[u32]) -> Result<u64> {
        if gone.is_empty() {
            return Ok(0);
        }
        let marker = Marker::of(object, Mark::Always)?;
        let is_gone = |ifindex: &u32| gone.contains(ifindex);
        let removed = self.v4.remove_flows(&marker, |pair| pair.devices().iter().any(is_gone))?;
        Ok(removed + self.v6.remove_flows(&marker, |pair| pair.devices().iter().any(is_gone))?)
    }

    /// Removes the flows that have been silent for longer than their timeout, of both IP versions.
    /// While a table is under pressure, it is counted at which device, or link, each flow was opened.
    pub(super) fn expire(&self, object: &Ebpf, mut openers: Option<&mut Openers>) -> Result<[Expired; 2]> {
        let (marker, now) = (Marker::of(object, Mark::IfIdle)?, sys::now_ticks()?);
        let v4 = self.v4.expire(&marker, now, openers.as_deref_mut())?;
        Ok([v4, self.v6.expire(&marker, now, openers)?])
    }

    /// How many flows have room, over IPv4 and over IPv6.
    pub(super) fn capacity(&self) -> Result<[u64; 2]> {
        Ok([self.v4.capacity()?, self.v6.capacity()?].map(|entries| u64::from(entries) / 2))
    }
}

/// What became of the flows of one IP version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expired {
    /// Flows that were removed.
    pub(super) removed: u64,
    /// Flows that are left.
    pub(super) left: u64,
    /// Flows that have room.
    pub(super) most: u64,
}

/// The flows of one IP version.
struct Table<A: Version> {
    map: HashMap<MapData, FlowKey<A>, A::Image>,
}

impl<A: Version> Table<A>
where
    FlowKey<A>: Pod,
{
    fn take(object: &Ebpf) -> Result<Self> {
        Ok(Self { map: tables::open_map(object, A::MAP)? })
    }

    fn entries(&self) -> Result<Vec<(FlowKey<A>, A::Image)>> {
        sys::entries(self.map.map()).with_context(|| format!("read {}", A::MAP))
    }

    /// How many entries have room.
    fn capacity(&self) -> Result<u32> {
        let info = self.map.map().info().with_context(|| format!("ask how large {} is", A::MAP))?;
        Ok(info.max_entries())
    }

    fn flows(&self) -> Result<Vec<Pair<A>>> {
        let mut pairs = pair_up(self.entries()?);
        pairs.retain(|pair| !pair.is_mapping());
        Ok(pairs)
    }

    /// Removes the flows that are forgotten in the tick `now`; adds those that were there to `openers`, under pressure.
    fn expire(&self, marker: &Marker<'_>, now: u32, openers: Option<&mut Openers>) -> Result<Expired> {
        let (capacity, is_pressed, mut used) = (self.capacity()?, openers.is_some(), 0);
        let removed = self.remove(marker, |pairs, entries| {
            used = entries;
            if let Some(openers) = openers {
                pairs.iter().for_each(|pair| count_opener(pair, openers));
            }
            forgotten(pairs, Patience::new(now, entries, capacity, is_pressed)).collect()
        })?;
        let left = (used as u64 / 2).saturating_sub(removed);
        Ok(Expired { removed, left, most: u64::from(capacity) / 2 })
    }

    /// Removes the flows that `wanted` accepts. Mappings stay until they are forgotten.
    fn remove_flows(&self, marker: &Marker<'_>, wanted: impl Fn(&Pair<A>) -> bool) -> Result<u64> {
        self.remove(marker, |pairs, _| {
            pairs.iter().filter(|pair| !pair.is_mapping() && wanted(pair)).collect()
        })
    }

    /// Removes those that `choose` picks of all, knowing how many entries are in use, as far as `marker` may, and what is
    /// marked already; how many flows.
    fn remove(
        &self,
        marker: &Marker<'_>,
        choose: impl for<'p> FnOnce(&'p [Pair<A>], usize) -> Vec<&'p Pair<A>>,
    ) -> Result<u64> {
        let entries = self.entries()?;
        let used = entries.len();
        let is_marked = |flow: &Flow<A>| flow.last_seen.get() == Flow::<A>::EXPIRED;
        let mut marked: Vec<_> =
            entries.iter().filter(|(_, flow)| is_marked(flow)).map(|(key, _)| *key).collect();
        let pairs = pair_up(entries);
        let chosen = choose(&pairs, used);
        // The originals first: whoever opened a flow is the one to speak again.
        let originals = chosen.iter().map(|pair| (pair.key, pair.original.last_seen.get()));
        let are_marked = marker.mark(self, &originals.collect::<Vec<_>>())?;
        let gone: Vec<_> =
            chosen.iter().zip(are_marked).filter(|(_, is)| *is).map(|(pair, _)| *pair).collect();
        let replies: Vec<_> = gone
            .iter()
            .filter_map(|pair| pair.reply.map(|(key, reply)| (key, reply.last_seen.get())))
            .collect();
        let are_marked = marker.mark(self, &replies)?;
        marked.extend(gone.iter().map(|pair| pair.key));
        marked.extend(replies.iter().zip(are_marked).filter(|(_, is)| *is).map(|((key, _), _)| *key));
        let removed = gone.iter().filter(|pair| !pair.is_mapping()).count() as u64;
        if !marked.is_empty() {
            readers::wait();
            marker.remove(&marked)?;
        }
        Ok(removed)
    }
}

/// Counts a flow for who has opened it.
fn count_opener<A: Version>(pair: &Pair<A>, openers: &mut Openers) {
    let opened = openers.entry(pair.key.origin.ifindex()).or_default();
    opened.flows += 1;
    let is_established = pair.original.state() == FlowState::Established;
    opened.established[usize::from(A::NUMBER == 6)] += u64::from(is_established);
}

/// Whether an entry that a packet refreshes is marked all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    IfIdle,
    Always,
}

/// Has the datapath mark entries.
struct Marker<'a> {
    program: &'a SchedClassifier,
    mark: Mark,
}

impl<'a> Marker<'a> {
    fn of(object: &'a Ebpf, mark: Mark) -> Result<Self> {
        Ok(Self { program: programs::expire(object)?, mark })
    }

    /// Marks entries unless a packet has passed since they were last seen then, or even so; which are to be deleted.
    fn mark<A: Version>(&self, table: &Table<A>, entries: &[(FlowKey<A>, u32)]) -> Result<Vec<bool>>
    where
        FlowKey<A>: Pod,
    {
        let mut are_marked = Vec::with_capacity(entries.len());
        for entries in entries.chunks(ExpireHeader::MOST) {
            for ((key, _), answer) in entries.iter().zip(self.ask(entries)?) {
                are_marked.push(match answer {
                    MARKED | GONE => true,
                    REFRESHED if self.mark == Mark::IfIdle => false,
                    REFRESHED => self.insist(table, key)?,
                    other => bail!("expire answered {other}"),
                });
            }
        }
        Ok(are_marked)
    }

    /// Marks an entry that packets refresh.
    fn insist<A: Version>(&self, table: &Table<A>, key: &FlowKey<A>) -> Result<bool>
    where
        FlowKey<A>: Pod,
    {
        loop {
            let last_seen = match table.map.get(key, 0) {
                Ok(flow) => flow.last_seen.get(),
                Err(error) if tables::is_absent(&error) => return Ok(true),
                Err(error) => bail!("read {}: {}", A::MAP, causes(&error)),
            };
            if self.ask(&[(*key, last_seen)])? != [REFRESHED] {
                return Ok(true);
            }
        }
    }

    /// Removes entries that are marked, unless a flow has begun in them.
    fn remove<A: Version>(&self, marked: &[FlowKey<A>]) -> Result<()> {
        let marked: Vec<_> = marked.iter().map(|key| (*key, Flow::<A>::EXPIRED)).collect();
        marked.chunks(ExpireHeader::MOST).try_for_each(|entries| self.ask(entries).map(drop))
    }

    /// What the program answers about as many entries as it takes.
    fn ask<A: Version>(&self, entries: &[(FlowKey<A>, u32)]) -> Result<Vec<i32>> {
        let input = questions(entries);
        let mut output = vec![0; input.len()];
        let options =
            TestRunOptions { data_in: Some(&input), data_out: Some(&mut output), ..TestRunOptions::new() };
        let result =
            self.program.test_run(options).map_err(|error| anyhow!("run expire: {}", causes(&error)))?;
        if result.return_value.cast_signed() == ExpireAnswer::Malformed as i32 {
            bail!("expire does not understand what it is asked");
        }
        let answer = |number| {
            let at = ExpireQuestion::<A>::offset(number) + ExpireQuestion::<A>::ANSWER;
            output.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes)
        };
        (0..entries.len()).map(|number| answer(number).context("expire answered too little")).collect()
    }
}

const REFRESHED: i32 = ExpireAnswer::Refreshed as i32;
const MARKED: i32 = ExpireAnswer::Marked as i32;
const GONE: i32 = ExpireAnswer::Gone as i32;

/// What `expire` reads: see [`ExpireHeader`].
fn questions<A: Version>(entries: &[(FlowKey<A>, u32)]) -> Vec<u8> {
    let mut input = vec![0; ExpireHeader::OFFSET];
    input.extend(A::NUMBER.to_ne_bytes());
    input.extend((entries.len() as u32).to_ne_bytes());
    for (key, last_seen) in entries {
        input.extend(last_seen.to_ne_bytes());
        input.extend((ExpireAnswer::Malformed as i32).to_ne_bytes());
        input.extend(A::key_bytes(key));
    }
    input
}

#[cfg(test)]
mod tests {
    use vnet_common::{Be16, Origin};

    use super::*;

    fn key() -> FlowKey<V4> {
        FlowKey {
            origin: Origin::new(7, 6),
            src: V4::from_octets([10, 0, 0, 1]),
            dst: V4::from_octets([10, 0, 0, 2]),
            ports: vnet_common::Ports::new(Be16::new(40000), Be16::new(80)),
        }
    }

    #[test]
    fn expire_reads_version_times_and_keys() {
        let input = questions(&[(key(), 77), (key().reversed(9), 78)]);
        assert_eq!(input[..16], [0; 16]);
        assert_eq!(input[16..24], [4_u32.to_ne_bytes(), 2_u32.to_ne_bytes()].concat());
        assert_eq!(input[24..32], [77_u32.to_ne_bytes(), (-1_i32).to_ne_bytes()].concat());
        assert_eq!(input[32..36], (7_u32 | 6 << 24).to_ne_bytes());
        assert_eq!(input[36..48], [10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 80]);
        assert_eq!(input[48..52], 78_u32.to_ne_bytes());
        assert_eq!(input.len(), 72);
    }
}
