//! A small host of its own: a network namespace, a bpffs folder, a state folder and a policy file,
//! in which the real `vnet-ctl` runs. Worlds share nothing, so tests run beside each other.
//!
//! Names of namespaces in a policy are written `@NAME`; each world replaces the `@` by a prefix of
//! its own. Everything is removed when the world is dropped, and described first if its test failed.

mod daemon;
mod lan;
mod outside;
mod probes;
mod queries;
mod remains;
mod report;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use vnet_common::limits;

use crate::{
    Finished, Namespace, binary,
    netns::OwnedNamespace,
    process::{finish, wait_at_most},
    snapshot::{KernelObjects, Snapshot},
};

use daemon::Daemon;
pub use outside::shell;
pub(crate) use outside::{allow_forwarding, wire};
pub use queries::rows;

/// A host in which one daemon runs at most.
#[derive(Debug)]
pub struct World {
    prefix: String,
    host: OwnedNamespace,
    folder: TempDir,
    bpffs: PathBuf,
    daemon: Option<Daemon>,
    binary: PathBuf,
}

impl World {
    /// A host with the policy file `policy` and nothing running.
    ///
    /// # Panics
    /// When a namespace or folder cannot be made, for lack of root above all.
    #[must_use]
    pub fn prepare(policy: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remains::sweep();
        let id = format!("{}x{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("{}{id}-", remains::NETNS_PREFIX);
        let host = OwnedNamespace::create(format!("{prefix}host"));
        let folder = tempfile::Builder::new().prefix("vnet-test-").tempdir().expect("a temporary folder");
        // Other users may come in, so that a test as one of them fails for its own reason.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open the folder");
        let bpffs = remains::bpffs_root().join(format!("{}{id}", remains::BPFFS_PREFIX));
        fs::create_dir(&bpffs).expect("a folder in bpffs");
        let world = Self { prefix, host, folder, bpffs, daemon: None, binary: binary::vnet_ctl().to_owned() };
        world.write_policy(policy);
        world
    }

    /// A host whose daemon has put `policy` into force.
    ///
    /// # Panics
    /// When the daemon does not come up.
    #[must_use]
    pub fn running(policy: &str) -> Self {
        let mut world = Self::prepare(policy);
        world.start(&[]);
        world
    }

    /// The host's namespace.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The namespace that the policy calls `@name`.
    #[must_use]
    pub fn port(&self, name: &str) -> Namespace {
        Namespace::named(&self.netns_name(name))
    }

    /// The full name of the namespace that the policy calls `@name`.
    #[must_use]
    pub fn netns_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Creates the namespace that the policy calls `@name`, as a person would have; the world
    /// removes it at its end.
    pub fn create_namespace(&self, name: &str) {
        // The world deletes what carries its prefix, so nothing needs to own it.
        std::mem::forget(OwnedNamespace::create(self.netns_name(name)));
    }

    /// The world's own folder: policy, socket, state and log lie there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The policy file.
    #[must_use]
    pub fn policy_path(&self) -> PathBuf {
        self.folder().join("policy.toml")
    }

    /// What the policy file says now.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn policy_text(&self) -> String {
        fs::read_to_string(self.policy_path()).expect("read the policy file")
    }

    /// Writes the policy file; each `@` becomes the world's prefix.
    ///
    /// # Panics
    /// When the folder is gone.
    pub fn write_policy(&self, policy: &str) {
        fs::write(self.policy_path(), policy.replace('@', &self.prefix)).expect("write the policy file");
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join("vnet.sock")
    }

    /// The state folder.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// The folder in bpffs under which vnet pins.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// From now on `vnet-ctl` is another build of it, as after an upgrade.
    pub fn install(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// `vnet-ctl` inside the host, about to talk to the world's daemon.
    #[must_use]
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(&self.binary);
        command.arg("--policy").arg(self.policy_path()).arg("--socket").arg(self.socket()).args(args);
        // As large as the object declares them, however much memory the machine has: hundreds of worlds come and go.
        command.env_remove("VNET_SOCKET").env("VNET_FLOWS", (limits::FLOWS4 / 2).to_string());
        command
    }

    /// Runs a command of `vnet-ctl` to its end.
    pub fn ctl(&self, args: &[&str]) -> Finished {
        finish(self.ctl_command(args))
    }

    /// Runs `vnet-ctl teardown` to its end.
    pub fn teardown(&self) -> Finished {
        let mut command = self.ctl_command(&["teardown"]);
        self.add_folders(&mut command);
        finish(command)
    }

    /// Runs `vnet-ctl teardown` where there is much to remove.
    ///
    /// # Panics
    /// When it fails, or takes longer than `limit`.
    pub fn teardown_patiently(&self, limit: Duration) {
        let mut command = self.ctl_command(&["teardown"]);
        self.add_folders(&mut command);
        let mut child = command.stdout(Stdio::null()).spawn().expect("start vnet-ctl");
        let status = wait_at_most(&mut child, limit).expect("teardown ends");
        assert!(status.success(), "teardown ended with {status}");
    }

    /// Runs a program inside the namespace `@port`.
    pub fn exec(&self, port: &str, argv: &[&str]) -> Finished {
        self.port(port).exec(argv)
    }

    /// Runs a program on the host.
    pub fn host_exec(&self, argv: &[&str]) -> Finished {
        self.host.exec(argv)
    }

    /// Everything that vnet could leave behind here.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.host, &self.prefix, &self.bpffs)
    }

    /// The maps, programs and links that are pinned here or held by the daemon.
    #[must_use]
    pub fn kernel_objects(&self) -> KernelObjects {
        KernelObjects::of(&self.bpffs, self.daemon.as_ref().map(Daemon::pid))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", report::describe(self));
        }
        self.daemon = None;
        if remains::has_pins(&self.bpffs) {
            let torn_down = self.teardown();
            if !torn_down.success() {
                eprintln!("teardown failed: {torn_down}");
            }
        }
        remains::remove(&self.prefix, &self.bpffs);
    }
}
