//! Reads a policy file, and never one that somebody is writing.
//!
//! A read lease (`fcntl(2)`, F_SETLEASE) is granted only while nobody has the file open for writing, and
//! keeps whoever wants to waiting until it is given back. Where there are no leases, size and time of the
//! last change must be the same before and after.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::FileError;
use crate::policy::{self, ReadError};

/// An editor that saves takes far less.
const PATIENCE: Duration = Duration::from_secs(3);
/// From Linux's `asm-generic/fcntl.h`; the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;
/// Another file may have taken the name of the one that is watched.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The text of the policy file `path`, once nobody is writing it.
///
/// # Errors
/// When it cannot be read, or when somebody has it open for writing for longer than a few seconds.
pub fn read_settled(path: &Path) -> Result<String, FileError> {
    read_within(path, PATIENCE)
}

pub(super) fn read_within(path: &Path, patience: Duration) -> Result<String, FileError> {
    let deadline = Instant::now() + patience;
    loop {
        // Before the attempt: whoever closes the file right after it is not missed.
        let watch = Watch::new(path);
        if let Some(text) = try_read(path)? {
            return Ok(text);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(FileError::BeingWritten(path.to_owned()));
        }
        watch.wait(left.min(LOOK_AGAIN));
    }
}

/// The text, unless somebody is writing it.
fn try_read(path: &Path) -> Result<Option<String>, ReadError> {
    let file = policy::open(path)?;
    match Lease::take(&file) {
        Ok(_lease) => policy::read_open(&file, path).map(Some),
        Err(Errno::EAGAIN) => Ok(None),
        Err(_) => try_read_unleased(&file, path),
    }
}

fn try_read_unleased(file: &File, path: &Path) -> Result<Option<String>, ReadError> {
    let stamp = || {
        let metadata = file.metadata().map_err(|error| ReadError::new(path, error))?;
        Ok((metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    };
    let before = stamp()?;
    let text = policy::read_open(file, path)?;
    Ok((stamp()? == before).then_some(text))
}

/// While it is held, nobody opens the file for writing.
struct Lease<'a>(&'a File);

impl<'a> Lease<'a> {
    /// Takes the lease, unless somebody has the file open for writing (EAGAIN), the file system knows
    /// none, or the file is another user's.
    fn take(file: &'a File) -> Result<Self, Errno> {
        // Whoever wants to write makes the kernel send a signal, by default one that ends this process.
        // This one is ignored; the lease is given back soon anyway.
        control(file, F_SETSIG, libc::SIGURG)?;
        control(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        Ok(Self(file))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // It goes with the file at the latest.
        let _ = control(self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> Result<(), Errno> {
    // SAFETY: both commands take an integer, and the descriptor is open while `file` is borrowed.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }).map(drop)
}

/// Tells when a file is closed by a writer, or gone.
struct Watch(Option<Inotify>);

impl Watch {
    /// Without one (the limit of watches is reached) it is looked at again after a while.
    fn new(path: &Path) -> Self {
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let events = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_DELETE_SELF;
            inotify.add_watch(path, events)?;
            io::Result::Ok(inotify)
        };
        Self(watch().ok())
    }

    fn wait(&self, patience: Duration) {
        let Some(inotify) = &self.0 else { return thread::sleep(patience) };
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        // Whatever comes of it, the file is looked at again.
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn folder_with(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn an_open_writer_is_waited_for_and_then_refused() {
        let (_folder, path) = folder_with("old");
        let mut writer = File::create(&path).expect("open");
        writer.write_all(b"half").expect("written");
        let error = read_within(&path, Duration::from_millis(50)).expect_err("being written");
        assert!(error.to_string().contains("is being written by another process"), "{error}");

        let waiting = thread::spawn({
            let path = path.clone();
            move || read_within(&path, Duration::from_secs(20))
        });
        writer.write_all(b" and half").expect("written");
        drop(writer);
        assert_eq!(waiting.join().expect("no panic").expect("read"), "half and half");
    }

    #[test]
    fn a_file_that_takes_the_name_of_one_being_written_is_read() {
        let (folder, path) = folder_with("old");
        let _writer = File::options().append(true).open(&path).expect("open");
        let other = folder.path().join("other");
        fs::write(&other, "new").expect("written");
        let waiting = thread::spawn({
            let path = path.clone();
            move || read_within(&path, Duration::from_secs(20))
        });
        fs::rename(&other, &path).expect("renamed");
        assert_eq!(waiting.join().expect("no panic").expect("read"), "new");
    }

    #[test]
    fn a_writer_waits_for_the_lease_and_the_reader_survives() {
        let (_folder, path) = folder_with("old");
        let file = File::open(&path).expect("open");
        let lease = Lease::take(&file).expect("a lease");
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "new").expect("written")
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_finished());
        assert_eq!(policy::read_open(&file, &path).expect("read"), "old");
        drop(lease);
        writer.join().expect("no panic");
        assert_eq!(read_settled(&path).expect("read"), "new");
    }

    #[test]
    fn without_leases_the_text_is_read_as_well() {
        let (_folder, path) = folder_with("text");
        let file = File::open(&path).expect("open");
        assert_eq!(try_read_unleased(&file, &path).expect("read").as_deref(), Some("text"));
        assert!(matches!(read_settled(Path::new("/nonexistent")), Err(FileError::Unreadable(_))));
    }
}
