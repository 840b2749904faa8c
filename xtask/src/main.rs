//! vnet's build tool, behind the alias `cargo xtask`.
//!
//! Each command is one module. All of them share [`setup`], which finds or installs what building and
//! testing the eBPF datapath needs, and [`process`], which runs other programs.

mod bench;
mod build;
mod check;
mod package;
mod privilege;
mod process;
mod run;
mod setup;
mod source_rules;
mod test;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    bench::{Format, Subject, network},
    check::Speed,
    setup::{Mode, Need, Trial},
    test::Tier,
};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, checks, tests and runs vnet")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what building and testing needs
    Setup {
        /// Only tell what is there; exit 1 if something is missing
        #[arg(long)]
        check: bool,
        /// Also what `bench` compares vnet with: ipset, Open vSwitch
        #[arg(long)]
        bench: bool,
    },
    /// Build the workspace, the eBPF object included
    Build {
        /// With optimisations
        #[arg(long)]
        release: bool,
    },
    /// Make the Debian package, in target/debian/
    Package {
        /// Also install, upgrade, remove and purge it in a small Debian of its own; needs root
        #[arg(long)]
        trial: bool,
        /// Try this package, and make none
        #[arg(long, value_name = "FILE", requires = "trial")]
        made: Option<PathBuf>,
    },
    /// Formatting, lints for the host and for eBPF, documentation, and the rules of the source
    Check {
        /// Also measure the programs, and fail if one is slower than its stored baseline; needs root
        #[arg(long)]
        bench: bool,
    },
    /// Run the tests: those that need nothing (unit), programs in the kernel (prog), real namespaces (netns)
    Test {
        /// Which tier; all of them by default
        tier: Option<Tier>,
        /// Handed to each test program: a filter, or its options
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Build vnet and run it with the quickstart's networks until Ctrl-C, which removes everything
    Run {
        /// A policy file to run with, used in place; default: a copy of examples/quickstart.toml
        #[arg(long)]
        policy: Option<PathBuf>,
        /// Handed to `vnet-ctl run`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build with optimisations and measure, by default vnet and its peers with real packets; needs root
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(subcommand)]
        subject: Option<Subject>,
        #[command(flatten)]
        network: network::Options,
        /// How to print the figures
        #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t)]
        format: Format,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { check, bench } => {
            let mode = if check { Mode::Report } else { Mode::Install };
            let ready = if bench { setup::bench(mode) } else { setup::run(Need::Test, mode) };
            ready.map(|_| ExitCode::SUCCESS)
        }
        Command::Build { release } => build::run(if release { build::RELEASE } else { build::DEV }),
        Command::Package { made: Some(package), .. } => package::try_out(&package),
        Command::Package { trial, .. } => package::run(if trial { Trial::Run } else { Trial::Skip }),
        Command::Check { bench } => check::run(if bench { Speed::Measured } else { Speed::Skipped }),
        Command::Test { tier, filter } => test::run(tier, &filter),
        Command::Run { policy, args } => run::run(policy, &args),
        Command::Bench { subject, network, format } => bench::run(subject, &network, format),
    }
}
