//! `cargo xtask test`: runs the tests in tiers and adds up what libtest says.
//!
//! Nothing is skipped: a tier whose needs are not met fails, and so does one in which no test ran.

mod summary;
mod targets;

use std::{
    io::{BufRead as _, BufReader, Write as _, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;
use clap::ValueEnum;
use duct::Expression;

use self::summary::Tally;
use crate::{
    privilege::Privilege,
    process::{Programs, announce, complete, root},
    setup::{self, Mode, Need},
};

/// Namespaces, servers and captures of several tests at once share the machine: more than two make
/// timings of the smallest machine we test on (2 cores) unsteady.
const NETNS_THREADS: &str = "2";

/// A group of tests with the same needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Pure code on the host; needs nothing
    Unit,
    /// The eBPF programs, run by the kernel on made-up packets; needs root
    Prog,
    /// Real namespaces, devices and programs; needs root
    Netns,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Prog => "prog",
            Self::Netns => "netns",
        }
    }

    fn need(self) -> Need {
        match self {
            Self::Unit => Need::Build,
            Self::Prog => Need::Load,
            Self::Netns => Need::Test,
        }
    }
}

/// How one tier went.
struct Outcome {
    tier: Tier,
    tally: Tally,
    took: Duration,
}

/// Runs `tier`, or all of them; `filter` goes to each test program.
pub(crate) fn run(tier: Option<Tier>, filter: &[String]) -> Result<ExitCode> {
    let tiers = tier.map_or_else(|| Tier::value_variants().to_vec(), |tier| vec![tier]);
    let need = tiers.iter().map(|tier| tier.need()).max().unwrap_or(Need::Build);
    if need > Need::Build {
        demand_root()?;
    }
    let programs = setup::run(need, Mode::Install)?;
    let plans = plan(&tiers)?;
    // All is built before anything runs, so that a build failure is not buried.
    for invocation in plans.iter().flat_map(|plan| &plan.invocations) {
        build(&programs, invocation)?;
    }
    let mut outcomes = Vec::new();
    for plan in &plans {
        outcomes.push(run_tier(&programs, plan, filter)?);
    }
    // With a filter a tier may well have no test to run, unless it was asked for by name.
    let may_be_empty = !filter.is_empty() && tier.is_none();
    Ok(report(&outcomes, may_be_empty))
}

fn demand_root() -> Result<()> {
    if Privilege::detect(&Programs::with_first(None)?) != Privilege::Root {
        bail!(
            "the tiers prog and netns load programs into the kernel and make namespaces: they need root.\n\
             Either run `sudo --preserve-env=HOME,CARGO_HOME,RUSTUP_HOME env \"PATH=$PATH\" cargo xtask test`,\n\
             or only what needs nothing: `cargo xtask test unit`"
        );
    }
    Ok(())
}

/// The calls of `cargo test` that make up a tier.
struct Plan {
    tier: Tier,
    invocations: Vec<Vec<String>>,
}

fn plan(tiers: &[Tier]) -> Result<Vec<Plan>> {
    let metadata =
        MetadataCommand::new().current_dir(root()).no_deps().exec().context("ask cargo for the tests")?;
    let by_tier = targets::by_tier(&metadata)?;
    let plan_of = |&tier: &Tier| {
        let names = by_tier.iter().filter(|(_, other)| **other == tier);
        let mut chosen: Vec<_> = names.flat_map(|(name, _)| ["--test".to_owned(), name.clone()]).collect();
        let mut invocations = Vec::new();
        if tier == Tier::Unit {
            chosen.extend(["--lib", "--bins"].map(str::to_owned));
            invocations.push(vec!["--doc".to_owned()]);
        }
        if !chosen.is_empty() {
            invocations.insert(0, chosen);
        }
        Plan { tier, invocations }
    };
    Ok(tiers.iter().map(plan_of).collect())
}

/// `cargo test` over the whole workspace, which keeps the features of dependencies the same in each call.
fn cargo_test(programs: &Programs, chosen: &[String], more: &[&str]) -> Expression {
    let args: Vec<_> = ["test", "--workspace", "--no-fail-fast"]
        .into_iter()
        .chain(chosen.iter().map(String::as_str))
        .chain(more.iter().copied())
        .collect();
    announce("cargo", &args);
    programs.cargo(&args)
}

fn build(programs: &Programs, chosen: &[String]) -> Result<()> {
    // Documentation tests are built as they run.
    if chosen.iter().any(|arg| arg == "--doc") {
        return Ok(());
    }
    complete(&cargo_test(programs, chosen, &["--no-run"]), "the tests did not build")
}

fn run_tier(programs: &Programs, plan: &Plan, filter: &[String]) -> Result<Outcome> {
    let start = Instant::now();
    let mut tally = Tally::default();
    for chosen in &plan.invocations {
        let filter: Vec<_> = filter.iter().map(String::as_str).collect();
        let mut command = cargo_test(programs, chosen, &[&["--"], filter.as_slice()].concat());
        if plan.tier == Tier::Netns {
            command = command.env("RUST_TEST_THREADS", NETNS_THREADS);
        }
        tally += stream(&command)?;
    }
    Ok(Outcome { tier: plan.tier, tally, took: start.elapsed() })
}

/// Runs `command`, passes its output on line by line, and adds up the results in it.
fn stream(command: &Expression) -> Result<Tally> {
    let reader = command.unchecked().reader().context("start cargo test")?;
    let mut lines = BufReader::new(&reader);
    let (mut line, mut tally) = (Vec::new(), Tally::default());
    while lines.read_until(b'\n', &mut line).context("read the tests' output")? > 0 {
        stdout().write_all(&line).context("write the tests' output")?;
        if let Some(result) = Tally::from_line(&String::from_utf8_lossy(&line)) {
            tally += result;
        }
        line.clear();
    }
    let output = reader.try_wait().context("wait for cargo test")?;
    let succeeded = output.is_some_and(|output| output.status.success());
    if !succeeded && tally.failed == 0 {
        // A test program that was killed, or aborted, prints no result.
        println!("cargo test failed although no test did: a test program ended before its result");
        tally.failed = 1;
    }
    Ok(tally)
}

/// Prints the table and the closing line; tells whether all went well.
fn report(outcomes: &[Outcome], may_be_empty: bool) -> ExitCode {
    let mut total = Tally::default();
    let mut empty = Vec::new();
    println!("\n{:<6} {:>7} {:>7} {:>8} {:>8}", "tier", "passed", "failed", "ignored", "seconds");
    for Outcome { tier, tally, took } in outcomes {
        let Tally { passed, failed, ignored } = tally;
        println!("{:<6} {passed:>7} {failed:>7} {ignored:>8} {:>8.1}", tier.name(), took.as_secs_f64());
        total += *tally;
        if tally.ran() == 0 && !may_be_empty {
            empty.push(tier.name());
        }
    }
    if total.ran() == 0 && empty.is_empty() {
        empty.push("every tier");
    }
    for tier in &empty {
        println!("no test ran in {tier}");
    }
    println!("{}", total.closing_line());
    if total.failed == 0 && empty.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
