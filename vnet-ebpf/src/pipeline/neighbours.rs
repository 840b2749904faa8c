//! What neighbours say and ask: ARP, and what ICMPv6 has in its place.

use vnet_common::{Delivery, DropReason, MacAddr, MacPair, NetworkFlags, UplinkRecord, V6, link};

use super::segment;
use crate::{
    case::Case,
    packet::Packet,
    rewrite::{self, Advertisement},
    stages::{
        judge,
        neighbour::{self, Heard, Neighbour, Speaker},
        replay, sender, translate,
    },
    tables::{Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// An ICMPv6 discovery message.
#[inline(always)]
pub(super) fn discovery<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    speaker: &Speaker,
    case: &mut Case<V6>,
) -> Outcome {
    if neighbour::is_about_neighbours(&case.datagram) {
        return answer_discovery(packet, &snapshot, speaker, case);
    }
    if !speaker.is_host() {
        sender::check_role(&case.datagram)?;
        neighbour::check_source(snapshot, speaker, &case.datagram)?;
    }
    // Router solicitation and listener reports: no rule speaks of them, and the host is the only router.
    if !segment::extends(&snapshot, speaker.network)? {
        judge::host_may_speak(&snapshot, speaker.network)?;
    }
    onwards(packet, &snapshot, speaker)
}

/// Answers an ARP request, and lets what else is true pass. A function of its own in the kernel too, for
/// the stack's sake.
#[inline(never)]
pub(super) fn answer_arp<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
) -> Outcome {
    match neighbour::arp(packet, snapshot, speaker) {
        Ok(Neighbour::Ask(endpoint)) => {
            rewrite::arp_reply(packet, endpoint.mac)?;
            answer_to(packet, &snapshot, speaker)
        }
        Ok(Neighbour::Own) => onwards(packet, &snapshot, speaker),
        Err(reason) => unknown(&snapshot, speaker, reason),
    }
}

/// Answers a neighbour solicitation, and lets what else is true pass. As [`answer_arp`].
#[inline(never)]
fn answer_discovery<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    case: &mut Case<V6>,
) -> Outcome {
    let endpoint = match neighbour::discovery(packet, snapshot, speaker, &case.datagram) {
        Ok(Neighbour::Ask(endpoint)) => endpoint,
        Ok(Neighbour::Own) => return onwards(packet, &snapshot, speaker),
        Err(reason) => return unknown(&snapshot, speaker, reason),
    };
    let target = V6::from_octets(packet.read(case.datagram.payload_offset()? + 8)?);
    let (mac, is_router, asker) = (endpoint.mac, endpoint.is_gateway(), case.datagram.src);
    rewrite::neighbour_advertisement(packet, &Advertisement { target, mac, is_router, asker })?;
    answer_to(packet, &snapshot, speaker)
}

/// To whom it is: what the host says is for every port, what a port says is for the host alone, and for whoever is
/// beyond. Others here do not have to hear who it is, vnet tells them; and the bridge would carry whatever else the frame
/// says.
#[inline(always)]
fn onwards<P: Packet, T: Tables>(
    packet: &P,
    snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
) -> Outcome {
    if speaker.is_host() {
        return Ok(Verdict::PASS);
    }
    let network = snapshot.network(speaker.network)?;
    let is_for_host = packet.read::<MacPair>(0)?.dst() == network.gateway_mac;
    let delivery = if network.flags.has(NetworkFlags::EXTENDS) && !is_for_host {
        Delivery::Beyond
    } else {
        Delivery::Host
    };
    Ok(Verdict::send(speaker.network, delivery))
}

/// What becomes of a message that is refused for `reason`: whom nobody here knows may be beyond.
#[inline(always)]
fn unknown<T: Tables>(snapshot: &Snapshot<'_, T>, speaker: &Speaker, reason: DropReason) -> Outcome {
    if reason == DropReason::UnknownNeighbour && segment::extends(snapshot, speaker.network)? {
        return Ok(Verdict::send(speaker.network, Delivery::Link));
    }
    Err(reason)
}

/// Back to where the question came from.
#[inline(always)]
fn answer_to<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
) -> Outcome {
    if link::is_link(speaker.device) {
        return replay::by_link(packet, snapshot, speaker.device, 0);
    }
    let delivery = if speaker.is_host() { Delivery::Host } else { Delivery::Device };
    Ok(Verdict::send(speaker.device, delivery))
}

