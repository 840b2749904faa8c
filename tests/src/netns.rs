//! A network namespace by its path, and the threads and programs that run inside it.
//!
//! Only the network namespace is entered: `ip netns exec` would also mount a fresh /sys and so hide
//! the pinned maps.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
};

use crate::{
    frames::{MacAddr, parse_mac},
    process::{Finished, finish},
};

/// Where iproute2 and vnet keep named namespaces.
pub const FOLDER: &str = "/run/netns";

/// A network namespace that exists, or that somebody will create before it is entered.
#[derive(Clone, Debug)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// The namespace `name` under [`FOLDER`].
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::at(Path::new(FOLDER).join(name))
    }

    /// The namespace that is bound to `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file that it is bound to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    fn open(&self) -> File {
        File::open(&self.path)
            .unwrap_or_else(|error| panic!("open namespace {}: {error}", self.path.display()))
    }

    /// Runs `work` on a thread of its own inside the namespace; sockets made there stay there.
    ///
    /// # Panics
    /// When the namespace does not exist, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.open();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("setns: the suites need root");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside the namespace and die with the thread that starts it.
    ///
    /// # Panics
    /// When the namespace does not exist.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let namespace = self.open();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the closure makes two system calls on values that it owns;
        // it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        command
    }

    /// The MAC of `device` inside the namespace.
    ///
    /// # Panics
    /// When there is no such device.
    #[must_use]
    pub fn mac(&self, device: &str) -> MacAddr {
        let links = self.exec(&["ip", "-json", "link", "show", "dev", device]).ok().json();
        parse_mac(links[0]["address"].as_str().expect("a MAC"))
    }

    /// Runs a program with its arguments inside the namespace to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    pub fn exec(&self, argv: &[&str]) -> Finished {
        let [program, args @ ..] = argv else { panic!("a command has a name") };
        let mut command = self.command(program);
        command.args(args);
        finish(command)
    }
}

/// A named namespace that is deleted when dropped.
#[derive(Debug)]
pub struct OwnedNamespace {
    name: String,
    inside: Namespace,
}

impl OwnedNamespace {
    /// Creates `name`, with its loopback interface up.
    ///
    /// # Panics
    /// When the kernel or iproute2 refuses.
    #[must_use]
    pub fn create(name: String) -> Self {
        finish_ip(&["netns", "add", &name]).ok();
        let created = Self { inside: Namespace::named(&name), name };
        created.exec(&["ip", "link", "set", "lo", "up"]).ok();
        created
    }

    /// Its name under [`FOLDER`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::ops::Deref for OwnedNamespace {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.inside
    }
}

impl Drop for OwnedNamespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Deletes the named namespace if it is there.
pub fn delete(name: &str) {
    if Namespace::named(name).exists() {
        // What cannot be deleted is in use by a program that will end with its test.
        let _ = finish_ip(&["netns", "delete", name]);
    }
}

fn finish_ip(args: &[&str]) -> Finished {
    let mut command = Command::new("ip");
    command.args(args);
    finish(command)
}
