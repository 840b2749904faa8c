//! `cargo xtask bench prog`: what each way through the programs costs, beside what it cost at the baseline.
//!
//! The baseline is in the repository, one for each model of CPU. A way has become slower if it takes more
//! time **and** more of the yardstick's time, which is measured in the same run: a machine that is slower
//! today changes the first only, a disturbed yardstick the second only. On a model without a baseline only
//! the second can be asked, and answers roughly, since two models differ in what they are good at.

use std::{cmp::Ordering, collections::BTreeMap, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::{Deserialize, Serialize};

use super::{Format, example, machine::Machine, prepare};
use crate::process::{Programs, root};

/// Where the baselines are.
const BASELINES: &str = "docs/bench-prog.json";
/// How much slower is a regression.
const LIMIT: f64 = 0.05;
/// The same on another model of CPU than the baseline's.
const LIMIT_ELSEWHERE: f64 = 0.25;
/// ns that are no difference: the kernel tells whole ones, of the program and of its floor.
const GRAIN_NS: f64 = 2.0;
/// How often ways are measured before they count as slower, and for a baseline: what disturbs them goes
/// away, a regression does not. Each time the programs are loaded anew, and lie elsewhere in memory.
const ATTEMPTS: u32 = 3;

/// How it is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Store the result as the baseline of this model of CPU
    #[arg(long, conflicts_with = "only")]
    save: bool,
    /// Only the ways whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// How often each way is measured; the best counts
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Packets in each measurement
    #[arg(long, default_value_t = 200_000)]
    repeat: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { save: false, only: String::new(), rounds: 7, repeat: 200_000 }
    }
}

/// What the example prints.
#[derive(Clone, Debug, Deserialize)]
struct Measured {
    reference_ns: f64,
    programs: Vec<Way>,
}

/// One way through a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Way {
    name: String,
    /// More than an empty program behind the same driver.
    ns: f64,
    floor_ns: f64,
    longest_ns: f64,
}

impl Measured {
    /// The better of two.
    fn better(mut self, other: Self) -> Self {
        self.reference_ns = self.reference_ns.min(other.reference_ns);
        for (way, other) in self.programs.iter_mut().zip(other.programs) {
            let longest_ns = way.longest_ns.max(other.longest_ns);
            if other.ns < way.ns {
                *way = other;
            }
            way.longest_ns = longest_ns;
        }
        self
    }
}

/// What one model of CPU once took.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Baseline {
    #[serde(flatten)]
    machine: Machine,
    reference_ns: f64,
    ns: BTreeMap<String, f64>,
}

/// A way beside its baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    #[serde(flatten)]
    way: Way,
    baseline_ns: Option<f64>,
    /// How much slower than the baseline: 0.05 is 5 %.
    change: Option<f64>,
    regression: bool,
}

/// Everything, as it is printed.
#[derive(Clone, Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    reference_ns: f64,
    /// Of another machine, if its model of CPU is not this one's.
    baseline: Option<Machine>,
    programs: Vec<Row>,
}

