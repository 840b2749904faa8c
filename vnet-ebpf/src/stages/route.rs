//! Stage 6: where it goes.
//!
//! Decides who has a destination, in the packet's own network, in one that is joined to it, or outside, by which
//! device and with which MACs a packet reaches them, and how answers come back. A frame addressed to the endpoint
//! itself is switched, one addressed to the gateway is routed; between networks there is only routing.

use vnet_common::{
    Address, Delivery, DropReason, Endpoint, EndpointKey, Identity, Ip, JOIN_OUTSIDE, LinkFlags, LinkKey,
    MacAddr, MacPair, NetworkFlags, NetworkRecord, Ops, Tuple, UplinkRecord, link,
};

use crate::{
    case::Case,
    hop::Hop,
    tables::{Snapshot, Tables},
};

/// Fills in who has the destination address, and in which network.
///
/// # Errors
/// [`DropReason::NoRoute`], [`DropReason::Untranslated`].
#[inline(always)]
pub fn destination<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    (case.to_network, case.to_gateway_mac) = (case.network, case.gateway_mac);
    match snapshot.endpoint(case.network, case.datagram.dst.ip()) {
        Some(endpoint) => {
            case.to = *endpoint;
            Ok(())
        }
        None => beyond(snapshot, case),
    }
}

/// The same for an address that the packet's own network does not have. What the host sends is in the right
/// network already. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn beyond<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> Result<(), DropReason> {
    let own = snapshot.network(case.network)?;
    let addr = case.datagram.dst.ip();
    if own.flags.has(NetworkFlags::EXTENDS) && case.macs.dst() != case.gateway_mac {
        return station(snapshot, case);
    }
    if case.from.is_gateway() {
        return Err(DropReason::NoRoute);
    }
    let joined = if own.flags.has(NetworkFlags::JOINED) { snapshot.join(case.network, addr) } else { None };
    let Some(network) = joined.filter(|network| *network != JOIN_OUTSIDE) else {
        return outside(snapshot, case, own);
    };
    let endpoint = snapshot.endpoint(network, addr).ok_or(DropReason::NoRoute)?;
    if endpoint.is_gateway() {
        // The host answers by the asker's own network, where the flow is.
        case.to = *endpoint;
        (case.to.device, case.to.mac) = (case.network, case.gateway_mac);
        return Ok(());
    }
    case.to = *endpoint;
    (case.to_network, case.to_gateway_mac) = (network, snapshot.network(network)?.gateway_mac);
    Ok(())
}

/// The same where the frame is for somebody whose address is not known: whoever has that MAC beyond the segment.
#[inline(always)]
fn station<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> Result<(), DropReason> {
    let (mac, number) = (case.macs.dst(), link::segment(case.network));
    if mac.is_multicast() {
        return Err(DropReason::WrongMac);
    }
    let identity = snapshot.peer(case.datagram.dst.ip());
    match snapshot.station(case.network, mac) {
        // The host, at the uplink that it shares with the network.
        Some(station) if station.delivery == Delivery::Host as u16 && station.device != case.network => {
            case.to = Endpoint::gateway(station.device, mac, identity);
        }
        // Who is here has the addresses that it has.
        Some(station) if station.device != number => return Err(DropReason::NoRoute),
        _ => case.to = Endpoint::station(number, mac, identity),
    }
    Ok(())
}

/// The same for an address that no joined network has: it is beyond the uplink, if the network has a way out.
#[inline(always)]
fn outside<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    own: &NetworkRecord,
) -> Result<(), DropReason> {
    let addr = case.datagram.dst.ip();
    // Nobody routes what is local; and networks that are not joined are apart, outside too.
    if !own.flags.has(NetworkFlags::LEADS_OUTSIDE) || addr.is_local() || snapshot.join(0, addr).is_some() {
        return Err(DropReason::NoRoute);
    }
    let exit = snapshot.exit::<A>(case.network, 0).ok_or(DropReason::Untranslated)?;
    beyond_uplink(snapshot, case, exit.uplink, addr)
}

/// Makes whoever has `addr` beyond `uplink` the destination.
#[inline(always)]
fn beyond_uplink<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    uplink: u32,
    addr: Ip,
) -> Result<(), DropReason> {
    case.to_gateway_mac = snapshot.uplink(uplink).ok_or(DropReason::Untranslated)?.mac;
    case.to = Endpoint::outside(uplink, snapshot.peer(addr));
    case.to_network = uplink;
    Ok(())
}

