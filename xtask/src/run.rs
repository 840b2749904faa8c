//! `cargo xtask run`: from a fresh clone to a running datapath, with three commands to try.
//!
//! The daemon runs in the foreground and removes all it made when it ends. Signals are passed on, and
//! its exit code is ours.

use std::{
    env, fs,
    path::{Path, PathBuf, absolute},
    process::{ExitCode, Output},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;
use duct::{Handle, unix::HandleExt as _};
use serde::Deserialize;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::Cause,
};

use crate::{
    build::cargo_build,
    privilege::Privilege,
    process::{Programs, announce, complete, root},
    setup::{self, Mode, Need},
};

/// The policy that a first run starts with.
const QUICKSTART: &str = "examples/quickstart.toml";
/// Between two looks at whether the daemon is ready: short for a person, long for the machine.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What of the daemon's status matters here.
#[derive(Deserialize)]
struct Status {
    pid: u32,
    generation: u32,
}

/// Builds and runs vnet with `policy`, or with a copy of the quickstart's; `args` go to the daemon.
pub(crate) fn run(policy: Option<PathBuf>, args: &[String]) -> Result<ExitCode> {
    let privilege = Privilege::detect(&Programs::with_first(None)?);
    if privilege == Privilege::None {
        bail!("vnet makes devices and namespaces and loads programs into the kernel: run this as root");
    }
    let programs = setup::run(Need::Run, Mode::Install)?;
    cargo_build(&programs, &["--package", "vnet-ctl"])?;

    let target = target_folder()?;
    let binary = target.join("debug/vnet-ctl");
    let folder = target.join("run");
    let tries = if policy.is_some() { &GENERAL } else { &ON_THE_QUICKSTART };
    let policy = match policy {
        Some(policy) => absolute(&policy).context("find the policy file")?,
        None => copy_of_quickstart(&folder)?,
    };
    let daemon = Daemon { programs, privilege, binary };
    let handle = Arc::new(daemon.start(&policy, args)?);
    if daemon.wait_until_ready(&handle)? {
        daemon.suggest(tries);
    }
    let output = handle.wait().context("wait for the daemon")?;
    Ok(exit_code(output))
}

/// Where cargo builds.
fn target_folder() -> Result<PathBuf> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec();
    Ok(metadata.context("ask cargo for its target folder")?.target_directory.into())
}

/// `path` as a person in this folder types it.
fn shown(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// The person's own copy of the quickstart's policy: commands edit it, and it is never overwritten.
fn copy_of_quickstart(folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("policy.toml");
    if copy.exists() {
        println!("policy: {}, as you left it", shown(&copy));
        return Ok(copy);
    }
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    fs::copy(root().join(QUICKSTART), &copy)
        .with_context(|| format!("copy {QUICKSTART} to {}", copy.display()))?;
    println!("policy: {}, copied from {QUICKSTART}; it is yours to edit", shown(&copy));
    Ok(copy)
}

/// How the daemon is started and asked.
struct Daemon {
    programs: Programs,
    privilege: Privilege,
    binary: PathBuf,
}

impl Daemon {
    /// The command line that runs vnet-ctl with `args` as root.
    fn command<'a>(&'a self, args: &[&'a str]) -> Vec<String> {
        let sudo = (self.privilege == Privilege::Sudo).then(|| "sudo".to_owned());
        let binary = self.binary.to_string_lossy().into_owned();
        sudo.into_iter().chain([binary]).chain(args.iter().map(|&arg| arg.to_owned())).collect()
    }

    fn start(&self, policy: &Path, args: &[String]) -> Result<Handle> {
        if self.privilege == Privilege::Sudo {
            // So that its question for the password is answered before anything else writes.
            complete(&self.programs.command("sudo", &["--validate"]), "sudo gave no root rights")?;
        }
        let policy = policy.to_string_lossy();
        let own = ["run", "--ephemeral", "--policy", &policy];
        let command =
            self.command(&[&own[..], &args.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        let (program, args) = command.split_first().context("an empty command")?;
        announce(program, args);
        self.programs.command(program, args).unchecked().start().with_context(|| format!("start {program}"))
    }

    /// Waits until the daemon has put its policy in force, passing signals on from now on; false if it
    /// ended before.
    fn wait_until_ready(&self, handle: &Arc<Handle>) -> Result<bool> {
        pass_signals_on(Arc::clone(handle))?;
        loop {
            if handle.try_wait().context("look after the daemon")?.is_some() {
                return Ok(false);
            }
            if self.is_ready(handle) {
                return Ok(true);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether the daemon that answers is the one we started, and has a policy in force.
    fn is_ready(&self, handle: &Handle) -> bool {
        let command = self.command(&["status", "-o", "json"]);
        let Some((program, args)) = command.split_first() else { return false };
        let answer = self.programs.command(program, args).stderr_null().unchecked().read();
        let status: Option<Status> = answer.ok().and_then(|answer| serde_json::from_str(&answer).ok());
        // Under sudo our child is sudo; the lock against a second daemon has to do.
        let is_ours = |pid| self.privilege == Privilege::Sudo || handle.pids().contains(&pid);
        status.is_some_and(|status| is_ours(status.pid) && status.generation > 0)
    }

    /// Prints what to type next.
    fn suggest(&self, tries: &[Try]) {
        println!("\nvnet is running. In another terminal, in this folder, try:\n");
        let prefix = self.privilege.prefix();
        for Try { command, tells } in tries {
            let command = command.replace("vnet-ctl", &shown(&self.binary));
            println!("    {prefix}{command}\n        {tells}");
        }
        println!("\nCtrl-C stops it and removes all that it made.");
    }
}

/// A command to try, and what it shows.
struct Try {
    command: &'static str,
    tells: &'static str,
}

/// With the quickstart's names and addresses.
const ON_THE_QUICKSTART: [Try; 3] = [
    Try { command: "ip netns exec web-1 ping -c1 10.10.0.20", tells: "from one workload to another, web-2" },
    Try {
        command: "vnet-ctl sg add web ingress -p tcp --port 80 --from any",
        tells: "opens a port at once, and writes the rule into the policy file",
    },
    Try { command: "vnet-ctl drops", tells: "what was dropped, and why" },
];

/// With any policy.
const GENERAL: [Try; 3] = [
    Try { command: "vnet-ctl status", tells: "what is in force" },
    Try { command: "vnet-ctl port list", tells: "the ports, their addresses and groups" },
    Try { command: "vnet-ctl drops", tells: "what was dropped, and why" },
];

/// From now on signals end the daemon and not us, so that its exit code and its last words are kept.
fn pass_signals_on(handle: Arc<Handle>) -> Result<()> {
    let signals = [SIGINT, SIGTERM, SIGHUP];
    let mut signals = SignalsInfo::<WithOrigin>::new(signals).context("take over the signals")?;
    thread::spawn(move || {
        for origin in &mut signals {
            // The terminal sends its Ctrl-C to the daemon as well. Its hang-up is a reason to end.
            if origin.signal == SIGINT && origin.cause == Cause::Kernel {
                continue;
            }
            if let Err(error) = handle.send_signal(SIGTERM) {
                eprintln!("the daemon could not be told to end: {error}");
            }
        }
    });
    Ok(())
}

/// The daemon's exit code; as a shell tells it (128 + signal) if a signal ended it.
fn exit_code(output: &Output) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;

    let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
