//! What somebody else changes: on links, addresses and routes, in the host's namespace and in those of
//! workloads, and files of namespaces that come and go.
//!
//! Tells *where* something changed, never what: whoever is told looks. One netlink socket hears every
//! namespace that has an id here, which those behind a veth of the host have. When the kernel had more to
//! tell than the socket holds, everything counts as changed.
//!
//! What of it matters is the caller's to decide, and so is how often to look.

mod message;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
        socket::{
            AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, setsockopt, socket, sockopt,
        },
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use self::message::{Received, receive};

/// Room for what the kernel tells while the daemon is busy: a thousand ports made at once.
pub const BUFFER: usize = 8 << 20;

/// Groups of rtnetlink (linux/rtnetlink.h): links, IPv4 and IPv6 addresses, routes and rules.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// Messages handled before whoever waits is told.
const AT_ONCE: usize = 4096;

/// Where something changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    /// The kernel had more to tell than fits: it may be anywhere.
    pub overrun: bool,
    /// Links of the host, by index.
    pub links: BTreeSet<u32>,
    /// Names of links of the host that are new or changed.
    pub names: BTreeSet<String>,
    /// Addresses of the host.
    pub addresses: bool,
    /// Default routes of the host.
    pub default_routes: bool,
    /// Rules of the host that say which routes count.
    pub rules: bool,
    /// Other namespaces, by the host's ids of them.
    pub namespaces: BTreeSet<i32>,
    /// Files that came or went in the folders that are watched.
    pub files: BTreeSet<PathBuf>,
}

impl Dirt {
    /// Whether nothing changed anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Listens for changes.
#[derive(Debug)]
pub struct Monitor {
    netlink: AsyncFd<OwnedFd>,
    inotify: AsyncFd<Watcher>,
    folders: BTreeSet<PathBuf>,
    watched: BTreeMap<WatchDescriptor, PathBuf>,
}

impl Monitor {
    /// Listens in the calling thread's network namespace, with a socket that holds `buffer` bytes. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the system refuses the sockets.
    pub fn open(buffer: usize) -> Result<Self> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("watch folders")?;
        Ok(Self {
            netlink: readable(netlink(buffer).context("listen for changes of the network")?)?,
            inotify: readable(Watcher(inotify))?,
            folders: BTreeSet::new(),
            watched: BTreeMap::new(),
        })
    }

    /// Watches these folders, and no others. One that is not there yet is waited for.
    pub fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        if *folders != self.folders {
            self.folders.clone_from(folders);
            self.renew_watches();
        }
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// When the kernel does not tell any more.
    pub async fn next(&mut self) -> Result<Dirt> {
        loop {
            let mut dirt = Dirt::default();
            tokio::select! {
                ready = self.netlink.readable() => {
                    let mut ready = ready.context("wait for netlink")?;
                    if drain(ready.get_inner().as_fd(), &mut dirt).context("listen to netlink")? {
                        ready.clear_ready();
                    }
                }
                ready = self.inotify.readable() => {
                    let mut ready = ready.context("wait for inotify")?;
                    let events = ready.get_inner().0.read_events();
                    // One reading takes no more than fits a buffer; the runtime tells of the rest only once.
                    if matches!(events, Err(Errno::EAGAIN)) {
                        ready.clear_ready();
                    }
                    drop(ready);
                    self.note_files(events, &mut dirt)?;
                }
            }
            if !dirt.is_empty() {
                return Ok(dirt);
            }
        }
    }

    fn note_files(
        &mut self,
        events: nix::Result<Vec<nix::sys::inotify::InotifyEvent>>,
        dirt: &mut Dirt,
    ) -> Result<()> {
        let events = match events {
            Ok(events) => events,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error).context("listen to inotify"),
        };
        for event in events {
            dirt.overrun |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            let Some(folder) = self.watched.get(&event.wd) else { continue };
            dirt.files.insert(event.name.map_or_else(|| folder.clone(), |name| folder.join(name)));
        }
        // A folder, or one above it, may have come or gone.
        self.renew_watches();
        // Of a folder that is only watched for another one in it, nothing else counts.
        let matters = |file: &PathBuf| {
            let is_inside = file.parent().is_some_and(|parent| self.folders.contains(parent));
            is_inside || self.folders.iter().any(|folder| folder.starts_with(file))
        };
        dirt.files.retain(matters);
        Ok(())
    }

    /// Watches each folder, or what is there of its path.
    fn renew_watches(&mut self) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let inotify = &self.inotify.get_ref().0;
        let mut watched = BTreeMap::new();
        for folder in &self.folders {
            for path in folder.ancestors() {
                // The same watch again, if there is one.
                if let Ok(watch) = inotify.add_watch(path, flags) {
                    watched.insert(watch, path.to_owned());
                    break;
                }
            }
        }
        for watch in self.watched.keys().filter(|watch| !watched.contains_key(watch)) {
            // It went with its folder.
            let _ = inotify.rm_watch(*watch);
        }
        self.watched = watched;
    }
}

