//! `cargo xtask bench`: builds with optimisations, measures, and prints a table or JSON.
//!
//! The measuring itself is done by examples of the package vnet-tests, which know how to make small
//! hosts of their own; each prints one JSON array of [`Measure`]s.

mod machine;
pub(crate) mod network;
pub(crate) mod prog;
mod table;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::{machine::Machine, table::table};
use crate::{
    build::RELEASE,
    privilege::Privilege,
    process::{Programs, complete, root},
    setup::{self, Mode, Need},
};

/// What can be measured besides the network.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Subject {
    /// The controller: 100,000 rules, 10,000 prefixes, 1,000 groups, 2,000 ports, kill -9 under traffic
    Controller(Sizes),
    /// The programs: ns per packet, way by way, beside the stored baseline
    Prog(prog::Options),
}

/// How much of everything.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Rules of the large policy
    #[arg(long, default_value_t = Self::USUAL.rules)]
    rules: usize,
    /// Prefixes of the list that a rule names
    #[arg(long, default_value_t = Self::USUAL.prefixes)]
    prefixes: usize,
    /// Groups of a policy, 50 for each port
    #[arg(long, default_value_t = Self::USUAL.groups)]
    groups: usize,
    /// Ports of a policy
    #[arg(long, default_value_t = Self::USUAL.declared_ports)]
    declared_ports: usize,
    /// Ports that are created through the API
    #[arg(long, default_value_t = Self::USUAL.ports)]
    ports: usize,
    /// How often the daemon is killed
    #[arg(long, default_value_t = Self::USUAL.kills)]
    kills: usize,
}

impl Sizes {
    const USUAL: Self =
        Self { rules: 100_000, prefixes: 10_000, groups: 1000, declared_ports: 2000, ports: 1000, kills: 30 };
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for a person
    #[default]
    Table,
    /// One JSON object: the machine, the commit, and all measures
    Json,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Measure {
    /// What it belongs to; figures of one part are printed together.
    part: String,
    /// What was measured.
    what: String,
    value: f64,
    unit: String,
}

/// All figures of a run, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    measures: Vec<Measure>,
}

/// Measures `subject`, or the network, and prints the result as `format`.
pub(crate) fn run(subject: Option<Subject>, network: &network::Options, format: Format) -> Result<ExitCode> {
    match subject {
        None => network::run(network, format),
        Some(Subject::Controller(sizes)) => controller(sizes, format),
        Some(Subject::Prog(options)) => prog::run(options, format),
    }
}

fn controller(sizes: Sizes, format: Format) -> Result<ExitCode> {
    let programs = prepare()?;
    let measures = measure_controller(&programs, sizes)?;
    let report = Report { machine: Machine::look(&programs)?, measures };
    match format {
        Format::Table => print!("{}", table(&report)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report).context("write JSON")?),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_controller(programs: &Programs, sizes: Sizes) -> Result<Vec<Measure>> {
    let Sizes { rules, prefixes, groups, declared_ports, ports, kills } = sizes;
    let sizes = [
        ("BENCH_RULES", rules),
        ("BENCH_PREFIXES", prefixes),
        ("BENCH_GROUPS", groups),
        ("BENCH_DECLARED_PORTS", declared_ports),
        ("BENCH_PORTS", ports),
        ("BENCH_KILLS", kills),
    ];
    example(programs, "bench_controller", sizes.map(|(name, size)| (name, size.to_string())))
}

/// The machine made ready for measuring.
fn prepare() -> Result<Programs> {
    if Privilege::detect(&Programs::with_first(None)?) != Privilege::Root {
        bail!("a benchmark makes namespaces and loads programs into the kernel: run it as root");
    }
    setup::run(Need::Test, Mode::InstallAside)
}

/// Builds an example of vnet-tests and runs it with `options` in its environment; what it measured.
fn example<T: DeserializeOwned>(
    programs: &Programs,
    name: &str,
    options: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<T> {
    build(programs, &["--package", "vnet-ctl", "--bin", "vnet-ctl"])?;
    build(programs, &["--package", "vnet-tests", "--example", name])?;
    let release = target_folder()?.join(RELEASE);
    let program = release.join("examples").join(name);
    let none: [&str; 0] = [];
    let mut command = programs.command(&program, &none).env("VNET_CTL", release.join("vnet-ctl"));
    for (name, value) in options {
        command = command.env(name, value);
    }
    let output = command.read().with_context(|| format!("run {}", program.display()))?;
    // Whatever else it printed comes before.
    let json = output.lines().last().context("it printed nothing")?;
    serde_json::from_str(json).context("read what it measured")
}

/// Builds with optimisations. It is not announced: standard output is for the figures.
fn build(programs: &Programs, what: &[&str]) -> Result<()> {
    let args = [&["build", "--profile", RELEASE], what].concat();
    complete(&programs.cargo(&args), "the build failed")
}

/// Where cargo builds.
fn target_folder() -> Result<PathBuf> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec();
    Ok(metadata.context("ask cargo for its target folder")?.target_directory.into())
}
