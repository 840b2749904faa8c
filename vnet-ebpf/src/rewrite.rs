//! The one place where bytes of a packet are written.
//!
//! Checksums are updated in place where only a field changes (RFC 1624), and computed where a whole
//! message is new. Checksums of TCP and UDP are never touched: a local packet may not have its own yet.

use network_types::{
    arp::ArpHdr,
    eth::{EthHdr, EtherType},
};
use vnet_common::{Address, Be16, DropReason, MacAddr, MacPair, V6};

use crate::{
    headers::ETHERNET_LEN,
    packet::{Ipv4Wire, Packet},
};

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
        // RFC 1624 equation 3 for a field that loses 0x0100: the checksum gains it, carry wrapped around.
        let sum = u32::from(header.checksum.get()) + 0x0100;
        let check = (sum + (sum >> 16)) as u16;
        packet.write(ETHERNET_LEN + 8, ttl)?;
        packet.write(ETHERNET_LEN + 10, Be16::new(check))?;
    } else {
        let hop_limit: u8 = packet.read(HOP_LIMIT)?;
        let hop_limit = hop_limit.checked_sub(1).filter(|limit| *limit > 0).ok_or(DropReason::TtlExceeded)?;
        packet.write(HOP_LIMIT, hop_limit)?;
    }
    packet.write(0, macs)
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
    let asked: EthHdr = packet.read(0)?;
    let (target, asker, mac) = (answer.target.octets(), answer.asker.octets(), answer.mac.0);

    let mut fixed = [0; FIXED];
    fixed[0] = 136;
    fixed[4] = if answer.is_router { ROUTER | SOLICITED_OVERRIDE } else { SOLICITED_OVERRIDE };
    fixed[8..].copy_from_slice(&target);
    let [a, b, c, d, e, f] = mac;
    let has_option = packet.length() as usize >= ICMPV6 + FIXED + OPTION;
    let (len, option) = if has_option { (32, [2, 1, a, b, c, d, e, f]) } else { (24, [0; OPTION]) };
    // RFC 8200 section 8.1: the pseudo-header has both addresses, the length and the protocol.
    let mut sum = words(&target) + words(&asker) + u32::from(len) + 58 + words(&fixed) + words(&option);
    sum = (sum & 0xffff) + (sum >> 16);
    let check = !((sum + (sum >> 16)) as u16);
    fixed[2..4].copy_from_slice(&check.to_be_bytes());

    packet
        .write(0, EthHdr { dst_addr: asked.src_addr, src_addr: mac, ether_type: EtherType::Ipv6 as u16 })?;
    packet.write(ETHERNET_LEN, [0x60, 0, 0, 0, 0, len, 58, 255])?;
    packet.write(ETHERNET_LEN + 8, target)?;
    packet.write(ETHERNET_LEN + 24, asker)?;
    packet.write(ICMPV6, fixed)?;
    if has_option { packet.write(ICMPV6 + FIXED, option) } else { Ok(()) }
}

/// Sum of big-endian 16-bit words.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8; N]) -> u32 {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum()
}
