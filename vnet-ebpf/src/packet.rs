//! A packet as the stages see it: headers are read by value, and written back by `rewrite` alone.

use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    icmp::Icmpv4Hdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
};
use vnet_common::DropReason;

/// Types that are their wire format: any bytes of their size are a value, and they have no padding.
///
/// # Safety
/// The type is `repr(C)` (or an array), made of bytes and arrays of bytes alone, or packed.
pub unsafe trait Wire: Copy {}

// SAFETY: an array of bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: repr(C, packed) of integers and arrays of bytes.
unsafe impl Wire for EthHdr {}
// SAFETY: repr(C) of bytes and arrays of bytes.
unsafe impl Wire for ArpHdr {}
// SAFETY: repr(C) of bytes and arrays of bytes.
unsafe impl Wire for Ipv4Hdr {}
// SAFETY: repr(C) of bytes and arrays of bytes.
unsafe impl Wire for Ipv6Hdr {}
// SAFETY: repr(C) of bytes and arrays of bytes.
unsafe impl Wire for Icmpv4Hdr {}
// SAFETY: repr(C) of bytes and arrays of bytes.
unsafe impl Wire for TcpHdr {}

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
}
