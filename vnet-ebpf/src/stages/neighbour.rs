//! Stage 3, for ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861): who has which address.
//!
//! Decides whether a port says the truth about itself, and who has the address that it asks for. vnet
//! knows every neighbour of its networks, so it answers itself: nothing is flooded to find them, and no
//! workload can answer for another.

use network_types::arp::ArpHdr;
use vnet_common::{
    Address, Be16, Be32, DropReason, Endpoint, Ip, MacAddr, NetworkRecord, PortRecord, V4, V6,
};

use crate::{
    headers::{Datagram, ETHERNET_LEN},
    packet::{Ipv6Wire, Packet},
    tables::{Snapshot, Tables},
};

/// Who speaks: a workload, or the host on a network's bridge.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The device: a port's, or the bridge.
    pub device: u32,
    /// The network's bridge.
    pub network: u32,
    /// The speaker's MAC.
    pub mac: MacAddr,
}

/// What becomes of a neighbour message.
#[derive(Clone, Copy)]
pub enum Neighbour<'a> {
    /// It tells or asks something about the speaker's own address: let it pass.
    Own,
    /// It asks for this endpoint's MAC.
    Ask(&'a Endpoint),
}

/// What becomes of a neighbour message from beyond this host.
#[derive(Clone, Copy)]
pub enum Heard<'a> {
    /// It asks for the MAC of this endpoint, who is here.
    Ask(&'a Endpoint),
    /// It tells something about the speaker.
    Tell,
    /// It asks for somebody else's.
    Other,
}

/// ICMPv6 types of RFC 4861 sections 4.3 and 4.4.
pub mod discovery {
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 136;
    /// Bytes before the options of both.
    pub const FIXED_LEN: usize = 24;
    /// Bytes of a link-layer address option for Ethernet (section 4.6.1).
    pub const LINK_OPTION_LEN: usize = 8;
    /// Source link-layer address.
    pub const SOURCE_LINK: u8 = 1;
    /// Target link-layer address.
    pub const TARGET_LINK: u8 = 2;
}

impl Speaker {
    /// The workload behind a port's device.
    #[inline(always)]
    #[must_use]
    pub const fn port(device: u32, port: &PortRecord) -> Self {
        Self { device, network: port.network, mac: port.mac }
    }

    /// The host, on a network's bridge.
    #[inline(always)]
    #[must_use]
    pub const fn host(bridge: u32, network: &NetworkRecord) -> Self {
        Self { device: bridge, network: bridge, mac: network.gateway_mac }
    }

    /// Whether it is the host.
    #[inline(always)]
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.device == self.network
    }

    /// Whether the speaker may claim that it is `endpoint`. The host has addresses of its own elsewhere.
    #[inline(always)]
    fn is(&self, endpoint: Option<&Endpoint>) -> bool {
        match endpoint {
            Some(endpoint) => endpoint.device == self.device,
            None => self.is_host(),
        }
    }
}

/// ARP operations (RFC 826).
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Reads an ARP packet for IPv4 over Ethernet.
#[inline(always)]
fn read_arp(packet: &impl Packet) -> Result<ArpHdr, DropReason> {
    let arp: ArpHdr = packet.read(ETHERNET_LEN)?;
    if arp.htype != [0, 1] || arp.ptype != [8, 0] || arp.hlen != 6 || arp.plen != 4 {
        return Err(DropReason::MalformedHeader);
    }
    Ok(arp)
}

/// Judges an ARP packet from beyond this host.
///
/// # Errors
/// Not ARP for IPv4 over Ethernet; a claim to be somebody who is here.
#[inline(always)]
pub fn arp_from_beyond<'a, T: Tables>(
    packet: &impl Packet,
    snapshot: Snapshot<'a, T>,
    speaker: &Speaker,
) -> Result<Heard<'a>, DropReason> {
    let arp = read_arp(packet)?;
    let (from, to) = (V4::from_octets(arp.spa), V4::from_octets(arp.tpa));
    let is_probe = arp.spa == [0; 4];
    if MacAddr(arp.sha) != speaker.mac || !is_probe && !may_be(snapshot, speaker, from.ip()) {
        return Err(DropReason::SpoofedArp);
    }
    match arp.oper {
        REPLY => Ok(Heard::Tell),
        REQUEST if from == to => Ok(Heard::Tell),
        REQUEST => Ok(asked(snapshot, speaker, to.ip())),
        _ => Err(DropReason::MalformedHeader),
    }
}

