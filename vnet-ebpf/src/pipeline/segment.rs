//! What goes beyond this host by a network's segment, and comes from there.

use vnet_common::{
    Address, Delivery, DropReason, LinkFlags, LinkKey, MacAddr, MacPair, NetworkFlags, Snooped, SnoopedKind,
    limits, link, mark,
};

use super::{
    Arrival, decide,
    hooks::{Beyond, Shared},
};
use crate::{
    case::Case,
    headers::{Carries, Datagram, ETHERNET_LEN, protocol},
    packet::Packet,
    rewrite::{self, OVERLAY_PORT},
    stages::{
        parse, replay,
        segment::{self, Came},
    },
    tables::{Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// What comes from the segments of networks, at a trunk, a bridged uplink or the overlays' device. What is for no network
/// passes.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_segment<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    let Some(came) = packet.came(&snapshot, arrival.device)? else {
        // The host's stack would take a mere priority off, and take the frame for its own.
        let is_lost = segment::is_of_overlays(&snapshot, arrival.device);
        return if is_lost { Err(DropReason::WrongUnderlay) } else { Ok(Verdict::PASS) };
    };
    from_link(packet, snapshot, arrival, &came)
}

/// What came by a link, its tags or its tunnel taken off.
#[inline(always)]
fn from_link<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    arrival: Arrival,
    came: &Came,
) -> Outcome {
    let Ok(macs) = packet.read::<MacPair>(0) else { return Ok(Verdict::PASS) };
    let is_to_many = macs.dst().is_multicast();
    if came.is_shared && !is_to_many && is_for_host(&snapshot, came.network, macs.dst()) {
        return Ok(Verdict::PASS);
    }
    let arrival = by(arrival, came);
    let outcome = match parse::ethernet(packet) {
        Ok(frame) => decide::<Beyond, P, T>(packet, snapshot, arrival, frame),
        Err(reason) => Err(reason),
    };
    match outcome {
        // What is for everybody on the LAN is for the host, too.
        Err(_) if came.is_shared && is_to_many => Ok(Verdict::PASS),
        outcome => settle(packet, &snapshot, (came.number, came.is_shared), outcome?),
    }
}

/// Whether a frame to `mac` on the LAN of `network` is no port's here.
#[inline(always)]
fn is_for_host<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32, mac: MacAddr) -> bool {
    snapshot.station(network, mac).is_none_or(|station| station.delivery == Delivery::Host as u16)
}

/// The arrival by a link.
#[inline(always)]
pub(super) const fn by(arrival: Arrival, came: &Came) -> Arrival {
    Arrival { device: came.number, network: came.network, heard: came.peer, ..arrival }
}

/// Finds by which link a frame came that arrived at `device`, and takes off its tags; nothing, and the frame is as before,
/// if it is for no network.
///
/// It is called through [`Packet::came`].
///
/// # Errors
/// Those of [`segment::came_through`] and [`segment::came_with`].
#[inline(always)]
pub fn came<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    device: u32,
) -> Result<Option<Came>, DropReason> {
    if packet.mark() == mark::OVERLAY
        && let Some(tunnel) = packet.tunnel()
    {
        packet.set_mark(0);
        return segment::came_through(snapshot, device, tunnel).map(Some);
    }
    // Without an ethertype it is nobody's.
    let Ok(tags) = parse::tags(packet) else { return Ok(None) };
    let came = segment::came_with(snapshot, device, &tags)?;
    if came.is_some() {
        segment::untag(packet, &tags)?;
    }
    Ok(came)
}

/// Finds by which link a packet came that arrived at `device` in an overlay, and takes the frame out of it; nothing, and the
/// packet is as before, if it is none that the programs take apart themselves.
///
/// It is called through [`Packet::came_encapsulated`].
///
/// # Errors
/// [`DropReason::Truncated`], which no such packet meets.
#[inline(always)]
pub fn came_encapsulated<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    device: u32,
) -> Result<Option<Came>, DropReason> {
    let Some(outer) = rewrite::encapsulated(packet) else { return Ok(None) };
    let Some(came) = segment::came_encapsulated(snapshot, device, &outer) else { return Ok(None) };
    Ok(rewrite::decapsulate(packet, &outer)?.then_some(came))
}

