//! The rustc that builds everything: its version, its LLVM, and where it keeps its libraries.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::process::Programs;

/// The active toolchain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// rustc's version: `1.95.0`.
    pub(crate) release: String,
    /// Major version of the LLVM that rustc was built with.
    pub(crate) llvm: u32,
    /// Where its libraries lie.
    pub(crate) sysroot: PathBuf,
}

impl Toolchain {
    /// Asks the rustc on `PATH`.
    pub(crate) fn ask(programs: &Programs) -> Result<Self> {
        let version = programs.read("rustc", &["-vV"])?;
        let sysroot = programs.read("rustc", &["--print", "sysroot"])?.into();
        let release = field(&version, "release").context("`rustc -vV` names no release")?.to_owned();
        let llvm = field(&version, "LLVM version").context("`rustc -vV` names no LLVM version")?;
        let llvm = major(llvm).with_context(|| format!("`rustc -vV` names LLVM version `{llvm}`"))?;
        Ok(Self { release, llvm, sysroot })
    }

    /// The name that rustup knows the toolchain by, if rustup installed it.
    pub(crate) fn rustup_name(&self) -> Option<&str> {
        let name = self.sysroot.file_name()?.to_str()?;
        let folder = self.sysroot.parent()?;
        folder.ends_with("toolchains").then_some(name)
    }
}

/// The value of a line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The number before the first dot: 22 of `22.1.2`.
pub(crate) fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                           release: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn release_and_llvm_are_read_from_rustc() {
        assert_eq!(field(VERBOSE, "release"), Some("1.95.0"));
        assert_eq!(field(VERBOSE, "LLVM version").and_then(major), Some(22));
        assert_eq!(field(VERBOSE, "LLVM"), None);
    }

    #[test]
    fn major_refuses_what_is_no_version() {
        assert_eq!(major("19.1"), Some(19));
        assert_eq!(major("22"), Some(22));
        assert_eq!(major("git"), None);
        assert_eq!(major(""), None);
    }

    #[test]
    fn only_a_toolchain_of_rustup_has_a_rustup_name() {
        let at = |sysroot: &str| Toolchain { release: "1.95.0".into(), llvm: 22, sysroot: sysroot.into() };
        let rustup = at("/home/me/.rustup/toolchains/1.95.0-x86_64-unknown-linux-gnu");
        assert_eq!(rustup.rustup_name(), Some("1.95.0-x86_64-unknown-linux-gnu"));
        assert_eq!(at("/usr").rustup_name(), None);
    }
}
