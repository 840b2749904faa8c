//! Stage 1: what the packet says of itself.
//!
//! Decides whether the headers are whole, consistent and of a kind that vnet carries, and reads out of
//! them what the other stages need. Whether any of it is true is the sender stage's question.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use vnet_common::{Address, Be16, Be32, DropReason, MacAddr, MacPair, V4, V6, limits};

use crate::{
    headers::{Carries, Datagram, Frame, Kind, Message, Segment, protocol},
    packet::Packet,
};

/// Reads the Ethernet header.
///
/// # Errors
/// Truncated, tagged, or none of the three protocols. An ethertype below 0x600 is a length (LLC, IEEE
/// 802.3 section 3.2.6) and not on the list either.
#[inline(always)]
pub fn ethernet(packet: &impl Packet) -> Result<Frame, DropReason> {
    if packet.has_vlan_tag() {
        return Err(DropReason::VlanTag);
    }
    let header: EthHdr = packet.read(0)?;
    const ARP: u16 = EtherType::Arp as u16;
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;
    const DOT1Q: u16 = EtherType::Ieee8021q as u16;
    const DOT1AD: u16 = EtherType::Ieee8021ad as u16;
    let carries = match header.ether_type {
        IPV4 => Carries::Ipv4,
        IPV6 => Carries::Ipv6,
        ARP => Carries::Arp,
        DOT1Q | DOT1AD => return Err(DropReason::VlanTag),
        _ => return Err(DropReason::EtherType),
    };
    Ok(Frame { macs: MacPair { dst: MacAddr(header.dst_addr), src: MacAddr(header.src_addr) }, carries })
}

/// Reads IPv4 (RFC 791) and what it carries, at `at` bytes into the frame.
///
/// # Errors
/// Truncated, malformed, or a fragment.
#[inline(always)]
pub fn ipv4(packet: &impl Packet, at: usize) -> Result<Datagram<V4>, DropReason> {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    let header: Ipv4Hdr = packet.read(at)?;
    let header_len = usize::from(header.vihl & 0x0f) * 4;
    let total_len = Be16::from_bytes(header.tot_len).get();
    if header.vihl >> 4 != 4 || header_len < size_of::<Ipv4Hdr>() || usize::from(total_len) < header_len {
        return Err(DropReason::MalformedHeader);
    }
    if Be16::from_bytes(header.frags).get() & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return Err(DropReason::Fragment);
    }
    let payload_len = u32::from(total_len) - header_len as u32;
    transport(
        packet,
        Datagram {
            src: V4::from_octets(header.src_addr),
            dst: V4::from_octets(header.dst_addr),
            protocol: header.proto,
            src_port: Be16::default(),
            dst_port: Be16::default(),
            payload: at + header_len,
            message: Message::default(),
        },
        payload_len,
    )
}

/// Reads IPv6 (RFC 8200), its extension headers and what it carries, at `at` bytes into the frame.
///
/// # Errors
/// Truncated, malformed, a fragment, or with a header that is not on the list.
#[inline(always)]
pub fn ipv6(packet: &impl Packet, at: usize) -> Result<Datagram<V6>, DropReason> {
    let header: Ipv6Hdr = packet.read(at)?;
    if header.vcf[0] >> 4 != 6 {
        return Err(DropReason::MalformedHeader);
    }
    let first = at + size_of::<Ipv6Hdr>();
    let (protocol, payload) = skip_extensions(packet, header.next_hdr, first)?;
    let whole = u32::from(Be16::from_bytes(header.payload_len).get());
    let payload_len = whole.checked_sub((payload - first) as u32).ok_or(DropReason::MalformedHeader)?;
    transport(
        packet,
        Datagram {
            src: V6::from_octets(header.src_addr),
            dst: V6::from_octets(header.dst_addr),
            protocol,
            src_port: Be16::default(),
            dst_port: Be16::default(),
            payload,
            message: Message::default(),
        },
        payload_len,
    )
}

