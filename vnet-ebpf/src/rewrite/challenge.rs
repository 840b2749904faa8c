//! Asks who has sent a SYN to show that they are there.

use vnet_common::{Be16, Be32, DropReason, MacPair};

use super::{
    HOP_LIMIT, TTL, fold,
    header::Header,
    translate::{difference, translated, updated, word},
};
use crate::{
    headers::{Datagram, ETHERNET_LEN, Segment, protocol},
    packet::{AddressWire, Buffer, Change, ChangeKind, Ipv4Wire, Packet, TcpWire},
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

/// Makes the same answer of a SYN that is in no socket buffer yet, which cannot tell whether its checksum is left to a
/// device: a header without options; the bytes of the frame that are left of it.
///
/// # Errors
/// [`DropReason::Truncated`]; the packet is in pieces.
#[inline(always)]
pub fn challenge_anew<A: AddressWire>(
    packet: &mut impl Buffer,
    datagram: &Datagram<A>,
    number: u32,
) -> Result<usize, DropReason> {
    /// Bytes of the header: five words.
    const LEN: u16 = 20;
    const FLAGS: u16 = 5 << 12 | (Segment::SYN | Segment::ACK) as u16;
    let macs: MacPair = packet.read(0)?;
    packet.write(0, MacPair::new(macs.src(), macs.dst()))?;
    let header = Header { src: datagram.dst, dst: datagram.src, class: 0, protocol: protocol::TCP, len: LEN };
    header.write(packet)?;
    let segment = TcpWire {
        ports: datagram.ports.reversed(),
        seq: Be32::new(!number),
        ack: Be32::new(number),
        offset_flags: Be16::new(FLAGS),
        window: Be16::default(),
    };
    let ports = word(segment.ports.src()) + word(segment.ports.dst());
    let sum =
        header.pseudo_sum() + ports + halves(segment.seq) + halves(segment.ack) + word(segment.offset_flags);
    let at = ETHERNET_LEN + Header::<A>::LEN;
    packet.write(at, segment)?;
    // The checksum, and no urgent data.
    packet.write(at + size_of::<TcpWire>(), Be16::from_bytes((!fold(sum)).to_ne_bytes()))?;
    packet.write(at + size_of::<TcpWire>() + 2, Be16::default())?;
    Ok(at + usize::from(LEN))
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

#[cfg(test)]
mod tests {
    use vnet_common::{V4, V6};

    use super::*;
    use crate::{
        model::ModelPacket,
        rewrite::header::sum,
        stages::parse::{ipv4, ipv6},
    };

    const NUMBER: u32 = 0x8123_4567;
    /// A SYN with an option, and a sum that nobody has made.
    const SYN: [u8; 24] =
        [0x1b, 0x58, 0x1f, 0x90, 1, 2, 3, 4, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4];

    fn frame(header: &[u8]) -> ModelPacket {
        ModelPacket::new([&[1; 6][..], &[2; 6], &[0, 0], header, &SYN].concat())
    }

    /// Sequence and acknowledgment number, and flags of the answer.
    fn said(segment: &[u8]) -> (u32, u32, u8) {
        let number = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().expect("four bytes"));
        (number(4), number(8), segment[13])
    }

    #[test]
    fn an_answer_over_ipv4_is_made_anew() {
        let header = [0x45, 0, 0, 44, 0, 0, 0, 0, 9, 6, 0, 0, 198, 51, 100, 1, 203, 0, 113, 5];
        let mut packet = frame(&header);
        let datagram = ipv4(&packet, ETHERNET_LEN).expect("IPv4");
        let len = challenge_anew::<V4>(&mut packet, &datagram, NUMBER).expect("an answer");
        packet.bytes.truncate(len);
        assert_eq!((&packet.bytes[..12], len), (&[[2; 6], [1; 6]].concat()[..], 54));
        assert_eq!(packet.bytes[26..34], [203, 0, 113, 5, 198, 51, 100, 1]);
        assert_eq!(said(&packet.bytes[34..]), (!NUMBER, NUMBER, Segment::SYN | Segment::ACK));
        let pseudo = [&packet.bytes[26..34], &[0, 6, 0, 20], &packet.bytes[34..]].concat();
        assert_eq!((sum(&packet.bytes[14..34]), sum(&pseudo)), (0xffff, 0xffff));
        let answer = ipv4(&packet, ETHERNET_LEN).expect("IPv4");
        assert_eq!(answer.ports, datagram.ports.reversed());
    }

    #[test]
    fn an_answer_over_ipv6_is_made_anew() {
        let header = [&[0x60, 0, 0, 0, 0, 24, 6, 9][..], &[0x20; 16], &[0xfd; 16]].concat();
        let mut packet = frame(&header);
        let datagram = ipv6(&packet, ETHERNET_LEN).expect("IPv6");
        let len = challenge_anew::<V6>(&mut packet, &datagram, NUMBER).expect("an answer");
        packet.bytes.truncate(len);
        assert_eq!(said(&packet.bytes[54..]), (!NUMBER, NUMBER, Segment::SYN | Segment::ACK));
        let pseudo = [&packet.bytes[22..54], &[0, 6, 0, 20], &packet.bytes[54..]].concat();
        assert_eq!((len, sum(&pseudo)), (74, 0xffff));
        assert_eq!(ipv6(&packet, ETHERNET_LEN).expect("IPv6").dst, datagram.src);
    }
}
