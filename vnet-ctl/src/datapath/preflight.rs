//! Whether this host can run the datapath, asked before anything is touched.
//!
//! Each refusal names what is missing and the command that helps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Oldest kernel with tcx links (commit e420bed02507, Linux 6.6).
const OLDEST_KERNEL: (u32, u32) = (6, 6);

/// Capabilities by number (linux/capability.h): what each is needed for comes with the message.
const CAP_NET_BROADCAST: u32 = 11;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Where to look; the defaults are the kernel's own places.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// The folder below which pins go; it must be on a bpf filesystem.
    pub bpffs: PathBuf,
    /// The kernel's type information.
    pub btf: PathBuf,
    /// The kernel's version.
    pub osrelease: PathBuf,
    /// The capabilities of this process.
    pub process_status: PathBuf,
}

/// What the host lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// Not root, and not its capabilities either.
    #[error(
        "vnet loads eBPF programs and makes network devices, which takes root (missing: {0}); run it with sudo"
    )]
    NotRoot(String),
    /// The kernel is older than tcx.
    #[error("this kernel is {0}; vnet needs Linux {min_major}.{min_minor} or newer (tcx links)",
        min_major = OLDEST_KERNEL.0, min_minor = OLDEST_KERNEL.1)]
    OldKernel(String),
    /// The kernel was built without BTF.
    #[error("this kernel has no BTF ({0} is missing); use a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf(PathBuf),
    /// Nothing that can hold pins.
    #[error(
        "{0} is not a bpf filesystem; mount one with `mount -t bpf bpf {0}`, or name another with --bpffs"
    )]
    NoBpffs(PathBuf),
}

impl Preflight {
    /// The places of a running system, with pins below `bpffs`.
    #[must_use]
    pub fn new(bpffs: &Path) -> Self {
        Self {
            bpffs: bpffs.to_owned(),
            btf: "/sys/kernel/btf/vmlinux".into(),
            osrelease: "/proc/sys/kernel/osrelease".into(),
            process_status: "/proc/self/status".into(),
        }
    }

    /// Checks everything that the datapath depends on.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn check(&self) -> Result<(), PreflightError> {
        self.check_privileges()?;
        let release = fs::read_to_string(&self.osrelease).unwrap_or_default();
        if parse_release(&release).is_some_and(|version| version < OLDEST_KERNEL) {
            return Err(PreflightError::OldKernel(release.trim().to_owned()));
        }
        if !self.btf.exists() {
            return Err(PreflightError::NoBtf(self.btf.clone()));
        }
        match statfs(&self.bpffs) {
            Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
            _ => Err(PreflightError::NoBpffs(self.bpffs.clone())),
        }
    }

    /// Checks for root, or the capabilities that count.
    ///
    /// # Errors
    /// [`PreflightError::NotRoot`] with the names of those missing.
    pub fn check_privileges(&self) -> Result<(), PreflightError> {
        let status = fs::read_to_string(&self.process_status).unwrap_or_default();
        let missing = missing_capabilities(effective_capabilities(&status).unwrap_or_default());
        if missing.is_empty() { Ok(()) } else { Err(PreflightError::NotRoot(missing.join(", "))) }
    }

    /// Whether the kernel tells this process of changes in other namespaces; without that, they are only looked
    /// at when something changes here.
    #[must_use]
    pub fn hears_namespaces(&self) -> bool {
        let status = fs::read_to_string(&self.process_status).unwrap_or_default();
        effective_capabilities(&status).is_some_and(|effective| effective >> CAP_NET_BROADCAST & 1 == 1)
    }
}

/// Major and minor of a release such as `6.18.0-rc1-cloud`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// `CAP_SYS_ADMIN` stands for the finer ones (capabilities(7)), and enters namespaces besides.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    let or_admin = |capability| has(capability) || has(CAP_SYS_ADMIN);
    [
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        ("CAP_SYS_ADMIN", has(CAP_SYS_ADMIN)),
        ("CAP_PERFMON", or_admin(CAP_PERFMON)),
        ("CAP_BPF", or_admin(CAP_BPF)),
    ]
    .into_iter()
    .filter_map(|(name, held)| (!held).then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(parse_release("6.18.0-rc1-cloud\n"), Some((6, 18)));
        assert_eq!(parse_release("6.6\n"), Some((6, 6)));
        assert!(parse_release("6.1.0-13-amd64").unwrap() < OLDEST_KERNEL);
        assert_eq!(parse_release("custom"), None);
    }

    #[test]
    fn root_has_all_capabilities_and_a_user_none() {
        let status = "Name:\tx\nCapEff:\t000001ffffffffff\n";
        assert!(missing_capabilities(effective_capabilities(status).unwrap()).is_empty());
        assert_eq!(missing_capabilities(0).len(), 4);
    }

    fn folder_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Preflight) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let preflight = Preflight {
            bpffs: dir.path().to_owned(),
            btf: dir.path().join("btf"),
            osrelease: dir.path().join("osrelease"),
            process_status: dir.path().join("status"),
        };
        (dir, preflight)
    }

    #[test]
    fn each_lack_is_named_with_its_remedy() {
        let root = ("status", "CapEff:\t000001ffffffffff\n");
        let (_dir, preflight) = folder_with(&[("status", "CapEff:\t0\n")]);
        assert!(preflight.check().unwrap_err().to_string().contains("sudo"));
        let (_dir, preflight) = folder_with(&[root, ("osrelease", "6.1.0-13-amd64\n")]);
        assert!(preflight.check().unwrap_err().to_string().contains("Linux 6.6 or newer"));
        let (_dir, preflight) = folder_with(&[root, ("osrelease", "6.18.0\n")]);
        assert!(preflight.check().unwrap_err().to_string().contains("CONFIG_DEBUG_INFO_BTF"));
        let (_dir, preflight) = folder_with(&[root, ("osrelease", "6.18.0\n"), ("btf", "")]);
        assert!(preflight.check().unwrap_err().to_string().contains("mount -t bpf bpf"));
    }
}