/// An inotify instance as the runtime wants it.
#[derive(Debug)]
struct Watcher(Inotify);

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Lets the runtime wait until there is something to read.
fn readable<T: Owner>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `Owner` keeps its one descriptor open for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }?)
}

/// What has one descriptor, the same all its life, and closes it at its end.
trait Owner: AsRawFd {}
impl Owner for OwnedFd {}
impl Owner for Watcher {}

/// A socket that hears of all changes, here and in the namespaces that have an id here.
fn netlink(buffer: usize) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    setsockopt(&netlink, sockopt::RcvBufForce, &buffer).context("enlarge its buffer")?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    for group in GROUPS {
        set_option(&netlink, libc::NETLINK_ADD_MEMBERSHIP, group)?;
    }
    set_option(&netlink, libc::NETLINK_LISTEN_ALL_NSID, 1)?;
    Ok(netlink)
}

fn set_option(netlink: &OwnedFd, option: libc::c_int, value: u32) -> nix::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer leads to an integer of the size given, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(netlink.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const value).cast(), size)
    };
    Errno::result(result).map(drop)
}

/// Notes what the socket holds; whether it is empty now.
fn drain(netlink: impl AsFd, dirt: &mut Dirt) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..AT_ONCE {
        match receive(netlink.as_fd(), &mut buffer)? {
            Received::Nothing => return Ok(true),
            Received::Overrun => dirt.overrun = true,
            Received::Messages { nsid: Some(nsid), .. } => {
                dirt.namespaces.insert(nsid);
            }
            Received::Messages { nsid: None, len } => {
                for change in message::changes(buffer.get(..len).unwrap_or_default()) {
                    dirt.links.extend(change.ifindex);
                    dirt.names.extend(change.name);
                    dirt.addresses |= change.is_address;
                    dirt.default_routes |= change.is_default_route;
                    dirt.rules |= change.is_rule;
                }
            }
        }
    }
    Ok(false)
}

/// Whether a folder's files can be watched: the kernel tells nothing of those that it invents.
pub(crate) fn is_watchable(folder: &Path) -> bool {
    !folder.starts_with("/proc")
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn more_files_at_once_than_one_reading_takes_are_all_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut monitor = Monitor::open(4096).unwrap();
        monitor.watch(&[dir.path().to_owned()].into());
        let files: BTreeSet<_> = (0..1000).map(|n| dir.path().join(format!("namespace-{n}"))).collect();
        files.iter().for_each(|file| fs::write(file, "").unwrap());
        let mut seen = BTreeSet::new();
        let all = async {
            while !seen.is_superset(&files) {
                seen.extend(monitor.next().await.unwrap().files);
            }
        };
        timeout(Duration::from_secs(5), all).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_watched_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run/netns");
        let mut monitor = Monitor::open(4096).unwrap();
        monitor.watch(&[folder.clone()].into());
        let mut wait_for = async |file: PathBuf| {
            let seen = async { while !monitor.next().await.unwrap().files.contains(&file) {} };
            timeout(Duration::from_secs(5), seen).await.unwrap();
        };
        fs::create_dir(dir.path().join("run")).unwrap();
        wait_for(dir.path().join("run")).await;
        fs::create_dir(&folder).unwrap();
        wait_for(folder.clone()).await;
        fs::write(folder.join("web-1"), "").unwrap();
        wait_for(folder.join("web-1")).await;
        fs::write(dir.path().join("run/other"), "").unwrap();
        fs::remove_file(folder.join("web-1")).unwrap();
        wait_for(folder.join("web-1")).await;
    }
}
