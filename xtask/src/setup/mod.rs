//! `cargo xtask setup`: what the build and the tests need, found or installed, step by step.
//!
//! A step looks first and installs only what is missing, so that setting up again costs a moment and
//! changes nothing. Where it cannot install, it says what a person has to type.

mod apt;
mod bpffs;
mod cargo_deb;
mod guest;
mod linker;
mod llvm;
mod rust_src;
mod toolchain;
mod tools;

use anyhow::{Context as _, Result, bail};

use self::{apt::Apt, toolchain::Toolchain};
use crate::{privilege::Privilege, process::Programs};

/// What the machine is to be ready for; each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Building the workspace, the eBPF object included.
    Build,
    /// Loading programs into the kernel.
    Load,
    /// Running vnet and trying it out.
    Run,
    /// The tests with real namespaces and programs.
    Test,
}

/// Whether the package is only made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// It is made.
    Skip,
    /// It is tried too.
    Run,
}

/// What happens to something missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is installed.
    Install,
    /// The same, told on standard error: standard output is for something else.
    InstallAside,
    /// It is told, and makes the command fail.
    Report,
}

/// What a look at one step's subject finds.
enum State {
    /// All is there: what, and where.
    Present(String),
    /// Something is not: what.
    Missing(String),
}

/// One thing that the machine needs.
trait Step {
    /// What to call it.
    fn name(&self) -> &'static str;
    /// Whether it is there; changes nothing.
    fn look(&self, machine: &Machine) -> Result<State>;
    /// Puts it there.
    fn install(&self, machine: &Machine) -> Result<()>;
    /// What a person types to put it there, one command a line.
    fn by_hand(&self, machine: &Machine) -> Vec<String>;
}

/// What the steps know about the machine.
struct Machine {
    programs: Programs,
    privilege: Privilege,
    toolchain: Toolchain,
    /// Where packages come from, on Debian and its kin.
    apt: Option<Apt>,
}

/// Makes the machine ready for `need`, or tells what it lacks. Returns how to start programs on it.
pub(crate) fn run(need: Need, mode: Mode) -> Result<Programs> {
    take(&steps(need), mode)
}

/// Makes the machine ready for the tests, and for measuring all of vnet's peers; or tells what it lacks.
pub(crate) fn bench(mode: Mode) -> Result<Programs> {
    let mut steps = steps(Need::Test);
    steps.push(Box::new(tools::Tools { tools: tools::PEERS, need: Need::Test }));
    take(&steps, mode)
}

/// Makes the machine ready for making the package, and for trying it if `trial`.
pub(crate) fn package(trial: Trial) -> Result<Programs> {
    let mut steps = steps(Need::Build);
    steps.push(Box::new(cargo_deb::CargoDeb));
    if trial == Trial::Run {
        steps.push(Box::new(tools::Tools { tools: tools::TRIAL, need: Need::Build }));
    }
    take(&steps, Mode::Install)
}

fn take(steps: &[Box<dyn Step>], mode: Mode) -> Result<Programs> {
    let programs = Programs::with_first(None)?;
    let machine = Machine {
        privilege: Privilege::detect(&programs),
        toolchain: Toolchain::ask(&programs)?,
        apt: Apt::detect(&programs),
        programs,
    };
    let mut missing = Vec::new();
    for step in steps {
        if !settle(step.as_ref(), &machine, mode)? {
            missing.push(step.name());
        }
    }
    if !missing.is_empty() {
        bail!("missing: {}. `cargo xtask setup` installs it", missing.join(", "));
    }
    let linker = linker::find(&machine)?.context("bpf-linker has gone")?;
    if machine.programs.find("bpf-linker").as_ref() != Some(&linker) {
        let folder = linker.parent().unwrap_or(&linker).display();
        println!("a plain `cargo build` finds it only after: export PATH={folder}:$PATH");
    }
    Programs::with_first(linker.parent())
}

fn steps(need: Need) -> Vec<Box<dyn Step>> {
    let mut steps: Vec<Box<dyn Step>> = vec![Box::new(rust_src::RustSrc), Box::new(linker::Linker)];
    if need >= Need::Load {
        steps.push(Box::new(bpffs::Bpffs));
    }
    if need >= Need::Run {
        steps.push(Box::new(tools::Tools { tools: tools::TOOLS, need }));
    }
    if need >= Need::Test {
        steps.push(Box::new(guest::Guest));
    }
    steps
}

/// Looks, and installs if `mode` says so. Whether the thing is there in the end.
fn settle(step: &dyn Step, machine: &Machine, mode: Mode) -> Result<bool> {
    let name = step.name();
    let what = match step.look(machine)? {
        State::Present(what) => {
            tell(mode, name, "found", &what);
            return Ok(true);
        }
        State::Missing(what) => what,
    };
    if mode == Mode::Report {
        tell(mode, name, "missing", &what);
        by_hand(step, machine).lines().for_each(|line| println!("{line}"));
        return Ok(false);
    }
    tell(mode, name, "installing", &what);
    step.install(machine)
        .with_context(|| format!("{name} ({what}) could not be installed"))
        .map_err(|error| anyhow::anyhow!("{error:#}\n{}", by_hand(step, machine)))?;
    match step.look(machine)? {
        State::Present(what) => tell(mode, name, "installed", &what),
        State::Missing(what) => {
            bail!("{name} was installed, yet it is not right: {what}\n{}", by_hand(step, machine))
        }
    }
    Ok(true)
}

fn tell(mode: Mode, name: &str, state: &str, what: &str) {
    let line = format!("{name:<10}  {state:<10}  {what}");
    if mode == Mode::InstallAside { eprintln!("{line}") } else { println!("{line}") }
}

fn by_hand(step: &dyn Step, machine: &Machine) -> String {
    let lines: Vec<_> = step.by_hand(machine).iter().map(|line| format!("      {line}")).collect();
    format!("    by hand:\n{}", lines.join("\n"))
}
