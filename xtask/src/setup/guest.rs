//! What a small virtual machine boots, for the tests of what is behind a tap: a kernel with the modules that its network
//! card takes, and busybox.
//!
//! Both come out of Debian's packages and lie beside what is built. They are not installed: the machine has a kernel of
//! its own, and may have another busybox.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;

use super::{Machine, State, Step};
use crate::process::{complete, root};

/// Names the kernel's package as what it depends on; made for virtual machines, it is small.
const KERNEL: &str = "linux-image-cloud-amd64";
const KERNEL_PREFIX: &str = "linux-image-";
const BUSYBOX: &str = "busybox-static";
/// In the order in which the machine loads them.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// The step.
pub(super) struct Guest;

impl Step for Guest {
    fn name(&self) -> &'static str {
        "guest"
    }

    fn look(&self, _machine: &Machine) -> Result<State> {
        let folder = folder()?;
        let missing = wanted().find(|name| !folder.join(name).exists());
        Ok(match missing {
            None => State::Present(folder.display().to_string()),
            Some(name) => State::Missing(format!("no {name} in {}", folder.display())),
        })
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        let Some(apt) = &machine.apt else { bail!("only Debian's packages are known by name") };
        let folder = folder()?;
        let unpacked = folder.join("unpacked");
        // What an earlier attempt left may be of another version.
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder.join("modules")).with_context(|| format!("make {}", folder.display()))?;
        apt.download(machine, &[BUSYBOX, KERNEL], &folder)?;
        let kernel = kernel_of(&machine.programs.read("apt-cache", &["depends", KERNEL])?)?;
        apt.download(machine, &[&kernel], &folder)?;
        for package in with_end(&folder, ".deb")? {
            let command = machine
                .programs
                .command("dpkg-deb", &["--extract".as_ref(), package.as_os_str(), unpacked.as_os_str()]);
            complete(&command, "dpkg-deb failed")?;
            fs::remove_file(&package).with_context(|| format!("remove {}", package.display()))?;
        }
        pick(machine, &unpacked, &folder)?;
        fs::remove_dir_all(&unpacked).with_context(|| format!("remove {}", unpacked.display()))
    }

    fn by_hand(&self, _machine: &Machine) -> Vec<String> {
        let folder =
            folder().map_or_else(|error| format!("{error:#}"), |folder| folder.display().to_string());
        vec![format!("put {} into {folder}", wanted().collect::<Vec<_>>().join(", "))]
    }
}

/// Where it lies, beside what cargo builds.
fn folder() -> Result<PathBuf> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec();
    Ok(metadata.context("ask cargo where it builds")?.target_directory.join("guest").into())
}

/// The files, by their names in the folder.
fn wanted() -> impl Iterator<Item = String> {
    ["vmlinuz", "busybox"].map(str::to_owned).into_iter().chain((0..MODULES.len()).map(module))
}

/// The module with this number. Names sort as the machine loads them.
fn module(number: usize) -> String {
    format!("modules/{number}-{}.ko", MODULES[number])
}

/// The package with the kernel itself, of `apt-cache depends`.
fn kernel_of(depends: &str) -> Result<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel = names.find(|name| name.starts_with(KERNEL_PREFIX));
    kernel.map(str::to_owned).with_context(|| format!("{KERNEL} depends on no kernel:\n{depends}"))
}

/// Takes what is wanted out of the `unpacked` packages.
fn pick(machine: &Machine, unpacked: &Path, folder: &Path) -> Result<()> {
    let files = files_below(unpacked)?;
    let find = |matches: &dyn Fn(&str) -> bool, what: &str| {
        let is_it = |path: &&PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(matches);
        files.iter().find(is_it).with_context(|| format!("the packages have no {what}"))
    };
    let copy = |from: &Path, to: &str| {
        fs::copy(from, folder.join(to)).map(drop).with_context(|| format!("copy {}", from.display()))
    };
    copy(find(&|name| name.starts_with("vmlinuz-"), "kernel")?, "vmlinuz")?;
    // Other files of the package have the same name.
    let program = files.iter().find(|path| path.ends_with("bin/busybox"));
    copy(program.context("the packages have no busybox")?, "busybox")?;
    for (number, name) in MODULES.iter().enumerate() {
        let (plain, packed) = (format!("{name}.ko"), format!("{name}.ko.xz"));
        let found = find(&|file| file == plain || file == packed, &plain)?;
        if found.extension().is_some_and(|end| end == "xz") {
            let unpack = machine.programs.command("xz", &["--decompress".as_ref(), found.as_os_str()]);
            complete(&unpack, "xz failed")?;
        }
        copy(&found.with_file_name(plain), &module(number))?;
    }
    Ok(())
}

/// Every file below `folder`, at any depth; links are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The files right in `folder` whose names end like this.
fn with_end(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_its_package_depends_on() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(kernel_of(depends).unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        assert!(kernel_of("linux-image-cloud-amd64\n").is_err());
    }

    #[test]
    fn modules_sort_as_they_are_loaded() {
        let names: Vec<_> = wanted().skip(2).collect();
        assert!(names.is_sorted(), "{names:?}");
    }
}
