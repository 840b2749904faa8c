//! What neighbours say and ask: ARP, and what ICMPv6 has in its place.

use vnet_common::{
    Address as _, Delivery, DropReason, Ip, MacAddr, NetworkFlags, PortFlags, Snooped, UplinkRecord, V6, link,
};

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
    snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    case: &mut Case<V6>,
) -> Outcome {
    match heard(packet, snapshot, speaker, case)? {
        Verdict::OPEN => {
            advertise(packet, case)?;
            answer_to(packet, snapshot, speaker)
        }
        verdict => Ok(verdict),
    }
}

/// What becomes of it, but for an answer, which is left open; who is asked for is filled in then. A function of its own in
/// the kernel too, for the stack's sake.
#[inline(never)]
fn heard<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    case: &mut Case<V6>,
) -> Outcome {
    if neighbour::is_about_neighbours(&case.datagram) {
        return match judge_discovery(packet, &snapshot, speaker, case) {
            Err(reason) => {
                let claimed = neighbour::claimed_by_discovery(packet, &case.datagram);
                tell_of_claim(&snapshot, (speaker, case.now), claimed, reason);
                unknown(&snapshot, speaker, reason)
            }
            answered => answered,
        };
    }
    if !speaker.is_host() {
        sender::check_role(&case.datagram)?;
        if let Err(reason) = neighbour::check_source(snapshot, speaker, &case.datagram) {
            tell_of_claim(&snapshot, (speaker, case.now), Some(case.datagram.src.ip()), reason);
            return Err(reason);
        }
    }
    // Router solicitation and listener reports: no rule speaks of them, and the host is the only router.
    if !segment::extends(&snapshot, speaker.network)? {
        judge::host_may_speak(&snapshot, speaker.network)?;
    }
    onwards(&snapshot, speaker)
}

/// An ARP packet.
#[inline(always)]
pub(super) fn arp<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    (speaker, now): (&Speaker, u32),
) -> Outcome {
    match answer_arp(packet, snapshot, speaker) {
        Err(reason) => {
            let claimed = neighbour::claimed_by_arp(packet, speaker);
            tell_of_claim(snapshot, (speaker, now), claimed, reason);
            unknown(snapshot, speaker, reason)
        }
        answered => answered,
    }
}

/// Answers an ARP request, and lets what else is true pass. A function of its own in the kernel too, for
/// the stack's sake.
#[inline(never)]
fn answer_arp<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
) -> Outcome {
    match neighbour::arp(packet, snapshot, speaker)? {
        Neighbour::Ask(endpoint) => {
            rewrite::arp_reply(packet, endpoint.mac)?;
            answer_to(packet, &snapshot, speaker)
        }
        Neighbour::Own => onwards(&snapshot, speaker),
    }
}

/// Tells the controller of an address that nobody has, and that a port claims whose addresses are learned. As
/// [`answer_arp`].
#[inline(never)]
fn tell_of_claim<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    (speaker, now): (&Speaker, u32),
    claimed: Option<Ip>,
    reason: DropReason,
) {
    let is_claim = matches!(
        reason,
        DropReason::SpoofedArp
            | DropReason::SpoofedNeighbour
            | DropReason::SpoofedAddress
            | DropReason::UnknownNeighbour
    );
    let Some(addr) = claimed.filter(|_| is_claim) else { return };
    let learns = snapshot.port(speaker.device).is_ok_and(|port| port.flags.has(PortFlags::LEARNS));
    let is_nobodys = learns && snapshot.endpoint(speaker.network, addr).is_none();
    if is_nobodys && snapshot.tables.may_tell(speaker.device, now) {
        snapshot.tables.tell(Snooped::claim(speaker.network, speaker.mac, addr));
    }
}

/// Judges a neighbour message: what is true passes. Who is asked for is filled in, and the answer left open. As
/// [`answer_arp`].
#[inline(never)]
fn judge_discovery<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    case: &mut Case<V6>,
) -> Outcome {
    match neighbour::discovery(packet, snapshot, speaker, &case.datagram)? {
        Neighbour::Ask(endpoint) => {
            case.to = *endpoint;
            Ok(Verdict::OPEN)
        }
        Neighbour::Own => onwards(&snapshot, speaker),
    }
}

/// Turns a neighbour solicitation into the answer that its target is `case.to`. As [`answer_arp`].
#[inline(never)]
fn advertise<P: Packet>(packet: &mut P, case: &Case<V6>) -> Result<(), DropReason> {
    let target = V6::from_octets(packet.read(case.datagram.payload_offset()? + 8)?);
    let (mac, is_router, asker) = (case.to.mac, case.to.is_gateway(), case.datagram.src);
    rewrite::neighbour_advertisement(packet, &Advertisement { target, mac, is_router, asker })
}

/// To whom it is: what the host says is for every port, what a port says is for the host alone, and for whoever is
/// beyond. Others here do not have to hear who it is, vnet tells them; and the bridge would carry whatever else the frame
/// says.
#[inline(always)]
fn onwards<T: Tables>(snapshot: &Snapshot<'_, T>, speaker: &Speaker) -> Outcome {
    if speaker.is_host() {
        return Ok(Verdict::PASS);
    }
    let delivery =
        if segment::extends(snapshot, speaker.network)? { Delivery::Beyond } else { Delivery::Host };
    Ok(Verdict::send(speaker.network, delivery))
}

/// What becomes of a message that is refused for `reason`: whom nobody here knows may be beyond.
#[inline(always)]
fn unknown<T: Tables>(snapshot: &Snapshot<'_, T>, speaker: &Speaker, reason: DropReason) -> Outcome {
    if reason == DropReason::UnknownNeighbour && segment::extends(snapshot, speaker.network)? {
        return Ok(Verdict::send(speaker.network, Delivery::Beyond));
    }
    Err(reason)
}

/// Back to where the question came from.
#[inline(always)]
fn answer_to<P: Packet, T: Tables>(packet: &mut P, snapshot: &Snapshot<'_, T>, speaker: &Speaker) -> Outcome {
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

/// An ICMPv6 discovery message from beyond this host.
#[inline(always)]
pub(super) fn discovery_beyond<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    (speaker, peer): (&Speaker, u16),
    case: &mut Case<V6>,
) -> Outcome {
    match judge_discovery_beyond(packet, snapshot, speaker, case)? {
        Verdict::OPEN => {
            advertise(packet, case)?;
            replay::by_link(packet, snapshot, speaker.device, peer)
        }
        verdict => Ok(verdict),
    }
}

/// Judges it; as [`judge_discovery`].
#[inline(never)]
fn judge_discovery_beyond<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    case: &mut Case<V6>,
) -> Outcome {
    let is_bridged = snapshot.network(speaker.network)?.flags.has(NetworkFlags::BRIDGED);
    if !is_bridged {
        // The host is the router.
        sender::check_role(&case.datagram)?;
    }
    match neighbour::discovery_from_beyond(packet, snapshot, speaker, &case.datagram)? {
        Heard::Ask(endpoint) => {
            case.to = *endpoint;
            Ok(Verdict::OPEN)
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