/// Whether a speaker beyond this host may have `addr`: nobody here has, and whoever the policy knows there has its MAC.
#[inline(always)]
fn may_be<T: Tables>(snapshot: Snapshot<'_, T>, speaker: &Speaker, addr: Ip) -> bool {
    snapshot
        .endpoint(speaker.network, addr)
        .is_none_or(|endpoint| endpoint.device == speaker.device && endpoint.mac == speaker.mac)
}

/// Who is asked for that has `addr`.
#[inline(always)]
fn asked<'a, T: Tables>(snapshot: Snapshot<'a, T>, speaker: &Speaker, addr: Ip) -> Heard<'a> {
    match snapshot.endpoint(speaker.network, addr) {
        Some(endpoint) if endpoint.device != speaker.device => Heard::Ask(endpoint),
        _ => Heard::Other,
    }
}

/// Judges an ICMPv6 discovery message from beyond this host.
///
/// # Errors
/// Malformed; a claim to be somebody who is here, or to have another MAC than the frame's.
#[inline(always)]
pub fn discovery_from_beyond<'a, T: Tables>(
    packet: &impl Packet,
    snapshot: Snapshot<'a, T>,
    speaker: &Speaker,
    datagram: &Datagram<V6>,
) -> Result<Heard<'a>, DropReason> {
    let source = datagram.src.ip();
    if source != Ip::UNSPECIFIED && !may_be(snapshot, speaker, source) {
        return Err(DropReason::SpoofedNeighbour);
    }
    if !is_about_neighbours(datagram) {
        return Ok(Heard::Tell);
    }
    let [.., hop_limit]: [u8; 8] = packet.read(ETHERNET_LEN)?;
    let target = V6::from_octets(packet.read(datagram.payload_offset()? + 8)?).ip();
    if hop_limit != 255 || target.is_multicast() || target.is_v4() {
        return Err(DropReason::MalformedHeader);
    }
    check_links(packet, speaker, datagram)?;
    if datagram.message.is_discovery(discovery::ADVERTISEMENT) {
        return if may_be(snapshot, speaker, target) {
            Ok(Heard::Tell)
        } else {
            Err(DropReason::SpoofedNeighbour)
        };
    }
    // Who has no address yet asks whether anybody has it (RFC 4862 section 5.4): that one answers.
    if source == Ip::UNSPECIFIED { Ok(Heard::Tell) } else { Ok(asked(snapshot, speaker, target)) }
}

/// Judges an ARP packet.
///
/// # Errors
/// Not ARP for IPv4 over Ethernet; a claim that is not the speaker's; a question nobody can answer.
#[inline(always)]
pub fn arp<'a, T: Tables>(
    packet: &impl Packet,
    snapshot: Snapshot<'a, T>,
    speaker: &Speaker,
) -> Result<Neighbour<'a>, DropReason> {
    let arp = read_arp(packet)?;
    let own = snapshot.endpoint(speaker.network, V4::from_octets(arp.spa).ip());
    // RFC 5227 section 2.1.1: a probe has no sender address.
    let is_probe = arp.oper == REQUEST && arp.spa == [0; 4];
    if MacAddr(arp.sha) != speaker.mac || !(is_probe || speaker.is(own)) {
        return Err(DropReason::SpoofedArp);
    }
    match arp.oper {
        REPLY => Ok(Neighbour::Own),
        REQUEST => wanted(snapshot, speaker, V4::from_octets(arp.tpa).ip()),
        _ => Err(DropReason::MalformedHeader),
    }
}

