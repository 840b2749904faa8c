//! What worlds leave outside their own folder, and its removal: also that of worlds whose test
//! executable was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, Once},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{
    netns,
    snapshot::{files_under, namespaces},
};

/// Begins the name of every namespace of every world; the executable's pid follows.
pub(super) const NETNS_PREFIX: &str = "vt";
/// Begins the name of every world's folder in bpffs; the executable's pid follows.
pub(super) const BPFFS_PREFIX: &str = "vnet-test-";

/// The mounted bpffs, mounted first where it is missing.
pub(super) fn bpffs_root() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().expect("no test fails while it mounts");
    let root = PathBuf::from("/sys/fs/bpf");
    let kind = statfs(&root).expect("/sys/fs/bpf exists wherever the kernel has BPF").filesystem_type();
    if kind != BPF_FS_MAGIC {
        mount(Some("bpf"), &root, Some("bpf"), MsFlags::empty(), None::<&str>).expect("mount bpffs");
    }
    root
}

/// Whether anything is pinned under `folder`.
pub(super) fn has_pins(folder: &Path) -> bool {
    files_under(folder).iter().any(|path| !path.is_dir())
}

/// Removes the namespaces that begin with `prefix`, and `bpffs` with everything below.
pub(super) fn remove(prefix: &str, bpffs: &Path) {
    for name in namespaces(prefix) {
        netns::delete(&name);
    }
    for path in files_under(bpffs) {
        let removed = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
    // It is not there when the world was never complete.
    let _ = fs::remove_dir(bpffs);
}

/// Removes, once per executable, the worlds of executables that run no more.
pub(super) fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in namespaces(NETNS_PREFIX).into_iter().filter(|name| is_orphan(name, NETNS_PREFIX)) {
            netns::delete(&name);
        }
        for entry in fs::read_dir(bpffs_root()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_orphan(&name, BPFFS_PREFIX) {
                // No world has an empty prefix, and no namespace a name with a slash.
                remove("/", &entry.path());
            }
        }
    });
}

/// Whether `name` is made of `prefix`, the pid of a process that is gone, and `x…`.
fn is_orphan(name: &str, prefix: &str) -> bool {
    let Some((pid, _)) = name.strip_prefix(prefix).and_then(|rest| rest.split_once('x')) else {
        return false;
    };
    pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}
