//! The life of the daemon: started and ready, stopped, killed.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::World;
use crate::{Finished, eventually, process::finish, process::wait_at_most, snapshot::namespaces};

/// How long an orderly end may take.
const END: Duration = Duration::from_secs(15);

/// A daemon that runs; killed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
}

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid is an int"));
        // It may be gone, which the caller finds out by waiting for it.
        let _ = kill(pid, signal);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        if wait_at_most(&mut self.child, END).is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl World {
    /// `vnet-ctl run` inside the host, with `extra` arguments.
    #[must_use]
    pub fn run_command(&self, extra: &[&str]) -> Command {
        let mut command = self.ctl_command(&["run"]);
        self.add_folders(&mut command);
        command.args(extra);
        command
    }

    /// Tells `run` or `teardown` the world's own folders.
    pub fn add_folders(&self, command: &mut Command) {
        command.arg("--state-dir").arg(self.state_dir()).arg("--bpffs").arg(self.bpffs());
    }

    /// Runs `vnet-ctl run` to its end, for starts that must be refused.
    pub fn run_to_end(&self, extra: &[&str]) -> Finished {
        finish(self.run_command(extra))
    }

    /// Starts the daemon and waits until it answers and the addresses of all ports are usable.
    ///
    /// # Panics
    /// When it ends, or is not ready in time.
    pub fn start(&mut self, extra: &[&str]) {
        self.spawn(extra);
        self.wait_until_ready();
        self.wait_for_addresses();
    }

    /// Starts the daemon and does not wait for anything.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(&mut self, extra: &[&str]) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        // A socket that a killed daemon left behind would not tell when the next one listens.
        let _ = fs::remove_file(self.socket());
        let log = File::options().create(true).append(true).open(self.log_path()).expect("open the log");
        let mut command = self.run_command(extra);
        command.stdout(log.try_clone().expect("the log twice")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        self.daemon = Some(Daemon { child });
    }

    /// Waits until the daemon answers; gives how long that took.
    ///
    /// # Panics
    /// When it ends, or is not ready in time.
    pub fn wait_until_ready(&mut self) -> Duration {
        let begin = Instant::now();
        let daemon = self.daemon.as_mut().expect("a daemon");
        let socket = self.folder.path().join("vnet.sock");
        eventually("the daemon to listen", || {
            let ended = daemon.child.try_wait().expect("wait for the daemon");
            assert!(ended.is_none(), "the daemon ended: {ended:?}");
            UnixStream::connect(&socket).ok()
        });
        let _ = self.api().get("/v1/status").ok();
        begin.elapsed()
    }

    /// Waits until no port's address is still being checked for duplicates (RFC 4862 section 5.4).
    pub(crate) fn wait_for_addresses(&self) {
        for name in namespaces(&self.prefix) {
            eventually("duplicate address detection", || {
                let namespace = crate::Namespace::named(&name);
                let tentative = namespace.exec(&["ip", "-6", "-oneline", "address", "show", "tentative"]);
                tentative.stdout.trim().is_empty().then_some(())
            });
        }
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").pid()
    }

    /// Asks the daemon to end, as a service manager does, and waits for it.
    ///
    /// # Panics
    /// When none runs, or it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        self.end(Signal::SIGTERM)
    }

    /// Kills the daemon with SIGKILL: it cannot do anything any more.
    ///
    /// # Panics
    /// When none runs.
    pub fn kill(&mut self) -> ExitStatus {
        self.end(Signal::SIGKILL)
    }

    /// Sends the running daemon `signal`.
    ///
    /// # Panics
    /// When none runs.
    pub fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("a daemon").signal(signal);
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon");
        daemon.signal(signal);
        wait_at_most(&mut daemon.child, END).unwrap_or_else(|| panic!("the daemon ignores {signal}"))
    }

    /// What the daemons of this world wrote.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder().join("daemon.log")
    }
}
