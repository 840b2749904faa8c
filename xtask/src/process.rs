//! Runs other programs: always from the workspace's root, with a `PATH` that leads to what setup found.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context as _, Result, bail};
use duct::Expression;

/// The workspace's root: the folder above this package.
///
/// cargo tells where the package lies as it starts us; what was true at the build may have been moved.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        package.parent().map_or_else(|| package.clone(), Path::to_owned)
    });
    &ROOT
}

/// Where cargo keeps its own, installed programs included.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(env::home_dir().context("neither CARGO_HOME nor HOME is set")?.join(".cargo")),
    }
}

/// How programs are started: with which `PATH`.
pub(crate) struct Programs {
    path: OsString,
}

impl Programs {
    /// Those of the caller's `PATH`, after those of `first`, before those for administrators, which
    /// Debian leaves out of a person's `PATH`.
    pub(crate) fn with_first(first: Option<&Path>) -> Result<Self> {
        let own = env::var_os("PATH").unwrap_or_default();
        let folders = first
            .map(Path::to_owned)
            .into_iter()
            .chain(env::split_paths(&own))
            .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
        Ok(Self { path: env::join_paths(folders).context("join the folders of PATH")? })
    }

    /// Where `name` is, if it is there.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        which::which_in(name, Some(&self.path), root()).ok()
    }

    /// All programs called `name`, the one that a shell would start first.
    pub(crate) fn find_all(&self, name: &str) -> Vec<PathBuf> {
        which::which_in_all(name, Some(&self.path), root()).map(Iterator::collect).unwrap_or_default()
    }

    /// `program` with `args`, to be started by the caller.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, args: &[A]) -> Expression {
        let args = args.iter().map(AsRef::as_ref);
        duct::cmd(program.as_ref(), args).dir(root()).env("PATH", &self.path)
    }

    /// The cargo that started this program, with `args`.
    pub(crate) fn cargo<A: AsRef<OsStr>>(&self, args: &[A]) -> Expression {
        self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
    }

    /// What `program` prints, without space around it; if it fails, the error holds its complaint.
    pub(crate) fn read<A: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, args: &[A]) -> Result<String> {
        let program = program.as_ref();
        let command = self.command(program, args).stdout_capture().stderr_capture().unchecked();
        let output = command.run().with_context(|| format!("start {}", program.display()))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{} failed, {}: {}", program.display(), output.status, complaint.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Runs `command` to its end; `failure` says what a failure means, as the command itself told the rest.
pub(crate) fn complete(command: &Expression, failure: &str) -> Result<()> {
    let output = command.unchecked().run().with_context(|| failure.to_owned())?;
    if !output.status.success() {
        bail!("{failure}: see above");
    }
    Ok(())
}

/// One line before a command that takes its time: what is being run.
pub(crate) fn announce<A: AsRef<OsStr>>(program: &str, args: &[A]) {
    let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    println!("$ {program} {}", args.join(" "));
}
