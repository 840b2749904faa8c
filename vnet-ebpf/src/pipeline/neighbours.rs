//! What neighbours say and ask: ARP, and what ICMPv6 has in its place.

use vnet_common::{Delivery, UplinkRecord, V6};

use crate::{
    case::Case,
    packet::Packet,
    rewrite::{self, Advertisement},
    stages::{
        judge,
        neighbour::{self, Neighbour, Speaker},
        sender, translate,
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
    judge::host_may_speak(&snapshot, speaker.network)?;
    Ok(onwards(speaker))
}

/// Answers an ARP request, and lets what else is true pass. A function of its own in the kernel too, for
/// the stack's sake.
#[inline(never)]
pub(super) fn answer_arp<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
) -> Outcome {
    let Neighbour::Ask(endpoint) = neighbour::arp(packet, snapshot, speaker)? else {
        return Ok(onwards(speaker));
    };
    rewrite::arp_reply(packet, endpoint.mac)?;
    Ok(answer_to(speaker))
}

/// Answers a neighbour solicitation, and lets what else is true pass. As [`answer_arp`].
#[inline(never)]
fn answer_discovery<P: Packet, T: Tables>(
    packet: &mut P,
    &snapshot: &Snapshot<'_, T>,
    speaker: &Speaker,
    case: &Case<V6>,
) -> Outcome {
    let Neighbour::Ask(endpoint) = neighbour::discovery(packet, snapshot, speaker, &case.datagram)? else {
        return Ok(onwards(speaker));
    };
    let target = V6::from_octets(packet.read(case.datagram.payload + 8)?);
    let (mac, is_router, asker) = (endpoint.mac, endpoint.is_gateway(), case.datagram.src);
    rewrite::neighbour_advertisement(packet, &Advertisement { target, mac, is_router, asker })?;
    Ok(answer_to(speaker))
}

/// To whom it is: what the host says is for every port, what a port says is for the host alone. Others do not
/// have to hear who it is, vnet tells them; and the bridge would carry whatever else the frame says.
#[inline(always)]
const fn onwards(speaker: &Speaker) -> Verdict {
    if speaker.is_host() { Verdict::PASS } else { Verdict::send(speaker.network, Delivery::Host) }
}

/// Back to where the question came from.
#[inline(always)]
const fn answer_to(speaker: &Speaker) -> Verdict {
    let delivery = if speaker.is_host() { Delivery::Host } else { Delivery::Device };
    Verdict::send(speaker.device, delivery)
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
