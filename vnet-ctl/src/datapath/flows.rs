//! The tracked flows: listing, flushing and expiring them.
//!
//! A flow is two entries. What they mean is the datapath's affair; here they are paired, shown, and
//! removed once both directions have been silent for longer than the flow's timeout.
//!
//! Removing takes three steps, for the kernel gives an element's memory away at once while a packet may be
//! reading it: the program `expire` marks the entries, from when on no packet uses them; whoever found one
//! before is waited for; then they are deleted. What a daemon that was killed has marked, the next one deletes.

use std::ops::Deref;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, IterableMap as _, MapData},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use vnet_common::{Address, ExpireAnswer, ExpireHeader, Flow, FlowImage4, FlowImage6, FlowKey, V4, V6};

use super::{
    links::causes,
    names,
    pairs::{Pair, forgotten, pair_up},
    readers, sys, tables,
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
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
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
        Ok(FlowCounts { v4: self.v4.flows()?.len() as u64, v6: self.v6.flows()?.len() as u64 })
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

    /// Removes the flows that have been silent for longer than their timeout; how many.
    pub(super) fn expire(&self, object: &Ebpf) -> Result<u64> {
        let (marker, now) = (Marker::of(object, Mark::IfIdle)?, sys::now_ticks()?);
        let removed = self.v4.remove(&marker, |pairs| forgotten(pairs, now).collect())?;
        Ok(removed + self.v6.remove(&marker, |pairs| forgotten(pairs, now).collect())?)
    }
}

/// The flows of one IP version.
struct Table<A: Version> {
    map: HashMap<MapData, FlowKey<A>, A::Image>,
}

impl<A: Version> Table<A>
where
    FlowKey<A>: Pod,
{
    fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self { map: tables::take_map(object, A::MAP)? })
    }

    fn entries(&self) -> Result<Vec<(FlowKey<A>, A::Image)>> {
        sys::entries(self.map.map()).with_context(|| format!("read {}", A::MAP))
    }

    fn flows(&self) -> Result<Vec<Pair<A>>> {
        let mut pairs = pair_up(self.entries()?);
        pairs.retain(|pair| !pair.is_mapping());
        Ok(pairs)
    }

    /// Removes the flows that `wanted` accepts. Mappings stay until they are forgotten.
    fn remove_flows(&self, marker: &Marker<'_>, wanted: impl Fn(&Pair<A>) -> bool) -> Result<u64> {
        self.remove(marker, |pairs| pairs.iter().filter(|pair| !pair.is_mapping() && wanted(pair)).collect())
    }

    /// Removes those that `choose` picks of all, as far as `marker` may, and what is marked already; how many flows.
    fn remove(
        &self,
        marker: &Marker<'_>,
        choose: impl for<'p> Fn(&'p [Pair<A>]) -> Vec<&'p Pair<A>>,
    ) -> Result<u64> {
        let entries = self.entries()?;
        let is_marked = |flow: &Flow<A>| flow.last_seen.get() == Flow::<A>::EXPIRED;
        let mut marked: Vec<_> =
            entries.iter().filter(|(_, flow)| is_marked(flow)).map(|(key, _)| *key).collect();
        let mut removed = 0;
        let pairs = pair_up(entries);
        for pair in choose(&pairs) {
            // The original first: whoever opened the flow is the one to speak again.
            if !marker.mark(self, &pair.key, pair.original.last_seen.get())? {
                continue;
            }
            removed += u64::from(!pair.is_mapping());
            marked.push(pair.key);
            if let Some((key, reply)) = &pair.reply
                && marker.mark(self, key, reply.last_seen.get())?
            {
                marked.push(*key);
            }
        }
        if !marked.is_empty() {
            readers::wait();
            sys::delete_all(self.map.map(), &marked).with_context(|| format!("delete from {}", A::MAP))?;
        }
        Ok(removed)
    }
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
        let program = object.program(names::EXPIRE).context("the eBPF object has no program expire")?;
        Ok(Self { program: program.try_into().context("expire is not a tc program")?, mark })
    }

    /// Marks an entry unless a packet has passed since `last_seen`, or even then; whether it is to be deleted.
    fn mark<A: Version>(&self, table: &Table<A>, key: &FlowKey<A>, mut last_seen: u32) -> Result<bool>
    where
        FlowKey<A>: Pod,
    {
        const REFRESHED: i32 = ExpireAnswer::Refreshed as i32;
        const MARKED: i32 = ExpireAnswer::Marked as i32;
        const GONE: i32 = ExpireAnswer::Gone as i32;
        loop {
            let input = expire_input(key, last_seen);
            let options = TestRunOptions { data_in: Some(&input), ..TestRunOptions::new() };
            let result =
                self.program.test_run(options).map_err(|error| anyhow!("run expire: {}", causes(&error)))?;
            match result.return_value.cast_signed() {
                MARKED | GONE => return Ok(true),
                REFRESHED if self.mark == Mark::IfIdle => return Ok(false),
                REFRESHED => match table.map.get(key, 0) {
                    Ok(flow) => last_seen = flow.last_seen.get(),
                    Err(error) if tables::is_absent(&error) => return Ok(true),
                    Err(error) => bail!("read {}: {}", A::MAP, causes(&error)),
                },
                other => bail!("expire answered {other}"),
            }
        }
    }
}

/// What `expire` reads: a header that begins at [`ExpireHeader::OFFSET`], and the key.
fn expire_input<A: Version>(key: &FlowKey<A>, last_seen: u32) -> Vec<u8> {
    let mut input = vec![0; ExpireHeader::OFFSET];
    input.extend(A::NUMBER.to_ne_bytes());
    input.extend(last_seen.to_ne_bytes());
    input.extend(A::key_bytes(key));
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
    fn expire_reads_version_time_and_key() {
        let input = expire_input(&key(), 77);
        assert_eq!(input[..16], [0; 16]);
        assert_eq!(input[16..20], 4_u32.to_ne_bytes());
        assert_eq!(input[20..24], 77_u32.to_ne_bytes());
        assert_eq!(input[24..28], (7_u32 | 6 << 24).to_ne_bytes());
        assert_eq!(input[28..40], [10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 80]);
        assert_eq!(input.len(), 40);
    }
}
