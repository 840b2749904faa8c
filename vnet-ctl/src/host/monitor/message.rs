//! Messages of rtnetlink, as far as they tell what they are about: which link, and whether it is an address, a
//! default route or a rule about routes.
//!
//! Read by hand: only a few numbers and a name matter, in any version of the kernel, and on a busy host there
//! are many.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::{errno::Errno, libc};

/// Types of messages (linux/rtnetlink.h).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

/// The attributes that are read (linux/if_link.h, linux/rtnetlink.h).
const IFLA_IFNAME: u16 = 3;
const RTA_OIF: u16 = 4;

/// Bytes of `nlmsghdr`, `ifinfomsg`, `rtmsg` and `rtattr`.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const ATTRIBUTE_HEADER: usize = 4;
/// Where an `rtmsg` has the length of the destination's prefix.
const ROUTE_PREFIX_LENGTH: usize = 1;

/// What one read brought.
pub(super) enum Received {
    /// Nothing is there.
    Nothing,
    /// The kernel has thrown messages away.
    Overrun,
    /// Messages of so many bytes.
    Messages {
        /// The namespace that they are about, unless it is the socket's own.
        nsid: Option<i32>,
        /// Bytes.
        len: usize,
    },
}

/// Reads once.
pub(super) fn receive(netlink: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Aligned as control messages are.
    let mut control = [0_u64; 8];
    // SAFETY: integers and addresses; all zero is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header leads to buffers of the sizes that it gives, which live until the call returns.
    let result = unsafe { libc::recvmsg(netlink.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    match Errno::result(result) {
        Ok(len) => Ok(Received::Messages { nsid: nsid(&header), len: len.unsigned_abs() }),
        Err(Errno::EAGAIN) => Ok(Received::Nothing),
        Err(Errno::ENOBUFS) => Ok(Received::Overrun),
        Err(Errno::EINTR) => Ok(Received::Messages { nsid: None, len: 0 }),
        Err(error) => Err(error.into()),
    }
}

/// The id of the namespace that a message comes from.
fn nsid(header: &libc::msghdr) -> Option<i32> {
    // SAFETY: the kernel has filled the control buffer of `header` and set its length.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: `CMSG_FIRSTHDR` and `CMSG_NXTHDR` give null or a whole header within the buffer.
    while let Some(found) = unsafe { control.as_ref() } {
        if found.cmsg_level == libc::SOL_NETLINK && found.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID {
            // SAFETY: the kernel puts an int behind a header of this type.
            return Some(unsafe { libc::CMSG_DATA(control).cast::<i32>().read_unaligned() });
        }
        // SAFETY: as above.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

/// What a message is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The link.
    pub(super) ifindex: Option<u32>,
    /// The link's name.
    pub(super) name: Option<String>,
    /// It is an address.
    pub(super) is_address: bool,
    /// It is a default route.
    pub(super) is_default_route: bool,
    /// It is a rule that says which routes count.
    pub(super) is_rule: bool,
}

/// The changes that a read tells of.
pub(super) fn changes(mut bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    while let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let len = len as usize;
        let Some(message) = bytes.get(HEADER..len) else { break };
        changes.extend(change(kind, message));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    changes
}

fn change(kind: u16, message: &[u8]) -> Option<Change> {
    match kind {
        RTM_NEWLINK | RTM_DELLINK => {
            let name = attribute(message.get(LINK_HEADER..)?, IFLA_IFNAME);
            let name = name.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
            Some(Change { ifindex: u32_at(message, 4), name, ..Change::default() })
        }
        RTM_NEWADDR | RTM_DELADDR => {
            Some(Change { ifindex: u32_at(message, 4), is_address: true, ..Change::default() })
        }
        RTM_NEWROUTE | RTM_DELROUTE => {
            let is_default_route = *message.get(ROUTE_PREFIX_LENGTH)? == 0;
            // One with several next hops names no link here.
            let device = attribute(message.get(ROUTE_HEADER..)?, RTA_OIF);
            let ifindex = device.and_then(|device| u32_at(device, 0));
            Some(Change { ifindex, is_default_route, ..Change::default() })
        }
        RTM_NEWRULE | RTM_DELRULE => Some(Change { is_rule: true, ..Change::default() }),
        _ => None,
    }
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (len, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(ATTRIBUTE_HEADER..len)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER as u32 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(ifindex: u32, name: &str) -> Vec<u8> {
        let mut body = vec![0; LINK_HEADER];
        body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        for (kind, value) in [(7_u16, &b"ab"[..]), (IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())] {
            body.extend((ATTRIBUTE_HEADER as u16 + value.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        message(RTM_NEWLINK, &body)
    }

    #[test]
    fn links_are_told_by_index_and_name() {
        let bytes = [link(7, "vnet-web"), message(3, &[]), link(8, "tap0")].concat();
        let change = |ifindex, name: &str| Change {
            ifindex: Some(ifindex),
            name: Some(name.to_owned()),
            ..Change::default()
        };
        assert_eq!(changes(&bytes), [change(7, "vnet-web"), change(8, "tap0")]);
    }

    #[test]
    fn addresses_and_default_routes_are_told_as_such() {
        let mut addr = vec![2, 24, 0, 0];
        addr.extend(7_u32.to_ne_bytes());
        let route = |prefix_length| {
            let mut body = vec![0; ROUTE_HEADER];
            body[..2].copy_from_slice(&[2, prefix_length]);
            body.extend([8_u16, RTA_OIF].map(u16::to_ne_bytes).concat());
            body.extend(9_u32.to_ne_bytes());
            message(RTM_NEWROUTE, &body)
        };
        let rule = message(RTM_NEWRULE, &[0; 12]);
        let bytes = [message(RTM_DELADDR, &addr), route(0), route(24), rule].concat();
        let rule = Change { is_rule: true, ..Change::default() };
        let change = |ifindex, is_address, is_default_route| Change {
            ifindex: Some(ifindex),
            name: None,
            is_address,
            is_default_route,
            is_rule: false,
        };
        assert_eq!(
            changes(&bytes),
            [change(7, true, false), change(9, false, true), change(9, false, false), rule]
        );
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        let bytes = link(7, "vnet-web");
        for len in 0..bytes.len() {
            let mut cut = bytes[..len].to_vec();
            let _ = changes(&cut);
            if cut.len() >= HEADER {
                cut[..4].copy_from_slice(&(len as u32).to_ne_bytes());
                let _ = changes(&cut);
            }
        }
        let mut endless = bytes;
        endless[HEADER + LINK_HEADER..][..2].copy_from_slice(&[0, 0]);
        assert_eq!(changes(&endless)[0].name, None);
    }
}
