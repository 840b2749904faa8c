//! The policy file on disk: which one it is, its lock, its replacement as a whole, and how it is read.
//!
//! Whoever changes the file holds the lock of its sibling `.vnet-FILE.lock` from reading to replacing, so two
//! changes at once both land. The new text is first written beside the file and then renamed over it:
//! a reader sees the old file or the new one. An editor that writes into the file is waited for
//! ([`read_settled`]). What stands in the file is not looked at here.

mod error;
mod settled;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    unistd::{AccessFlags, access},
};
use tempfile::NamedTempFile;

pub use self::{error::FileError, settled::read_settled};

/// A change waits for the daemon to apply the one before it.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a lock that another holds.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The sole right to change a policy file, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// The file itself, symlinks followed.
    target: PathBuf,
    lock_path: PathBuf,
    /// Holds the lock while it is open.
    held: File,
}

impl Lock {
    /// Waits for the lock of the policy file at `path`.
    ///
    /// # Errors
    /// When there is no such file, when its folder cannot be written to, or when another holds the lock
    /// for a minute.
    pub fn acquire(path: &Path) -> Result<Self, FileError> {
        Self::acquire_within(path, LOCK_PATIENCE)
    }

    /// The same, with a patience of one's own.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn acquire_within(path: &Path, patience: Duration) -> Result<Self, FileError> {
        let target = fs::canonicalize(path).map_err(|error| FileError::unreadable(path, error))?;
        let lock_path = lock_path(&target);
        let deadline = Instant::now() + patience;
        loop {
            let held = try_hold(&lock_path)
                .map_err(|error| FileError::Unlockable { path: lock_path.clone(), error })?;
            if let Some(held) = held {
                return Ok(Self { target, lock_path, held });
            }
            if Instant::now() >= deadline {
                return Err(FileError::Held { path: target, lock: lock_path });
            }
            thread::sleep(LOCK_POLL);
        }
    }

    /// The file that the lock guards.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes `text` beside the file, ready to take its place with its mode and owner.
    ///
    /// # Errors
    /// When the file is read-only, or there is no room for another beside it.
    pub fn stage(&self, text: &str) -> Result<Staged<'_>, FileError> {
        self.check_writable()?;
        let stage = || {
            let folder = self.target.parent().unwrap_or(Path::new("/"));
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
            Ok(new)
        };
        let failed = |error| FileError::Unwritable { path: self.target.clone(), error };
        Ok(Staged { lock: self, new: stage().map_err(failed)? })
    }

    /// A rename needs no right to the file itself. But who made it read-only means that it stays as it is.
    fn check_writable(&self) -> Result<(), FileError> {
        let is_marked = fs::metadata(&self.target).is_ok_and(|file| file.mode() & 0o222 == 0);
        match access(&self.target, AccessFlags::W_OK) {
            Ok(()) if !is_marked => Ok(()),
            Ok(()) => Err(FileError::ReadOnly { path: self.target.clone(), error: None }),
            Err(error) => Err(FileError::ReadOnly { path: self.target.clone(), error: Some(error.into()) }),
        }
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
fn try_hold(lock_path: &Path) -> io::Result<Option<File>> {
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
}

/// A new text on the same disk as the file, not yet in its place; dropped, it leaves no trace.
#[derive(Debug)]
pub struct Staged<'a> {
    lock: &'a Lock,
    new: NamedTempFile,
}

impl Staged<'_> {
    /// Puts the new text in the file's place.
    ///
    /// # Errors
    /// When the rename fails; the file is then as before.
    pub fn replace(self) -> Result<(), FileError> {
        let target = &self.lock.target;
        self.new
            .persist(target)
            .map_err(|error| FileError::Unwritable { path: target.clone(), error: error.error })?;
        // So that the rename survives a power cut; it has happened either way.
        if let Some(folder) = target.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}
