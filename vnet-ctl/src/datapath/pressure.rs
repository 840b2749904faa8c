//! Whether a flow table fills up, and what the programs are told of it.
//!
//! Each look at the tables, to forget silent flows, finds out how many flows there are; what has been opened since is
//! counted by the programs. With half of a table in use, it is under pressure: who asks from outside has to show that they
//! are there, and flows that do not come about are limited (`vnet_ebpf::stages::admit`). That ends when 7 of 16 are left and
//! nobody has been turned away for it for a while.

use std::{cmp::Reverse, collections::BTreeMap, fs::File, io::Read as _};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray},
};
use vnet_common::DropReason;

use super::{drops::DropCounters, flows::Expired, links::causes, tables};

const PRESSURE: &str = "PRESSURE";
const OPENED: &str = "OPENED";
const SECRET: &str = "SECRET";

/// Counts of both IP versions, IPv4's first.
pub(super) type Both = [u64; 2];

/// What the programs are told, and what it follows from.
pub(super) struct Pressure {
    word: Array<MapData, u32>,
    opened: PerCpuArray<MapData, u64>,
    gauge: Gauge,
    openers: BTreeMap<u32, u64>,
}

impl Pressure {
    /// Takes the maps of programs that have just been loaded, and gives them their secret.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        let mut secret: Array<MapData, [u64; 2]> = tables::take_map(object, SECRET)?;
        secret.set(0, random()?, 0).map_err(|error| anyhow::anyhow!("write {SECRET}: {}", causes(&error)))?;
        let (word, opened) = (tables::take_map(object, PRESSURE)?, tables::take_map(object, OPENED)?);
        Ok(Self { word, opened, gauge: Gauge::default(), openers: BTreeMap::new() })
    }

    /// Flows that have been opened so far.
    pub(super) fn opened(&self) -> Result<Both> {
        let count = |version| -> Result<u64> {
            let counts = self.opened.get(&version, 0).with_context(|| format!("read {OPENED}"))?;
            Ok(counts.iter().sum())
        };
        Ok([count(0)?, count(1)?])
    }

    /// What they were told last.
    pub(super) const fn is_pressed(&self) -> bool {
        self.gauge.is_pressed
    }

    /// Notes what a look at the tables has found; before it, `opened` flows had been opened.
    pub(super) const fn look(&mut self, [v4, v6]: [Expired; 2], opened: Both) {
        self.gauge.look([v4.left, v6.left], [v4.most, v6.most], opened);
    }

    /// Where such a look counts who has opened flows; nowhere without pressure.
    pub(super) fn count_openers(&mut self) -> Option<&mut BTreeMap<u32, u64>> {
        self.openers.clear();
        self.gauge.is_pressed.then_some(&mut self.openers)
    }

    /// At which devices, or links, the flows were opened that the last look has counted; most first.
    pub(super) fn openers(&self) -> Vec<(u32, u64)> {
        let mut openers: Vec<_> = self.openers.iter().map(|(device, flows)| (*device, *flows)).collect();
        openers.sort_by_key(|(_, flows)| Reverse(*flows));
        openers
    }

    /// Tells the programs if it has changed, and gives what it is then.
    pub(super) fn judge(&mut self, drops: &DropCounters) -> Result<Option<bool>> {
        let turned_away = drops.of(DropReason::SynChallenged)? + drops.of(DropReason::NewFlowLimit)?;
        let before = self.gauge.is_pressed;
        let is_pressed = self.gauge.judge(self.opened()?, turned_away);
        if is_pressed == before {
            return Ok(None);
        }
        let told = self.word.set(0, u32::from(is_pressed), 0);
        told.map_err(|error| anyhow::anyhow!("write {PRESSURE}: {}", causes(&error)))?;
        Ok(Some(is_pressed))
    }
}

/// A number that nobody guesses.
fn random() -> Result<[u64; 2]> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; 16];
    let read = File::open(SOURCE).and_then(|mut source| source.read_exact(&mut bytes));
    read.with_context(|| format!("read {SOURCE}"))?;
    let number = u128::from_ne_bytes(bytes);
    Ok([number as u64, (number >> 64) as u64])
}

/// How full tables are, and what follows from it.
#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    flows: Both,
    most: Both,
    opened: Both,
    turned_away: u64,
    /// Judgements since somebody was last turned away.
    quiet: u32,
    is_pressed: bool,
}

impl Gauge {
    /// So often in a row nobody has to have been turned away before the pressure is over: see [`super::Datapath::judge_pressure`]
    /// for how often that is asked.
    const QUIET: u32 = 8;

    const fn look(&mut self, flows: Both, most: Both, opened: Both) {
        (self.flows, self.most, self.opened) = (flows, most, opened);
    }

    /// Whether a table is under pressure when so many flows have been opened, and so many packets turned away.
    fn judge(&mut self, opened: Both, turned_away: u64) -> bool {
        let are_filled = |sixteenths: u64| {
            (0..2).any(|version| {
                let now = self.flows[version] + opened[version].saturating_sub(self.opened[version]);
                self.most[version] > 0 && now * 16 >= self.most[version] * sixteenths
            })
        };
        self.quiet = if turned_away == self.turned_away { self.quiet.saturating_add(1) } else { 0 };
        self.turned_away = turned_away;
        self.is_pressed = are_filled(8) || self.is_pressed && (are_filled(7) || self.quiet < Self::QUIET);
        self.is_pressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_full_is_pressure_until_less_is_left_and_nobody_is_turned_away() {
        let mut gauge = Gauge::default();
        assert!(!gauge.judge([5, 0], 0), "nobody has looked yet");
        gauge.look([100, 0], [1000, 500], [5, 0]);
        assert!(!gauge.judge([404, 0], 0));
        assert!(gauge.judge([405, 0], 0), "500 of 1000");
        gauge.look([438, 0], [1000, 500], [405, 0]);
        assert!((0..20).all(|_| gauge.judge([405, 0], 0)), "438 of 1000 keep it up");
        gauge.look([437, 0], [1000, 500], [405, 0]);
        let until =
            |gauge: &mut Gauge, turned_away| (0..).take_while(|_| gauge.judge([405, 0], turned_away)).count();
        assert_eq!(until(&mut gauge, 0), 0, "it has been quiet for long");
        gauge.look([0, 250], [1000, 500], [405, 0]);
        assert!(gauge.judge([405, 0], 7), "half of the other table");
        gauge.look([0, 0], [1000, 500], [405, 0]);
        assert_eq!(until(&mut gauge, 8), 8, "somebody was turned away");
    }
}
