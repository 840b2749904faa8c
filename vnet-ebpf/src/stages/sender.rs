//! Stage 4: who sent it.
//!
//! Decides whether a port sent what only it may send: from its own MAC and addresses, and in no role
//! that belongs to the network (router, DHCP server). What it says of its neighbours is the neighbour
//! stage's question.

use vnet_common::{Address, Be16, DropReason, Endpoint, MacPair, PortRecord};

use crate::{
    case::Case,
    headers::{Datagram, ETHERNET_LEN, dhcp, protocol},
    packet::Packet,
    tables::{Snapshot, Tables},
};

/// ICMPv6 router advertisement and redirect (RFC 4861 sections 4.2 and 4.5).
const ROUTER_MESSAGES: [u8; 2] = [134, 137];

/// Checks that the frame comes from the port's own MAC.
///
/// # Errors
/// [`DropReason::SpoofedMac`].
#[inline(always)]
pub fn check_mac(port: &PortRecord, macs: MacPair) -> Result<(), DropReason> {
    if macs.src() == port.mac { Ok(()) } else { Err(DropReason::SpoofedMac) }
}

/// Checks that the port acts neither as a router nor as a DHCP server.
///
/// # Errors
/// [`DropReason::RouterAdvertisement`], [`DropReason::DhcpServer`].
#[inline(always)]
pub fn check_role<A: Address>(datagram: &Datagram<A>) -> Result<(), DropReason> {
    if ROUTER_MESSAGES.iter().any(|kind| datagram.message.is_discovery(*kind)) {
        return Err(DropReason::RouterAdvertisement);
    }
    let (server, client) = dhcp::ports::<A>();
    // Clients look at their own port only, so an offer may come from any.
    let (from, to) = (datagram.ports.src().get(), datagram.ports.dst().get());
    if datagram.protocol == protocol::UDP && (from == server || to == client) {
        return Err(DropReason::DhcpServer);
    }
    Ok(())
}

/// Whether this is for a DHCP server, from wherever: not every server looks at that.
#[inline(always)]
#[must_use]
pub const fn is_to_dhcp_server<A: Address>(datagram: &Datagram<A>) -> bool {
    A::IS_V4 && datagram.protocol == protocol::UDP && datagram.ports.dst().get() == dhcp::SERVER
}

/// Checks that what the port says to a DHCP server is about itself: a server would give each client that a message names
/// an address, until it has none left.
///
/// # Errors
/// [`DropReason::SpoofedMac`]; also for fragments and headers with options, which no client sends: what they say is not
/// looked for.
#[inline(always)]
pub fn check_client<A: Address>(
    packet: &impl Packet,
    port: &PortRecord,
    case: &Case<A>,
) -> Result<(), DropReason> {
    /// The headers before it (RFC 791, RFC 768), which are not looked for in the datagram: there is one way only.
    const IP: usize = ETHERNET_LEN;
    const UDP: usize = IP + 20;
    /// More fragments, and the offset (RFC 791 section 3.1).
    const FRAGMENT: (usize, u16) = (IP + 6, 0x3fff);
    /// The client's MAC (RFC 2131 section 2).
    const CLIENT_MAC: usize = UDP + 8 + 28;
    check_mac(port, case.macs)?;
    let is_plain = case.datagram.payload == UDP && packet.read::<Be16>(FRAGMENT.0)?.get() & FRAGMENT.1 == 0;
    // What is too short to name a client is no message.
    let is_own = packet.read::<[u8; 6]>(CLIENT_MAC).map_or(true, |client| client == port.mac.0);
    if is_plain && is_own { Ok(()) } else { Err(DropReason::SpoofedMac) }
}

/// Whether this is a DHCP client's broadcast (RFC 2131 section 4.1). It may precede the client's having an address.
#[inline(always)]
#[must_use]
pub fn is_dhcp_request<A: Address>(datagram: &Datagram<A>) -> bool {
    is_to_dhcp_server(datagram)
        && datagram.ports.src().get() == dhcp::CLIENT
        && datagram.dst.ip().is_multicast()
}

/// The endpoint that has the packet's source address, if it is the very port behind `device`.
///
/// # Errors
/// [`DropReason::SpoofedAddress`].
#[inline(always)]
pub fn check_address<'a, A: Address, T: Tables>(
    snapshot: Snapshot<'a, T>,
    port: &PortRecord,
    device: u32,
    datagram: &Datagram<A>,
) -> Result<&'a Endpoint, DropReason> {
    match snapshot.endpoint(port.network, datagram.src.ip()) {
        Some(endpoint) if endpoint.device == device => Ok(endpoint),
        _ => Err(DropReason::SpoofedAddress),
    }
}
