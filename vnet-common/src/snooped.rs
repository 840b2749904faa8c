//! What the datapath tells the controller of ports whose addresses are learned ([`crate::PortFlags::LEARNS`]): which
//! addresses they claim, and what DHCP says to them.
//!
//! Each record of the ring buffer is a [`Snooped`], or a [`SnoopedMessage`] where there is a message. One that finds no
//! room is lost: whoever claims an address that nobody let it have claims it again.

use crate::{Ip, MacAddr, shared};

/// What was seen.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnoopedKind {
    /// A port says by ARP or neighbour discovery that it has an address, which nobody in its network has in the
    /// generation in force.
    Claim = 1,
    /// A DHCP message from the segment to the port (UDP from port 67 to port 68); its payload is there.
    DhcpToPort = 2,
    /// A DHCP message of the port's own (UDP from port 68 to port 67); its payload is there.
    DhcpFromPort = 3,
}

impl SnoopedKind {
    /// From the word in a record; `None` for one that is none of these.
    #[must_use]
    pub const fn from_word(word: u32) -> Option<Self> {
        match word {
            1 => Some(Self::Claim),
            2 => Some(Self::DhcpToPort),
            3 => Some(Self::DhcpFromPort),
            _ => None,
        }
    }
}

/// What was seen of a port, without a message.
///
/// Layout: `network` u32, `kind` u32, `addr` 16, `mac` [u8; 6], 2 bytes of padding, `len` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snooped {
    /// The bridge of the network in which it was seen.
    pub network: u32,
    kind: u32,
    /// The address that is claimed; unspecified with a message.
    pub addr: Ip,
    /// The port's MAC; of a message to many, which itself tells for whom it is, any.
    pub mac: MacAddr,
    padding: u16,
    /// Bytes of the message that follow.
    pub len: u32,
}

impl Snooped {
    /// The port with `mac` in the network whose bridge is `network` claims `addr`.
    #[inline(always)]
    #[must_use]
    pub const fn claim(network: u32, mac: MacAddr, addr: Ip) -> Self {
        Self { network, kind: SnoopedKind::Claim as u32, addr, mac, padding: 0, len: 0 }
    }

    /// A message of `kind` to or from the port with `mac` in the network whose bridge is `network`; `len` bytes of it
    /// follow. Of one to many, any MAC will do.
    #[inline(always)]
    #[must_use]
    pub const fn message(network: u32, mac: MacAddr, kind: SnoopedKind, len: u32) -> Self {
        Self { network, kind: kind as u32, addr: Ip::UNSPECIFIED, mac, padding: 0, len }
    }

    /// The same, with `len` bytes of a message.
    #[inline(always)]
    #[must_use]
    pub const fn of_length(self, len: u32) -> Self {
        Self { len, ..self }
    }

    /// The record at the beginning of `bytes`, as a ring buffer has them, and its message; `None` if there is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (network, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (addr, rest) = rest.split_first_chunk()?;
        let (mac, rest) = rest.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<2>()?;
        let (len, rest) = rest.split_first_chunk()?;
        let seen = Self {
            network: u32::from_ne_bytes(*network),
            kind: u32::from_ne_bytes(*kind),
            addr: Ip::from_octets(*addr),
            mac: MacAddr(*mac),
            padding: 0,
            len: u32::from_ne_bytes(*len),
        };
        Some((seen, rest.get(..seen.len as usize)?))
    }

    /// What was seen; `None` if the record is of another version.
    #[must_use]
    pub const fn kind(&self) -> Option<SnoopedKind> {
        SnoopedKind::from_word(self.kind)
    }
}

/// What was seen of a port, with a message.
///
/// It is larger than a program's stack: it is written where it was reserved.
///
/// Layout: `seen` 36, `payload` [u8; 576].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnoopedMessage {
    /// Of whom, and how long the message is.
    pub seen: Snooped,
    /// The beginning of the UDP payload; bytes beyond [`Snooped::len`] mean nothing.
    pub payload: [u8; Self::PAYLOAD],
}

impl SnoopedMessage {
    /// Bytes of a message that are kept. Every client takes IP datagrams of 576 bytes (RFC 2131 section 2), and servers
    /// send no longer ones unless a client offers to. The type of a message and the lease stand before what makes them
    /// long.
    pub const PAYLOAD: usize = 576;
}

shared! {
    Snooped = 36,
    SnoopedMessage = 612,
}
