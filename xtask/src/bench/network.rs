//! `cargo xtask bench`: vnet and its peers with real packets, as a table; the full run also as
//! `docs/benchmarks.md` with its plots.

mod figures;
mod markdown;
mod plot;
mod targets;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::figures::table;
use super::{
    Format, Measure, Sizes, build, machine::Machine, measure_controller, prepare, prog, target_folder,
};
use crate::build::RELEASE;

/// What is measured, and how often.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// All peers, all numbers of rules and flows, floods, programs and controller; writes docs/benchmarks.md, unless --only
    /// is given, which leaves the last two out
    #[arg(long)]
    full: bool,
    /// Only peers whose name contains this, and whom they are held against; may be given again
    #[arg(long)]
    only: Vec<String>,
    /// Rounds that have to count
    #[arg(long)]
    rounds: Option<usize>,
}

/// What the measuring program prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    runs: Vec<Run>,
    floods: Vec<Flooded>,
}

/// What else belongs to a full run.
#[derive(Clone, Debug, Default)]
struct More {
    /// What each way through the programs costs. ns.
    programs: Vec<(String, f64)>,
    controller: Vec<Measure>,
}

/// What was measured in the same rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    /// How often each peer was measured.
    rounds: usize,
    /// Stretches between two measurements of *direct*, those that did not count included.
    legs: usize,
    peers: Vec<Peer>,
}

/// What was measured of a peer that was flooded.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flooded {
    name: String,
    what: String,
    /// Why it is not there.
    absent: Option<String>,
    rounds: Vec<Flood>,
}

/// What was measured before and during a flood, per second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Flood {
    /// Connections before.
    before: f64,
    /// Connections during the flood.
    during: f64,
    /// Packets of the flood.
    syns: f64,
}

/// What was measured of a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Peer {
    name: String,
    what: String,
    group: Group,
    /// The curve that it is a point of, and where: by the number of rules, or of flows.
    curve: Option<(String, u32)>,
    /// The peers that it is held against, besides *direct*.
    beside: Vec<String>,
    /// Why it is not there.
    absent: Option<String>,
    /// How long its rules took to be put in force. s.
    applied_s: Option<f64>,
    results: Vec<Results>,
}

/// Peers that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Group {
    Limit,
    Paths,
    Rules,
    Translation,
    Segments,
    Refused,
    Flows,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Load {
    Packets,
    Requests,
    Connections,
    Resets,
    Stream,
    Refused,
}

/// Values of one load, one for each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Results {
    load: Load,
    /// Per second.
    values: Vec<f64>,
    of_direct: Vec<f64>,
    drift: Vec<f64>,
    counts: Vec<bool>,
}

