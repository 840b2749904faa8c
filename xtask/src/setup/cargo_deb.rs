//! cargo-deb: makes a Debian package of what cargo has built.

use anyhow::{Result, bail};

use super::{Machine, State, Step};
use crate::process::{announce, cargo_home, complete};

/// The version that the package is made with.
const VERSION: &str = "3.8.0";
/// Debian's package with `dpkg-shlibdeps`, which tells the libraries that the package depends on.
const DPKG_DEV: &str = "dpkg-dev";

/// The step.
pub(super) struct CargoDeb;

impl Step for CargoDeb {
    fn name(&self) -> &'static str {
        "cargo-deb"
    }

    fn look(&self, machine: &Machine) -> Result<State> {
        let mut missing = Vec::new();
        if !is_there(machine) {
            missing.push(format!("cargo-deb {VERSION}"));
        }
        if machine.programs.find("dpkg-shlibdeps").is_none() {
            missing.push("dpkg-shlibdeps".to_owned());
        }
        Ok(if missing.is_empty() {
            State::Present(VERSION.to_owned())
        } else {
            State::Missing(format!("no {}", missing.join(", ")))
        })
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        let Some(apt) = &machine.apt else { bail!("Debian packages are made on Debian and its kin only") };
        apt.install(machine, &[DPKG_DEV])?;
        if is_there(machine) {
            return Ok(());
        }
        let args = install_args();
        announce("cargo", &args);
        let cargo = machine.programs.cargo(&args).env("CARGO_INSTALL_ROOT", cargo_home()?);
        complete(&cargo.env_remove("CARGO_TARGET_DIR"), "cargo install failed")
    }

    fn by_hand(&self, machine: &Machine) -> Vec<String> {
        let packages = format!("{}apt-get install {DPKG_DEV}", machine.privilege.prefix());
        vec![packages, format!("cargo {}", install_args().join(" "))]
    }
}

fn is_there(machine: &Machine) -> bool {
    // Some versions print their name before the number.
    let version = machine.programs.cargo(&["deb", "--version"]).stderr_null().unchecked().read();
    version.is_ok_and(|version| version.split_whitespace().last() == Some(VERSION))
}

fn install_args() -> [&'static str; 6] {
    ["install", "cargo-deb", "--version", VERSION, "--locked", "--force"]
}