/// Measures and prints, and stores if `options` says so.
pub(crate) fn run(options: Options, format: Format) -> Result<ExitCode> {
    let programs = prepare()?;
    let mut measured = measure(&programs, &options)?;
    if options.save {
        for _ in 1..ATTEMPTS {
            measured = measured.better(measure(&programs, &options)?);
        }
    }
    let machine = Machine::look(&programs)?;
    let baselines = stored()?;
    let report = Report::new(&machine, &measured, &baselines);
    match format {
        Format::Table => print!("{}", report.table()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report).context("write JSON")?),
    }
    if options.save {
        store(baselines, machine, &measured)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if a way has become slower, by name.
pub(crate) fn check() -> Result<()> {
    let programs = prepare()?;
    let machine = Machine::look(&programs)?;
    let baselines = stored()?;
    let mut measured = measure(&programs, &Options::default())?;
    for attempt in 1.. {
        let report = Report::new(&machine, &measured, &baselines);
        let slower = report.regressions();
        if slower.is_empty() || attempt == ATTEMPTS {
            print!("{}", report.table());
            return if slower.is_empty() { Ok(()) } else { bail!("slower than {BASELINES}: {slower}") };
        }
        println!("once more, as this was slower: {slower}");
        measured = measured.better(measure(&programs, &Options::default())?);
    }
    unreachable!("the last attempt returns")
}

/// What each way costs more than an empty program. ns.
pub(super) fn measure_all(programs: &Programs) -> Result<Vec<(String, f64)>> {
    let measured = measure(programs, &Options::default())?;
    Ok(measured.programs.into_iter().map(|way| (way.name, way.ns)).collect())
}

fn measure(programs: &Programs, options: &Options) -> Result<Measured> {
    let Options { only, rounds, repeat, .. } = options;
    let options = [
        ("BENCH_ONLY", only.clone()),
        ("BENCH_ROUNDS", rounds.to_string()),
        ("BENCH_REPEAT", repeat.to_string()),
    ];
    let measured: Measured = example(programs, "bench_prog", options)?;
    if measured.programs.is_empty() {
        bail!("no way has {only:?} in its name: `cargo xtask bench prog` prints all of them");
    }
    Ok(measured)
}

fn stored() -> Result<Vec<Baseline>> {
    let path = root().join(BASELINES);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).context(BASELINES)?;
    serde_json::from_str(&text).context(BASELINES)
}

fn store(mut baselines: Vec<Baseline>, machine: Machine, measured: &Measured) -> Result<()> {
    baselines.retain(|baseline| baseline.machine.cpu != machine.cpu);
    let ns = measured.programs.iter().map(|way| (way.name.clone(), way.ns)).collect();
    baselines.push(Baseline { machine, reference_ns: measured.reference_ns, ns });
    let text = serde_json::to_string_pretty(&baselines).context("write JSON")?;
    fs::write(root().join(BASELINES), text + "\n").context(BASELINES)?;
    eprintln!("stored in {BASELINES}");
    Ok(())
}

impl Report {
    fn new(machine: &Machine, measured: &Measured, baselines: &[Baseline]) -> Self {
        let own = baselines.iter().find(|baseline| baseline.machine.cpu == machine.cpu);
        let baseline = own.or(baselines.first());
        let row = |way: &Way| {
            let then = baseline.and_then(|baseline| Some((baseline, *baseline.ns.get(&way.name)?)));
            let compared = then.map(|(baseline, then)| {
                // How long it would take if the yardstick took as long as then.
                let scaled = way.ns * baseline.reference_ns / measured.reference_ns;
                match own {
                    Some(_) => slower(way.ns.min(scaled), then, LIMIT),
                    None => slower(scaled, then, LIMIT_ELSEWHERE),
                }
            });
            Row {
                way: way.clone(),
                baseline_ns: then.map(|(_, then)| then),
                change: compared.map(|(change, _)| change),
                regression: compared.is_some_and(|(_, regression)| regression),
            }
        };
        Self {
            machine: machine.clone(),
            reference_ns: measured.reference_ns,
            baseline: baseline.map(|baseline| baseline.machine.clone()),
            programs: measured.programs.iter().map(row).collect(),
        }
    }

    /// The ways that have become slower, and by how much; empty if there are none.
    fn regressions(&self) -> String {
        let slower = self.programs.iter().filter(|row| row.regression);
        let told =
            slower.map(|row| format!("{} ({})", row.way.name, percent(row.change.unwrap_or_default())));
        told.collect::<Vec<_>>().join(", ")
    }

