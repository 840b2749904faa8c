//! Carries the counters of drops over from another version's maps.
//!
//! While the new maps are not in use, they take the old numbers; what the old programs count after that is
//! added at the end. Reasons keep their numbers in every version.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, anyhow};
use aya::{
    Pod,
    maps::{Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues},
};
use vnet_common::{PortDropKey, limits::DROP_REASONS};

use super::{
    links::causes,
    names::{DROPS, PORT_DROPS},
    object,
};

/// The numbers of a counter, by CPU.
type Numbers = Vec<u64>;
type Total = PerCpuArray<MapData, u64>;
type ByPort = PerCpuHashMap<MapData, PortDropKey, u64>;

/// Counters under way.
pub(super) struct Counters {
    total: Option<Under<Total, u32>>,
    by_port: Option<Under<ByPort, (u32, u32)>>,
}

/// One map, its successor, and what was carried over so far.
struct Under<M, K> {
    old: M,
    new: M,
    carried: BTreeMap<K, Numbers>,
}

impl Counters {
    /// Carries over what is counted by now.
    pub(super) fn carry(old: &Path, new: &Path) -> Result<Self> {
        let total = Under::<Total, _>::open(old, new, DROPS)?;
        let by_port = Under::<ByPort, _>::open(old, new, PORT_DROPS)?;
        let mut counters = Self { total, by_port };
        if let Some(under) = &mut counters.total {
            under.raise()?;
        }
        if let Some(under) = &mut counters.by_port {
            under.raise()?;
        }
        Ok(counters)
    }

    /// Carries over what was counted since.
    pub(super) fn finish(self) -> Result<()> {
        if let Some(under) = self.total {
            under.add()?;
        }
        self.by_port.map_or(Ok(()), Under::add)
    }
}

/// A map of counters.
trait CounterMap: TryFrom<Map, Error = aya::maps::MapError> {
    type Key: Ord + Copy;
    fn read(&self) -> Result<BTreeMap<Self::Key, Numbers>>;
    fn write(&mut self, key: Self::Key, numbers: Numbers) -> Result<()>;
}

impl<M: CounterMap> Under<M, M::Key> {
    /// `None` if the maps do not hold the same.
    fn open(old: &Path, new: &Path, name: &str) -> Result<Option<Self>> {
        let (old, new) = (old.join(name), new.join(name));
        let sizes =
            |path: &Path| object::shape(path).map(|shape| (shape.map_type, shape.key_size, shape.value_size));
        let (Ok(of_old), Ok(of_new)) = (sizes(&old), sizes(&new)) else { return Ok(None) };
        if of_old != of_new {
            return Ok(None);
        }
        let open =
            |path: &Path| Ok::<M, anyhow::Error>(Map::from_map_data(MapData::from_pin(path)?)?.try_into()?);
        Ok(Some(Self { old: open(&old)?, new: open(&new)?, carried: BTreeMap::new() }))
    }

    /// The new numbers become at least the old ones: once is as good as twice.
    fn raise(&mut self) -> Result<()> {
        let known = self.new.read()?;
        self.carried = self.old.read()?;
        for (key, old) in &self.carried {
            let new = known.get(key);
            if new != Some(old) {
                let at = |cpu: usize| new.and_then(|new| new.get(cpu)).copied().unwrap_or(0);
                let raised = old.iter().enumerate().map(|(cpu, old)| at(cpu).max(*old)).collect();
                self.new.write(*key, raised)?;
            }
        }
        Ok(())
    }

    fn add(mut self) -> Result<()> {
        let known = self.new.read()?;
        for (key, old) in self.old.read()? {
            let carried = self.carried.get(&key);
            if carried == Some(&old) {
                continue;
            }
            let at = |numbers: Option<&Numbers>, cpu: usize| {
                numbers.and_then(|numbers| numbers.get(cpu)).copied().unwrap_or(0)
            };
            let sum =
                |(cpu, old): (usize, &u64)| at(known.get(&key), cpu) + old.saturating_sub(at(carried, cpu));
            let sums = old.iter().enumerate().map(sum).collect();
            self.new.write(key, sums)?;
        }
        Ok(())
    }
}

impl CounterMap for Total {
    type Key = u32;

    fn read(&self) -> Result<BTreeMap<u32, Numbers>> {
        let mut numbers = BTreeMap::new();
        for reason in 0..DROP_REASONS.min(self.len()) {
            let values = self.get(&reason, 0).map_err(|error| failed("read", &error))?;
            if values.iter().any(|&packets| packets > 0) {
                numbers.insert(reason, values.to_vec());
            }
        }
        Ok(numbers)
    }

    fn write(&mut self, reason: u32, numbers: Numbers) -> Result<()> {
        self.set(reason, by_cpu(numbers)?, 0).map_err(|error| failed("write", &error))
    }
}

impl CounterMap for ByPort {
    type Key = (u32, u32);

    fn read(&self) -> Result<BTreeMap<(u32, u32), Numbers>> {
        let entry = |entry: Result<(PortDropKey, PerCpuValues<u64>), aya::maps::MapError>| {
            let (key, values) = entry.map_err(|error| failed("read", &error))?;
            Ok(((key.ifindex, key.reason), values.to_vec()))
        };
        self.iter().map(entry).collect()
    }

    fn write(&mut self, (ifindex, reason): (u32, u32), numbers: Numbers) -> Result<()> {
        let key = PortDropKey { ifindex, reason };
        self.insert(key, by_cpu(numbers)?, 0).map_err(|error| failed("write", &error))
    }
}

fn by_cpu<V: Pod>(values: Vec<V>) -> Result<PerCpuValues<V>> {
    Ok(PerCpuValues::try_from(values)?)
}

fn failed(what: &str, error: &aya::maps::MapError) -> anyhow::Error {
    anyhow!("{what} the counters of drops: {}", causes(error))
}
