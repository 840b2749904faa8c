//! The policy file on disk: which one it is, its lock, and its replacement as a whole.
//!
//! Whoever changes the file holds the lock of its sibling `.vnet-FILE.lock` from reading to replacing, so two
//! changes at once both land. The new text is first written beside the file and then renamed over it:
//! a reader sees the old file or the new one. What stands in the file is not looked at here.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use nix::libc;
use tempfile::NamedTempFile;

use crate::failure::{Failure, Kind};

/// A change waits for the daemon to apply the one before it.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a lock that another holds.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The sole right to change a policy file, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The file itself, symlinks followed.
    target: PathBuf,
    lock_path: PathBuf,
    /// Holds the lock while it is open.
    held: File,
}

impl Lock {
    /// Waits for the lock of the policy file at `path`.
    pub(crate) fn acquire(path: &Path) -> Result<Self, Failure> {
        Self::acquire_within(path, LOCK_PATIENCE)
    }

    fn acquire_within(path: &Path, patience: Duration) -> Result<Self, Failure> {
        let target = fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
        let lock_path = lock_path(&target);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(held) = try_hold(&lock_path)? {
                return Ok(Self { target, lock_path, held });
            }
            if Instant::now() >= deadline {
                let message = format!("another command has been changing {} for too long", target.display());
                return Err(Failure::new(Kind::Conflict, message)
                    .help(format!("find who holds {} (`fuser` tells) and try again", lock_path.display())));
            }
            thread::sleep(LOCK_POLL);
        }
    }

    /// The file that the lock guards.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Writes `text` beside the file, ready to take its place with its mode and owner.
    pub(crate) fn stage(&self, text: &str) -> Result<Staged<'_>, Failure> {
        let stage = || {
            let folder = self.target.parent().ok_or_else(|| anyhow!("it has no folder"))?;
            let old = fs::metadata(&self.target)?;
            let mut new = NamedTempFile::with_prefix_in(".vnet-policy-", folder)?;
            new.write_all(text.as_bytes())?;
            let file = new.as_file();
            if (old.uid(), old.gid()) != (file.metadata()?.uid(), file.metadata()?.gid()) {
                fchown(file, Some(old.uid()), Some(old.gid()))?;
            }
            // After the owner: changing that clears set-id bits.
            file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
            file.sync_all()?;
            anyhow::Ok(new)
        };
        let new =
            stage().with_context(|| format!("write the new policy beside {}", self.target.display()))?;
        Ok(Staged { lock: self, new })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still held: whoever waits for it sees that its file is gone, and makes a new one. What has a text
        // is somebody's own.
        if self.held.metadata().is_ok_and(|file| file.len() == 0) {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Hidden, and with vnet's name, as no one else's file is called.
fn lock_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(".vnet-");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    target.with_file_name(name)
}

/// The lock, unless another holds it or has just removed the file that carried it.
fn try_hold(lock_path: &Path) -> Result<Option<File>, Failure> {
    let hold = || -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(lock_path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (held, named) = (file.metadata()?, fs::symlink_metadata(lock_path));
        let is_current = named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
        Ok(is_current.then_some(file))
    };
    Ok(hold().with_context(|| format!("lock {}", lock_path.display()))?)
}

/// A new text on the same disk as the file, not yet in its place; dropped, it leaves no trace.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    lock: &'a Lock,
    new: NamedTempFile,
}

impl Staged<'_> {
    /// Puts the new text in the file's place.
    pub(crate) fn replace(self) -> Result<(), Failure> {
        let target = &self.lock.target;
        self.new.persist(target).with_context(|| format!("replace {}", target.display()))?;
        // So that the rename survives a power cut; it has happened either way.
        if let Some(folder) = target.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}

/// Why the policy file at `path` cannot be opened.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new(Kind::Invalid, format!("the policy file {path} does not exist"))
            .help("write one (examples/ has some), or name another with --policy FILE");
    }
    Failure::new(Kind::Invalid, format!("read the policy file {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        fs::write(&path, text).expect("written");
        (folder, path)
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replacing_keeps_mode_and_leaves_nothing_beside() {
        let (folder, path) = folder_with("old");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("mode");
        let lock = Lock::acquire(&path).expect("locked");
        lock.stage("new").expect("staged").replace().expect("replaced");
        drop(lock);
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o640);
        assert_eq!(names(folder.path()), ["policy.toml"]);
    }

    #[test]
    fn a_stage_that_is_dropped_changes_nothing() {
        let (folder, path) = folder_with("old");
        let lock = Lock::acquire(&path).expect("locked");
        drop(lock.stage("new").expect("staged"));
        drop(lock);
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(names(folder.path()), ["policy.toml"]);
    }

    #[test]
    fn a_symlink_stays_one() {
        let (folder, path) = folder_with("old");
        let link = folder.path().join("link.toml");
        symlink(&path, &link).expect("linked");
        let lock = Lock::acquire(&link).expect("locked");
        lock.stage("new").expect("staged").replace().expect("replaced");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
    }

    #[test]
    fn the_lock_isheld_by_one_and_then_by_the_next() {
        let (_folder, path) = folder_with("old");
        let lock = Lock::acquire(&path).expect("locked");
        let refused = Lock::acquire_within(&path, Duration::ZERO).expect_err("held by another");
        assert_eq!(refused.kind, Kind::Conflict);
        drop(lock);
        Lock::acquire_within(&path, Duration::ZERO).expect("free again");
    }

    #[test]
    fn files_of_others_that_are_named_like_locks_stay() {
        let (folder, path) = folder_with("old");
        fs::write(folder.path().join("policy.toml.lock"), "").expect("written");
        fs::write(folder.path().join(".vnet-policy.toml.lock"), "mine").expect("written");
        drop(Lock::acquire(&path).expect("locked"));
        assert_eq!(names(folder.path()), [".vnet-policy.toml.lock", "policy.toml", "policy.toml.lock"]);
    }

    #[test]
    fn a_lock_is_not_a_link_to_another_file() {
        let (folder, path) = folder_with("old");
        let target = folder.path().join("target");
        symlink(&target, folder.path().join(".vnet-policy.toml.lock")).expect("linked");
        Lock::acquire(&path).expect_err("a link");
        assert!(!target.exists());
    }

    #[test]
    fn changes_at_once_all_land() {
        let (folder, path) = folder_with("");
        let change = |n: usize| {
            let lock = Lock::acquire(&path).expect("locked");
            let text = fs::read_to_string(lock.target()).expect("read");
            lock.stage(&format!("{text}{n}\n")).expect("staged").replace().expect("replaced");
        };
        thread::scope(|scope| {
            for n in 0..16 {
                scope.spawn(move || change(n));
            }
        });
        let text = fs::read_to_string(&path).expect("read");
        let mut lines: Vec<usize> = text.lines().map(|line| line.parse().expect("a number")).collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..16).collect::<Vec<_>>());
        assert_eq!(names(folder.path()), ["policy.toml"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = Lock::acquire(Path::new("/nonexistent/p.toml")).expect_err("missing");
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.message.contains("/nonexistent/p.toml"));
    }
}
