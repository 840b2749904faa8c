//! The root of the control groups of version 2, where the programs of sockets are attached, and the network
//! namespace that they look after.
//!
//! A host that uses version 1 alone has the same root all the same, and every process in it: it is opened
//! without being mounted anywhere.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStringExt as _, fs::OpenOptionsExt as _},
    },
    path::PathBuf,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::sys::owned;

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// `FSOPEN_CLOEXEC`, `FSCONFIG_CMD_CREATE` and `FSMOUNT_CLOEXEC` (`linux/mount.h`).
const CLOEXEC: libc::c_uint = 1;
const CMD_CREATE: libc::c_uint = 6;

/// The folder at the root of the control groups.
pub(super) fn root() -> io::Result<OwnedFd> {
    let mounts = fs::read_to_string(MOUNTINFO)?;
    let folder = mounts.lines().filter_map(root_mount).find_map(|path| open_folder(&path).ok());
    folder.map_or_else(mounted_nowhere, |folder| Ok(folder.into()))
}

fn open_folder(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

/// Where a line of mountinfo (proc(5)) says that the root of version 2 is mounted.
fn root_mount(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    (root == "/" && filesystem.split(' ').next() == Some("cgroup2")).then(|| unescaped(place))
}

/// A path of mountinfo: spaces and the like are written as three octal digits after a backslash.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// The root, mounted for this process alone and nowhere in its folders.
fn mounted_nowhere() -> io::Result<OwnedFd> {
    // SAFETY: the name ends with a zero, and the kernel only reads it.
    let context = Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let context = unsafe { owned(context) }?;
    let (none, fd) = (std::ptr::null::<libc::c_char>(), context.as_raw_fd());
    // SAFETY: the command takes neither key nor value.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, fd, CMD_CREATE, none, none, 0) })?;
    // SAFETY: the arguments hold no address.
    let mount = Errno::result(unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, 0) })?;
    // SAFETY: as above.
    let mount = unsafe { owned(mount) }?;
    let flags = libc::O_DIRECTORY | libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero, and the kernel only reads it.
    let folder = Errno::result(unsafe { libc::openat(mount.as_raw_fd(), c".".as_ptr(), flags) })?;
    // SAFETY: as above.
    unsafe { owned(folder.into()) }
}

/// What tells the calling thread's network namespace from all others.
pub(super) fn netns_cookie() -> io::Result<u64> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `cookie`, which is that large.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    Errno::result(result)?;
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_among_the_mounts() {
        let mount = |line| root_mount(line).map(|path| path.display().to_string());
        let line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mount(line).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount("41 31 0:38 / /a\\040b rw - cgroup2 none rw").as_deref(), Some("/a b"));
        for other in [
            "41 31 0:38 /docker/7 /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw",
            "37 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids",
            "37 31 0:36 / /mnt",
            "",
        ] {
            assert_eq!(mount(other), None, "{other}");
        }
    }
}