    fn table(&self) -> String {
        let Machine { commit, kernel, cpu, .. } = &self.machine;
        let mut text = format!("commit {commit}, Linux {kernel}, {cpu}\n");
        text += "ns more than an empty program, the best of all rounds; the longest of them\n";
        match &self.baseline {
            Some(baseline) if baseline.cpu == *cpu => {
                text += &format!("baseline: commit {}, Linux {}\n", baseline.commit, baseline.kernel);
            }
            Some(baseline) => {
                text += &format!(
                    "no baseline of this CPU: compared with {} by what the yardstick takes; up to {} is no regression\n",
                    baseline.cpu,
                    percent(LIMIT_ELSEWHERE)
                );
            }
            None => text += "no baseline: `--save` stores one\n",
        }
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(["program", "ns", "longest", "baseline", "change", ""]);
        for row in &self.programs {
            let Row { way, baseline_ns, change, regression } = row;
            table.add_row([
                way.name.clone(),
                format!("{:.0}", way.ns),
                format!("{:.0}", way.longest_ns),
                baseline_ns.map_or_else(String::new, |ns| format!("{ns:.0}")),
                change.map_or_else(String::new, percent),
                if *regression { "slower".to_owned() } else { String::new() },
            ]);
        }
        for column in 1..=4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text + &format!("{table}\n")
    }
}

/// How much slower `now` is than `then`, and whether that is a regression.
fn slower(now: f64, then: f64, limit: f64) -> (f64, bool) {
    let more = now - then;
    // Nothing that costs nothing has become slower by a part of it.
    let change = if then.total_cmp(&1.0) == Ordering::Less { 0.0 } else { more / then };
    (change, more > (then * limit).max(GRAIN_NS))
}

fn percent(part: f64) -> String {
    format!("{:+.1} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpu: &str) -> Machine {
        Machine { commit: "c".to_owned(), kernel: "6.18".to_owned(), cpu: cpu.to_owned(), cpus: 2 }
    }

    fn measured(reference_ns: f64, ns: f64) -> Measured {
        let way = Way { name: "out".to_owned(), ns, floor_ns: 30.0, longest_ns: ns };
        Measured { reference_ns, programs: vec![way] }
    }

    fn baseline(cpu: &str) -> Vec<Baseline> {
        let ns = BTreeMap::from([("out".to_owned(), 100.0)]);
        vec![Baseline { machine: machine(cpu), reference_ns: 1000.0, ns }]
    }

    fn regressions(on: &str, measured: &Measured) -> String {
        Report::new(&machine(on), measured, &baseline("x")).regressions()
    }

    #[test]
    fn a_way_that_takes_more_than_five_percent_longer_is_named() {
        assert_eq!(regressions("x", &measured(1000.0, 106.0)), "out (+6.0 %)");
        assert_eq!(regressions("x", &measured(1000.0, 105.0)), "");
    }

    #[test]
    fn a_slower_machine_is_no_regression() {
        assert_eq!(regressions("x", &measured(1100.0, 110.0)), "");
        // Nor is a disturbed yardstick.
        assert_eq!(regressions("x", &measured(900.0, 100.0)), "");
    }

    #[test]
    fn another_cpu_is_compared_by_the_yardstick() {
        assert_eq!(regressions("y", &measured(500.0, 60.0)), "");
        assert_eq!(regressions("y", &measured(500.0, 65.0)), "out (+30.0 %)");
        let report = Report::new(&machine("y"), &measured(500.0, 60.0), &baseline("x"));
        assert!(report.table().contains("no baseline of this CPU: compared with x"));
    }

    #[test]
    fn a_ns_is_no_difference() {
        assert_eq!(slower(12.0, 10.0, LIMIT), (0.2, false));
        assert_eq!(slower(2.0, 0.0, LIMIT), (0.0, false));
        assert!(slower(13.0, 10.0, LIMIT).1);
    }

    #[test]
    fn the_better_of_two_runs_counts() {
        let better = measured(1000.0, 110.0).better(measured(1010.0, 100.0));
        assert_eq!((better.reference_ns, better.programs[0].ns), (1000.0, 100.0));
        assert_eq!(better.programs[0].longest_ns, 110.0);
    }
}