/// Fills in whoever the destination that was asked for stands for.
///
/// # Errors
/// [`DropReason::NoRoute`].
#[inline(always)]
pub fn target<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let network = case.target.network;
    case.to = *snapshot.endpoint(network, case.asked_tuple.dst.ip()).ok_or(DropReason::NoRoute)?;
    (case.to_network, case.to_gateway_mac) = (network, snapshot.network(network)?.gateway_mac);
    Ok(())
}

/// Leaves of who asks and who is asked what counts in networks that know neither by its address: what leads from one
/// network to another under an address outside comes from somebody who may have the address of anybody there.
#[inline(always)]
pub fn abroad<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) {
    let (from, to) = (case.asker_network, case.target.network);
    if to == 0 || from == to {
        return;
    }
    case.asker.identity = known_abroad(snapshot, from, case.asker_tuple.src, case.asker.identity);
    case.asked.identity = known_abroad(snapshot, to, case.asked_tuple.dst, case.asked.identity);
}

/// What counts in other networks of who has `addr` in `network`, where `identity` counts in its own.
#[inline(always)]
fn known_abroad<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    network: u32,
    addr: A,
    identity: u32,
) -> u32 {
    let shares = |record: &NetworkRecord| record.flags.has(NetworkFlags::SHARES_ADDRESSES);
    if !snapshot.network(network).is_ok_and(shares) {
        return identity;
    }
    let endpoint = snapshot.endpoint(network | EndpointKey::ABROAD, addr.ip());
    endpoint.map_or(Identity::UNKNOWN.0, |endpoint| endpoint.identity)
}

/// Fills in who opened a translated flow, or one with the outside, for an answer that is judged again: whoever is
/// now where its first packet came from, under the same address.
///
/// # Errors
/// [`DropReason::NoRoute`], [`DropReason::Untranslated`].
#[inline(always)]
pub fn asker<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let (device, addr) = (case.before_pair, case.before_leaves.dst.ip());
    if link::is_segment(device) {
        return beyond_segment(snapshot, case, device, addr);
    }
    let Ok(port) = snapshot.port(device) else {
        return beyond_uplink(snapshot, case, device, addr);
    };
    match snapshot.endpoint(port.network, addr) {
        Some(endpoint) if endpoint.device == device => case.to = *endpoint,
        _ => return Err(DropReason::NoRoute),
    }
    (case.to_network, case.to_gateway_mac) = (port.network, port.gateway_mac);
    Ok(())
}

/// Makes whoever has `addr` beyond the segment of the link `number` the destination, where packets went before.
#[inline(always)]
fn beyond_segment<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    number: u32,
    addr: Ip,
) -> Result<(), DropReason> {
    let network = link::bridge(number);
    case.to = match snapshot.endpoint(network, addr) {
        Some(endpoint) if endpoint.device == number => *endpoint,
        Some(_) => return Err(DropReason::NoRoute),
        None => snapshot.stranger(network, (number, case.before_mac), addr)?,
    };
    (case.to_network, case.to_gateway_mac) = (network, snapshot.network(network)?.gateway_mac);
    Ok(())
}

/// The host, which sends from `addr` into `network`, whose gateway has `mac`: as the gateway, as that of a
/// joined network, or under an address of its own elsewhere.
#[inline(always)]
pub fn host<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32, mac: MacAddr, addr: Ip) -> Endpoint {
    let gateway = match snapshot.endpoint(network, addr) {
        None => snapshot.join(network, addr).and_then(|joined| snapshot.endpoint(joined, addr)),
        own => own,
    };
    match gateway {
        Some(endpoint) if endpoint.is_gateway() => Endpoint::gateway(network, mac, endpoint.identity),
        _ => Endpoint::host_elsewhere(network, mac),
    }
}

/// Makes the host the destination, under an address that is none of the network's.
#[inline(always)]
pub fn to_host_elsewhere<A: Copy>(case: &mut Case<A>) {
    case.to = Endpoint::host_elsewhere(case.network, case.gateway_mac);
    (case.to_network, case.to_gateway_mac) = (case.network, case.gateway_mac);
}

/// Fills in the way from `case.from` to `case.to` and back. A function of its own in the kernel too, for the stack's
/// sake.
///
/// # Errors
/// [`DropReason::WrongMac`] when the frame is addressed to somebody else.
#[inline(never)]
pub fn way<A: Copy + Default>(case: &mut Case<A>) -> Result<(), DropReason> {
    let (ops, answered_to) = if case.macs.dst() == case.to.mac && case.to_network == case.network {
        (Ops::NONE, case.from.mac)
    } else if case.macs.dst() == case.gateway_mac {
        (Ops::ROUTE, case.to_gateway_mac)
    } else {
        return Err(DropReason::WrongMac);
    };
    let hop = |from: &Endpoint, to: &Endpoint, gateway: MacAddr| {
        Ok(Hop {
            device: to.device,
            delivery: delivery(from, to)? as u8,
            ops,
            sent: MacPair::new(to.mac, gateway),
            leaves: Tuple::default(),
            mtu: 0,
            vlan: 0,
            outer: 0,
            far: to.device,
        })
    };
    case.forth = hop(&case.from, &case.to, case.to_gateway_mac)?;
    case.back = hop(&case.to, &case.from, case.gateway_mac)?;
    case.answered = MacPair::new(answered_to, case.to.mac);
    Ok(())
}

