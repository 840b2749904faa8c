//! Tries the package in a small Debian that systemd boots in a container: does it install, start, upgrade with
//! the traffic going on, and go without a trace? `packaging/trial.sh` asks the questions.
//!
//! The container has the kernel of this machine, a network of its own, and a bpf filesystem of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use duct::Handle;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    privilege::Privilege,
    process::{Programs, announce, complete, root},
};

/// The release that is tried, and what it has besides its base.
const RELEASE: &str = "bookworm";
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus,iproute2,iputils-ping,util-linux";
/// A slow machine boots it in seconds.
const BOOT: Duration = Duration::from_secs(90);
/// How long systemd-nspawn may take to see that the container has ended.
const END: Duration = Duration::from_secs(10);

/// Tries `package`, as root.
pub(super) fn run(programs: &Programs, package: &Path) -> Result<()> {
    if Privilege::detect(programs) != Privilege::Root {
        bail!("the trial boots a container: it needs root");
    }
    let base = base(programs)?;
    let copy = Copy::of(programs, &base)?;
    fs::copy(package, copy.0.join("root/vnet.deb")).context("bring the package")?;
    fs::copy(root().join("packaging/trial.sh"), copy.0.join("root/trial.sh")).context("bring the trial")?;
    let container = Container::boot(programs, &copy.0)?;
    container.inside(programs, &["sh", "/root/trial.sh"], "the package failed its trial")
}

/// A Debian, made once.
fn base(programs: &Programs) -> Result<PathBuf> {
    let folder = root().join("target/trial/base");
    if folder.join("done").exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.to_str().context("the workspace's path is no text")?;
    let args = ["--variant=minbase", PACKAGES, RELEASE, path];
    announce("debootstrap", &args);
    complete(&programs.command("debootstrap", &args), "debootstrap failed")?;
    fs::write(folder.join("done"), "").context("remember that it is whole")?;
    Ok(folder)
}

/// A copy to be spoilt, removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn of(programs: &Programs, base: &Path) -> Result<Self> {
        let copy = Self(base.with_file_name("copy"));
        copy.remove();
        let args = ["-a".as_ref(), "--reflink=auto".as_ref(), base.as_os_str(), copy.0.as_os_str()];
        complete(&programs.command("cp", &args), "the copy failed")?;
        Ok(copy)
    }

    fn remove(&self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A booted container, ended when dropped.
struct Container {
    nspawn: Handle,
    /// Its first process.
    leader: String,
}

impl Container {
    fn boot(programs: &Programs, folder: &Path) -> Result<Self> {
        let directory = format!("--directory={}", folder.display());
        let args = [
            "--boot",
            "--quiet",
            &directory,
            "--machine=vnet-trial",
            // This machine need not be run by systemd.
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--console=pipe",
            "--private-network",
            "--capability=all",
            "--system-call-filter=bpf perf_event_open",
        ];
        announce("systemd-nspawn", &args);
        let nspawn = programs
            .command("systemd-nspawn", &args)
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1")
            .stdin_null()
            .stdout_null()
            .stderr_to_stdout()
            .unchecked()
            .start()
            .context("start systemd-nspawn")?;
        let mut container = Self { nspawn, leader: String::new() };
        container.wait_until_running(programs)?;
        // systemd mounts it where it finds the folder, which nspawn leaves out.
        let mount = "mkdir -p /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf";
        container.inside(programs, &["sh", "-c", mount], "no bpf filesystem for the container")?;
        Ok(container)
    }

    fn wait_until_running(&mut self, programs: &Programs) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < BOOT {
            if self.nspawn.try_wait().context("wait for systemd-nspawn")?.is_some() {
                bail!("systemd-nspawn ended; run it by hand to see why");
            }
            if let Some(leader) = self.find_leader() {
                self.leader = leader;
                let state = self.enter(programs, &["systemctl", "is-system-running"]);
                let state = state.stderr_null().unchecked().read().unwrap_or_default();
                if state == "running" || state == "degraded" {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(200));
        }
        bail!("the container has not booted within {} seconds", BOOT.as_secs())
    }

    /// nspawn's child.
    fn find_leader(&self) -> Option<String> {
        let pid = self.nspawn.pids().into_iter().next()?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    fn enter(&self, programs: &Programs, command: &[&str]) -> duct::Expression {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let args =
            [&["--all", "--target", &self.leader, "env", "-i", path, "LC_ALL=C.UTF-8"], command].concat();
        programs.command("nsenter", &args)
    }

    fn inside(&self, programs: &Programs, command: &[&str], failure: &str) -> Result<()> {
        complete(&self.enter(programs, command), failure)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The end of its first process ends all others, and what they held in the kernel goes with their
        // namespaces. systemd-nspawn follows it; killed itself, it would leave them behind.
        if let Ok(leader) = self.leader.parse() {
            let _ = kill(Pid::from_raw(leader), Signal::SIGKILL);
            let begun = Instant::now();
            while begun.elapsed() < END && matches!(self.nspawn.try_wait(), Ok(None)) {
                sleep(Duration::from_millis(50));
            }
        }
        let _ = self.nspawn.kill();
    }
}
