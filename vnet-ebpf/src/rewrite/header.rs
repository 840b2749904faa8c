//! The IP headers of what vnet sends itself.

use vnet_common::{Address as _, Be16, DropReason, V4, V6};

use super::{TTL, fold, translate::word};
use crate::{
    headers::ETHERNET_LEN,
    packet::{AddressWire, Buffer, Ipv4Wire, Ipv6Wire},
};

/// An IPv4 header of five words.
pub(super) const IPV4_VERSION_LEN: u8 = 0x45;

/// What stands in the IP header of a packet of vnet's own.
pub(super) struct Header<A> {
    pub(super) src: A,
    pub(super) dst: A,
    /// Type of service, or traffic class.
    pub(super) class: u8,
    /// What it carries.
    pub(super) protocol: u8,
    /// How many bytes of that.
    pub(super) len: u16,
}

impl<A: AddressWire> Header<A> {
    /// Bytes of the header.
    pub(super) const LEN: usize = if A::IS_V4 { size_of::<Ipv4Wire>() } else { size_of::<Ipv6Wire>() };

    /// Writes it behind the Ethernet header, never to be fragmented.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline(always)]
    pub(super) fn write(&self, packet: &mut impl Buffer) -> Result<(), DropReason> {
        if A::IS_V4 { packet.write(ETHERNET_LEN, self.v4()) } else { packet.write(ETHERNET_LEN, self.v6()) }
    }

    #[inline(always)]
    fn v4(&self) -> Ipv4Wire {
        let mut header = Ipv4Wire {
            version_len: IPV4_VERSION_LEN,
            tos: self.class,
            total_len: Be16::new(size_of::<Ipv4Wire>() as u16 + self.len),
            // RFC 6864 section 4.1: what is never fragmented needs none.
            id: Be16::default(),
            fragment: Be16::new(0x4000),
            ttl: TTL,
            protocol: self.protocol,
            checksum: Be16::default(),
            src: V4::of(self.src.ip()),
            dst: V4::of(self.dst.ip()),
        };
        header.checksum = Be16::from_bytes((!ipv4_sum(&header)).to_ne_bytes());
        header
    }

    #[inline(always)]
    fn v6(&self) -> Ipv6Wire {
        Ipv6Wire {
            version_class: 0x60 | self.class >> 4,
            class_label: [self.class << 4, 0, 0],
            payload_len: Be16::new(self.len),
            next_header: self.protocol,
            hop_limit: TTL,
            src: V6::of(self.src.ip()),
            dst: V6::of(self.dst.ip()),
        }
    }

    /// The sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    #[inline(always)]
    pub(super) fn pseudo_sum(&self) -> u32 {
        self.src.sum() + self.dst.sum() + word(Be16::new(self.len)) + word(Be16::new(self.protocol.into()))
    }
}

/// The ones' complement sum of an IPv4 header without options (RFC 1071); all bits are set if its checksum holds.
#[inline(always)]
pub(super) fn ipv4_sum(header: &Ipv4Wire) -> u16 {
    let pair = |high, low| word(Be16::from_bytes([high, low]));
    fold(
        pair(header.version_len, header.tos)
            + word(header.total_len)
            + word(header.id)
            + word(header.fragment)
            + pair(header.ttl, header.protocol)
            + word(header.checksum)
            + header.src.sum()
            + header.dst.sum(),
    )
}

/// Ones' complement sum of 16-bit words, as the network has them; an odd byte at the end has a zero behind it.
#[cfg(test)]
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let folded = |sum: u32| (sum & 0xffff) + (sum >> 16);
    bytes.chunks(2).map(word).fold(0, |sum, word| folded(sum + word)) as u16
}
