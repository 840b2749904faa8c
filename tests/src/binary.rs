//! Where the `vnet-ctl` under test is: beside the suite's own executable, built there first.
//!
//! `VNET_CTL` names another one, for machines without a toolchain, and `VNET_OTHER_CTL` one for
//! [`other_build`].

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The ABI of [`other_build`]; no release has it.
const OTHER_ABI: &str = "1002";

/// The binary under test, up to date.
///
/// # Panics
/// When it does not build.
pub fn vnet_ctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("VNET_CTL").map_or_else(|| build(Build::Own), PathBuf::from))
}

/// Another build of the same source, with another ABI and the same layout of flows: what an upgrade
/// replaces the binary under test by.
///
/// # Panics
/// When it does not build.
pub fn other_build() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("VNET_OTHER_CTL").map_or_else(|| build(Build::Other), PathBuf::from))
}

/// Which build of vnet-ctl.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    Own,
    Other,
}

fn build(which: Build) -> PathBuf {
    let suite = env::current_exe().expect("the suite's own path");
    // target/<profile>/deps/<suite>
    let profile_dir = suite.ancestors().nth(2).expect("the suite lies in a target folder");
    let target_dir = profile_dir.parent().expect("the profile lies in a target folder");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let target_dir = match which {
        Build::Own => target_dir.to_owned(),
        Build::Other => {
            cargo.env("VNET_TEST_ABI", OTHER_ABI);
            target_dir.join("other-abi")
        }
    };
    let output = cargo
        .args(["build", "--package", "vnet-ctl", "--bin", "vnet-ctl", "--profile", profile, "--target-dir"])
        .arg(&target_dir)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("run cargo, or name a binary by VNET_CTL");
    assert!(output.status.success(), "vnet-ctl does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    target_dir.join(profile_dir.file_name().unwrap_or_default()).join("vnet-ctl")
}

/// A copy of the binary in `folder`, for a user who may not read the source folder.
///
/// # Panics
/// When it cannot be copied.
#[must_use]
pub fn copy_to(folder: &Path) -> PathBuf {
    let copy = folder.join("vnet-ctl");
    fs::copy(vnet_ctl(), &copy).expect("copy vnet-ctl");
    copy
}
