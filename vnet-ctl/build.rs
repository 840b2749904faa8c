//! Builds the eBPF object that the controller embeds.
//!
//! aya-build does the same, but leaves no room for `target-cpu`: the datapath needs the v3 instruction
//! set (32-bit registers and compare-and-exchange, Linux 5.12) for speed and for expiring flows safely.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

/// Flags for rustc; BTF is made from full debug information.
const RUSTFLAGS: &[&str] = &["-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf"];

fn main() -> Result<()> {
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let sources = Path::new(&manifest_dir).join("../vnet-ebpf");
    println!("cargo:rerun-if-changed={}", sources.display());
    let out_dir = env::var("OUT_DIR").context("cargo sets OUT_DIR")?;
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("cargo sets CARGO_CFG_TARGET_ARCH")?;
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let rustflags = format!("--cfg=bpf_target_arch=\"{arch}\"\u{1f}{}", RUSTFLAGS.join("\u{1f}"));
    // A target folder of its own: cargo holds a lock on the outer one.
    let target_dir = Path::new(&out_dir).join("ebpf");

    let output = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["build", "--package", "vnet-ebpf", "--bin", "vnet-ebpf", "--release", "--target", target])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .current_dir(sources)
        // `-Z build-std` and compare-and-exchange on a stable toolchain.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags)
        // What a wrapper such as clippy's set for the outer build is not for this one.
        .env_remove("RUSTC")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .context("run cargo for the eBPF object")?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("the eBPF object did not build: see above. `cargo xtask setup` installs what the build needs");
    }
    let object = target_dir.join(target).join("release/vnet-ebpf");
    fs::copy(&object, Path::new(&out_dir).join("vnet-ebpf"))
        .with_context(|| format!("copy {}", object.display()))?;
    Ok(())
}
