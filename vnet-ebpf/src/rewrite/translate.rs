//! Replaces addresses and ports, with every checksum that covers them.

use vnet_common::{Address, Be16, DropReason, Ports, Tuple};

use super::fold;
use crate::{
    headers::{Datagram, ETHERNET_LEN, Kind, protocol},
    packet::{AddressWire, Change, ChangeKind, Ipv4Wire, Packet},
};

/// Offset of the checksum in an IPv4 header.
const IPV4_CHECKSUM: usize = 10;

/// Gives a packet the tuple `to` in the place of its own. A function of its own in the kernel too, for the stack's
/// sake.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(never)]
pub fn translated<A: AddressWire>(
    packet: &mut impl Packet,
    from: &Datagram<A>,
    to: &Tuple<A>,
) -> Result<(), DropReason> {
    let addresses = addresses(packet, ETHERNET_LEN, (&from.src, &from.dst), (&to.src, &to.dst))?;
    if from.message.kind == Kind::Part {
        // Ports and their checksum are in the first fragment.
        return Ok(());
    }
    let payload = from.payload_offset()?;
    let Some(checksum) = checksum(packet, from, payload)? else { return Ok(()) };
    let is_udp = from.protocol == protocol::UDP;
    if from.protocol != protocol::ICMP {
        packet.update_checksum(checksum, Change { sum: addresses, kind: ChangeKind::Pseudo, is_udp })?;
    }
    if from.ports == to.ports {
        return Ok(());
    }
    let sum = match from.message.kind {
        Kind::Echo => identifier(packet, payload, from.ports.src(), to.ports.src())?,
        Kind::EchoReply => identifier(packet, payload, from.ports.dst(), to.ports.dst())?,
        Kind::Plain | Kind::Tcp => ports(packet, payload, from.ports, to.ports)?,
        Kind::Error | Kind::Discovery | Kind::Single | Kind::Part => return Ok(()),
    };
    packet.update_checksum(checksum, Change { sum, kind: ChangeKind::Covered, is_udp })
}

/// Where the checksum is that covers ports or identifier; `None` if there is none to be updated. SCTP's, a CRC of
/// the whole packet, covers neither addresses nor, since they are kept, other ports.
#[inline(always)]
fn checksum<A: Address>(
    packet: &impl Packet,
    datagram: &Datagram<A>,
    payload: usize,
) -> Result<Option<usize>, DropReason> {
    let at = match datagram.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::ICMP | protocol::ICMPV6 => 2,
        _ => return Ok(None),
    };
    let at = payload + at;
    // RFC 768: 0 means that the sender made none.
    let is_absent =
        A::IS_V4 && datagram.protocol == protocol::UDP && packet.read::<Be16>(at)? == Be16::default();
    Ok((!is_absent).then_some(at))
}

/// Replaces the addresses of the IP header at `at` bytes; gives the change of their sum.
#[inline(always)]
fn addresses<A: AddressWire>(
    packet: &mut impl Packet,
    at: usize,
    from: (&A, &A),
    to: (&A, &A),
) -> Result<u32, DropReason> {
    let change = difference(from.0.sum(), to.0.sum()) + difference(from.1.sum(), to.1.sum());
    if A::IS_V4 {
        let old: Be16 = packet.read::<Ipv4Wire>(at)?.checksum;
        packet.write(at + IPV4_CHECKSUM, updated(old, change))?;
    }
    packet.write(at + A::SRC, *to.0)?;
    packet.write(at + A::SRC + size_of::<A>(), *to.1)?;
    Ok(change)
}

/// Replaces the ports at `at` bytes; gives the change of their sum.
#[inline(always)]
fn ports(packet: &mut impl Packet, at: usize, from: Ports, to: Ports) -> Result<u32, DropReason> {
    packet.write(at, to)?;
    let sum = |ports: Ports| word(ports.src()) + word(ports.dst());
    Ok(difference(sum(from), sum(to)))
}

/// Replaces the identifier of the echo message at `at` bytes; gives the change of its sum.
#[inline(always)]
fn identifier(packet: &mut impl Packet, at: usize, from: Be16, to: Be16) -> Result<u32, DropReason> {
    packet.write(at + 4, to)?;
    Ok(difference(word(from), word(to)))
}

/// A word as the host reads it.
#[inline(always)]
pub(super) const fn word(word: Be16) -> u32 {
    u16::from_ne_bytes(word.to_bytes()) as u32
}

/// What replacing words of the sum `from` by words of the sum `to` adds to a checksum's sum.
#[inline(always)]
pub(super) const fn difference(from: u32, to: u32) -> u32 {
    fold(to) as u32 + !fold(from) as u32
}

/// A checksum after words were replaced (RFC 1624 equation 3).
#[inline(always)]
pub(super) const fn updated(old: Be16, change: u32) -> Be16 {
    let sum = !u16::from_ne_bytes(old.to_bytes()) as u32 + change;
    Be16::from_bytes((!fold(sum)).to_ne_bytes())
}

/// An ICMP error and the packet that it quotes.
pub struct ErrorAbout<'a, A: Copy> {
    /// The error.
    pub error: &'a Datagram<A>,
    /// What it quotes.
    pub quoted: &'a Datagram<A>,
}

/// Bytes of the header of an ICMP error, behind which the quoted packet begins.
pub const ICMP_HEADER_LEN: usize = 8;

/// Translates an ICMP error as packets of its direction are, which leave with `leaves`, and what it quotes, which is a
/// packet of the other direction, the other way round (RFC 5508 REQ-4 and REQ-5). A router on the way keeps its own
/// address.
///
/// The checksum of the quoted packet's payload is left alone: it may not be there, and nobody looks at it.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(never)]
pub fn error<A: AddressWire>(
    packet: &mut impl Packet,
    whole: &ErrorAbout<'_, A>,
    leaves: &Tuple<A>,
) -> Result<(), DropReason> {
    let ErrorAbout { error, quoted } = *whole;
    let (message, payload) = (error.payload_offset()?, quoted.payload_offset()?);
    let checksum = message + 2;
    let inner =
        addresses(packet, message + ICMP_HEADER_LEN, (&quoted.src, &quoted.dst), (&leaves.dst, &leaves.src))?;
    // In IPv4 the change of the quoted header's own checksum makes up for that of its addresses.
    let mut sum = if A::IS_V4 { 0 } else { inner };
    let about = leaves.ports.reversed();
    if quoted.ports != about {
        sum += match quoted.message.kind {
            Kind::Echo => identifier(packet, payload, quoted.ports.src(), about.src())?,
            Kind::EchoReply => identifier(packet, payload, quoted.ports.dst(), about.dst())?,
            _ => ports(packet, payload, quoted.ports, about)?,
        };
    }
    if sum != 0 {
        let sum = u32::from(fold(sum));
        packet.update_checksum(checksum, Change { sum, kind: ChangeKind::Covered, is_udp: false })?;
    }
    let src = if error.src == quoted.dst { leaves.src } else { error.src };
    let outer = addresses(packet, ETHERNET_LEN, (&error.src, &error.dst), (&src, &leaves.dst))?;
    if A::IS_V4 {
        return Ok(());
    }
    packet.update_checksum(checksum, Change { sum: outer, kind: ChangeKind::Pseudo, is_udp: false })
}
