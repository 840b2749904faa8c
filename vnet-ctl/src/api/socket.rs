//! The Unix socket itself: bound so that nobody else gets in, and a request over it.

use std::{
    fs, iter,
    os::fd::AsRawFd as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hyper::{Method, body::Bytes};
use nix::libc;
use serde::de::DeserializeOwned;
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{
    access::{Access, AccessOptions},
    exchange::exchange,
};

/// A process has no more groups than this: `NGROUPS_MAX`, credentials(7).
const MAX_GROUPS: usize = 65536;

/// User and groups of whoever is at the other end, as the kernel knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer(pub(super) Option<(u32, Vec<u32>)>);

impl Peer {
    /// Whoever is at the other end of `stream`.
    pub(super) fn of(stream: &UnixStream) -> Self {
        let groups = |gid| iter::once(gid).chain(supplementary_groups(stream)).collect();
        Self(stream.peer_cred().ok().map(|peer| (peer.uid(), groups(peer.gid()))))
    }
}

/// The groups of the other end besides its first; none where the kernel does not tell.
fn supplementary_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups: Vec<libc::gid_t> = vec![0; MAX_GROUPS];
    let Ok(mut length) = libc::socklen_t::try_from(size_of_val(groups.as_slice())) else { return Vec::new() };
    // SAFETY: the kernel writes at most `length` bytes, the size of `groups`, and then the number of bytes
    // written to `length`; both outlive the call, and every bit pattern is a group.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let count = if result == 0 { length as usize / size_of::<libc::gid_t>() } else { 0 };
    groups.truncate(count);
    groups
}

/// A listening socket; its file vanishes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    access: Arc<Access>,
}

impl Socket {
    /// Makes the socket for `path`, for those whom `options` admit; [`Socket::publish`] puts it there, in the
    /// place of whatever an earlier daemon left there.
    ///
    /// The caller holds the lock: nobody else listens there.
    pub(crate) fn bind(path: &Path, options: &AccessOptions) -> Result<(Self, UnixListener)> {
        let new = not_yet_open(path).with_context(|| format!("listen at {}", path.display()))?;
        let bind = || -> Result<_> {
            let _ = fs::remove_file(&new);
            let listener = UnixListener::bind(&new)?;
            let metadata = fs::metadata(&new)?;
            let access = Access::new(options, metadata.uid(), metadata.gid())?;
            if access.group() != metadata.gid() {
                chown(&new, None, Some(access.group()))?;
            }
            fs::set_permissions(&new, fs::Permissions::from_mode(access.mode()))?;
            Ok((access, listener))
        };
        let bound = bind().inspect_err(|_| drop(fs::remove_file(&new)));
        let (access, listener) = bound.with_context(|| format!("listen at {}", path.display()))?;
        Ok((Self { path: path.to_owned(), access: Arc::new(access) }, listener))
    }

    /// Lets people in: the socket gets its name.
    pub(crate) fn publish(&self) -> Result<()> {
        let new = not_yet_open(&self.path).context("the socket's path has no name")?;
        fs::rename(new, &self.path).with_context(|| format!("listen at {}", self.path.display()))
    }

    /// Removes what a daemon that was killed left at `path`. Files that are no sockets are not vnet's.
    ///
    /// The caller holds the lock: nobody listens there.
    pub(crate) fn remove(path: &Path) {
        for path in [Some(path.to_owned()), not_yet_open(path)].into_iter().flatten() {
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Who may do what there.
    pub(super) fn access(&self) -> Arc<Access> {
        self.access.clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        Self::remove(&self.path);
    }
}

/// The name that a socket has until only the right people can connect.
fn not_yet_open(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    Some(path.with_file_name(format!(".{name}.new")))
}

/// Sends an empty POST to the daemon at `socket`.
pub(crate) async fn post<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let limit = Duration::from_secs(300);
    let answer = timeout(limit, exchange(socket, Method::POST, path, Bytes::new())).await;
    let (status, body) = answer.context("it has not answered for 300 seconds")??;
    ensure!(status.is_success(), "the daemon answered {status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).context("read the daemon's answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_other_end_s_groups_are_all_known() {
        let (near, _far) = UnixStream::pair().unwrap();

        let Peer(Some((uid, groups))) = Peer::of(&near) else { panic!("the kernel tells") };

        assert_eq!(uid, nix::unistd::Uid::effective().as_raw());
        assert!(groups.contains(&nix::unistd::Gid::effective().as_raw()));
        for group in nix::unistd::getgroups().unwrap() {
            assert!(groups.contains(&group.as_raw()), "{groups:?}");
        }
    }
}
