//! A packet as the stages see it: headers are read by value, and written back by `rewrite` alone.

use core::cell::Cell;
use network_types::{arp::ArpHdr, eth::EthHdr};

use vnet_common::{
    Address, Be16, Be32, Delivery, DropReason, ExpireQuestion, Ip, MacAddr, MacPair, Ports, Snooped, Tuple,
    V4, V6, limits,
};

use crate::{
    case::Case,
    headers::ETHERNET_LEN,
    stages::{follow::Followed, parse::Version, segment::Came},
    tables::{FlowTable, Snapshot, Tables},
    verdict::Outcome,
};
#[cfg(doc)]
use crate::{
    pipeline,
    stages::{follow, neighbour, parse},
};

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

/// An IPv6 fragment header (RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FragmentWire {
    /// What it carries, then a reserved byte.
    pub next_reserved: Be16,
    /// 13 bits of offset in units of 8 bytes, 2 reserved, 1 if there are later fragments.
    pub place: Be16,
    /// Identification.
    pub id: Be32,
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

/// What is around a frame in an overlay over IPv4: the headers of IPv4, UDP (RFC 768) and VXLAN (RFC 7348 section 5).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OverlayWire {
    /// From host to host.
    pub ip: Ipv4Wire,
    /// UDP ports.
    pub ports: Ports,
    /// Length of the UDP datagram in bytes.
    pub udp_len: Be16,
    /// Its checksum; 0: none.
    pub udp_check: Be16,
    /// 8 bits of flags, 24 reserved.
    pub flags: Be32,
    /// 24 bits of network identifier, 8 reserved.
    pub vni: Be32,
}

const _: () =
    assert!(size_of::<Ipv4Wire>() == 20 && size_of::<Ipv6Wire>() == 40 && size_of::<TcpWire>() == 16);
const _: () = assert!(size_of::<OverlayWire>() == 36);

/// Declares wire formats.
macro_rules! wire {
    ($($type:ty),+ $(,)?) => {$(
        // SAFETY: integers and arrays of integers, repr(C) or transparent, whose sizes add up to its own.
        unsafe impl Wire for $type {}
    )+};
}
wire!(
    u8,
    Be16,
    Be32,
    V4,
    V6,
    Ports,
    MacPair,
    Ipv4Wire,
    Ipv6Wire,
    FragmentWire,
    TcpWire,
    OverlayWire,
    ArpHdr,
    EthHdr,
    ExpireQuestion<V4>,
    ExpireQuestion<V6>,
);

// SAFETY: an array of bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}

/// An address whose place in the IP header is known.
pub trait AddressWire: Address + Wire {
    /// Offset of the source address in the header; the destination follows it.
    const SRC: usize;

    /// Sum of its 16-bit words, as the host reads them: a ones' complement sum comes out the same in either byte
    /// order (RFC 1071 section 2).
    fn sum(self) -> u32;
}

impl AddressWire for V4 {
    const SRC: usize = 12;

    #[inline(always)]
    fn sum(self) -> u32 {
        let [a, b, c, d] = self.octets();
        u32::from(u16::from_ne_bytes([a, b])) + u32::from(u16::from_ne_bytes([c, d]))
    }
}

impl AddressWire for V6 {
    const SRC: usize = 8;

    #[inline(always)]
    fn sum(self) -> u32 {
        self.words().iter().map(|word| (word & 0xffff) + (word >> 16)).sum()
    }
}

/// A VLAN tag (IEEE 802.1Q section 9.5, IEEE 802.1ad).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The ethertype that announces it: [`Tag::CUSTOMER`], [`Tag::SERVICE`].
    pub protocol: u16,
    /// 3 bits of priority, 1 of drop eligibility, 12 of identifier.
    pub control: u16,
}

impl Tag {
    /// IEEE 802.1Q.
    pub const CUSTOMER: u16 = 0x8100;
    /// IEEE 802.1ad.
    pub const SERVICE: u16 = 0x88a8;

    /// Whether `ether_type` announces a tag.
    #[inline(always)]
    #[must_use]
    pub const fn is_announced_by(ether_type: u16) -> bool {
        matches!(ether_type, Self::CUSTOMER | Self::SERVICE)
    }
}

/// A packet's place in an overlay (RFC 7348).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The network identifier.
    pub vni: u32,
    /// The host at the other end.
    pub remote: Ip,
}

/// Words of a packet that were replaced, as its checksums see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Ones' complement sum of the new words and of the complements of the old ones (RFC 1624 equation 3).
    pub sum: u32,
    /// Where the words stand.
    pub kind: ChangeKind,
    /// Whether it is UDP's, which writes 0 as 0xffff (RFC 768).
    pub is_udp: bool,
}

/// Where words stand that were replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// In what the checksum covers of the packet.
    Covered,
    /// In the pseudo-header (RFC 9293 section 3.1).
    Pseudo,
}

/// Bytes of the headers around a frame in an overlay over IPv4, and of the frame's own Ethernet header.
pub const ENCAPSULATION_LEN: usize = size_of::<OverlayWire>() + ETHERNET_LEN;

/// In the place of a segment size: the sender has cut them already (`GSO_BY_FRAGS`, as SCTP does).
pub const SEGMENTED_BEFORE: u32 = 0xffff;

/// The bytes of a packet, from its Ethernet header on: in a socket buffer, or before there is one.
pub trait Buffer {
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

    /// The tag that was taken off the frame and is held beside it, if there is one.
    fn tag_beside(&self) -> Option<Tag>;

    /// Runs [`parse::check_options`]: in the kernel as a function that the verifier walks once, not once for each call.
    ///
    /// # Errors
    /// As that does.
    fn check_options(&self, offset: usize, end: usize) -> Result<(), DropReason>;
}

