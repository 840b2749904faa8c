//! rust-src: the sources of `core`, which is compiled for eBPF as no toolchain ships it built.

use anyhow::{Context as _, Result, bail};

use super::{Machine, State, Step};
use crate::process::{announce, complete};

/// The step.
pub(super) struct RustSrc;

impl Step for RustSrc {
    fn name(&self) -> &'static str {
        "rust-src"
    }

    fn look(&self, machine: &Machine) -> Result<State> {
        let library = machine.toolchain.sysroot.join("lib/rustlib/src/rust/library");
        Ok(if library.join("core/Cargo.toml").exists() {
            State::Present(library.display().to_string())
        } else {
            State::Missing(format!(
                "no sources of Rust {} at {}",
                machine.toolchain.release,
                library.display()
            ))
        })
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        if let Some(name) = machine.toolchain.rustup_name() {
            let args = ["component", "add", "rust-src", "--toolchain", name];
            announce("rustup", &args);
            return complete(&machine.programs.command("rustup", &args), "rustup failed");
        }
        let Some(apt) = &machine.apt else {
            bail!("rustc was installed neither by rustup nor by a Debian package");
        };
        let package = debian_package(machine)?;
        apt.install(machine, &[&package])
    }

    fn by_hand(&self, machine: &Machine) -> Vec<String> {
        let sudo = machine.privilege.prefix();
        if let Some(name) = machine.toolchain.rustup_name() {
            vec![format!("rustup component add rust-src --toolchain {name}")]
        } else if let Ok(package) = debian_package(machine) {
            vec![format!("{sudo}apt-get install {package}")]
        } else {
            vec![format!(
                "install the sources of Rust {} below {}",
                machine.toolchain.release,
                machine.toolchain.sysroot.display()
            )]
        }
    }
}

/// The package with the sources of the rustc that Debian packages.
fn debian_package(machine: &Machine) -> Result<String> {
    let rustc = machine.programs.find("rustc").context("rustc is not on PATH")?;
    let rustc = rustc.canonicalize().context("follow rustc's links")?;
    let owner = machine.programs.read("dpkg-query", &["--search", &rustc.to_string_lossy()])?;
    source_package(&owner)
        .with_context(|| format!("{} belongs to no rustc package: {owner}", rustc.display()))
}

/// From `rustc-web: /usr/bin/rustc` to `rust-web-src`; the same for `rustc` and `rustc-1.89`.
fn source_package(owner: &str) -> Option<String> {
    let package = owner.split(':').next()?;
    let variant = package.trim().strip_prefix("rustc")?;
    Some(format!("rust{variant}-src"))
}

#[cfg(test)]
mod tests {
    use super::source_package;

    #[test]
    fn sources_come_from_the_package_beside_rustc() {
        assert_eq!(source_package("rustc: /usr/bin/rustc").as_deref(), Some("rust-src"));
        assert_eq!(source_package("rustc-web: /usr/bin/rustc").as_deref(), Some("rust-web-src"));
        assert_eq!(
            source_package("rustc-1.89: /usr/lib/rust-1.89/bin/rustc").as_deref(),
            Some("rust-1.89-src")
        );
        assert_eq!(source_package("rustup: /usr/bin/rustup"), None);
    }
}
