//! `cargo xtask build`: the whole workspace; the eBPF object is built by vnet-ctl's build script.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    process::{Programs, announce, complete},
    setup::{self, Mode, Need},
};

/// cargo's profile for a quick build.
pub(crate) const DEV: &str = "dev";
/// cargo's profile with optimisations.
pub(crate) const RELEASE: &str = "release";

/// Sets up and builds everything with `profile`.
pub(crate) fn run(profile: &str) -> Result<ExitCode> {
    let programs = setup::run(Need::Build, Mode::Install)?;
    cargo_build(&programs, &["--workspace", "--profile", profile])?;
    Ok(ExitCode::SUCCESS)
}

/// `cargo build` with `args`, told.
pub(crate) fn cargo_build(programs: &Programs, args: &[&str]) -> Result<()> {
    let args = [&["build"], args].concat();
    announce("cargo", &args);
    complete(&programs.cargo(&args), "the build failed")
}
