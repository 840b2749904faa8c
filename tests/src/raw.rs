//! Whole frames in and out of an interface, as a workload with `CAP_NET_RAW` sends them.

use std::{
    fs::File,
    io::{IoSlice, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, setsockopt,
        socket, sockopt,
    },
};

use crate::{Namespace, wait::PATIENCE};

/// More than any frame: a segment of 64 KiB that was never cut, and its headers.
const LARGEST_FRAME: usize = 70_000;

/// A packet socket on one interface: sends any bytes, receives all that arrives or leaves.
#[derive(Debug)]
pub struct RawSocket {
    socket: File,
}

impl RawSocket {
    /// On `interface` of `namespace`. It receives from now on.
    ///
    /// # Panics
    /// When there is no such interface.
    #[must_use]
    pub fn open(namespace: &Namespace, interface: &str) -> Self {
        let socket = namespace.enter(|| {
            let index = if_nametoindex(interface)
                .unwrap_or_else(|error| panic!("no {interface} in {}: {error}", namespace.path().display()));
            packet_socket(index).expect("open a packet socket")
        });
        Self { socket: socket.into() }
    }

    /// Sends `frame` as it is. Frames that the interface refuses (it is down, say) are an error.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn send(&self, frame: &[u8]) {
        let sent = (&self.socket).write_vectored(&[IoSlice::new(frame)]).expect("send a frame");
        assert_eq!(sent, frame.len(), "the whole frame");
    }

    /// The next frame that `wanted` picks.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn receive(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.wait(left), "no {what} arrived");
            if let Some(frame) = self.pending().find(|frame| wanted(frame)) {
                return frame;
            }
        }
    }

    /// Waits until a frame is there, or `patience` has passed; tells whether one is.
    ///
    /// # Panics
    /// When the kernel refuses to wait.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) => {}
                ready => return ready.expect("poll") > 0,
            }
        }
    }

    /// Has `bytes` of room for frames that nobody has taken yet.
    ///
    /// # Panics
    /// When the kernel refuses it, for lack of root.
    pub fn make_room(&self, bytes: usize) {
        setsockopt(&self.socket, sockopt::RcvBufForce, &bytes).expect("a large buffer, as root");
    }

    /// The frames that are there already.
    pub fn pending(&self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| {
            let mut buffer = vec![0; LARGEST_FRAME];
            // Nothing there (the socket does not block) ends it, and so does an interface that went away.
            let len = (&self.socket).read(&mut buffer).ok()?;
            buffer.truncate(len);
            Some(buffer)
        })
    }
}

/// Sends an IPv4 packet of `protocol` with `payload` from inside `namespace`, past its transport layer.
///
/// # Panics
/// When its kernel refuses it.
#[track_caller]
pub fn send_ip(namespace: &Namespace, protocol: u8, to: &str, payload: &[u8]) {
    const SCRIPT: &str = "import socket, sys; \
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, int(sys.argv[1])); \
        raw.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], 0))";
    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = namespace.exec(&["python3", "-c", SCRIPT, &protocol.to_string(), to, &hex]).ok();
}

fn packet_socket(index: u32) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    bind(fd.as_raw_fd(), &link_address(index))?;
    Ok(fd)
}

/// All protocols on the interface `index`.
fn link_address(index: u32) -> LinkAddr {
    let address = nix::libc::sockaddr_ll {
        sll_family: nix::libc::AF_PACKET as u16,
        sll_protocol: (nix::libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: i32::try_from(index).expect("an ifindex is an int"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as nix::libc::socklen_t;
    // SAFETY: the pointer leads to a whole sockaddr_ll of `len` bytes that lives until the call
    // has copied it, and its family is AF_PACKET.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(len)) }.expect("a link-layer address")
}
