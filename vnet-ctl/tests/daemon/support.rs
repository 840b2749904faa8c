//! A piece of the machine of its own for one test: a network namespace and a folder for pins.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    unistd::Uid,
};
use vnet_ctl::datapath::{names::Pins, remove_pins};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder on the bpf filesystem, and one elsewhere; both vanish with it.
pub(crate) struct Scratch {
    bpffs: PathBuf,
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        assert!(Uid::effective().is_root(), "this test loads eBPF programs: run it as root");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bpffs = PathBuf::from(format!("/sys/fs/bpf/vnet-test-{}-{number}", std::process::id()));
        fs::create_dir(&bpffs).expect("a bpf filesystem on /sys/fs/bpf");
        Self { bpffs, dir: tempfile::tempdir().expect("a folder for the test") }
    }

    pub(crate) fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::new(&self.bpffs)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_pins(&self.pins());
        let _ = fs::remove_dir(&self.bpffs);
    }
}

/// Runs `test` in a thread with a network namespace of its own. What it starts inherits the namespace.
pub(crate) fn in_netns(test: impl FnOnce(&Scratch) + Send + 'static) {
    let run = move || {
        let scratch = Scratch::new();
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link set lo up");
        test(&scratch);
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the calling thread's network namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("run ip");
    assert!(status.success(), "ip {arguments}");
}

/// The index of a device in the calling thread's network namespace.
pub(crate) fn ifindex(name: &str) -> u32 {
    let name = CString::new(name).expect("a device's name");
    if_nametoindex(name.as_c_str()).expect("the device exists")
}

/// What a command prints, run in the calling thread's network namespace.
pub(crate) fn output(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a command")).args(words).output().expect("run it");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}
