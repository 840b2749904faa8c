//! Behind stage 1, for what comes from beyond this host: by which link, and who may have sent it.
//!
//! Decides of which network a frame is that arrives at a trunk, a bridged uplink or an overlay's device, and whether it
//! claims to come from somebody who is here. Whether anybody else is who it says is for the hosts beyond to see to.

use vnet_common::{
    Address, DropReason, Endpoint, Ip, Link, LinkFlags, LinkKey, MacAddr, NetworkFlags, limits::MAX_IFINDEX,
    tag_of,
};

use crate::{
    case::Case,
    headers::{Datagram, Kind, Tags, dhcp, protocol},
    packet::{Packet, Tunnel},
    rewrite::Encapsulated,
    tables::{Snapshot, Tables},
};

/// By which link a frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// The link's number.
    pub number: u32,
    /// The network.
    pub network: u32,
    /// The number of the overlay's peer; 0: by no overlay.
    pub peer: u16,
    /// Whether the host shares the link.
    pub is_shared: bool,
}

impl Came {
    /// Where the network's bridge begins in a word, and how many bits an ifindex has.
    const NETWORK: u32 = 24;
    const IFINDEX: u64 = MAX_IFINDEX as u64;
    /// Where the peer begins.
    const PEER: u32 = 46;
    /// The bit that says whether the host shares it.
    const SHARED: u64 = 1 << 62;
    /// Above it are the numbers of reasons to drop.
    const DROPPED: u64 = 1 << 63;

    /// What was found as a word: the number of the link, its network's bridge, the peer; 0: none; or the number of a
    /// reason.
    #[inline(always)]
    #[must_use]
    pub fn word_of(came: Result<Option<Self>, DropReason>) -> u64 {
        match came {
            Ok(None) => 0,
            Ok(Some(Self { number, network, peer, is_shared })) => {
                let shared = if is_shared { Self::SHARED } else { 0 };
                u64::from(number)
                    | u64::from(network) << Self::NETWORK
                    | u64::from(peer) << Self::PEER
                    | shared
            }
            Err(reason) => Self::DROPPED | u64::from(reason.number()),
        }
    }

    /// From [`Came::word_of`].
    ///
    /// # Errors
    /// What that was given.
    #[inline(always)]
    pub fn from_word(word: u64) -> Result<Option<Self>, DropReason> {
        if word & Self::DROPPED != 0 {
            return Err(DropReason::try_from(word as u32).unwrap_or(DropReason::Internal));
        }
        Ok((word != 0).then_some(Self {
            number: (word & ((1 << Self::NETWORK) - 1)) as u32,
            network: (word >> Self::NETWORK & Self::IFINDEX) as u32,
            peer: (word >> Self::PEER) as u16,
            is_shared: word & Self::SHARED != 0,
        }))
    }
}

/// By which link a frame came out of `tunnel` at the overlays' device.
///
/// # Errors
/// [`DropReason::UnknownVni`], [`DropReason::UnknownPeer`].
#[inline(always)]
pub fn came_through<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    device: u32,
    tunnel: Tunnel,
) -> Result<Came, DropReason> {
    let link = snapshot.link(LinkKey::arrival(device, tunnel.vni)).ok_or(DropReason::UnknownVni)?;
    let peer = snapshot.vtep(tunnel.vni, tunnel.remote).ok_or(DropReason::UnknownPeer)?;
    Ok(Came { number: link.number, network: link.network, peer: peer as u16, is_shared: false })
}

/// By which link a frame came that arrived at `device` encapsulated as `outer` says; nothing if that is not what its sender
/// and this host have agreed on.
#[inline(always)]
pub fn came_encapsulated<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    device: u32,
    outer: &Encapsulated,
) -> Option<Came> {
    let &Link { number, network, .. } = snapshot.link(LinkKey::encapsulated(device, outer.vni))?;
    let peer = snapshot.vtep(outer.vni, outer.remote)?;
    let way = snapshot.link(LinkKey::departure(number, peer))?;
    let is_agreed = way.underlay == device && way.local == outer.local;
    is_agreed.then_some(Came { number, network, peer: peer as u16, is_shared: false })
}

/// By which link a frame came with `tags` at `device`; nothing if it is for no network.
///
/// # Errors
/// [`DropReason::WrongUnderlay`] at the overlays' device.
#[inline(always)]
pub fn came_with<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    device: u32,
    tags: &Tags,
) -> Result<Option<Came>, DropReason> {
    let key = LinkKey::arrival(device, tag_of(tags.vlan, tags.service));
    let Some(link) = snapshot.link(key).filter(|_| !tags.is_strange) else { return Ok(None) };
    if link.flags.has(LinkFlags::OVERLAY) {
        return Err(DropReason::WrongUnderlay);
    }
    let is_shared = link.flags.has(LinkFlags::SHARED);
    Ok(Some(Came { number: link.number, network: link.network, peer: 0, is_shared }))
}

