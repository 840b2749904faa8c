//! One daemon at a time: locks that the kernel gives up with the process, however it ends.
//!
//! Four things are locked: a file beside the socket, which tells who runs; the network namespace, whose
//! devices are one daemon's; the folder of pins, so that daemons with different sockets do not share one
//! datapath; and the state, which says what one daemon made.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{
    DaemonError,
    lock_file::{self, Attempt, Held, NamespaceLock, read_pid},
};

/// Where the locks of network namespaces are. One place for the whole host, whatever the daemons' sockets.
const NAMESPACE_LOCKS: &str = "/run/vnet-locks";
/// Before a folder that vnet has made, in the lock file.
const MADE: &str = "made ";

/// Beside the state file.
const STATE_LOCK: &str = "state.lock";

/// Proof that no other daemon runs.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Folders that vnet has made, this time or before.
    made: Vec<PathBuf>,
    namespace: Option<NamespaceLock>,
    pins: Vec<File>,
    state: Option<Held>,
}

impl Lock {
    /// Locks the folder of `socket`, making it if it is not there, and the thread's network namespace.
    pub(super) fn alone(socket: &Path) -> Result<Self, DaemonError> {
        let mut lock = Self::acquire(socket)?;
        match lock_namespace() {
            Ok(namespace) => {
                lock.namespace = Some(namespace);
                Ok(lock)
            }
            Err(error) => {
                lock.remove();
                Err(error)
            }
        }
    }

    fn acquire(socket: &Path) -> Result<Self, DaemonError> {
        let folder = folder_of(socket);
        let made = make_folders(folder).map_err(|error| failed(error, "make", folder))?;
        let path = folder.join("vnet.lock");
        let (file, old) = lock_file(&path)?;
        let mut lock =
            Self { file, path, made: parse_made(&old), namespace: None, pins: Vec::new(), state: None };
        lock.remember(made)?;
        Ok(lock)
    }

    /// Locks a version's folder of pins as well.
    pub(super) fn lock_pins(&mut self, folder: &Path) -> Result<(), DaemonError> {
        let file = File::open(folder).map_err(|error| failed(error, "open", folder))?;
        match file.try_lock() {
            Ok(()) => self.pins.push(file),
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "another vnet daemon, with another socket, uses {}; stop it first, or give this one another \
                     bpf filesystem with --bpffs",
                    folder.display()
                );
                return Err(DaemonError::Conflict(message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error, "lock", folder)),
        }
        Ok(())
    }

    /// Locks the state kept in `folder` as well.
    pub(super) fn lock_state(&mut self, folder: &Path) -> Result<(), DaemonError> {
        let conflict = || {
            DaemonError::Conflict(format!(
                "another vnet daemon, with another socket, keeps its state in {}; stop it first (commands for it \
                 take its --socket), or name another folder with --state-dir",
                folder.display()
            ))
        };
        self.state = Some(Held::try_new(folder.join(STATE_LOCK))?.ok_or_else(conflict)?);
        Ok(())
    }

    /// Whether the state is this process's.
    pub(super) const fn holds_state(&self) -> bool {
        self.state.is_some()
    }

    /// Whether the pins are this process's.
    pub(super) const fn holds_pins(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Makes a folder for vnet alone, and remembers which folders are new.
    pub(super) fn make_folder(&mut self, folder: &Path) -> Result<(), DaemonError> {
        let made = make_folders(folder).map_err(|error| failed(error, "make", folder))?;
        self.remember(made)
    }

    /// Removes the lock file and the folders that vnet has made, unless something is in them.
    pub(super) fn remove(self) {
        drop(self.pins);
        drop(self.namespace);
        drop(self.state);
        let _ = fs::remove_file(&self.path);
        for folder in self.made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }

    fn remember(&mut self, made: Vec<PathBuf>) -> Result<(), DaemonError> {
        self.made.extend(made);
        self.write().map_err(|error| failed(error, "write", &self.path))
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        let mut text = format!("{}\n", std::process::id());
        for folder in &self.made {
            text = format!("{text}{MADE}{}\n", folder.display());
        }
        self.file.write_all(text.as_bytes())
    }
}

