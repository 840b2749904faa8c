//! Whole frames in and out of an interface, as a workload with `CAP_NET_RAW` sends them.

use std::{
    fs::File,
    io::{IoSlice, Write as _},
    mem,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockType, SockaddrLike as _, bind, setsockopt, socket, sockopt,
    },
};

use crate::{Namespace, wait::PATIENCE};

/// More than any frame: a segment of 64 KiB that was never cut, and its headers.
const LARGEST_FRAME: usize = 70_000;

/// Bytes of a frame before its first tag: both MACs.
const MACS_LEN: usize = 12;

/// A packet socket on one interface: sends any bytes, receives all that arrives or leaves, with its tags.
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
        Self::open_for(namespace, interface, libc::ETH_P_ALL as u16)
    }

    /// On `interface` of `namespace`, in the place of the host's stack: it receives what arrives with `ethertype` behind
    /// the outer tag and what no program takes away.
    ///
    /// # Panics
    /// When there is no such interface.
    #[must_use]
    pub fn in_place_of_stack(namespace: &Namespace, interface: &str, ethertype: u16) -> Self {
        Self::open_for(namespace, interface, ethertype)
    }

    fn open_for(namespace: &Namespace, interface: &str, ethertype: u16) -> Self {
        let socket = namespace.enter(|| {
            let index = if_nametoindex(interface)
                .unwrap_or_else(|error| panic!("no {interface} in {}: {error}", namespace.path().display()));
            packet_socket(index, ethertype).expect("open a packet socket")
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
        // Nothing there (the socket does not block) ends it, and so does an interface that went away.
        std::iter::from_fn(|| next_frame(&self.socket))
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

fn packet_socket(index: u32, ethertype: u16) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Nothing arrives before it is bound to its interface.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    tell_tags(&fd)?;
    bind(fd.as_raw_fd(), &link_address(index, ethertype))?;
    Ok(fd)
}

/// Has the kernel tell the outer tag of each frame, which it keeps beside it.
fn tell_tags(socket: &OwnedFd) -> nix::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option is an int, and the kernel reads `len` bytes of it.
    let set = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, value, len)
    };
    Errno::result(set).map(drop)
}

/// Room for what the kernel tells of a frame, aligned as it wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The frame that arrived or left next, as it is on the wire.
fn next_frame(socket: &File) -> Option<Vec<u8>> {
    let (mut frame, mut control) = (vec![0_u8; LARGEST_FRAME], Control([0; 64]));
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all zeros is a message without name, parts and control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.0.as_mut_ptr().cast(), control.0.len());
    // SAFETY: the message points to one part and one control buffer of their lengths, which outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(len).ok()?);
    if let Some(tag) = tag_beside(&message) {
        frame.splice(MACS_LEN..MACS_LEN, tag);
    }
    Some(frame)
}

/// The tag that was taken out of a frame, as it stood there.
fn tag_beside(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled the control buffer up to the length that it left in the message,
    // and the macros look no further; a control message of this type holds a `tpacket_auxdata`.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            if (control.cmsg_level, control.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                let told = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                let [a, b] = told.tp_vlan_tpid.to_be_bytes();
                let [c, d] = told.tp_vlan_tci.to_be_bytes();
                return (told.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some([a, b, c, d]);
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

/// What has `ethertype` on the interface `index`.
fn link_address(index: u32, ethertype: u16) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(index).expect("an ifindex is an int"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer leads to a whole sockaddr_ll of `len` bytes that lives until the call
    // has copied it, and its family is AF_PACKET.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(len)) }.expect("a link-layer address")
}
