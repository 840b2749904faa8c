//! The LLVM that bpf-linker is built against: found, or installed from Debian's packages.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Machine, toolchain::major};

/// Debian's packages that building bpf-linker takes: LLVM itself and what its libraries link to.
pub(super) fn packages(llvm: u32) -> Vec<String> {
    let mut packages = vec![format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    packages.extend(["libzstd-dev", "zlib1g-dev", "g++"].map(str::to_owned));
    packages
}

/// Where Debian's packages put LLVM.
pub(super) fn debian_prefix(llvm: u32) -> PathBuf {
    format!("/usr/lib/llvm-{llvm}").into()
}

/// Installs LLVM where packages of it are known, and returns where it lies.
pub(super) fn provide(machine: &Machine) -> Result<PathBuf> {
    let llvm = machine.toolchain.llvm;
    let packages = packages(llvm);
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    let installed = match &machine.apt {
        Some(apt) => apt.install(machine, &packages),
        None => Ok(()),
    };
    match (prefix(machine), installed) {
        (Some(prefix), Ok(())) => Ok(prefix),
        // LLVM from elsewhere serves as well.
        (Some(prefix), Err(error)) => {
            println!("going on with {}, although: {error:#}", prefix.display());
            Ok(prefix)
        }
        (None, installed) => {
            installed?;
            None.with_context(|| {
                format!("no LLVM {llvm} found: neither LLVM_PREFIX nor llvm-config-{llvm} leads to one")
            })
        }
    }
}

/// Where LLVM of rustc's major version lies: as `LLVM_PREFIX` says, else where systems put it.
pub(super) fn prefix(machine: &Machine) -> Option<PathBuf> {
    let llvm = machine.toolchain.llvm;
    let is_right = |config: &Path| {
        let version = machine.programs.read(config, &["--version"]);
        version.is_ok_and(|version| major(&version) == Some(llvm))
    };
    let given = env::var_os("LLVM_PREFIX").map(PathBuf::from);
    let usual = [debian_prefix(llvm), format!("/usr/lib64/llvm{llvm}").into()];
    let known = given.into_iter().chain(usual);
    if let Some(prefix) = known.into_iter().find(|prefix| is_right(&prefix.join("bin/llvm-config"))) {
        return Some(prefix);
    }
    let names = [format!("llvm-config-{llvm}"), format!("llvm-config{llvm}"), "llvm-config".to_owned()];
    let config = names.iter().filter_map(|name| machine.programs.find(name)).find(|path| is_right(path))?;
    machine.programs.read(config, &["--prefix"]).ok().map(PathBuf::from)
}
