//! A packet as the stages see it: headers are read by value, and written back by `rewrite` alone.

use network_types::{arp::ArpHdr, eth::EthHdr};
use vnet_common::{Be16, Be32, DropReason, MacPair, Ports, V4, V6};

/// Types that are their wire format: any bytes of their size are a value, and they have no padding.
///
/// In eBPF code the alignment of a type tells LLVM by what words to fetch it, so the headers that every
/// packet carries are made of words here; the crate `network-types` describes the others by single bytes.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, made of integers and arrays of integers that fill its size.
pub unsafe trait Wire: Copy {}

/// An IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Wire {
    /// 4 bits of version, 4 of header length in words.
    pub version_len: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of the datagram in bytes.
    pub total_len: Be16,
    /// Identification.
    pub id: Be16,
    /// 3 bits of flags, 13 of fragment offset in units of 8 bytes.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// What it carries.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Be16,
    /// Source.
    pub src: V4,
    /// Destination.
    pub dst: V4,
}

/// An IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Wire {
    /// 4 bits of version, 4 of traffic class.
    pub version_class: u8,
    /// The rest of the traffic class and of the flow label.
    pub class_label: [u8; 3],
    /// Length of what follows in bytes.
    pub payload_len: Be16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub src: V6,
    /// Destination.
    pub dst: V6,
}

/// The first 16 bytes of a TCP header (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpWire {
    /// Source and destination port.
    pub ports: Ports,
    /// Sequence number.
    pub seq: Be32,
    /// Acknowledgement number.
    pub ack: Be32,
    /// 4 bits of header length in words, 4 reserved, 8 of flags.
    pub offset_flags: Be16,
    /// Window.
    pub window: Be16,
}

const _: () =
    assert!(size_of::<Ipv4Wire>() == 20 && size_of::<Ipv6Wire>() == 40 && size_of::<TcpWire>() == 16);

/// Declares wire formats.
macro_rules! wire {
    ($($type:ty),+ $(,)?) => {$(
        // SAFETY: integers and arrays of integers, repr(C) or transparent, whose sizes add up to its own.
        unsafe impl Wire for $type {}
    )+};
}
wire!(u8, Be16, Be32, V4, V6, Ports, MacPair, Ipv4Wire, Ipv6Wire, TcpWire, ArpHdr, EthHdr);

// SAFETY: an array of bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}

/// One packet, from its Ethernet header on.
pub trait Packet {
    /// Length of the whole packet in bytes; of all its segments when it is to be segmented later.
    fn length(&self) -> u32;

    /// The header at `offset` bytes.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when the packet ends before it.
    fn read<T: Wire>(&self, offset: usize) -> Result<T, DropReason>;

    /// Overwrites the bytes at `offset`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when the packet ends before them.
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason>;

    /// Whether a VLAN tag was taken off the frame and is held beside it.
    fn has_vlan_tag(&self) -> bool;

    /// Whether the host received it elsewhere and forwards it, rather than sending it itself.
    fn is_forwarded(&self) -> bool;

    /// Its mark, of those in [`vnet_common::mark`].
    fn mark(&self) -> u32;
    /// Gives it a mark.
    fn set_mark(&mut self, mark: u32);
}
