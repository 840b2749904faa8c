//! The one place where bytes of a packet are written.
//!
//! Checksums are updated in place where only a field changes (RFC 1624), and computed where a whole
//! message is new. Those of TCP and UDP are updated by who knows whether the packet has one yet: see
//! [`Packet::update_checksum`].

mod challenge;
mod clamp;
mod error;
mod header;
mod overlay;
mod translate;

use network_types::{
    arp::ArpHdr,
    eth::{EthHdr, EtherType},
};
use vnet_common::{Address, Be16, Be32, DropReason, MacAddr, MacPair, V6};

pub use challenge::{challenge, challenge_anew};
pub use clamp::clamp_mss;
pub use error::{Quote, error_about};
pub use overlay::{Encapsulated, OVERLAY_PORT, decapsulate, encapsulate, encapsulated};
pub use translate::{ErrorAbout, ICMP_HEADER_LEN, error, translated};

use crate::{
    headers::ETHERNET_LEN,
    packet::{AddressWire as _, Buffer, Ipv4Wire, Packet},
};

/// Hops that packets of vnet's own may go (RFC 1700: the recommended default).
pub const TTL: u8 = 64;
/// Offset of the hop limit in the IPv6 header.
const HOP_LIMIT: usize = ETHERNET_LEN + 7;
/// Offset of the ICMPv6 message in a neighbour advertisement of ours.
const ICMPV6: usize = ETHERNET_LEN + 40;

/// One routed hop: time to live decremented, both MACs replaced.
///
/// # Errors
/// [`DropReason::TtlExceeded`]; the packet is as before.
#[inline(always)]
pub fn routed<A: Address>(packet: &mut impl Packet, macs: MacPair) -> Result<(), DropReason> {
    if A::IS_V4 {
        let header: Ipv4Wire = packet.read(ETHERNET_LEN)?;
        let ttl = header.ttl.checked_sub(1).filter(|ttl| *ttl > 0).ok_or(DropReason::TtlExceeded)?;
        // RFC 1624 equation 3 for a field that loses 0x0100: the checksum gains it, carry wrapped around, and
        // is never 0xffff.
        let sum = u32::from(header.checksum.get()) + 0x0100;
        let check = (sum + u32::from(sum >= 0xffff)) as u16;
        packet.write(ETHERNET_LEN + 8, ttl)?;
        packet.write(ETHERNET_LEN + 10, Be16::new(check))?;
    } else {
        let hop_limit: u8 = packet.read(HOP_LIMIT)?;
        let hop_limit = hop_limit.checked_sub(1).filter(|limit| *limit > 0).ok_or(DropReason::TtlExceeded)?;
        packet.write(HOP_LIMIT, hop_limit)?;
    }
    packet.write(0, macs)
}

/// Whether a routed packet has hops left.
///
/// # Errors
/// [`DropReason::TtlExceeded`].
#[inline(always)]
pub fn check_ttl<A: Address>(packet: &impl Buffer) -> Result<(), DropReason> {
    const TTL: usize = ETHERNET_LEN + 8;
    let left: u8 = packet.read(if A::IS_V4 { TTL } else { HOP_LIMIT })?;
    if left > 1 { Ok(()) } else { Err(DropReason::TtlExceeded) }
}

/// Turns an ARP request into the answer that its target has `mac`.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(always)]
pub fn arp_reply(packet: &mut impl Packet, mac: MacAddr) -> Result<(), DropReason> {
    let request: ArpHdr = packet.read(ETHERNET_LEN)?;
    let reply =
        ArpHdr { oper: [0, 2], sha: mac.0, spa: request.tpa, tha: request.sha, tpa: request.spa, ..request };
    packet.write(0, EthHdr { dst_addr: request.sha, src_addr: mac.0, ether_type: EtherType::Arp as u16 })?;
    packet.write(ETHERNET_LEN, reply)
}

/// What a neighbour advertisement says (RFC 4861 section 4.4).
pub struct Advertisement {
    /// Whose address was asked for.
    pub target: V6,
    /// Who has it.
    pub mac: MacAddr,
    /// Whether it is the gateway.
    pub is_router: bool,
    /// Who asked.
    pub asker: V6,
}

/// Turns a neighbour solicitation into the answer; with the link-layer address if the question had room
/// for one. A question without asks a neighbour that it knows already (RFC 4861 section 4.4).
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(always)]
pub fn neighbour_advertisement(packet: &mut impl Packet, answer: &Advertisement) -> Result<(), DropReason> {
    const FIXED: usize = 24;
    const OPTION: usize = 8;
    const ROUTER: u8 = 0x80;
    const SOLICITED_OVERRIDE: u8 = 0x60;
    let asked: MacPair = packet.read(0)?;
    let &Advertisement { target, mac, is_router, asker } = answer;
    let flags = if is_router { ROUTER | SOLICITED_OVERRIDE } else { SOLICITED_OVERRIDE };
    let [a, b, c, d, e, f] = mac.0;
    let has_option = packet.length() as usize >= ICMPV6 + FIXED + OPTION;
    let len = if has_option { FIXED + OPTION } else { FIXED } as u8;

    // RFC 8200 section 8.1: the pseudo-header has both addresses, the length and the protocol.
    let fixed = [[0, len], [0, 58], [136, 0], [flags, 0]];
    let option = if has_option { [[2, 1], [a, b], [c, d], [e, f]] } else { [[0; 2]; 4] };
    let check = !fold(target.sum() + target.sum() + asker.sum() + pairs(fixed) + pairs(option));

    packet.write(0, MacPair::new(asked.src(), mac))?;
    packet.write(ETHERNET_LEN, Be32::new(0x6000_0000))?;
    packet.write(ETHERNET_LEN + 4, Be32::from_bytes([0, len, 58, 255]))?;
    packet.write(ETHERNET_LEN + 8, target)?;
    packet.write(ETHERNET_LEN + 24, asker)?;
    packet.write(ICMPV6, Be16::from_bytes([136, 0]))?;
    packet.write(ICMPV6 + 2, Be16::from_bytes(check.to_ne_bytes()))?;
    packet.write(ICMPV6 + 4, Be32::from_bytes([flags, 0, 0, 0]))?;
    packet.write(ICMPV6 + 8, target)?;
    if has_option {
        packet.write(ICMPV6 + FIXED, Be32::from_bytes([2, 1, a, b]))?;
        packet.write(ICMPV6 + FIXED + 4, Be32::from_bytes([c, d, e, f]))?;
    }
    Ok(())
}

/// Sum of pairs of bytes, likewise.
#[inline(always)]
fn pairs<const N: usize>(pairs: [[u8; 2]; N]) -> u32 {
    pairs.iter().map(|pair| u32::from(u16::from_ne_bytes(*pair))).sum()
}

/// The sum in 16 bits, its carries added.
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}
