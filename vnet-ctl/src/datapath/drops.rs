//! The counters of dropped packets.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuHashMap, PerCpuValues},
};
use vnet_common::{DropReason, PortDropKey, limits::DROP_REASONS};

use super::{links::causes, names, tables};

/// The maps that count drops.
pub(super) struct DropCounters {
    total: PerCpuArray<MapData, u64>,
    by_port: PerCpuHashMap<MapData, PortDropKey, u64>,
}

impl DropCounters {
    pub(super) fn take(object: &Ebpf) -> Result<Self> {
        Ok(Self {
            total: tables::open_map(object, names::DROPS)?,
            by_port: tables::open_map(object, names::PORT_DROPS)?,
        })
    }

    /// Packets by reason, without the reasons that never occurred.
    pub(super) fn total(&self) -> Result<BTreeMap<u32, u64>> {
        let mut counts = BTreeMap::new();
        for number in 0..DROP_REASONS {
            let packets = sum(&self.total.get(&number, 0).context("read the drop counters")?);
            if packets > 0 {
                counts.insert(number, packets);
            }
        }
        Ok(counts)
    }

    /// Packets that were dropped for `reason`.
    pub(super) fn of(&self, reason: DropReason) -> Result<u64> {
        Ok(sum(&self.total.get(&reason.number(), 0).context("read the drop counters")?))
    }

    /// Packets by device and reason.
    pub(super) fn by_device(&self) -> Result<BTreeMap<(u32, u32), u64>> {
        let mut counts = BTreeMap::new();
        for entry in self.by_port.iter() {
            let (key, values) = entry.context("read the ports' drop counters")?;
            counts.insert((key.ifindex, key.reason), sum(&values));
        }
        Ok(counts)
    }

    /// Gives up the counters of devices that are gone.
    pub(super) fn forget_devices(&mut self, gone: &[u32]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        for (ifindex, reason) in self.by_device()?.into_keys().filter(|(ifindex, _)| gone.contains(ifindex)) {
            match self.by_port.remove(&PortDropKey { ifindex, reason }) {
                Err(error) if !tables::is_absent(&error) => {
                    bail!("delete from {}: {}", names::PORT_DROPS, causes(&error))
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn sum(values: &PerCpuValues<u64>) -> u64 {
    values.iter().sum()
}

/// The stable name of a reason and what it means; a number of a newer datapath stands for itself.
#[must_use]
pub fn describe(number: u32) -> (String, String) {
    match DropReason::try_from(number) {
        Ok(reason) => (reason.label().to_owned(), reason.explanation().to_owned()),
        Err(number) => (format!("reason-{number}"), "A reason that this vnet-ctl does not know.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_named_and_unknown_ones_keep_their_number() {
        assert_eq!(describe(16).0, "unknown-device");
        assert_eq!(describe(127).0, "reason-127");
    }
}
