//! Tells when the policy file may have changed, whoever changes it in whatever way.
//!
//! Watched is not the file, which a rename replaces, but the names that lead to it: in the file's folder, and
//! in the folder of each symbolic link on the way. So a file that is written, replaced, or reached through a
//! link that now points elsewhere (as Kubernetes swaps `..data`) is noticed alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{sleep, timeout},
};

/// Where nothing can be watched (a folder is missing, or the limit of watches is reached), the file is looked
/// at this often.
const POLL: Duration = Duration::from_secs(2);
/// As many symbolic links as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// Names in folders.
type Names = BTreeMap<PathBuf, BTreeSet<OsString>>;

/// A watch over the file at one path.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: PathBuf,
    stamp: Option<Stamp>,
    watched: Option<Watched>,
}

impl FileWatch {
    /// From now on.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: stamp(path), watched: Watched::new(path).ok() }
    }

    /// Waits until the file may have changed, and then until that has not happened for `quiet`.
    pub(super) async fn changed(&mut self, quiet: Duration) {
        self.touched().await;
        loop {
            // Other links may lead there now. The new watch stands before the old one goes.
            self.watched = Watched::new(&self.path).ok();
            if timeout(quiet, self.touched()).await.is_err() {
                self.stamp = stamp(&self.path);
                return;
            }
        }
    }

    async fn touched(&self) {
        if let Some(watched) = &self.watched
            && watched.touched().await.is_ok()
        {
            return;
        }
        while stamp(&self.path) == self.stamp {
            sleep(POLL).await;
        }
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([i64; 3], [u64; 3]);

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some(Stamp([file.mtime(), file.mtime_nsec(), file.ctime_nsec()], [file.dev(), file.ino(), file.size()]))
}

/// What inotify watches.
#[derive(Debug)]
struct Watched {
    inotify: AsyncFd<Descriptor>,
    names: BTreeMap<WatchDescriptor, BTreeSet<OsString>>,
}

impl Watched {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut watched = BTreeMap::new();
        for (folder, names) in names_on_the_way(path) {
            watched.insert(inotify.add_watch(&folder, events)?, names);
        }
        // SAFETY: `Descriptor` owns its file, gives out no other descriptor, and is never replaced inside.
        let inotify = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) };
        Ok(Self { inotify: inotify.map_err(|error| error.into_parts().1)?, names: watched })
    }

    async fn touched(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(events) if events.iter().any(|event| self.is_meant(event)) => return Ok(()),
                Ok(_) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Other files of the folders are none of our business, above all the lock that vnet makes beside the
    /// policy file. An event without a name is about a folder itself, or about events that were lost.
    fn is_meant(&self, event: &InotifyEvent) -> bool {
        match (&event.name, self.names.get(&event.wd)) {
            (Some(name), Some(names)) => names.contains(name),
            _ => true,
        }
    }
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The names that decide which file `path` is: its own, and that of each symbolic link on the way.
fn names_on_the_way(path: &Path) -> Names {
    let mut names = Names::new();
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let link = links_and_self(&path).find_map(|at| Some((at.to_owned(), fs::read_link(at).ok()?)));
        let at = link.as_ref().map_or(path.as_path(), |(at, _)| at);
        if let (Some(folder), Some(name)) = (at.parent(), at.file_name()) {
            names.entry(folder.to_owned()).or_default().insert(name.to_owned());
        }
        let Some((at, target)) = link else { break };
        let rest = path.strip_prefix(&at).unwrap_or(Path::new("")).to_owned();
        let target = at.parent().unwrap_or(Path::new("/")).join(target);
        // Joining nothing would add a slash, which makes a folder of it.
        path = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
    }
    names
}

/// The path's folders from the root on, and then itself.
fn links_and_self(path: &Path) -> impl Iterator<Item = &Path> {
    let ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.into_iter().rev()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const QUIET: Duration = Duration::from_millis(20);

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, "old").unwrap();
        (folder, path)
    }

    async fn is_told(watch: &mut FileWatch) -> bool {
        timeout(Duration::from_secs(10), watch.changed(QUIET)).await.is_ok()
    }

    #[tokio::test]
    async fn writing_replacing_and_removing_are_told() {
        let (folder, path) = folder();
        let mut watch = FileWatch::new(&path);
        fs::write(&path, "new").unwrap();
        assert!(is_told(&mut watch).await, "written");
        let other = folder.path().join("other");
        fs::write(&other, "newer").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(is_told(&mut watch).await, "replaced");
        fs::remove_file(&path).unwrap();
        assert!(is_told(&mut watch).await, "removed");
        fs::write(&path, "again").unwrap();
        assert!(is_told(&mut watch).await, "made anew");
    }

    #[tokio::test]
    async fn other_files_of_the_folder_are_not_told() {
        let (folder, path) = folder();
        let mut watch = FileWatch::new(&path);
        fs::write(folder.path().join(".vnet-policy.toml.lock"), "").unwrap();
        fs::remove_file(folder.path().join(".vnet-policy.toml.lock")).unwrap();
        assert!(timeout(Duration::from_millis(200), watch.changed(QUIET)).await.is_err());
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("policy.toml"), version).unwrap();
        }
        let [data, next, path] = ["..data", "..next", "policy.toml"].map(|name| folder.path().join(name));
        symlink("v1", &data).unwrap();
        symlink("..data/policy.toml", &path).unwrap();
        let mut watch = FileWatch::new(&path);
        symlink("v2", &next).unwrap();
        fs::rename(&next, &data).unwrap();
        assert!(is_told(&mut watch).await, "swapped");
        fs::write(folder.path().join("v2/policy.toml"), "v3").unwrap();
        assert!(is_told(&mut watch).await, "written behind the new link");
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/policy.toml");
        let mut watch = FileWatch::new(&path);
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(&path, "new").unwrap();
        assert!(is_told(&mut watch).await);
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        symlink(&b, &a).unwrap();
        symlink(&a, &b).unwrap();
        assert_eq!(names_on_the_way(&a)[folder.path()].len(), 2);
    }
}
