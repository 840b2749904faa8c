//! Where the `vnet-ctl` under test is: beside the suite's own executable, built there first.
//!
//! `VNET_CTL` names another one, for machines without a toolchain.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The binary under test, up to date.
///
/// # Panics
/// When it does not build.
pub fn vnet_ctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("VNET_CTL").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let suite = env::current_exe().expect("the suite's own path");
    // target/<profile>/deps/<suite>
    let profile_dir = suite.ancestors().nth(2).expect("the suite lies in a target folder");
    let target_dir = profile_dir.parent().expect("the profile lies in a target folder");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "vnet-ctl", "--bin", "vnet-ctl", "--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("run cargo, or name a binary by VNET_CTL");
    assert!(output.status.success(), "vnet-ctl does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_dir.join("vnet-ctl")
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
