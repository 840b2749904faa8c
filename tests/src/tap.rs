//! A tap device with the test in the place of the virtual machine.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::libc;

use crate::{Namespace, eventually};

/// More than any frame that a tap gives without offloads.
const LARGEST_FRAME: usize = 70_000;

/// A tap; it vanishes when dropped.
#[derive(Debug)]
pub struct Tap {
    queue: File,
}

impl Tap {
    /// Creates the tap `name` in `namespace`.
    ///
    /// # Panics
    /// When the kernel has no tun driver, or refuses.
    #[must_use]
    pub fn create(namespace: &Namespace, name: &str) -> Self {
        let queue = namespace.enter(|| open(name));
        let up = namespace.exec(&["ip", "link", "set", name, "up"]);
        assert!(up.success(), "{up}");
        Self { queue }
    }

    /// Sends `frame` as the machine behind the tap.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn send(&self, frame: &[u8]) {
        (&self.queue).write_all(frame).expect("send a frame through the tap");
    }

    /// The next frame for the machine that `wanted` picks; all have a whole Ethernet header.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn receive(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        eventually(what, || {
            let frame = self.pending().next()?;
            // Shorter ones have none of the fields that callers look at.
            (frame.len() >= 42 && wanted(&frame)).then_some(frame)
        })
    }

    /// The frames for the machine that are there already.
    pub fn pending(&self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| {
            let mut frame = vec![0; LARGEST_FRAME];
            // The queue does not block: nothing there is an error.
            let len = (&self.queue).read(&mut frame).ok()?;
            frame.truncate(len);
            Some(frame)
        })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// A queue of a new tap in the calling thread's namespace.
fn open(name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let queue = options.open("/dev/net/tun").expect("open /dev/net/tun");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short,
        },
    };
    assert!(name.len() < libc::IFNAMSIZ, "{name} is too long for an interface");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is, and it outlives the call.
    let made = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "create the tap {name}: {}", std::io::Error::last_os_error());
    queue
}