/// Whether `device` is that of overlays, of which nothing is the host's, whatever its tags.
#[inline(always)]
pub fn is_of_overlays<T: Tables>(snapshot: &Snapshot<'_, T>, device: u32) -> bool {
    snapshot.link(LinkKey::arrival(device, 0)).is_some_and(|link| link.flags.has(LinkFlags::OVERLAY))
}

/// Takes the tags of a frame off. The priority that they told stays with it.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(always)]
pub fn untag(packet: &mut impl Packet, tags: &Tags) -> Result<(), DropReason> {
    if tags.count == 0 {
        return Ok(());
    }
    packet.set_priority(tags.priority());
    packet.pop_tag()?;
    if tags.count == 1 { Ok(()) } else { packet.pop_tag() }
}

/// Whether `mac` is that of somebody here: of a port or of the host.
#[inline(always)]
pub fn is_here<T: Tables>(snapshot: &Snapshot<'_, T>, came: (u32, u32), mac: MacAddr) -> bool {
    let (number, network) = came;
    snapshot.station(network, mac).is_some_and(|station| station.device != number)
}

/// Whoever sent a datagram that came by the link `case.device`.
///
/// # Errors
/// [`DropReason::SpoofedMac`], [`DropReason::SpoofedAddress`]: it claims to be somebody who is here, or who has another
/// MAC; or, where the host is the gateway, to be in another network.
#[inline(always)]
pub fn sender<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
) -> Result<Endpoint, DropReason> {
    let (number, network, mac, addr) = (case.device, case.network, case.macs.src(), case.datagram.src.ip());
    if is_here(snapshot, (number, network), mac) {
        return Err(DropReason::SpoofedMac);
    }
    match snapshot.endpoint(network, addr) {
        Some(endpoint) if endpoint.device != number => Err(DropReason::SpoofedAddress),
        Some(endpoint) if endpoint.mac != mac => Err(DropReason::SpoofedMac),
        Some(endpoint) => Ok(*endpoint),
        None if is_stranger(snapshot, network, addr)? => Err(DropReason::SpoofedAddress),
        None => snapshot.stranger(network, (number, mac), addr),
    }
}

/// Whether nobody in the network can have `addr`: on a LAN everybody may, for it leads on.
#[inline(always)]
fn is_stranger<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32, addr: Ip) -> Result<bool, DropReason> {
    if snapshot.network(network)?.flags.has(NetworkFlags::BRIDGED)
        || addr.is_local()
        || addr == Ip::UNSPECIFIED
    {
        return Ok(false);
    }
    Ok(snapshot.join(network, addr) != Some(network))
}

/// Whether a datagram for `addr` is for many in `network`. On a LAN, whose prefixes nobody has to tell, the MAC says so:
/// the broadcast address of a subnet looks like any other.
///
/// # Errors
/// [`DropReason::UnknownDevice`].
#[inline(always)]
pub fn is_for_many<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    network: u32,
    (mac, addr): (MacAddr, Ip),
) -> Result<bool, DropReason> {
    let is_multicast = addr.is_multicast();
    Ok(is_multicast
        || mac == MacAddr::BROADCAST && snapshot.network(network)?.flags.has(NetworkFlags::BRIDGED))
}

/// Whether it is what a DHCP server tells a client (RFC 2131 section 4.1, RFC 8415 section 7.2), who may have no address
/// yet.
#[inline(always)]
#[must_use]
pub fn is_dhcp_reply<A: Address>(datagram: &Datagram<A>) -> bool {
    let (server, client) = dhcp::ports::<A>();
    datagram.protocol == protocol::UDP
        && datagram.message.kind == Kind::Plain
        && datagram.ports.src().get() == server
        && datagram.ports.dst().get() == client
}

#[cfg(test)]
mod tests {
    use vnet_common::{NetworkKey, NetworkRecord, V4};

    use super::*;
    use crate::model::ModelTables;

    #[test]
    fn a_stranger_is_apart_from_a_host_that_would_look_elsewhere() {
        let is_apart = |flags: NetworkFlags| {
            let mut tables = ModelTables::default();
            let record = NetworkRecord::new(MacAddr([2; 6]), flags.and(NetworkFlags::EXTENDS));
            tables.networks.insert(NetworkKey { ifindex: 5, side: 0 }, record);
            let snapshot = Snapshot::take(&tables).unwrap();
            let addr = V4::from_octets([10, 0, 0, 77]).ip();
            let stranger = snapshot.stranger(5, (9, MacAddr([4; 6])), addr).unwrap();
            assert!(stranger.is_station() && stranger.is_stranger());
            stranger.is_apart_from_host()
        };
        let shares = NetworkFlags::SHARES_ADDRESSES;
        let shut = shares.and(NetworkFlags::EXCLUDES_HOST);
        assert!(is_apart(shut));
        assert!(!is_apart(shares) && !is_apart(NetworkFlags::EXCLUDES_HOST));
        assert!(!is_apart(shut.and(NetworkFlags::BRIDGED)), "the host may be on that LAN");
    }
}
