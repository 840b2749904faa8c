//! `cargo xtask check`: all that can be said about the source without running it.
//!
//! Every check runs, even after one has failed; the last lines name those that did.

use std::{env::consts::ARCH, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use duct::Expression;

use crate::{
    bench::prog,
    process::{Programs, announce, complete, root},
    setup::{self, Mode, Need},
    source_rules,
};

/// The build script that compiles the eBPF object; its flags are those to lint with.
const BUILD_SCRIPT: &str = "vnet-ctl/build.rs";

/// One check: fails with what is wrong.
type Check = dyn Fn(&Programs) -> Result<()>;

/// Whether the programs are measured too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// They are not: it takes root, and a minute.
    Skipped,
    /// They are.
    Measured,
}

/// Runs all checks.
pub(crate) fn run(speed: Speed) -> Result<ExitCode> {
    let programs = setup::run(Need::Build, Mode::Install)?;
    let mut checks: Vec<(&str, &Check)> = vec![
        ("formatting", &formatting),
        ("size of source files", &|_| source_rules::file_sizes(root())),
        ("stages apart", &|_| source_rules::stages_apart(root())),
        ("lints for the host", &host_lints),
        ("lints for eBPF", &ebpf_lints),
        ("documentation", &documentation),
    ];
    if speed == Speed::Measured {
        checks.push(("speed of the programs", &|_| prog::check()));
    }
    let mut failed = Vec::new();
    for (name, check) in &checks {
        if let Err(error) = check(&programs) {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    println!("check: all {} hold", checks.len());
    Ok(ExitCode::SUCCESS)
}

fn formatting(programs: &Programs) -> Result<()> {
    cargo(programs, &["fmt", "--all", "--check"], |cargo| cargo).context("`cargo fmt --all` puts it right")
}

fn host_lints(programs: &Programs) -> Result<()> {
    cargo(programs, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], |cargo| cargo)
}

/// The same compilation as that of the object, as the kernel's side is not seen from the host's.
fn ebpf_lints(programs: &Programs) -> Result<()> {
    let target = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let script = fs::read_to_string(root().join(BUILD_SCRIPT)).context(BUILD_SCRIPT)?;
    let flags = rustflags(&script).with_context(|| format!("no RUSTFLAGS found in {BUILD_SCRIPT}"))?;
    let flags = format!("--cfg=bpf_target_arch=\"{ARCH}\"\u{1f}{}", flags.join("\u{1f}"));
    let args = ["clippy", "--package", "vnet-ebpf", "--target", target, "-Z", "build-std=core"];
    let args = [&args[..], &["--target-dir", "target/ebpf-check", "--", "-D", "warnings"]].concat();
    cargo(programs, &args, |cargo| {
        // `-Z build-std` on a stable toolchain.
        cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags)
    })
}

fn documentation(programs: &Programs) -> Result<()> {
    // Private items too: their documentation is what people who work on vnet read.
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    cargo(programs, &args, |cargo| cargo.env("RUSTDOCFLAGS", "-D warnings"))
}

fn cargo(programs: &Programs, args: &[&str], with: impl FnOnce(Expression) -> Expression) -> Result<()> {
    announce("cargo", args);
    let failure = format!("`cargo {}` failed", args.first().copied().unwrap_or_default());
    complete(&with(programs.cargo(args)), &failure)
}

/// The flags in the build script's `const RUSTFLAGS`.
fn rustflags(script: &str) -> Option<Vec<&str>> {
    let (_, list) = script.split_once("const RUSTFLAGS: &[&str] = &[")?;
    let (list, _) = list.split_once("];")?;
    // Between each second pair of quotes stands a flag.
    let flags: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    (!flags.is_empty()).then_some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_the_build_script() {
        let script =
            "const RUSTFLAGS: &[&str] = &[\n    \"-Ctarget-cpu=v3\",\n    \"-Clink-arg=--btf\",\n];\n";
        assert_eq!(rustflags(script), Some(vec!["-Ctarget-cpu=v3", "-Clink-arg=--btf"]));
        assert_eq!(rustflags("fn main() {}"), None);
    }

    #[test]
    fn the_real_build_script_has_flags() {
        let script = fs::read_to_string(root().join(BUILD_SCRIPT)).expect("the build script is there");
        let flags = rustflags(&script).expect("it has flags");
        assert!(flags.iter().all(|flag| flag.starts_with('-')), "{flags:?}");
    }
}
