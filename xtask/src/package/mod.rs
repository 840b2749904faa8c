//! `cargo xtask package`: the Debian package, made of the release build and of what the program tells about
//! itself: completions, man pages and the policy's schema.

mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::cargo_build,
    process::{Programs, announce, complete, root},
    setup::{self, Trial},
};

/// What the program writes to stdout, and the file that it becomes.
const TOLD: &[(&[&str], &str)] = &[
    (&["schema"], "policy.schema.json"),
    (&["completion", "bash"], "vnet-ctl.bash"),
    (&["completion", "zsh"], "_vnet-ctl"),
    (&["completion", "fish"], "vnet-ctl.fish"),
];

/// Makes the package, and tries it if `trial`.
pub(crate) fn run(trial: Trial) -> Result<ExitCode> {
    let programs = setup::package(trial)?;
    cargo_build(&programs, &["--package", "vnet-ctl", "--release"])?;
    tell(&programs)?;
    let package = make(&programs)?;
    println!("made {}", package.display());
    if trial == Trial::Run {
        trial::run(&programs, &package)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tries a package that is there already.
pub(crate) fn try_out(package: &Path) -> Result<ExitCode> {
    let package = std::path::absolute(package).context("find the package")?;
    trial::run(&setup::package(Trial::Run)?, &package)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the program write what is made from it, into target/package/.
fn tell(programs: &Programs) -> Result<()> {
    let (program, folder) = (root().join("target/release/vnet-ctl"), root().join("target/package"));
    // Pages of commands that there were once would be in the package too.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    let man = folder.join("man");
    fs::create_dir_all(&man).with_context(|| format!("make {}", man.display()))?;
    for (args, name) in TOLD {
        let text = programs.read(&program, args)?;
        let path = folder.join(name);
        fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    programs.read(&program, &["man".as_ref(), man.as_os_str()])?;
    Ok(())
}

/// Makes the package of what is built.
fn make(programs: &Programs) -> Result<PathBuf> {
    let folder = root().join("target/debian");
    let folder = folder.to_str().context("the workspace's path is no text")?;
    let args = ["deb", "--package", "vnet-ctl", "--no-build", "--output", folder];
    announce("cargo", &args);
    complete(&programs.cargo(&args), "the package could not be made")?;
    newest(Path::new(folder))
}

/// The package made last in `folder`.
fn newest(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let packages = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let made = path.metadata().ok()?.modified().ok()?;
        path.extension().is_some_and(|extension| extension == "deb").then_some((made, path))
    });
    let Some((_, path)) = packages.max() else { bail!("there is no package in {}", folder.display()) };
    Ok(path)
}
