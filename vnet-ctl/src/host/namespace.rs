//! Network namespaces: made, removed and entered, as `ip netns` does but without a child process.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::ErrorKind,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use rtnetlink::Handle;
use tokio::{runtime, sync::oneshot};

use crate::plan::{NETNS_DIR, NetnsRef};

/// The calling thread's own namespace.
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub(super) struct Netns(File);

/// What a namespace's file turns out to be.
pub(super) enum Opened {
    /// A namespace.
    Netns(Netns),
    /// Nothing is there.
    Missing,
    /// Something else.
    NotANamespace,
}

impl Netns {
    pub(super) fn of_this_thread() -> Result<Self> {
        Ok(Self(File::open(THREAD_NETNS).context("open the own network namespace")?))
    }

    pub(super) fn open(netns: &NetnsRef) -> Result<Opened> {
        let path = netns.path();
        // A pipe would be waited for.
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = match open {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Missing),
            Err(error) => return Err(error).with_context(|| format!("open namespace {}", path.display())),
        };
        let fs_type =
            fstatfs(&file).with_context(|| format!("look at {}", path.display()))?.filesystem_type();
        if fs_type != NSFS_MAGIC || !is_network(&file) {
            return Ok(Opened::NotANamespace);
        }
        Ok(Opened::Netns(Self(file)))
    }

    /// Opens a namespace that must be there.
    pub(super) fn require(netns: &NetnsRef) -> Result<Self> {
        match Self::open(netns)? {
            Opened::Netns(netns) => Ok(netns),
            Opened::Missing => bail!("there is no namespace {netns}"),
            Opened::NotANamespace => bail!("{} is not a network namespace", netns.path().display()),
        }
    }

    /// Another descriptor of the same namespace.
    pub(super) fn another(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone().context("duplicate the namespace's descriptor")?))
    }

    /// Moves the calling thread there, which must be none of the runtime's.
    pub(super) fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("enter the network namespace")
    }

    /// For a netlink message; valid as long as `self` lives.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Its number and when it got a file: a number alone is used again.
    pub(super) fn id(&self) -> Result<String> {
        let file = self.0.metadata().context("look at the namespace")?;
        Ok(format!("{}@{}.{:09}", file.ino(), file.ctime(), file.ctime_nsec()))
    }

    /// Whether both are the same namespace.
    pub(super) fn is(&self, other: &Self) -> Result<bool> {
        let (a, b) = (self.0.metadata()?, other.0.metadata()?);
        Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
    }

    /// Runs `work` on a thread of its own inside the namespace; the thread ends with it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let netns = self.another()?;
        on_thread(move || {
            netns.enter()?;
            work()
        })
        .await
    }

    /// A netlink socket inside the namespace. A socket stays where it was opened, so that it serves from
    /// any thread.
    pub(super) async fn connect(&self) -> Result<Handle> {
        let runtime = runtime::Handle::current();
        let (connection, handle) = self
            .run(move || {
                let _context = runtime.enter();
                let (connection, handle, _) =
                    rtnetlink::new_connection().context("open a netlink socket in the namespace")?;
                Ok((connection, handle))
            })
            .await?;
        tokio::spawn(connection);
        Ok(handle)
    }
}

/// Makes a namespace and the file that holds it. A file that is there and holds none is used.
pub(super) async fn create(netns: &NetnsRef) -> Result<()> {
    let path = netns.path();
    if matches!(netns, NetnsRef::Name(_)) {
        share_directory(Path::new(NETNS_DIR))?;
    }
    if matches!(Netns::open(netns)?, Opened::Netns(_)) {
        bail!("namespace {netns} is already there");
    }
    // As `ip netns` makes it: nobody reads the file itself.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o000)
        .open(&path)
        .with_context(|| format!("make {}", path.display()))?;
    let target = path.clone();
    let result = on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        mount(Some(THREAD_NETNS), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("keep the namespace at {}", target.display()))
    })
    .await;
    if result.is_err() {
        // The error that matters is the mount's.
        let _ = fs::remove_file(&path);
    }
    result
}

/// Removes the file that holds a namespace, if it is there.
pub(super) fn delete(netns: &NetnsRef) -> Result<()> {
    let path = netns.path();
    if matches!(Netns::open(netns)?, Opened::NotANamespace)
        && fs::metadata(&path).is_ok_and(|file| file.len() > 0)
    {
        bail!("{} is another file by now; it stays", path.display());
    }
    match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("unmount {}", path.display())),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes `directory` a shared mount, so that a namespace removed here is not kept alive by the copies
/// of the mount in other mount namespaces (`ip netns` does the same).
fn share_directory(directory: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755);
    builder.create(directory).with_context(|| format!("make {}", directory.display()))?;
    let none = None::<&str>;
    let share = || mount(none, directory, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        // No mount point yet: it becomes one.
        Err(Errno::EINVAL) => {
            mount(Some(directory), directory, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
                .with_context(|| format!("mount {}", directory.display()))?;
            share()
        }
        result => result,
    }
    .with_context(|| format!("share the mounts in {}", directory.display()))
}

/// Whether an nsfs file is a network namespace rather than one of the other kinds.
fn is_network(file: &File) -> bool {
    // Reads `net:[4026531840]`, or the path of the file where the namespace is mounted on one.
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .is_ok_and(|link| link.to_string_lossy().starts_with("net:[") || link.is_absolute())
}

/// Runs `work` on a thread of its own, which ends with it.
pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("vnet-netns".to_owned())
        .spawn(move || {
            // Nobody waits any more: the result is of no use.
            let _ = sender.send(work());
        })
        .context("start a thread")?;
    receiver.await.map_err(|_| anyhow!("the thread in the namespace ended early"))?
}
