//! Makes an ICMP error of the packet that it is about.

use vnet_common::{Be16, Be32, DropReason, MacPair, limits::QUOTED_BYTES};

use super::{
    fold,
    header::Header,
    translate::{ICMP_HEADER_LEN, word},
};
use crate::{
    headers::{Datagram, ETHERNET_LEN, protocol},
    packet::{AddressWire, Change, ChangeKind, Packet},
};

/// An ICMP error about a packet that came in.
pub struct Quote<'a, A: Copy> {
    /// Type × 256 + code.
    pub kind_code: u16,
    /// The last four bytes of its header.
    pub rest: u32,
    /// Who tells it.
    pub from: A,
    /// What the packet said, which nobody has changed.
    pub datagram: &'a Datagram<A>,
    /// Bytes of the IP packet.
    pub len: u32,
}

/// Turns a packet into the ICMP error `quote`, back to the MAC and address that it came from.
///
/// Whole words are quoted, so of a packet that fits up to three bytes are left out; never of the eight that follow its
/// IP header (RFC 792).
///
/// # Errors
/// [`DropReason::Truncated`], [`DropReason::Internal`]; the packet is in pieces.
#[inline(always)]
pub fn error_about<A: AddressWire>(packet: &mut impl Packet, quote: &Quote<'_, A>) -> Result<(), DropReason> {
    /// RFC 1812 section 4.3.2.5: precedence 6, internetwork control.
    const TOS: u8 = 0xc0;
    let header_len = Header::<A>::LEN;
    let (room, quoted) = (header_len + ICMP_HEADER_LEN, quote.len.min(QUOTED_BYTES) & !3);
    let macs: MacPair = packet.read(0)?;
    packet.reshape(ETHERNET_LEN as u32 + quoted, room as u32)?;
    let message = ETHERNET_LEN + header_len;
    let mut sum = quoted_sum(packet, quote.datagram, room, quoted)?;
    let len = ICMP_HEADER_LEN as u16 + quoted as u16;
    packet.write(0, MacPair::new(macs.src(), macs.dst()))?;
    let (class, protocol) = if A::IS_V4 { (TOS, protocol::ICMP) } else { (0, protocol::ICMPV6) };
    let header = Header { src: quote.from, dst: quote.datagram.src, class, protocol, len };
    header.write(packet)?;
    if !A::IS_V4 {
        sum += header.pseudo_sum();
    }
    let (kind_code, [a, b, c, d]) = (Be16::new(quote.kind_code), quote.rest.to_be_bytes());
    sum += word(kind_code) + word(Be16::from_bytes([a, b])) + word(Be16::from_bytes([c, d]));
    packet.write(message, kind_code)?;
    packet.write(message + 2, Be16::from_bytes((!fold(sum)).to_ne_bytes()))?;
    packet.write(message + 4, Be32::new(quote.rest))
}

/// Sum of the `quoted` bytes that follow the `room` made for the headers of an error.
///
/// If the sender has left the checksum of its TCP or UDP to the device, that of the error has to hold once it is
/// there: from the transport header on, the bytes then sum up to the complement of what stands in its place now, the
/// sum of the pseudo-header (as the kernel's `lco_csum` has it).
#[inline(always)]
fn quoted_sum<A: AddressWire>(
    packet: &mut impl Packet,
    datagram: &Datagram<A>,
    room: usize,
    quoted: u32,
) -> Result<u32, DropReason> {
    let begin = ETHERNET_LEN + room;
    let (mut end, mut sum) = (begin + quoted as usize, 0);
    if is_checksum_left(packet, begin - ICMP_HEADER_LEN + 2)? {
        let at = match datagram.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            // SCTP's is a CRC.
            _ => return Err(DropReason::Internal),
        };
        end = datagram.payload_offset()? + room;
        sum = u32::from(!packet.read::<Be16>(end + at)?.to_ne());
    }
    for number in 0..QUOTED_BYTES as usize / 4 {
        let offset = begin + number * 4;
        if offset >= end {
            break;
        }
        let pair = packet.read::<Be32>(offset)?.to_ne();
        sum += (pair & 0xffff) + (pair >> 16);
    }
    Ok(sum)
}

/// Whether the device is to compute the packet's checksum (`CHECKSUM_PARTIAL`); `blank` is where two bytes are zero,
/// which are spoilt. Nothing tells it to a program but that the checksum of words is not updated then.
#[inline(always)]
fn is_checksum_left(packet: &mut impl Packet, blank: usize) -> Result<bool, DropReason> {
    packet.update_checksum(blank, Change { sum: 1, kind: ChangeKind::Covered, is_udp: false })?;
    Ok(packet.read::<Be16>(blank)? == Be16::default())
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

    /// A frame with `header`, UDP of `len` bytes in which only the sum of the pseudo-header stands, and an error of it.
    fn error_of<A: AddressWire>(header: &[u8], len: usize) -> Vec<u8>
    where
        ModelPacket: Parsed<A>,
    {
        let mut udp = vec![0x5a; len];
        udp[4..8].copy_from_slice(&[0, len as u8, 0x12, 0x34]);
        let mut packet = ModelPacket::new([&[0x11; ETHERNET_LEN], header, &udp].concat());
        packet.leaves_checksum = true;
        let datagram = packet.parsed();
        let quoted = (header.len() + len) as u32;
        let quote =
            Quote { kind_code: 0x0304, rest: 1400, from: datagram.dst, datagram: &datagram, len: quoted };
        error_about(&mut packet, &quote).expect("an error");
        // The device computes it now.
        let at = packet.bytes.len() - (len & !3);
        let check = (!sum(&packet.bytes[at..])).to_be_bytes();
        packet.bytes[at + 6..at + 8].copy_from_slice(&check);
        packet.bytes
    }

    trait Parsed<A> {
        fn parsed(&self) -> Datagram<A>;
    }

    impl Parsed<V4> for ModelPacket {
        fn parsed(&self) -> Datagram<V4> {
            ipv4(self, ETHERNET_LEN).expect("IPv4")
        }
    }

    impl Parsed<V6> for ModelPacket {
        fn parsed(&self) -> Datagram<V6> {
            ipv6(self, ETHERNET_LEN).expect("IPv6")
        }
    }

    #[test]
    fn an_error_holds_when_the_device_has_computed_what_it_quotes() {
        let v4 = [0x45, 0, 0, 61, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 203, 0, 113, 5];
        let error = error_of::<V4>(&v4, 41);
        assert_eq!((sum(&error[14..34]), sum(&error[34..])), (0xffff, 0xffff));
        let v6 = [&[0x60, 0, 0, 0, 0, 41, 17, 64][..], &[0xfd; 16], &[0x20; 16]].concat();
        let error = error_of::<V6>(&v6, 41);
        let pseudo = [&error[22..54], &(error.len() as u32 - 54).to_be_bytes()[..], &[0, 0, 0, 58]].concat();
        assert_eq!(sum(&[&pseudo, &error[54..]].concat()), 0xffff);
    }
}