/// The process that holds the lock beside `socket`, if one does.
pub(super) fn holder(socket: &Path) -> Option<Option<u32>> {
    let mut file = File::open(folder_of(socket).join("vnet.lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_pid(&mut file)),
        _ => None,
    }
}

fn folder_of(socket: &Path) -> &Path {
    socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens and locks the file at `path`; its text so far.
fn lock_file(path: &Path) -> Result<(File, String), DaemonError> {
    match lock_file::lock(path)? {
        Attempt::Ours(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(|error| failed(error, "read", path))?;
            Ok((file, text))
        }
        Attempt::Held(pid) => Err(held(pid, path)),
    }
}

/// Locks the thread's network namespace: a daemon takes every device with a name of vnet there for its own.
fn lock_namespace() -> Result<NamespaceLock, DaemonError> {
    NamespaceLock::try_new(Path::new(NAMESPACE_LOCKS))?.ok_or_else(|| {
        DaemonError::Conflict(
            "another vnet daemon, with another socket, serves this network namespace; stop it first (commands \
             for it take its --socket), or start this one in another network namespace"
                .to_owned(),
        )
    })
}

fn parse_made(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.strip_prefix(MADE))
        .map(PathBuf::from)
        .filter(|path| path.is_dir())
        .collect()
}

/// Makes a folder and its parents; those that are new, outermost first.
fn make_folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let mut made = Vec::new();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o755).create(path) {
            Ok(()) => made.push(std::path::absolute(path)?),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

fn held(pid: Option<u32>, path: &Path) -> DaemonError {
    let process = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    DaemonError::Conflict(format!(
        "a vnet daemon runs already: {process} holds {}; stop it first, or give this one another --socket, \
         --state-dir and --bpffs",
        path.display()
    ))
}

fn failed(error: io::Error, verb: &str, path: &Path) -> DaemonError {
    DaemonError::Failed(anyhow::Error::new(error).context(format!("{verb} {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_runs() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/vnet.sock");
        let lock = Lock::acquire(&socket).unwrap();
        assert_eq!(holder(&socket), Some(Some(std::process::id())));

        let error = Lock::acquire(&socket).unwrap_err();

        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains(&format!("process {} holds", std::process::id())), "{error}");
        drop(lock);
        assert_eq!(holder(&socket), None);
        Lock::acquire(&socket).unwrap();
    }

    #[test]
    fn daemons_with_different_sockets_do_not_share_pins() {
        let (dir, pins) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut first = Lock::acquire(&dir.path().join("a/vnet.sock")).unwrap();
        first.lock_pins(pins.path()).unwrap();
        let mut second = Lock::acquire(&dir.path().join("b/vnet.sock")).unwrap();

        let error = second.lock_pins(pins.path()).unwrap_err();

        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("--bpffs"), "{error}");
        drop(first);
        second.lock_pins(pins.path()).unwrap();
    }

    #[test]
    fn daemons_with_different_sockets_do_not_share_a_state() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut first = Lock::acquire(&dir.path().join("a/vnet.sock")).unwrap();
        first.make_folder(&state).unwrap();
        first.lock_state(&state).unwrap();
        let mut second = Lock::acquire(&dir.path().join("b/vnet.sock")).unwrap();

        let error = second.lock_state(&state).unwrap_err();

        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("--state-dir"), "{error}");
        drop(first);
        second.lock_state(&state).unwrap();
        drop(second);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "the lock's file goes with it");
    }

    #[test]
    fn folders_that_vnet_made_go_with_the_lock_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, state) = (dir.path().join("a/b/vnet.sock"), dir.path().join("c"));
        let mut first = Lock::acquire(&socket).unwrap();
        first.make_folder(&state).unwrap();
        drop(first);

        Lock::acquire(&socket).unwrap().remove();

        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "what an earlier run made is remembered");
        let socket = dir.path().join("vnet.sock");
        Lock::acquire(&socket).unwrap().remove();
        assert!(dir.path().is_dir(), "a folder that was there stays");
    }
}
