//! What neighbours say and ask: ARP, and what ICMPv6 has in its place.

use vnet_common::{Delivery, V6};

use crate::{
    case::Case,
    packet::Packet,
    rewrite::{self, Advertisement},
    stages::{
        judge,
        neighbour::{self, Neighbour, Speaker},
        sender,
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
