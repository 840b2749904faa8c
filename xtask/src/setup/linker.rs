//! bpf-linker: makes one eBPF object of what rustc emits, with the same LLVM as rustc's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    Machine, State, Step,
    llvm::{self, packages},
};
use crate::process::{announce, cargo_home, complete};

/// The version that vnet is tested with.
const VERSION: &str = "0.13.0";
/// The LLVM versions that this version of bpf-linker can be built with.
const LLVM_SUPPORTED: std::ops::RangeInclusive<u32> = 21..=23;

/// The step.
pub(super) struct Linker;

impl Step for Linker {
    fn name(&self) -> &'static str {
        "bpf-linker"
    }

    fn look(&self, machine: &Machine) -> Result<State> {
        let mut wrong = Vec::new();
        for path in candidates(machine)? {
            match examine(machine, &path) {
                Ok(what) => return Ok(State::Present(what)),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        let release = &machine.toolchain.release;
        wrong.push(format!("{VERSION} for LLVM {} (rustc {release}) is needed", machine.toolchain.llvm));
        Ok(State::Missing(wrong.join("; ")))
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        let llvm = machine.toolchain.llvm;
        if !LLVM_SUPPORTED.contains(&llvm) {
            let (first, last) = (LLVM_SUPPORTED.start(), LLVM_SUPPORTED.end());
            bail!(
                "bpf-linker {VERSION} knows LLVM {first} to {last}; rustc has LLVM {llvm}: use another rustc"
            );
        }
        let prefix = llvm::provide(machine)?;
        let args = install_args(llvm);
        println!("LLVM_PREFIX={}", prefix.display());
        announce("cargo", &args);
        let root = cargo_home()?;
        let cargo = machine.programs.cargo(&args).env("LLVM_PREFIX", prefix).env("CARGO_INSTALL_ROOT", root);
        complete(&cargo.env_remove("CARGO_TARGET_DIR"), "cargo install failed")
    }

    fn by_hand(&self, machine: &Machine) -> Vec<String> {
        let llvm = machine.toolchain.llvm;
        let packages = match &machine.apt {
            Some(_) => format!("{}apt-get install {}", machine.privilege.prefix(), packages(llvm).join(" ")),
            None => format!("install LLVM {llvm} with its headers (llvm-devel, llvm-dev or llvm{llvm})"),
        };
        let prefix = llvm::prefix(machine).unwrap_or_else(|| llvm::debian_prefix(llvm));
        vec![packages, format!("LLVM_PREFIX={} cargo {}", prefix.display(), install_args(llvm).join(" "))]
    }
}

/// The bpf-linker that is right for the toolchain, if there is one.
pub(super) fn find(machine: &Machine) -> Result<Option<PathBuf>> {
    Ok(candidates(machine)?.into_iter().find(|path| examine(machine, path).is_ok()))
}

fn install_args(llvm: u32) -> Vec<String> {
    let feature = format!("llvm-{llvm}");
    let args = ["install", "bpf-linker", "--version", VERSION, "--locked", "--no-default-features"];
    let features = ["--features", feature.as_str(), "--force"];
    args.into_iter().chain(features).map(str::to_owned).collect()
}

/// Each bpf-linker on the machine; cargo's own first, as it is first on the `PATH` that rustup sets.
fn candidates(machine: &Machine) -> Result<Vec<PathBuf>> {
    let mut paths = vec![cargo_home()?.join("bin/bpf-linker")];
    paths.retain(|path| path.is_file());
    for path in machine.programs.find_all("bpf-linker") {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Tells what `path` is if it is the right version for the right LLVM; the error tells why not.
fn examine(machine: &Machine, path: &Path) -> Result<String> {
    let shown = path.display();
    let printed = machine.programs.read(path, &["--version"]);
    let printed = printed.context("a bpf-linker is there, but does not work")?;
    let version = printed.split_whitespace().nth(1).unwrap_or_default();
    if version != VERSION {
        bail!("{shown} is version {version}");
    }
    let wanted = machine.toolchain.llvm;
    match built_for(machine, path) {
        Some(llvm) if llvm != wanted => bail!("{shown} is for LLVM {llvm}"),
        Some(llvm) => Ok(format!("{VERSION} for LLVM {llvm}, {shown}")),
        None => {
            Ok(format!("{VERSION}, {shown} (which LLVM it is for does not show; LLVM {wanted} is needed)"))
        }
    }
}

/// The LLVM that the linker at `path` was built for: the library it loads tells, or cargo's record.
fn built_for(machine: &Machine, path: &Path) -> Option<u32> {
    let libraries = machine.programs.read("ldd", &[path]).ok();
    libraries.as_deref().and_then(llvm_of_libraries).or_else(|| {
        let record = path.parent()?.parent()?.join(".crates2.json");
        llvm_of_record(&fs::read_to_string(record).ok()?)
    })
}

/// From ldd's list: `libLLVM.so.22.1` and, before LLVM 18, `libLLVM-17.so.1`.
fn llvm_of_libraries(list: &str) -> Option<u32> {
    let library = list.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    let version = library.strip_prefix(".so.").or_else(|| library.strip_prefix('-'))?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// From cargo's record of installed programs: the feature that chose the LLVM.
fn llvm_of_record(record: &str) -> Option<u32> {
    let record: Value = serde_json::from_str(record).ok()?;
    let installs = record.get("installs")?.as_object()?;
    let (_, install) = installs.iter().find(|(name, _)| name.starts_with("bpf-linker "))?;
    let features = install.get("features")?.as_array()?;
    features.iter().filter_map(Value::as_str).find_map(|feature| feature.strip_prefix("llvm-")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_shows_in_the_libraries() {
        let list = "\tlinux-vdso.so.1 (0x00007f18)\n\
                    \tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f18)\n";
        assert_eq!(llvm_of_libraries(list), Some(22));
        assert_eq!(llvm_of_libraries("\tlibLLVM-17.so.1 => /lib/libLLVM-17.so.1 (0x7f)\n"), Some(17));
        assert_eq!(llvm_of_libraries("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n"), None);
        assert_eq!(llvm_of_libraries("\tstatically linked\n"), None);
    }

    #[test]
    fn llvm_shows_in_cargos_record() {
        let record = r#"{"installs":{
            "ripgrep 15.0.0 (registry+x)":{"features":[]},
            "bpf-linker 0.13.0 (registry+x)":{"features":["llvm-link-static","llvm-22"]}}}"#;
        assert_eq!(llvm_of_record(record), Some(22));
        assert_eq!(llvm_of_record(r#"{"installs":{"bpf-linker 0.13.0 (x)":{"features":[]}}}"#), None);
        assert_eq!(llvm_of_record("not json"), None);
    }
}
