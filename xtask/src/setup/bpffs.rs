//! The file system that keeps eBPF maps, programs and links alive when their maker has gone.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Machine, State, Step};

/// Where the kernel's documentation, systemd and vnet expect it.
const MOUNT_POINT: &str = "/sys/fs/bpf";

/// The step.
pub(super) struct Bpffs;

impl Step for Bpffs {
    fn name(&self) -> &'static str {
        "bpffs"
    }

    fn look(&self, _machine: &Machine) -> Result<State> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounted file systems")?;
        Ok(if is_mounted(&mounts) {
            State::Present(MOUNT_POINT.to_owned())
        } else {
            State::Missing(format!("not mounted at {MOUNT_POINT}"))
        })
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        machine.privilege.run_as_root(&machine.programs, &["mount", "-t", "bpf", "bpf", MOUNT_POINT])
    }

    fn by_hand(&self, machine: &Machine) -> Vec<String> {
        vec![format!("{}mount -t bpf bpf {MOUNT_POINT}", machine.privilege.prefix())]
    }
}

/// Whether the file system on top at the mount point is bpffs; `mounts` as in `/proc/mounts`.
fn is_mounted(mounts: &str) -> bool {
    let mut kinds = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        (words.next()? == MOUNT_POINT).then(|| words.next())?
    });
    kinds.next_back() == Some("bpf")
}

#[cfg(test)]
mod tests {
    use super::is_mounted;

    #[test]
    fn what_was_mounted_last_counts() {
        assert!(is_mounted("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw,mode=700 0 0\n"));
        assert!(is_mounted("sysfs /sys/fs/bpf sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"));
        assert!(!is_mounted("bpf /sys/fs/bpf bpf rw 0 0\nsysfs /sys/fs/bpf sysfs rw 0 0\n"));
        assert!(!is_mounted("bpf /run/bpf bpf rw 0 0\nsysfs /sys sysfs rw 0 0\n"));
        assert!(!is_mounted(""));
    }
}