/// Fills in the router of a way that leads outside, where it is known: the kernel then does not look for it again and
/// again. To be called once it is known whom the packets are for.
#[inline(always)]
pub fn gateway<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, hop: &mut Hop<A>) {
    if hop.delivery != Delivery::NextHop as u8 {
        return;
    }
    let Some(gateway) = snapshot.uplink(hop.device).and_then(UplinkRecord::gateway::<A>) else { return };
    if snapshot.join(hop.device, hop.leaves.dst.ip()).is_none() {
        (hop.delivery, hop.sent) = (Delivery::Gateway as u8, gateway);
    }
}

/// Fills in the links of both ways, if they lead by any. As [`way`].
#[inline(never)]
pub fn links<A: Copy, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) {
    resolve_link(snapshot, &mut case.forth, 0);
    resolve_link(snapshot, &mut case.back, case.heard);
}

/// Fills in by which device and with which tags a way leads by a link, and to which peer of an overlay: `heard`, if who is
/// there has spoken from behind it; else whoever the policy or an earlier frame says. If nobody knows, it leads to all.
#[inline(always)]
fn resolve_link<A: Copy, T: Tables>(snapshot: &Snapshot<'_, T>, hop: &mut Hop<A>, heard: u16) {
    if hop.delivery != Delivery::Link as u8 {
        return;
    }
    let (network, mut peer) = (link::bridge(hop.far), heard);
    if peer == 0 && link::is_segment(hop.far) {
        peer = match snapshot.station(network, hop.sent.dst()) {
            Some(station) => station.peer,
            None => snapshot.tables.heard(snapshot.generation, network, hop.sent.dst()),
        };
    }
    let known = snapshot.link(LinkKey::departure(hop.far, peer.into()));
    match known {
        Some(link) => {
            (hop.device, hop.delivery) = (link.device, Delivery::Device as u8);
            (hop.vlan, hop.outer) = (link.vlan, link.outer);
        }
        None => (hop.device, hop.delivery) = (network, Delivery::Beyond as u8),
    }
    // What one of an overlay's peers is sent may be as long as what all are.
    if let Some(link) = known.or_else(|| snapshot.link(LinkKey::flood(network, 0)))
        && link.flags.has(LinkFlags::OVERLAY)
    {
        hop.mtu = link.mtu;
    }
}

/// Fills in how long packets may be that are routed, both ways, and whether SYNs are told of it. What goes to the host
/// may have any length. As [`way`].
#[inline(never)]
pub fn lengths<A: Copy, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) {
    if !case.forth.ops.has(Ops::ROUTE) {
        return;
    }
    let (forth, is_clamped_there) = link(snapshot, &case.to, case.to_network);
    let (back, is_clamped_here) = link(snapshot, &case.from, case.network);
    (case.forth.mtu, case.back.mtu) = (forth, back);
    if is_clamped_there || is_clamped_here {
        case.forth.ops = case.forth.ops.and(Ops::CLAMP_MSS);
        case.back.ops = case.back.ops.and(Ops::CLAMP_MSS);
    }
}

/// The MTU of the link to `end`, which is in `network`, and whether that network clamps.
#[inline(always)]
fn link<T: Tables>(snapshot: &Snapshot<'_, T>, end: &Endpoint, network: u32) -> (u16, bool) {
    if end.is_gateway() {
        return (0, false);
    }
    if end.is_outside() {
        return (snapshot.uplink(end.device).map_or(0, |uplink| uplink.mtu), false);
    }
    match snapshot.network(network) {
        Ok(network) => (network.mtu, network.flags.has(NetworkFlags::CLAMPS_MSS)),
        Err(_) => (0, false),
    }
}

/// What the host sends, its own or that of others, cannot jump into a namespace: `bpf_redirect_peer` works at ingress
/// only.
#[inline(always)]
fn delivery(from: &Endpoint, to: &Endpoint) -> Result<Delivery, DropReason> {
    let is_sent = from.is_gateway() || from.is_station() && !link::is_link(from.device);
    Ok(match to.delivery()? {
        Delivery::Peer if is_sent => Delivery::Device,
        delivery => delivery,
    })
}