/// The address that the speaker claims in an ARP packet, as its own MAC's.
#[inline(always)]
pub fn claimed_by_arp(packet: &impl Packet, speaker: &Speaker) -> Option<Ip> {
    let arp = read_arp(packet).ok()?;
    (MacAddr(arp.sha) == speaker.mac && arp.spa != [0; 4]).then(|| V4::from_octets(arp.spa).ip())
}

/// The address that a neighbour message claims: the one that it comes from; of who has none yet the one that is asked for
/// (RFC 4862 section 5.4).
#[inline(always)]
pub fn claimed_by_discovery(packet: &impl Packet, datagram: &Datagram<V6>) -> Option<Ip> {
    let source = datagram.src.ip();
    if source != Ip::UNSPECIFIED {
        return Some(source);
    }
    let target = packet.read(datagram.payload_offset().ok()? + 8).ok()?;
    Some(V6::from_octets(target).ip())
}

/// Whose MAC an ARP packet asks for; nothing if it is no question for IPv4 over Ethernet, or one of somebody who
/// has no address yet or asks for their own (RFC 5227).
#[inline(always)]
pub fn arp_question(packet: &impl Packet) -> Option<V4> {
    let arp: ArpHdr = packet.read(ETHERNET_LEN).ok()?;
    let is_request = arp.htype == [0, 1] && arp.ptype == [8, 0] && arp.hlen == 6 && arp.plen == 4;
    (is_request && arp.oper == [0, 1] && arp.spa != [0; 4] && arp.spa != arp.tpa)
        .then(|| V4::from_octets(arp.tpa))
}

/// Whose MAC a neighbour solicitation asks for; nothing if it is none, or comes from a router away or from somebody
/// who has no address yet (RFC 4861 section 7.1.1).
#[inline(always)]
pub fn discovery_question(packet: &impl Packet, datagram: &Datagram<V6>) -> Option<V6> {
    let [.., hop_limit]: [u8; 8] = packet.read(ETHERNET_LEN).ok()?;
    let is_question = datagram.message.is_discovery(discovery::SOLICITATION) && hop_limit == 255;
    if !is_question || datagram.src.ip() == Ip::UNSPECIFIED {
        return None;
    }
    packet.read(datagram.payload_offset().ok()? + 8).ok().map(V6::from_octets)
}

/// Whether it is a neighbour solicitation or advertisement.
#[inline(always)]
#[must_use]
pub const fn is_about_neighbours(datagram: &Datagram<V6>) -> bool {
    datagram.message.is_discovery(discovery::SOLICITATION)
        || datagram.message.is_discovery(discovery::ADVERTISEMENT)
}

/// Checks that a discovery message comes from an address of the speaker's, or from `::`, as before it has one
/// (RFC 4861 section 4.1, RFC 3810 section 5).
///
/// # Errors
/// [`DropReason::SpoofedAddress`].
#[inline(always)]
pub fn check_source<T: Tables>(
    snapshot: Snapshot<'_, T>,
    speaker: &Speaker,
    datagram: &Datagram<V6>,
) -> Result<(), DropReason> {
    let source = datagram.src.ip();
    if source == Ip::UNSPECIFIED || speaker.is(snapshot.endpoint(speaker.network, source)) {
        Ok(())
    } else {
        Err(DropReason::SpoofedAddress)
    }
}

