//! Figures as text: cells, rows, and the table for a terminal.

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::{Flood, Flooded, Load, Measured, Peer, Run, Spread};
use crate::bench::machine::Machine;

/// What is measured, its heading, and how a value per second becomes a figure.
type Column = (Load, &'static str, fn(f64) -> String);

/// The columns.
const COLUMNS: [Column; 6] = [
    (Load::Packets, "Mpps", |value| significant(value / 1e6)),
    (Load::Requests, "RR µs", |value| format!("{:.2}", 1e6 / value)),
    (Load::Connections, "CRR/s", |value| format!("{value:.0}")),
    (Load::Resets, "CRR/s (RST)", |value| format!("{value:.0}")),
    (Load::Stream, "TCP Gbps", |value| format!("{:.1}", value / 1e9)),
    (Load::Refused, "refused Mpps", |value| significant(value / 1e6)),
];

/// The headings of [`rows`].
pub(super) fn headings(loads: &[Load]) -> Vec<String> {
    let columns = COLUMNS.iter().filter(|(load, ..)| loads.contains(load));
    let names = columns.flat_map(|(_, name, _)| [(*name).to_owned(), "of direct".to_owned()]);
    ["peer".to_owned()].into_iter().chain(names).collect()
}

/// One row for each peer: name, and median and ratio with its spread for each load. Who is not there says why.
pub(super) fn rows<'a>(peers: impl Iterator<Item = &'a Peer>, loads: &[Load]) -> Vec<Vec<String>> {
    peers.map(|peer| row(peer, loads)).collect()
}

fn row(peer: &Peer, loads: &[Load]) -> Vec<String> {
    let mut cells = vec![peer.name.clone()];
    if let Some(why) = &peer.absent {
        cells.push(format!("not here: {why}"));
        return cells;
    }
    for (load, _, figure) in COLUMNS.iter().filter(|(load, ..)| loads.contains(load)) {
        let results = peer.results(*load);
        let value = results.and_then(super::Results::value);
        cells.push(value.map_or_else(String::new, |spread| figure(spread.median)));
        // For a time, less is better: that of *direct* is in the same relation.
        cells.push(
            results.and_then(super::Results::ratio).map_or_else(String::new, |spread| ratio(*load, spread)),
        );
    }
    cells
}

/// What was measured of any of `peers`.
fn loads<'a>(peers: impl Iterator<Item = &'a Peer> + Clone) -> Vec<Load> {
    let is_measured = |load: &Load| peers.clone().any(|peer| peer.results(*load).is_some());
    COLUMNS.iter().map(|(load, ..)| *load).filter(is_measured).collect()
}

/// The headings of [`pairs`].
pub(super) fn pair_headings() -> Vec<String> {
    let names = COLUMNS.iter().map(|(_, name, _)| (*name).to_owned());
    ["in the same rounds".to_owned()].into_iter().chain(names).collect()
}

/// One row for each peer that is held against another one: both names, and the ratio with its spread for each load.
pub(super) fn pairs(measured: &Measured) -> Vec<Vec<String>> {
    let row = |(peer, other): (&Peer, &Peer)| {
        let cells = COLUMNS.iter().map(|(load, ..)| {
            let both = peer.results(*load).zip(other.results(*load));
            let spread = both.and_then(|(results, other)| results.ratio_to(other));
            spread.map_or_else(String::new, |spread| ratio(*load, spread))
        });
        [format!("{} of {}", peer.name, other.name)].into_iter().chain(cells).collect()
    };
    measured.pairs().map(row).collect()
}

/// The headings of [`floods`].
pub(super) fn flood_headings() -> Vec<String> {
    ["during a flood", "CRR/s before", "during", "of before", "flood, Mpps"].map(str::to_owned).into()
}

/// One row for each peer that was flooded: its connections before and during the flood, and how fast the flood was.
pub(super) fn floods(measured: &Measured) -> Vec<Vec<String>> {
    measured.floods.iter().map(flood).collect()
}

fn flood(peer: &Flooded) -> Vec<String> {
    let mut cells = vec![peer.name.clone()];
    if let Some(why) = &peer.absent {
        cells.push(format!("not here: {why}"));
        return cells;
    }
    let told = |value: fn(&Flood) -> f64, figure: fn(Spread) -> String| {
        Spread::of(peer.rounds.iter().map(value)).map_or_else(String::new, figure)
    };
    let whole = |spread: Spread| format!("{:.0}", spread.median);
    cells.push(told(|round| round.before, whole));
    cells.push(told(|round| round.during, whole));
    cells.push(told(Flood::left, |spread| ratio(Load::Connections, spread)));
    cells.push(told(|round| round.syns, |spread| significant(spread.median / 1e6)));
    cells
}

/// A ratio and its spread; for the time of a request, the inverse of that of requests per second.
fn ratio(load: Load, spread: Spread) -> String {
    let Spread { median, min, max } = if load == Load::Requests { spread.inverse() } else { spread };
    format!("{} ({}–{})", significant(median), significant(min), significant(max))
}

/// Two decimals, or more where they would be nought.
pub(super) fn significant(value: f64) -> String {
    if value < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") }
}

/// How quiet the machine was.
pub(super) fn quiet(measured: &Measured) -> String {
    measured.runs.iter().filter_map(quiet_in).collect::<Vec<_>>().join("; ")
}

fn quiet_in(run: &Run) -> Option<String> {
    let direct = run.peers.first()?;
    let told = direct.results.iter().filter_map(|results| {
        let counted = results.drift.iter().filter(|drift| **drift <= 0.05).count();
        let name = COLUMNS.iter().find(|(load, ..)| *load == results.load)?.1;
        Some(match counted {
            0 => format!("{name} none (all of them are shown: take them as a hint)"),
            counted => format!("{name} {counted}"),
        })
    });
    let told = told.collect::<Vec<_>>().join(", ");
    Some(format!("{}: {} rounds, legs that count, of {}: {told}", direct.name, run.rounds, run.legs))
}

/// The whole report for a terminal.
pub(super) fn table(machine: &Machine, measured: &Measured) -> String {
    let loads = loads(measured.peers());
    let peers = aligned(headings(&loads), rows(measured.peers(), &loads));
    let mut more = String::new();
    for (headings, rows) in [(pair_headings(), pairs(measured)), (flood_headings(), floods(measured))] {
        if !rows.is_empty() {
            more += &format!("\n{}\n", aligned(headings, rows));
        }
    }
    let Machine { commit, kernel, cpu, cpus } = machine;
    let quiet = quiet(measured);
    format!(
        "commit {commit}, Linux {kernel}, {cpu}, {cpus} CPUs\nmedian, and least to greatest; {quiet}\n{peers}\n{more}"
    )
}

/// Columns of figures, aligned on the right.
fn aligned(headings: Vec<String>, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    let columns = headings.len();
    table.load_preset(NOTHING).set_header(headings).add_rows(rows);
    for column in 1..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