/// Measures, prints, and writes the document after a full run.
pub(crate) fn run(options: &Options, format: Format) -> Result<ExitCode> {
    let measured = measure(options)?;
    let programs = prepare()?;
    let machine = Machine::look(&programs)?;
    match format {
        Format::Table => print!("{}", table(&machine, &measured)),
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&(&machine, &measured)).context("write JSON")?)
        }
    }
    if options.full && options.only.is_empty() {
        let more = More {
            programs: prog::measure_all(&programs)?,
            controller: measure_controller(&programs, Sizes::USUAL)?,
        };
        markdown::write(&machine, &measured, &more)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> Result<Measured> {
    let programs = prepare()?;
    build(&programs, &["--package", "vnet-ctl", "--bin", "vnet-ctl"])?;
    build(&programs, &["--package", "vnet-bench"])?;
    let release = target_folder()?.join(RELEASE);
    let mut args = vec![if options.full { "full" } else { "quick" }.to_owned()];
    args.extend(options.only.iter().flat_map(|word| ["--only".to_owned(), word.clone()]));
    args.extend(options.rounds.iter().flat_map(|rounds| ["--rounds".to_owned(), rounds.to_string()]));
    let program = release.join("vnet-bench");
    let command = programs.command(&program, &args).env("VNET_CTL", release.join("vnet-ctl"));
    // An error tells what it is about; where it was made does not help.
    let output = command
        .env("RUST_LIB_BACKTRACE", "0")
        .read()
        .with_context(|| format!("run {}", program.display()))?;
    let json = output.lines().last().context("it printed nothing")?;
    serde_json::from_str(json).context("read what it measured")
}

impl Flood {
    /// What part of the connections was left.
    fn left(&self) -> f64 {
        self.during / self.before
    }
}

impl Measured {
    /// All peers.
    fn peers(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.runs.iter().flat_map(|run| &run.peers)
    }

    /// The peers of a group.
    fn of(&self, group: Group) -> impl Iterator<Item = &Peer> {
        self.peers().filter(move |peer| peer.group == group)
    }

    /// Peers that are held against another one, with that one, if both were measured.
    fn pairs(&self) -> impl Iterator<Item = (&Peer, &Peer)> {
        self.runs.iter().flat_map(Run::pairs)
    }
}

impl Run {
    fn pairs(&self) -> impl Iterator<Item = (&Peer, &Peer)> {
        let named = |name: &String| self.peers.iter().find(|peer| peer.name == *name);
        self.peers
            .iter()
            .flat_map(move |peer| peer.beside.iter().filter_map(named).map(move |other| (peer, other)))
    }
}

impl Peer {
    fn results(&self, load: Load) -> Option<&Results> {
        self.results.iter().find(|results| results.load == load)
    }
}

impl Results {
    /// Median, least and greatest of those that count.
    fn spread(&self, values: &[f64]) -> Option<Spread> {
        let counted = values.iter().zip(&self.counts).filter(|(_, counts)| **counts);
        Spread::of(counted.map(|(value, _)| *value))
    }

    fn value(&self) -> Option<Spread> {
        self.spread(&self.values)
    }

    fn ratio(&self) -> Option<Spread> {
        self.spread(&self.of_direct)
    }

    /// The ratio to what `other` did in the same rounds, each as part of *direct*: the machine may have been faster for one.
    fn ratio_to(&self, other: &Self) -> Option<Spread> {
        let ratios: Vec<f64> =
            self.of_direct.iter().zip(&other.of_direct).map(|(own, other)| own / other).collect();
        let counts = self.counts.iter().zip(&other.counts).map(|(own, other)| *own && *other).collect();
        let both = Self { counts, ..self.clone() };
        both.spread(&ratios).or_else(|| self.spread(&ratios))
    }
}

/// A median, and between what values it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Of a time, from that of how often in a time.
    fn inverse(self) -> Self {
        Self { median: 1.0 / self.median, min: 1.0 / self.max, max: 1.0 / self.min }
    }

    /// That of `values`; none of nothing.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(values: [f64; 4]) -> Results {
        Results {
            load: Load::Packets,
            values: values.into(),
            of_direct: values.map(|value| value / 10.0).into(),
            drift: vec![0.0, 0.5, 0.0, 0.0],
            counts: vec![true, false, true, true],
        }
    }

    #[test]
    fn rounds_that_do_not_count_are_left_out() {
        let results = results([1.0, 9.0, 3.0, 2.0]);
        assert_eq!(results.value(), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(results.ratio(), Some(Spread { median: 0.2, min: 0.1, max: 0.3 }));
    }

    #[test]
    fn two_peers_are_compared_round_by_round() {
        let (one, other) = (results([1.0, 9.0, 3.0, 8.0]), results([2.0, 1.0, 3.0, 2.0]));
        assert_eq!(one.ratio_to(&other), Some(Spread { median: 1.0, min: 0.5, max: 4.0 }));
    }

    #[test]
    fn what_the_measuring_program_prints_is_read() {
        let json = r#"{"runs":[{"rounds":1,"legs":1,"peers":[{"name":"direct 1k flows","what":"a veth","group":"flows",
            "curve":["direct",1000],"beside":["bridge"],"absent":null,"applied_s":null,
            "results":[{"load":"packets","values":[1.0],"of_direct":[1.0],"drift":[0.0],"counts":[true]}]}]}],
            "floods":[{"name":"vnet","what":"forwards","absent":null,"rounds":[{"before":2.0,"during":1.0,"syns":9.0}]}]}"#;
        let measured: Measured = serde_json::from_str(json).expect("JSON");
        let direct = measured.of(Group::Flows).next().expect("a peer");
        assert!(direct.results(Load::Packets).is_some());
    }
}