/// Judges a neighbour solicitation or advertisement.
///
/// # Errors
/// Malformed; a claim that is not the speaker's; a question nobody can answer.
#[inline(always)]
pub fn discovery<'a, T: Tables>(
    packet: &impl Packet,
    snapshot: Snapshot<'a, T>,
    speaker: &Speaker,
    datagram: &Datagram<V6>,
) -> Result<Neighbour<'a>, DropReason> {
    let [.., hop_limit]: [u8; 8] = packet.read(ETHERNET_LEN)?;
    let target = V6::from_octets(packet.read(datagram.payload_offset()? + 8)?).ip();
    // RFC 4861 sections 7.1.1 and 7.1.2: a router on the way would have decremented it.
    if hop_limit != 255 || target.is_multicast() || target.is_v4() {
        return Err(DropReason::MalformedHeader);
    }
    let source = datagram.src.ip();
    let is_probe = source == Ip::UNSPECIFIED;
    let source_is_own = is_probe || speaker.is(snapshot.endpoint(speaker.network, source));
    if !source_is_own {
        return Err(DropReason::SpoofedNeighbour);
    }
    check_links(packet, speaker, datagram)?;
    // What passes goes by the bridge; nothing may go by it, and the host's routes, to a stranger.
    let destination = datagram.dst.ip();
    if !destination.is_multicast() && snapshot.endpoint(speaker.network, destination).is_none() {
        return Err(DropReason::UnknownNeighbour);
    }
    let wanted = wanted(snapshot, speaker, target);
    match (datagram.message.is_discovery(discovery::ADVERTISEMENT), wanted) {
        (_, Ok(Neighbour::Own)) => Ok(Neighbour::Own),
        // Claiming another's address, or probing whether it is free (RFC 4862 section 5.4).
        (true, _) => Err(DropReason::SpoofedNeighbour),
        (_, Ok(Neighbour::Ask(_))) if is_probe => Err(DropReason::SpoofedNeighbour),
        (_, wanted) => wanted,
    }
}

/// Who has `target`.
#[inline(always)]
fn wanted<'a, T: Tables>(
    snapshot: Snapshot<'a, T>,
    speaker: &Speaker,
    target: Ip,
) -> Result<Neighbour<'a>, DropReason> {
    let endpoint = snapshot.endpoint(speaker.network, target).ok_or(DropReason::UnknownNeighbour)?;
    Ok(if speaker.is(Some(endpoint)) { Neighbour::Own } else { Neighbour::Ask(endpoint) })
}

/// Checks the options of a neighbour message. Those past the end of the packet are none.
///
/// # Errors
/// Those of [`check_link_options`].
#[inline(always)]
fn check_links(packet: &impl Packet, speaker: &Speaker, datagram: &Datagram<V6>) -> Result<(), DropReason> {
    let payload_len: Be16 = packet.read(ETHERNET_LEN + 4)?;
    let end = ETHERNET_LEN + size_of::<Ipv6Wire>() + usize::from(payload_len.get());
    packet.check_link_options(datagram.payload_offset()? + discovery::FIXED_LEN, end, speaker.mac)
}

/// Checks that each link-layer address among the options of a neighbour message, from `option` to `end`, is `own`. It is
/// called through [`Packet::check_link_options`].
///
/// # Errors
/// [`DropReason::SpoofedNeighbour`]; [`DropReason::MalformedHeader`], also for more options than any of the
/// kinds that exist for these messages (link-layer address, nonce, timestamp and signature of RFC 3971).
#[inline(always)]
pub fn check_link_options(
    packet: &impl Packet,
    mut option: usize,
    end: usize,
    own: MacAddr,
) -> Result<(), DropReason> {
    const MOST: usize = 6;
    for _ in 0..MOST {
        if option + discovery::LINK_OPTION_LEN > end {
            return Ok(());
        }
        // In words: the verifier does not see the bounds of a single byte.
        let [kind, units, a, b] = packet.read::<Be32>(option)?.to_bytes();
        let [c, d, e, f] = packet.read::<Be32>(option + 4)?.to_bytes();
        match (kind, units) {
            // RFC 4861 section 4.6: a length of zero is invalid; an Ethernet address has one.
            (_, 0) | (discovery::SOURCE_LINK | discovery::TARGET_LINK, 2..) => {
                return Err(DropReason::MalformedHeader);
            }
            (discovery::SOURCE_LINK | discovery::TARGET_LINK, _) if MacAddr([a, b, c, d, e, f]) != own => {
                return Err(DropReason::SpoofedNeighbour);
            }
            _ => option += usize::from(units) * 8,
        }
    }
    Err(DropReason::MalformedHeader)
}
