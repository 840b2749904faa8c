//! How many flows are tracked at once.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use vnet_common::limits;

use super::{memory, names};

/// Room for flows. The kernel sets all of it aside when the tables are made; they keep it until they are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Flows over IPv4. There is room for half as many over IPv6.
    flows: u32,
}

impl Capacity {
    /// Flows over IPv4 that can be asked for. The upper bound takes 4 GB.
    pub const RANGE: RangeInclusive<u32> = 1024..=1 << 23;
    /// What the object declares, and the least that is chosen unasked.
    pub const DECLARED: Self = Self { flows: limits::FLOWS4 / ENTRIES };
    /// The most that is chosen unasked.
    const MOST_UNASKED: u32 = 1 << 20;

    /// Room for as many flows over IPv4; none outside [`Capacity::RANGE`].
    #[must_use]
    pub fn of_flows(flows: u32) -> Option<Self> {
        Self::RANGE.contains(&flows).then_some(Self { flows })
    }

    /// What suits this machine: with both tables about a hundredth of its memory.
    ///
    /// # Errors
    /// When the kernel does not tell how much that is.
    pub fn of_machine() -> Result<Self> {
        Ok(Self::of_memory(memory::of_machine().context("how many flows the machine has room for")?))
    }

    fn of_memory(bytes: u64) -> Self {
        /// Bytes of a flow over IPv4, both directions with what the kernel adds, and half a flow over IPv6.
        const BYTES: u64 = 500;
        let flows = u32::try_from(bytes / 100 / BYTES).unwrap_or(u32::MAX);
        let power = 1 << flows.max(1).ilog2();
        Self { flows: power.clamp(Self::DECLARED.flows, Self::MOST_UNASKED) }
    }

    /// Flows over IPv4.
    #[must_use]
    pub const fn flows(self) -> u32 {
        self.flows
    }

    /// The maps of flows, and how many entries each has.
    pub(super) const fn entries(self) -> [(&'static str, u32); 2] {
        [(names::FLOWS4, self.flows * ENTRIES), (names::FLOWS6, self.flows)]
    }
}

/// Entries of a flow: one for each direction.
const ENTRIES: u32 = 2;
const _: () = assert!(limits::FLOWS6 == limits::FLOWS4 / 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_room_for_flows_as_it_has_memory() {
        let of_gib = |gib: u64| Capacity::of_memory(gib << 30).flows();
        assert_eq!([0, 1, 4, 8].map(of_gib), [131_072; 4]);
        assert_eq!([16, 24, 32, 64].map(of_gib), [262_144, 262_144, 524_288, 1_048_576]);
        assert_eq!([256, 4096].map(of_gib), [1_048_576; 2]);
    }

    #[test]
    fn flows_have_an_entry_for_each_direction() {
        let capacity = Capacity::of_flows(1000);
        assert_eq!(capacity, None);
        let capacity = Capacity::of_flows(500_000).expect("in the range");
        assert_eq!(capacity.entries(), [("FLOWS4", 1_000_000), ("FLOWS6", 500_000)]);
        assert_eq!(Capacity::DECLARED.entries(), [("FLOWS4", limits::FLOWS4), ("FLOWS6", limits::FLOWS6)]);
    }
}