/// What the host sends to the LAN that it shares with a network, by the uplink that is bridged: what is for a port here
/// goes there. All else passes, and of what is for many a copy goes to the ports.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn to_segment<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    let Ok(tags) = parse::tags(packet) else { return Ok(Verdict::PASS) };
    let Some(came) = segment::came_with(&snapshot, arrival.device, &tags)?.filter(|came| came.is_shared)
    else {
        return Ok(Verdict::PASS);
    };
    let Ok(macs) = packet.read::<MacPair>(0) else { return Ok(Verdict::PASS) };
    if macs.dst().is_multicast() {
        packet.spread(&snapshot, came.network, came.number);
        packet.set_mark(mark::flooded(snapshot.generation));
        packet.copy_to(came.network, Delivery::Device);
        packet.set_mark(0);
        return Ok(Verdict::PASS);
    }
    if is_for_host(&snapshot, came.network, macs.dst()) {
        return Ok(Verdict::PASS);
    }
    let frame = parse::ethernet(packet)?;
    decide::<Shared, P, T>(packet, snapshot, Arrival { network: came.network, ..arrival }, frame)
}

/// Tells the controller what DHCP gives to somebody on a LAN.
///
/// # Errors
/// Those of the tables.
#[inline(always)]
pub(super) fn tell_of_dhcp<A: Address, P: Packet, T: Tables>(
    packet: &P,
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
) -> Result<(), DropReason> {
    if !snapshot.network(case.network)?.flags.has(NetworkFlags::BRIDGED) {
        return Ok(());
    }
    tell_of(packet, snapshot, case, (case.macs.dst(), SnoopedKind::DhcpToPort))
}

/// Tells the controller of a message over UDP, of the port with `mac`; so much as ICMP errors may be sent to where it came
/// from. A function of its own in the kernel too, for the stack's sake.
///
/// # Errors
/// [`DropReason::Truncated`], which no parsed packet meets.
#[inline(never)]
pub(super) fn tell_of<A: Address, P: Packet, T: Tables>(
    packet: &P,
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
    (mac, kind): (MacAddr, SnoopedKind),
) -> Result<(), DropReason> {
    /// Of UDP, RFC 768.
    const HEADER: usize = 8;
    if !snapshot.tables.may_tell(case.device, case.now) {
        return Ok(());
    }
    let seen = Snooped::message(case.network, mac, kind, 0);
    packet.tell(&seen, case.datagram.payload_offset()? + HEADER);
    Ok(())
}

/// What the other hosts of overlays send: takes frames out of what is plain and of a known peer, and marks the rest of what
/// may be an overlay's; the device for overlays takes nothing else.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_underlay<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    if let Some(came) = packet.came_encapsulated(&snapshot, arrival.device)? {
        let verdict = from_link(packet, snapshot, arrival, &came)?;
        // What was inside is nothing to the host's stack at this device.
        return if verdict == Verdict::PASS { Err(DropReason::Undecided) } else { Ok(verdict) };
    }
    let is_overlay = match parse::ethernet(packet).map(|frame| frame.carries) {
        Ok(Carries::Ipv4) => parse::ipv4(packet, ETHERNET_LEN)
            .is_ok_and(|datagram| is_of_overlay(datagram.protocol, datagram.ports.dst().get())),
        Ok(Carries::Ipv6) => parse::ipv6(packet, ETHERNET_LEN)
            .is_ok_and(|datagram| is_of_overlay(datagram.protocol, datagram.ports.dst().get())),
        _ => false,
    };
    if is_overlay {
        packet.set_mark(mark::OVERLAY);
    }
    Ok(Verdict::PASS)
}

/// Refuses what a workload must not send where this host takes part in overlays.
///
/// # Errors
/// [`DropReason::OverlayFromPort`].
#[inline(always)]
pub(super) const fn check_port<A: Address>(datagram: &Datagram<A>) -> Result<(), DropReason> {
    if is_of_overlay(datagram.protocol, datagram.ports.dst().get()) {
        return Err(DropReason::OverlayFromPort);
    }
    Ok(())
}

/// Whether a datagram is an overlay's.
#[inline(always)]
const fn is_of_overlay(protocol: u8, port: u16) -> bool {
    protocol == protocol::UDP && port == OVERLAY_PORT
}

