//! A file that one process locks at a time: the kernel gives the lock up with the process, however it ends.
//!
//! Whoever can open a file can lock it. So these are readable to their owner alone, and not a link to another.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{libc, unistd::Uid};

/// What came of an attempt to lock a file.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is locked now.
    Ours(File),
    /// Another process holds it; its number, if it has written one there.
    Held(Option<u32>),
}

/// Makes the file at `path` if it is not there, and locks it.
pub(super) fn lock(path: &Path) -> Result<Attempt> {
    loop {
        let mut file = open(path).with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Held(read_pid(&mut file))),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
        // Its last holder may have removed the file between the two steps.
        if is_at(&file, path) {
            return Ok(Attempt::Ours(file));
        }
    }
}

/// The process number at the start of a lock file.
pub(super) fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.lines().next()?.parse().ok()
}

fn open(path: &Path) -> Result<File> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match open {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            bail!("it is a symbolic link, which vnet does not make; remove it")
        }
        open => open?,
    };
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "it is no regular file; remove it");
    let owner = metadata.uid();
    ensure!(
        owner == Uid::effective().as_raw(),
        "user {owner} made it, who could keep vnet from starting; remove it"
    );
    // Older ones could be opened by everybody.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A locked file that says nothing, and vanishes with its holder.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    /// Holds the lock while it is open.
    _file: File,
}

impl Held {
    /// Locks the file at `path`, unless another process holds it.
    pub(super) fn try_new(path: PathBuf) -> Result<Option<Self>> {
        match lock(&path)? {
            Attempt::Ours(file) => Ok(Some(Self { path, _file: file })),
            Attempt::Held(_) => Ok(None),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Still locked: whoever waits for it sees that the file is gone, and makes a new one.
        let _ = fs::remove_file(&self.path);
    }
}

/// The sole right to a network namespace, as a file named by its number in a folder of the host.
///
/// The namespace's own file would do, but every user may lock that one.
#[derive(Debug)]
pub(super) struct NamespaceLock {
    folder: PathBuf,
    held: Option<Held>,
}

impl NamespaceLock {
    /// Locks the thread's namespace in `folder`, unless another process holds it.
    pub(super) fn try_new(folder: &Path) -> Result<Option<Self>> {
        let namespace = Path::new("/proc/thread-self/ns/net");
        let number =
            fs::metadata(namespace).with_context(|| format!("look at {}", namespace.display()))?.ino();
        let path = folder.join(format!("netns-{number}.lock"));
        loop {
            make_private(folder).with_context(|| format!("make {}", folder.display()))?;
            match Held::try_new(path.clone()) {
                // Whoever was the last in it has just removed the folder.
                Err(_) if !folder.exists() => {}
                held => {
                    let lock = |held| Self { folder: folder.to_owned(), held: Some(held) };
                    return Ok(held?.map(lock));
                }
            }
        }
    }
}

impl Drop for NamespaceLock {
    fn drop(&mut self) {
        drop(self.held.take());
        // Fails while another namespace's lock is in it.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Makes a folder that only its owner can look into.
fn make_private(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    match fs::symlink_metadata(folder) {
        // Gone again: the caller tries once more.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => check_private(folder, &metadata?)?,
    }
    Ok(())
}

fn check_private(folder: &Path, metadata: &fs::Metadata) -> Result<()> {
    let is_own = metadata.is_dir() && metadata.uid() == Uid::effective().as_raw();
    ensure!(is_own, "it is there and is no folder of this user; remove it");
    if metadata.mode() & 0o7777 != 0o700 {
        match fs::set_permissions(folder, Permissions::from_mode(0o700)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn only_its_owner_can_open_a_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&old, "12\n").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        for path in [new, old] {
            assert!(matches!(lock(&path).unwrap(), Attempt::Ours(_)));
            assert_eq!(mode(&path), 0o600);
        }
    }

    #[test]
    fn a_link_and_a_stranger_s_file_are_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link, strange) = (dir.path().join("t"), dir.path().join("l"), dir.path().join("s"));
        symlink(&target, &link).unwrap();
        assert!(format!("{:#}", lock(&link).unwrap_err()).contains("symbolic link"));
        assert!(!target.exists());
        fs::write(&strange, "").unwrap();
        if std::os::unix::fs::chown(&strange, Some(12345), None).is_ok() {
            assert!(format!("{:#}", lock(&strange).unwrap_err()).contains("12345"));
        }
    }

    #[test]
    fn a_namespace_is_one_process_s_whoever_locks_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("locks");
        let everybody = File::open("/proc/thread-self/ns/net").unwrap();
        let _ = everybody.try_lock();

        let lock = NamespaceLock::try_new(&folder).unwrap().expect("nobody else has it");

        assert_eq!(mode(&folder), 0o700);
        assert!(NamespaceLock::try_new(&folder).unwrap().is_none());
        assert!(folder.is_dir(), "the refused one removes nothing");
        drop(lock);
        assert!(!folder.exists());
    }
}
