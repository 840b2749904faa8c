//! Whether a flow table fills up, and what the programs are told of it.
//!
//! Each look at the tables, to forget silent flows, finds out how many flows there are; what has been opened since is
//! counted by the programs. With half of a table in use, it is under pressure: who asks from outside has to show that they
//! are there, and flows that do not come about are limited (`vnet_ebpf::stages::admit`). That ends when 7 of 16 are left and
//! nobody has been turned away for it for a while. How a fuller table is shared out, [`Level`] tells.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use vnet_common::{DropReason, Pressure as Level, limits::LARGEST_PART};

use super::{drops::DropCounters, flows::Expired, links::causes, tables};

const PRESSURE: &str = "PRESSURE";
const OPENED: &str = "OPENED";
const SECRET: &str = "SECRET";
const HAVE_MOST: &str = "HAVE_MOST";

/// Counts of both IP versions, IPv4's first.
pub(super) type Both = [u64; 2];

/// What the programs are told, and what it follows from.
pub(super) struct Pressure {
    word: Array<MapData, u32>,
    opened: PerCpuArray<MapData, u64>,
    have_most: HashMap<MapData, u32, u32>,
    gauge: Gauge,
    openers: Openers,
}

impl Pressure {
    /// Opens the maps of an object that has just been made, and gives its programs their secret.
    pub(super) fn take(object: &Ebpf) -> Result<Self> {
        let mut secret: Array<MapData, [u64; 2]> = tables::open_map(object, SECRET)?;
        secret.set(0, random()?, 0).map_err(|error| anyhow::anyhow!("write {SECRET}: {}", causes(&error)))?;
        let (word, opened) = (tables::open_map(object, PRESSURE)?, tables::open_map(object, OPENED)?);
        let have_most = tables::open_map(object, HAVE_MOST)?;
        Ok(Self { word, opened, have_most, gauge: Gauge::default(), openers: Openers::new() })
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
    pub(super) fn is_pressed(&self) -> bool {
        self.gauge.level != Level::None
    }

    /// Notes what a look at the tables has found; before it, `opened` flows had been opened. Tells the programs who has
    /// opened most.
    pub(super) fn look(&mut self, [v4, v6]: [Expired; 2], opened: Both) -> Result<()> {
        let most = [v4.most, v6.most];
        self.gauge.look([v4.left, v6.left], most, opened);
        let failed = |error: &dyn std::error::Error| anyhow::anyhow!("write {HAVE_MOST}: {}", causes(error));
        let have_most: BTreeSet<u32> = have_most(&self.openers, most).collect();
        let known: BTreeSet<u32> =
            self.have_most.keys().collect::<Result<_, _>>().map_err(|error| failed(&error))?;
        // First: there is room for as many as there can be.
        for device in known.difference(&have_most) {
            self.have_most.remove(device).map_err(|error| failed(&error))?;
        }
        have_most
            .difference(&known)
            .try_for_each(|device| self.have_most.insert(device, 1, 0).map_err(|error| failed(&error)))
    }

    /// Where such a look counts who has opened flows; nowhere without pressure.
    pub(super) fn count_openers(&mut self) -> Option<&mut Openers> {
        self.openers.clear();
        self.is_pressed().then_some(&mut self.openers)
    }

    /// At which devices, or links, the flows were opened that the last look has counted; most first.
    pub(super) fn openers(&self) -> Vec<(u32, u64)> {
        let mut openers: Vec<_> =
            self.openers.iter().map(|(device, opened)| (*device, opened.flows)).collect();
        openers.sort_by_key(|(_, flows)| Reverse(*flows));
        openers
    }

    /// Tells the programs if it has changed; whether there is pressure then, if that has changed.
    pub(super) fn judge(&mut self, drops: &DropCounters) -> Result<Option<bool>> {
        let reasons = [
            DropReason::SynChallenged,
            DropReason::NewFlowLimit,
            DropReason::FlowQuota,
            DropReason::FlowTableFull,
        ];
        let turned_away = reasons.into_iter().map(|reason| drops.of(reason)).sum::<Result<u64>>()?;
        let before = self.gauge.level;
        let level = self.gauge.judge(self.opened()?, turned_away);
        if level == before {
            return Ok(None);
        }
        let told = self.word.set(0, level as u32, 0);
        told.map_err(|error| anyhow::anyhow!("write {PRESSURE}: {}", causes(&error)))?;
        let [was_pressed, is_pressed] = [before, level].map(|level| level != Level::None);
        Ok((was_pressed != is_pressed).then_some(is_pressed))
    }
}

/// What was opened at a device, or by a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// Flows.
    pub(super) flows: u64,
    /// Those of them that have come about.
    pub(super) established: Both,
}