/// Walks the extension headers from `next` at `offset`; returns the first other protocol and where it begins.
#[inline(always)]
fn skip_extensions(packet: &impl Packet, mut next: u8, mut offset: usize) -> Result<(u8, usize), DropReason> {
    for _ in 0..limits::IPV6_EXTENSIONS {
        match next {
            // RFC 8200 section 4.1: hop-by-hop options only stand first; more than the list allows
            // ends the loop.
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                let [following, units]: [u8; 2] = packet.read(offset)?;
                next = following;
                offset += (usize::from(units) + 1) * 8;
            }
            protocol::FRAGMENT => return Err(DropReason::Fragment),
            // RFC 5095 forbids type 0; the others steer packets past the policy.
            protocol::ROUTING | protocol::AUTHENTICATION | protocol::MOBILITY => {
                return Err(DropReason::ExtensionHeader);
            }
            other => return Ok((other, offset)),
        }
    }
    Err(DropReason::ExtensionHeader)
}

/// Completes `datagram` with what its payload, `len` bytes long, says.
#[inline(always)]
fn transport<A: Address>(
    packet: &impl Packet,
    mut datagram: Datagram<A>,
    len: u32,
) -> Result<Datagram<A>, DropReason> {
    match datagram.protocol {
        protocol::TCP => {
            (datagram.src_port, datagram.dst_port) = ports(packet, datagram.payload)?;
            datagram.message.kind = Kind::Tcp;
            datagram.message.segment = segment(packet, datagram.payload, len)?;
        }
        protocol::UDP | protocol::SCTP => {
            (datagram.src_port, datagram.dst_port) = ports(packet, datagram.payload)?;
        }
        protocol::ICMP if A::IS_V4 => icmp(packet, &mut datagram, icmp4_kind)?,
        protocol::ICMPV6 if !A::IS_V4 => icmp(packet, &mut datagram, icmp6_kind)?,
        // Each ICMP belongs to its own version of IP.
        protocol::ICMP | protocol::ICMPV6 => return Err(DropReason::MalformedHeader),
        _ => {}
    }
    Ok(datagram)
}

/// Source and destination port: the first four bytes of TCP, UDP and SCTP alike.
#[inline(always)]
fn ports(packet: &impl Packet, at: usize) -> Result<(Be16, Be16), DropReason> {
    let [a, b, c, d]: [u8; 4] = packet.read(at)?;
    Ok((Be16::from_bytes([a, b]), Be16::from_bytes([c, d])))
}

/// Reads a TCP header (RFC 9293 section 3.1); the segment is `len` bytes long, header included.
#[inline(always)]
fn segment(packet: &impl Packet, at: usize, len: u32) -> Result<Segment, DropReason> {
    let seq = Be32::from_bytes(packet.read(at + 4)?).get();
    let ack = Be32::from_bytes(packet.read(at + 8)?).get();
    let [offset, flags]: [u8; 2] = packet.read(at + 12)?;
    let header_len = u32::from(offset >> 4) * 4;
    let Some(data_len) = len.checked_sub(header_len) else {
        return Err(DropReason::MalformedHeader);
    };
    if header_len < 20 {
        return Err(DropReason::MalformedHeader);
    }
    let (syn, fin) = (flags >> 1 & 1, flags & 1);
    // A SYN with FIN or RST, or no flag at all, is only ever a probe.
    if flags & (Segment::FIN | Segment::SYN | Segment::RST | Segment::ACK) == 0
        || syn == 1 && flags & (Segment::FIN | Segment::RST) != 0
    {
        return Err(DropReason::TcpFlags);
    }
    let end = seq.wrapping_add(data_len).wrapping_add(u32::from(syn + fin));
    Ok(Segment { flags, seq, end, ack })
}

