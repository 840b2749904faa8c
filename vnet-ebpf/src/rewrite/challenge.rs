//! Asks who has sent a SYN to show that they are there.

use vnet_common::{Be16, Be32, DropReason};

use super::{
    HOP_LIMIT, TTL,
    translate::{difference, translated, updated, word},
};
use crate::{
    headers::{Datagram, ETHERNET_LEN, Segment},
    packet::{AddressWire, Change, ChangeKind, Ipv4Wire, Packet},
};

/// Turns a SYN into an answer to it, from whom it was for, that acknowledges `number`: what was never sent, but for one
/// case in 2^32. Only fields change, so a checksum that was left to the device still is.
///
/// # Errors
/// [`DropReason::Truncated`]; the packet is in pieces.
#[inline(always)]
pub fn challenge<A: AddressWire>(
    packet: &mut impl Packet,
    datagram: &Datagram<A>,
    number: u32,
) -> Result<(), DropReason> {
    /// Offsets in a TCP header (RFC 9293 section 3.1).
    const SEQ: usize = 4;
    const ACK: usize = 8;
    const FLAGS: usize = 12;
    const CHECKSUM: usize = 16;
    translated(packet, datagram, &datagram.key(0).tuple().reversed())?;
    last_as_long_as_any::<A>(packet)?;
    let segment = datagram.payload_offset()?;
    let old: (Be32, Be32, Be16) =
        (packet.read(segment + SEQ)?, packet.read(segment + ACK)?, packet.read(segment + FLAGS)?);
    let flags = old.2.get() & 0xf000 | u16::from(Segment::SYN | Segment::ACK);
    let new = (Be32::new(!number), Be32::new(number), Be16::new(flags));
    packet.write(segment + SEQ, new.0)?;
    packet.write(segment + ACK, new.1)?;
    packet.write(segment + FLAGS, new.2)?;
    let sum = |(seq, ack, flags): (Be32, Be32, Be16)| halves(seq) + halves(ack) + word(flags);
    let change = Change { sum: difference(sum(old), sum(new)), kind: ChangeKind::Covered, is_udp: false };
    packet.update_checksum(segment + CHECKSUM, change)
}

/// Gives a packet as many hops as those of vnet's own have.
#[inline(always)]
fn last_as_long_as_any<A: AddressWire>(packet: &mut impl Packet) -> Result<(), DropReason> {
    if !A::IS_V4 {
        return packet.write(HOP_LIMIT, TTL);
    }
    let header: Ipv4Wire = packet.read(ETHERNET_LEN)?;
    let pair = |ttl| word(Be16::from_bytes([ttl, header.protocol]));
    packet.write(ETHERNET_LEN + 8, TTL)?;
    packet.write(ETHERNET_LEN + 10, updated(header.checksum, difference(pair(header.ttl), pair(TTL))))
}

/// Sum of both words of a double word, as the host reads them.
#[inline(always)]
const fn halves(double: Be32) -> u32 {
    let double = double.to_ne();
    (double & 0xffff) + (double >> 16)
}
