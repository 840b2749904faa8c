//! Packets of overlays over IPv4, encapsulated by the programs themselves: VXLAN (RFC 7348).
//!
//! ```text
//!   Ethernet | IPv4 | UDP | VXLAN | Ethernet | IP ...
//!            ^14    ^34   ^42     ^50        ^64
//! ```
//!
//! What is rare is left to the kernel's VXLAN device: peers with IPv6 addresses, frames that are no IP, fragments, UDP
//! checksums, packets that a device has put together.

use vnet_common::{Address as _, Be16, Be32, DropReason, Ip, Link, MacPair, Ports, V4};

use super::{
    TTL,
    header::{IPV4_VERSION_LEN, ipv4_sum},
};
use crate::{
    headers::{ETHERNET_LEN, ether_type, protocol},
    packet::{ENCAPSULATION_LEN, Ipv4Wire, OverlayWire, Packet},
};

/// UDP port of overlays (RFC 7348 section 5).
pub const OVERLAY_PORT: u16 = 4789;

/// Offset of the inner Ethernet header.
const INNER: usize = ETHERNET_LEN + size_of::<OverlayWire>();
/// Offset of an ethertype in a frame.
const ETHER_TYPE: usize = 12;
const IPV4: Be16 = Be16::new(ether_type::IPV4);
const IPV6: Be16 = Be16::new(ether_type::IPV6);
/// The one flag of VXLAN: the network identifier holds.
const VXLAN_FLAGS: Be32 = Be32::new(0x0800_0000);
/// Explicit congestion notification (RFC 3168 section 5): two bits, both set where there is congestion.
const CONGESTED: u8 = 3;

/// Encapsulates a packet for the peer of `link`; `false`: it is as before, and for the overlays' device.
///
/// # Errors
/// [`DropReason::Truncated`], which no parsed packet meets.
#[inline(always)]
pub fn encapsulate(packet: &mut impl Packet, link: &Link) -> Result<bool, DropReason> {
    let macs: MacPair = packet.read(0)?;
    let ether_type: Be16 = packet.read(ETHER_TYPE)?;
    let Some(class) = traffic_class(packet, ether_type)? else { return Ok(false) };
    let length = packet.length() + (ENCAPSULATION_LEN - ETHERNET_LEN) as u32;
    let Ok(total_len) = u16::try_from(length) else { return Ok(false) };
    let (of_flow, own) = packet.entropy();
    if !packet.encapsulate() {
        return Ok(false);
    }
    let [.., remote] = link.remote.words();
    let mut ip = Ipv4Wire {
        version_len: IPV4_VERSION_LEN,
        tos: outer_class(class),
        total_len: Be16::new(total_len),
        id: Be16::new(own as u16),
        // Routers may fragment it: nobody would hear that they may not.
        fragment: Be16::new(0),
        ttl: TTL,
        protocol: protocol::UDP,
        checksum: Be16::new(0),
        src: link.local,
        dst: V4::from_octets(remote.to_ne_bytes()),
    };
    ip.checksum = Be16::from_bytes((!ipv4_sum(&ip)).to_ne_bytes());
    let outer = OverlayWire {
        ip,
        ports: Ports::new(Be16::new(source_port(of_flow)), Be16::new(OVERLAY_PORT)),
        udp_len: Be16::new(total_len - size_of::<Ipv4Wire>() as u16),
        // What is inside has its own (RFC 7348 section 5).
        udp_check: Be16::new(0),
        flags: VXLAN_FLAGS,
        vni: Be32::new(link.vni << 8),
    };
    packet.write(ETHER_TYPE, IPV4)?;
    packet.write(ETHERNET_LEN, outer)?;
    packet.write(INNER, macs)?;
    packet.write(INNER + ETHER_TYPE, ether_type)?;
    Ok(true)
}

/// Traffic class or type of service of an IP packet; nothing for what is none.
#[inline(always)]
fn traffic_class(packet: &impl Packet, ether_type: Be16) -> Result<Option<u8>, DropReason> {
    let word: Be16 = packet.read(ETHERNET_LEN)?;
    Ok(match ether_type {
        IPV4 => Some(word.get() as u8),
        IPV6 => Some((word.get() >> 4) as u8),
        _ => None,
    })
}

/// That of the packet around one with `class`: its explicit congestion notification, and nothing else (RFC 6040
/// section 4.1).
#[inline(always)]
const fn outer_class(class: u8) -> u8 {
    /// ECT(0).
    const CAPABLE: u8 = 2;
    match class & CONGESTED {
        CONGESTED => CAPABLE,
        notification => notification,
    }
}

/// One of the dynamic ports, the same for all packets of a connection (RFC 7348 section 5).
#[inline(always)]
const fn source_port(of_flow: u32) -> u16 {
    0xc000 | (of_flow ^ of_flow >> 16) as u16 & 0x3fff
}

/// What a packet of an overlay says of where it is from and what it is for.
#[derive(Clone, Copy)]
pub struct Encapsulated {
    /// The network identifier.
    pub vni: u32,
    /// The host that sent it.
    pub remote: Ip,
    /// The host that it is for.
    pub local: V4,
    /// What the frame inside carries.
    ether_type: Be16,
    macs: MacPair,
}

/// Reads a packet of an overlay; nothing if it is none, or one for the overlays' device.
#[inline(always)]
pub fn encapsulated(packet: &impl Packet) -> Option<Encapsulated> {
    /// All but the bit that forbids to fragment.
    const FRAGMENTED: u16 = 0xbfff;
    if packet.segment_payload() != 0 {
        return None;
    }
    let ether_type: Be16 = packet.read(ETHER_TYPE).ok()?;
    let OverlayWire { ip, ports, udp_len, udp_check, flags, vni } = packet.read(ETHERNET_LEN).ok()?;
    let total_len = u32::from(ip.total_len.get());
    let is_plain = ether_type == IPV4
        && ip.version_len == IPV4_VERSION_LEN
        && ip.fragment.get() & FRAGMENTED == 0
        && ip.protocol == protocol::UDP
        && ports.dst().get() == OVERLAY_PORT
        && udp_check.get() == 0
        && flags == VXLAN_FLAGS
        // The device knows what becomes of a packet that met congestion (RFC 6040 section 4.2).
        && ip.tos & CONGESTED != CONGESTED
        && total_len + ETHERNET_LEN as u32 == packet.length()
        && u32::from(udp_len.get()) + size_of::<Ipv4Wire>() as u32 == total_len
        && ipv4_sum(&ip) == u16::MAX;
    if !is_plain {
        return None;
    }
    let macs: MacPair = packet.read(INNER).ok()?;
    let ether_type: Be16 = packet.read(INNER + ETHER_TYPE).ok()?;
    // Whatever is for many is rare.
    let is_simple = matches!(ether_type, IPV4 | IPV6) && !macs.dst().is_multicast();
    let remote = ip.src.ip();
    is_simple.then_some(Encapsulated { vni: vni.get() >> 8, remote, local: ip.dst, ether_type, macs })
}

/// Takes the frame out of a packet of an overlay; `false`: it is as before, and for the overlays' device.
///
/// # Errors
/// [`DropReason::Truncated`], which no such packet meets.
#[inline(always)]
pub fn decapsulate(packet: &mut impl Packet, outer: &Encapsulated) -> Result<bool, DropReason> {
    if !packet.decapsulate(outer.ether_type) {
        return Ok(false);
    }
    packet.write(0, outer.macs)?;
    packet.write(ETHER_TYPE, outer.ether_type)?;
    Ok(true)
}