/// Reads an ICMP header; `classify` tells what its type means.
#[inline(always)]
fn icmp<A>(
    packet: &impl Packet,
    datagram: &mut Datagram<A>,
    classify: impl Fn(u8) -> Kind,
) -> Result<(), DropReason> {
    let [kind, code]: [u8; 2] = packet.read(datagram.payload)?;
    datagram.message.kind = classify(kind);
    datagram.message.icmp = u16::from(kind) << 8 | u16::from(code);
    match datagram.message.kind {
        Kind::Echo => datagram.src_port = Be16::from_bytes(packet.read(datagram.payload + 4)?),
        Kind::EchoReply => datagram.dst_port = Be16::from_bytes(packet.read(datagram.payload + 4)?),
        _ => {}
    }
    Ok(())
}

/// ICMP types, RFC 792.
#[inline(always)]
const fn icmp4_kind(kind: u8) -> Kind {
    match kind {
        8 => Kind::Echo,
        0 => Kind::EchoReply,
        // Destination unreachable, time exceeded, parameter problem.
        3 | 11 | 12 => Kind::Error,
        _ => Kind::Single,
    }
}

/// ICMPv6 types, RFC 4443 section 2.1, RFC 4861 and RFC 3810.
#[inline(always)]
const fn icmp6_kind(kind: u8) -> Kind {
    match kind {
        128 => Kind::Echo,
        129 => Kind::EchoReply,
        1..=4 => Kind::Error,
        130..=137 | 143 => Kind::Discovery,
        _ => Kind::Single,
    }
}

/// The packet that an ICMP error is about. Only the first eight bytes of its payload are sure to be there
/// (RFC 792).
pub trait Quoted: Address + Default {
    /// The tuple of the packet at `at` bytes into the frame.
    ///
    /// # Errors
    /// Truncated, malformed, or a later fragment.
    fn quoted(packet: &impl Packet, at: usize) -> Result<Datagram<Self>, DropReason>;
}

impl Quoted for V4 {
    #[inline(always)]
    fn quoted(packet: &impl Packet, at: usize) -> Result<Datagram<Self>, DropReason> {
        const OFFSET: u16 = 0x1fff;
        let header: Ipv4Hdr = packet.read(at)?;
        let header_len = usize::from(header.vihl & 0x0f) * 4;
        if header.vihl >> 4 != 4 || header_len < size_of::<Ipv4Hdr>() {
            return Err(DropReason::MalformedHeader);
        }
        if Be16::from_bytes(header.frags).get() & OFFSET != 0 {
            return Err(DropReason::Fragment);
        }
        let (src, dst) = (Self::from_octets(header.src_addr), Self::from_octets(header.dst_addr));
        quoted(packet, src, dst, header.proto, at + header_len)
    }
}

impl Quoted for V6 {
    #[inline(always)]
    fn quoted(packet: &impl Packet, at: usize) -> Result<Datagram<Self>, DropReason> {
        let header: Ipv6Hdr = packet.read(at)?;
        if header.vcf[0] >> 4 != 6 {
            return Err(DropReason::MalformedHeader);
        }
        let (src, dst) = (Self::from_octets(header.src_addr), Self::from_octets(header.dst_addr));
        let (protocol, payload) = skip_extensions(packet, header.next_hdr, at + size_of::<Ipv6Hdr>())?;
        quoted(packet, src, dst, protocol, payload)
    }
}

#[inline(always)]
fn quoted<A: Address>(
    packet: &impl Packet,
    src: A,
    dst: A,
    protocol: u8,
    payload: usize,
) -> Result<Datagram<A>, DropReason> {
    let mut datagram = Datagram {
        src,
        dst,
        protocol,
        src_port: Be16::default(),
        dst_port: Be16::default(),
        payload,
        message: Message::default(),
    };
    match protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            (datagram.src_port, datagram.dst_port) = ports(packet, payload)?;
        }
        protocol::ICMP if A::IS_V4 => icmp(packet, &mut datagram, icmp4_kind)?,
        protocol::ICMPV6 if !A::IS_V4 => icmp(packet, &mut datagram, icmp6_kind)?,
        _ => {}
    }
    Ok(datagram)
}