/// By device, or link.
pub(super) type Openers = BTreeMap<u32, Opened>;

/// Who has opened more than anybody may of a crowded table. What does not come about is soon forgotten, and others may have
/// sent it under false addresses: it does not count.
fn have_most(openers: &Openers, most: Both) -> impl Iterator<Item = u32> {
    let has_most = move |opened: &Opened| {
        (0..2).any(|version| opened.established[version] > most[version] / u64::from(LARGEST_PART))
    };
    openers.iter().filter(move |(_, opened)| has_most(opened)).map(|(device, _)| *device)
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
    level: Level,
}

impl Gauge {
    /// So often in a row nobody has to have been turned away before the pressure is over: see [`super::Datapath::judge_pressure`]
    /// for how often that is asked.
    const QUIET: u32 = 8;

    const fn look(&mut self, flows: Both, most: Both, opened: Both) {
        (self.flows, self.most, self.opened) = (flows, most, opened);
    }

    /// How full the fuller table is when so many flows have been opened, and so many packets turned away.
    fn judge(&mut self, opened: Both, turned_away: u64) -> Level {
        let now = |version: usize| self.flows[version] + opened[version].saturating_sub(self.opened[version]);
        let level =
            (0..2).map(|version| Level::of(now(version), self.most[version])).max().unwrap_or_default();
        let are_filled =
            (0..2).any(|version| self.most[version] > 0 && now(version) * 16 >= self.most[version] * 7);
        self.quiet = if turned_away == self.turned_away { self.quiet.saturating_add(1) } else { 0 };
        self.turned_away = turned_away;
        let lasts = self.level != Level::None && (are_filled || self.quiet < Self::QUIET);
        self.level = if lasts { level.max(Level::Filling) } else { level };
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_full_is_pressure_until_less_is_left_and_nobody_is_turned_away() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.judge([5, 0], 0), Level::None, "nobody has looked yet");
        gauge.look([100, 0], [1000, 500], [5, 0]);
        assert_eq!(gauge.judge([404, 0], 0), Level::None);
        assert_eq!(gauge.judge([405, 0], 0), Level::Filling, "500 of 1000");
        assert_eq!(gauge.judge([655, 0], 0), Level::Crowded, "750 of 1000");
        assert_eq!(gauge.judge([843, 0], 0), Level::Reserved, "938 of 1000");
        gauge.look([438, 0], [1000, 500], [405, 0]);
        let is_filling =
            |gauge: &mut Gauge, turned_away| gauge.judge([405, 0], turned_away) == Level::Filling;
        assert!((0..20).all(|_| is_filling(&mut gauge, 0)), "438 of 1000 keep it up");
        gauge.look([437, 0], [1000, 500], [405, 0]);
        let until =
            |gauge: &mut Gauge, turned_away| (0..).take_while(|_| is_filling(gauge, turned_away)).count();
        assert_eq!(until(&mut gauge, 0), 0, "it has been quiet for long");
        gauge.look([0, 250], [1000, 500], [405, 0]);
        assert!(is_filling(&mut gauge, 7), "half of the other table");
        gauge.look([0, 0], [1000, 500], [405, 0]);
        assert_eq!(until(&mut gauge, 8), 8, "somebody was turned away");
    }

    #[test]
    fn who_has_opened_more_than_a_quarter_of_either_table_has_most() {
        let opened = |device, established| (device, Opened { flows: 700, established });
        let openers =
            [opened(1, [250, 0]), opened(2, [251, 0]), opened(3, [0, 126]), opened(4, [200, 125])].into();
        assert_eq!(have_most(&openers, [1000, 500]).collect::<Vec<_>>(), [2, 3]);
    }
}