/// One packet in a socket buffer.
pub trait Packet: Buffer {
    /// Bytes of payload in each segment, when it is to be segmented later; 0: it stays as it is;
    /// [`SEGMENTED_BEFORE`]: they may differ.
    fn segment_payload(&self) -> u32;

    /// Makes another packet of it: `kept` bytes from its beginning, of which the Ethernet header is followed by `room`
    /// zero bytes. It is no longer to be segmented.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when it is shorter, [`DropReason::Internal`] when there is no room.
    fn reshape(&mut self, kept: u32, room: u32) -> Result<(), DropReason>;

    /// Updates the checksum of TCP, UDP or ICMP at `offset` bytes for words that `change` says were replaced, also
    /// where the sender has left it to the device to compute (`CHECKSUM_PARTIAL`).
    ///
    /// # Errors
    /// [`DropReason::Truncated`] when the packet ends before it.
    fn update_checksum(&mut self, offset: usize, change: Change) -> Result<(), DropReason>;

    /// Takes the outermost tag off, beside the frame or in it.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    fn pop_tag(&mut self) -> Result<(), DropReason>;

    /// Puts a tag around the frame, and around those that it has.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when there is no room.
    fn push_tag(&mut self, tag: Tag) -> Result<(), DropReason>;

    /// Its priority, 0 to 7 (IEEE 802.1Q section 6.9.3): that of the tags that it came with.
    fn priority(&self) -> u16;
    /// Gives it a priority.
    fn set_priority(&mut self, priority: u16);

    /// Out of which tunnel it came, if it is one of an overlay.
    fn tunnel(&self) -> Option<Tunnel>;

    /// Has whatever device sends it encapsulate it, for an overlay.
    ///
    /// # Errors
    /// [`DropReason::Internal`].
    fn enter_tunnel(&mut self, tunnel: Tunnel) -> Result<(), DropReason>;

    /// Makes room behind its Ethernet header for what is around a frame in an overlay over IPv4, and for the frame's own
    /// Ethernet header: [`ENCAPSULATION_LEN`] bytes. Segments that it will be cut into keep their payload. `false`: there
    /// is none, and the packet is as before.
    fn encapsulate(&mut self) -> bool;

    /// Takes that away; `ether_type` is what the frame carries. `false`: it cannot, and the packet is as before.
    fn decapsulate(&mut self, ether_type: Be16) -> bool;

    /// A number that all packets of its connection have in common, and one that it alone has.
    fn entropy(&mut self) -> (u32, u32);

    /// Sends a copy of it to `device`: out of it ([`Delivery::Device`]), or as received there ([`Delivery::Host`]). A copy
    /// that cannot be sent is lost, as any packet may be.
    fn copy_to(&mut self, device: u32, delivery: Delivery);

    /// Tells the controller what the packet says from `offset` on, which is what `message` is about.
    fn tell(&self, message: &Snooped, offset: usize);

    /// Runs [`pipeline::came`], likewise.
    ///
    /// # Errors
    /// As that does.
    fn came<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        device: u32,
    ) -> Result<Option<Came>, DropReason>;

    /// Runs [`pipeline::came_encapsulated`], likewise.
    ///
    /// # Errors
    /// As that does.
    fn came_encapsulated<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        device: u32,
    ) -> Result<Option<Came>, DropReason>;

    /// Runs [`pipeline::spread`], as [`Buffer::check_options`] does.
    fn spread<T: Tables>(&mut self, snapshot: &Snapshot<'_, T>, network: u32, except: u32);

    /// Runs [`pipeline::spread_by`], likewise.
    fn spread_by<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        network: u32,
        except: u32,
        index: u32,
    ) -> bool;

    /// Whether the host received it elsewhere and forwards it, rather than sending it itself.
    fn is_forwarded(&self) -> bool;

    /// Runs [`neighbour::check_link_options`], as [`Buffer::check_options`] does.
    ///
    /// # Errors
    /// As that does.
    fn check_link_options(&self, offset: usize, end: usize, mac: MacAddr) -> Result<(), DropReason>;

    /// Runs [`pipeline::unicast`], likewise.
    ///
    /// # Errors
    /// As that does.
    fn unicast<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome;

    /// Runs [`pipeline::carry_on`], likewise.
    ///
    /// # Errors
    /// As that does.
    fn carry_on<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome;

    /// Runs [`follow::follow`], likewise.
    ///
    /// # Errors
    /// As that does.
    fn follow<A: Address, T: Tables>(
        &mut self,
        tables: &T,
        case: &mut Case<A>,
        may_hold: bool,
    ) -> Result<Followed, DropReason>;

    /// Whether a UDP socket of the host's is connected to whoever sends packets with `tuple`.
    fn is_awaited<A: Address>(&self, tuple: &Tuple<A>) -> bool;

    /// Copies the whole packet to `frame`; whether it fits.
    fn save(&self, frame: &[Cell<u8>; limits::HELD_BYTES]) -> bool;

    /// Becomes a packet of `len` bytes of `frame`; `false` if it could not, and is nothing of use any more.
    fn become_frame(&mut self, frame: &[Cell<u8>; limits::HELD_BYTES], len: u32) -> bool;

    /// Has a copy of it arrive at `device` once more, marked [`vnet_common::mark::AGAIN`].
    fn arrive_again(&mut self, device: u32);

    /// Its mark, of those in [`vnet_common::mark`].
    fn mark(&self) -> u32;
    /// Gives it a mark.
    fn set_mark(&mut self, mark: u32);
}
