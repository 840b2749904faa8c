//! Programs that set up a peer, in the namespace where they belong.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use vnet_tests::Namespace;

/// Runs lines of shell in `namespace`; what they print.
pub(crate) fn sh(namespace: &Namespace, script: &str) -> Result<String> {
    finish(namespace.command("sh").args(["-ec", script]), script, "")
}

/// Runs `argv` in `namespace` with `input`; what it prints.
pub(crate) fn feed(namespace: &Namespace, argv: &[&str], input: &str) -> Result<String> {
    let [program, args @ ..] = argv else { bail!("a command has a name") };
    finish(namespace.command(program).args(args), &argv.join(" "), input)
}

/// Why a program that a peer needs is not here, if it is not.
pub(crate) fn lacks(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!found).then(|| format!("no {program}: `cargo xtask setup --bench` installs it"))
}

fn finish(command: &mut Command, told: &str, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start `{told}`"))?;
    let mut stdin = child.stdin.take().context("the input was asked for")?;
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything: its status tells.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        // A script's first line tells which it is.
        let told = told.trim().lines().next().unwrap_or_default();
        bail!("{} {} (`{told}` and so on)", text(&output.stderr), text(&output.stdout));
    }
    Ok(text(&output.stdout))
}
