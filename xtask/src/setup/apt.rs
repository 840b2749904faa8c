//! Packages of Debian and its kin: which are there, and installing those that are not.

use std::{cell::Cell, fs, path::Path};

use anyhow::{Result, bail};

use super::Machine;
use crate::process::{Programs, complete};

/// Seconds to wait for another program that holds dpkg's lock: a machine that has just started may
/// still be installing.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// The machine's apt.
pub(super) struct Apt {
    /// Whether the lists of packages were fetched by us: once is enough.
    fresh: Cell<bool>,
}

impl Apt {
    /// apt, if the system is of Debian's kind and has it.
    pub(super) fn detect(programs: &Programs) -> Option<Self> {
        let release = fs::read_to_string("/etc/os-release").ok()?;
        let debian = is_debian(&release) && programs.find("apt-get").is_some();
        debian.then(|| Self { fresh: Cell::new(false) })
    }

    /// Which of `packages` are not installed.
    pub(super) fn missing<'a>(&self, programs: &Programs, packages: &[&'a str]) -> Result<Vec<&'a str>> {
        let query = [&["--show", "--showformat", "${Package} ${db:Status-Status}\n"], packages].concat();
        // It fails when one is unknown, and still tells of the others.
        let output = programs.command("dpkg-query", &query).stderr_null().unchecked().read()?;
        Ok(not_installed(&output, packages))
    }

    /// Installs `packages` that are not there, as root.
    pub(super) fn install(&self, machine: &Machine, packages: &[&str]) -> Result<()> {
        let missing = self.missing(&machine.programs, packages)?;
        if missing.is_empty() {
            return Ok(());
        }
        self.get(machine, &missing, || self.get_install(machine, &missing))
    }

    /// Puts the files of `packages` into `folder`, without installing them.
    pub(super) fn download(&self, machine: &Machine, packages: &[&str], folder: &Path) -> Result<()> {
        // It puts them where it is started.
        let place = format!("--chdir={}", folder.display());
        let command = [&[place.as_str(), "apt-get", "download", "--quiet=2"], packages].concat();
        let get = || complete(&machine.programs.command("env", &command), "apt-get failed");
        self.get(machine, packages, get)
    }

    /// Runs `get`, which gets `packages`, with lists that know them.
    fn get(&self, machine: &Machine, packages: &[&str], get: impl Fn() -> Result<()>) -> Result<()> {
        if !self.fresh.get() && packages.iter().any(|package| !self.knows(&machine.programs, package)) {
            self.update(machine)?;
        }
        let unknown: Vec<_> =
            packages.iter().copied().filter(|package| !self.knows(&machine.programs, package)).collect();
        if !unknown.is_empty() {
            bail!("this system's archives have no package {}", unknown.join(", "));
        }
        match get() {
            // The lists may name versions that the archive no longer has.
            Err(_) if !self.fresh.get() => {
                self.update(machine)?;
                get()
            }
            result => result,
        }
    }

    /// Whether `package` can be installed, as far as the lists tell.
    fn knows(&self, programs: &Programs, package: &str) -> bool {
        let policy = programs.read("apt-cache", &["policy", package]);
        policy.is_ok_and(|policy| has_candidate(&policy))
    }

    fn update(&self, machine: &Machine) -> Result<()> {
        self.fresh.set(true);
        machine.privilege.run_as_root(&machine.programs, &["apt-get", "update", "--quiet=2"])
    }

    fn get_install(&self, machine: &Machine, packages: &[&str]) -> Result<()> {
        let command = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "--yes",
            "--quiet=2",
            "--no-install-recommends",
            "--option",
            "Dpkg::Use-Pty=0",
            "--option",
            LOCK_TIMEOUT,
        ];
        machine.privilege.run_as_root(&machine.programs, &[&command, packages].concat())
    }
}

/// Whether `/etc/os-release` is that of Debian or of a system made from it.
fn is_debian(os_release: &str) -> bool {
    let value = |name: &str| os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let words = ["ID", "ID_LIKE"].into_iter().filter_map(value);
    words.flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace()).any(|word| word == "debian")
}

/// Those of `packages` that dpkg-query does not list as installed.
fn not_installed<'a>(listing: &str, packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &str| {
        listing.lines().any(|line| {
            line.split_once(' ').is_some_and(|(name, status)| name == package && status == "installed")
        })
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Whether `apt-cache policy` of a package names a version to install.
fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_kin_are_told_from_others() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nVERSION_ID=43\nID_LIKE=\"rhel\"\n"));
        assert!(!is_debian("VARIANT_ID=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn removed_and_unknown_packages_are_missing() {
        let listing = "curl installed\niperf3 config-files\nnft not-installed\n";
        assert_eq!(
            not_installed(listing, &["curl", "iperf3", "nft", "tcpdump"]),
            ["iperf3", "nft", "tcpdump"]
        );
    }

    #[test]
    fn a_package_without_candidate_is_unknown() {
        assert!(has_candidate("curl:\n  Installed: (none)\n  Candidate: 7.88.1-10\n"));
        assert!(!has_candidate("old:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