/// Carries out what concerns more than one receiver: copies go to the links of the network, to its ports and to the host.
/// `from` is the link that the packet came by, or the device, and whether the host shares that.
///
/// # Errors
/// Those of the tables.
#[inline(always)]
pub(super) fn settle<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    (from, is_shared): (u32, bool),
    verdict: Verdict,
) -> Outcome {
    let Some((network, delivery)) = verdict.destination() else { return Ok(verdict) };
    if !matches!(delivery, Delivery::Link | Delivery::Beyond | Delivery::Flood) {
        return Ok(verdict);
    }
    packet.spread(snapshot, network, from);
    if matches!(delivery, Delivery::Link) {
        return Ok(Verdict::TAKEN);
    }
    packet.set_mark(mark::flooded(snapshot.generation));
    // The host has no part in a network that is bridged but on the LAN.
    let has_host = !snapshot.network(network)?.flags.has(NetworkFlags::BRIDGED);
    if matches!(delivery, Delivery::Beyond) {
        if has_host && from != network && packet.read::<MacPair>(0)?.dst().is_multicast() {
            packet.copy_to(network, Delivery::Host);
        }
        return Ok(Verdict::TAKEN);
    }
    if is_shared {
        packet.copy_to(network, Delivery::Device);
        packet.set_mark(0);
        return Ok(Verdict::PASS);
    }
    if has_host {
        packet.copy_to(network, Delivery::Host);
    }
    Ok(Verdict::send(network, Delivery::Flood))
}

/// Sends copies of a packet by all links of `network` but the one with the number `except`.
///
/// It is called through [`Packet::spread`].
#[inline(always)]
pub fn spread<P: Packet, T: Tables>(packet: &mut P, snapshot: &Snapshot<'_, T>, network: u32, except: u32) {
    for index in 0..limits::FLOODS {
        if !packet.spread_by(snapshot, network, except, index) {
            return;
        }
    }
}

/// Sends a copy of a packet by the link of this index, unless that has the number `except`; whether others may follow.
///
/// It is called through [`Packet::spread_by`].
#[inline(always)]
pub fn spread_by<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    network: u32,
    except: u32,
    index: u32,
) -> bool {
    let Some(link) = snapshot.link(LinkKey::flood(network, index)) else { return false };
    if link.number == except {
        return true;
    }
    packet.set_mark(mark::DECIDED);
    if link.flags.has(LinkFlags::SHARED) {
        packet.copy_to(link.device, Delivery::Host);
    }
    if link.flags.has(LinkFlags::PORT) {
        packet.set_mark(mark::flooded(snapshot.generation));
    }
    if replay::dress(packet, link).is_ok() {
        packet.copy_to(link.device, Delivery::Device);
    }
    // A frame that has lost its form is of no use to others.
    replay::undress(packet, link).is_ok()
}

/// Notes from which of an overlay's peers somebody with `mac` spoke; 0: from none. A function of its own in the kernel too,
/// for the stack's sake.
#[inline(never)]
pub(super) fn hear<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32, mac: MacAddr, peer: u16) {
    if peer != 0 {
        snapshot.tables.hear(snapshot.generation, network, mac, peer);
    }
}

/// Whether the network goes beyond this host.
///
/// # Errors
/// [`DropReason::UnknownDevice`].
#[inline(always)]
pub(super) fn extends<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32) -> Result<bool, DropReason> {
    Ok(snapshot.network(network)?.flags.has(NetworkFlags::EXTENDS))
}

/// To whoever here has `mac`.
///
/// # Errors
/// [`DropReason::UnknownStation`].
#[inline(always)]
pub(super) fn to_station<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    network: u32,
    mac: MacAddr,
) -> Outcome {
    let station = snapshot.station(network, mac).ok_or(DropReason::UnknownStation)?;
    if station.delivery == Delivery::Link as u16 {
        // Who is beyond the segment is not here; a port with several networks is.
        if link::is_segment(station.device) {
            return Err(DropReason::UnknownStation);
        }
        return replay::by_link(packet, snapshot, station.device, 0);
    }
    Ok(Verdict::send(station.device, Delivery::from_byte(station.delivery as u8)?))
}