/// An ARP packet from beyond this host, from an overlay's peer with that number: who asks for somebody here is answered,
/// and what is told goes to whom it is for. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
pub(super) fn arp_beyond<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    (speaker, peer): (&Speaker, u16),
    to: MacAddr,
) -> Outcome {
    match neighbour::arp_from_beyond(packet, snapshot, speaker)? {
        Heard::Ask(endpoint) => {
            rewrite::arp_reply(packet, endpoint.mac)?;
            replay::by_link(packet, &snapshot, speaker.device, peer)
        }
        Heard::Tell => told(packet, &snapshot, speaker, to),
        Heard::Other => for_others(&snapshot, speaker),
    }
}

/// An ICMPv6 discovery message from beyond this host. As [`arp_beyond`].
#[inline(never)]
pub(super) fn discovery_beyond<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    (speaker, peer): (&Speaker, u16),
    case: &mut Case<V6>,
) -> Outcome {
    let is_bridged = snapshot.network(speaker.network)?.flags.has(NetworkFlags::BRIDGED);
    if !is_bridged {
        // The host is the router.
        sender::check_role(&case.datagram)?;
    }
    match neighbour::discovery_from_beyond(packet, snapshot, speaker, &case.datagram)? {
        Heard::Ask(endpoint) => {
            let target = V6::from_octets(packet.read(case.datagram.payload_offset()? + 8)?);
            let (mac, is_router, asker) = (endpoint.mac, endpoint.is_gateway(), case.datagram.src);
            rewrite::neighbour_advertisement(packet, &Advertisement { target, mac, is_router, asker })?;
            replay::by_link(packet, &snapshot, speaker.device, peer)
        }
        Heard::Tell => told(packet, &snapshot, speaker, case.macs.dst()),
        Heard::Other => for_others(&snapshot, speaker),
    }
}

/// What somebody beyond tells about themselves: it is for whoever has the MAC, or for all.
#[inline(always)]
fn told<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    to: MacAddr,
) -> Outcome {
    if to.is_multicast() {
        return Ok(Verdict::send(speaker.network, Delivery::Flood));
    }
    segment::to_station(packet, snapshot, speaker.network, to)
}

/// What is asked of somebody who is not known here: on a LAN a port may have the address all the same, and say so.
#[inline(always)]
fn for_others<T: Tables>(snapshot: &Snapshot<'_, T>, speaker: &Speaker) -> Outcome {
    if snapshot.network(speaker.network)?.flags.has(NetworkFlags::BRIDGED) {
        return Ok(Verdict::send(speaker.network, Delivery::Flood));
    }
    Err(DropReason::UnknownNeighbour)
}

/// An ARP packet from outside, at an uplink: who has an elastic IP is answered, the rest is the
/// host's.
#[inline(never)]
pub(super) fn arp_outside<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    uplink: u32,
) -> Outcome {
    let Some(&UplinkRecord { mac, .. }) = snapshot.uplink(uplink) else { return Ok(Verdict::PASS) };
    let Some(target) = neighbour::arp_question(packet) else { return Ok(Verdict::PASS) };
    if !translate::is_elastic(snapshot, uplink, target) {
        return Ok(Verdict::PASS);
    }
    rewrite::arp_reply(packet, mac)?;
    Ok(Verdict::send(uplink, Delivery::Device))
}

/// An ICMPv6 discovery message from outside. As [`arp_outside`].
#[inline(never)]
pub(super) fn discovery_outside<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &Case<V6>,
) -> Outcome {
    let Some(&UplinkRecord { mac, .. }) = snapshot.uplink(case.device) else { return Ok(Verdict::PASS) };
    let Some(target) = neighbour::discovery_question(packet, &case.datagram) else {
        return Ok(Verdict::PASS);
    };
    if !translate::is_elastic(snapshot, case.device, target) {
        return Ok(Verdict::PASS);
    }
    let asker = case.datagram.src;
    rewrite::neighbour_advertisement(packet, &Advertisement { target, mac, is_router: true, asker })?;
    Ok(Verdict::send(case.device, Delivery::Device))
}
