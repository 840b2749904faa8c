//! What leaves a bridge, to a port or to the host: only what vnet let in, and only if its receiver may have it.

use vnet_common::{Address, DropReason, MacAddr, NetworkFlags, PortRecord, mark};

use super::Arrival;
use crate::{
    headers::{Carries, Datagram, ETHERNET_LEN, Kind, Service, Tags},
    packet::Packet,
    stages::{judge, parse, replay, segment},
    tables::{Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// What the bridge floods to a port. Frames that vnet sent there itself do not come here.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn to_port<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = seen(packet, tables)?;
    let tags = parse::tags(packet)?;
    if tags.count != 0 {
        return to_member(packet, &snapshot, arrival, &tags);
    }
    judged(packet, &snapshot, snapshot.port(arrival.device)?)
}

/// What is flooded, with its tag, to a port that takes part in several networks.
#[inline(always)]
fn to_member<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    arrival: Arrival,
    tags: &Tags,
) -> Outcome {
    let came = segment::came_with(snapshot, arrival.device, tags)?.ok_or(DropReason::VlanTag)?;
    segment::untag(packet, tags)?;
    let verdict = judged(packet, snapshot, snapshot.port(came.number)?)?;
    replay::by_link(packet, snapshot, came.number, 0).map(|_| verdict)
}

/// What becomes of a frame that is flooded to `port`.
#[inline(always)]
fn judged<P: Packet, T: Tables>(packet: &P, snapshot: &Snapshot<'_, T>, port: &PortRecord) -> Outcome {
    let frame = parse::ethernet(packet)?;
    let to = frame.macs.dst();
    match frame.carries {
        // `from_port` and `from_host` let only true ones into the bridge.
        Carries::Arp => Ok(Verdict::PASS),
        Carries::Ipv4 => flooded(snapshot, port, (to, &parse::ipv4(packet, ETHERNET_LEN)?)),
        Carries::Ipv6 => flooded(snapshot, port, (to, &parse::ipv6(packet, ETHERNET_LEN)?)),
    }
}

/// What the bridge hands to the host's own stack. Frames that vnet sent there itself do not come here, so what
/// a port sends while its program is detached goes no further.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn to_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = seen(packet, tables)?;
    if snapshot.network(arrival.device)?.flags.has(NetworkFlags::BRIDGED) {
        // The host hears its LAN by its uplink.
        return Ok(Verdict::TAKEN);
    }
    judge::host_may_speak(&snapshot, arrival.device)?;
    Ok(Verdict::PASS)
}

/// The tables as they were when the packet was let into the bridge: what lets it out sees the same ones.
///
/// The side of the generation before stays as it was until no packet reads it any more, and the bridge floods a
/// packet within the same run that lets it in.
#[inline(always)]
fn seen<'a, T: Tables>(packet: &impl Packet, tables: &'a T) -> Result<Snapshot<'a, T>, DropReason> {
    let snapshot = Snapshot::take(tables)?;
    let generation = mark::flooded_under(packet.mark(), snapshot.generation).ok_or(DropReason::Undecided)?;
    Ok(Snapshot { generation, ..snapshot })
}

/// A datagram to the MAC `to` that the bridge floods to a port.
#[inline(always)]
fn flooded<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    port: &PortRecord,
    (to, datagram): (MacAddr, &Datagram<A>),
) -> Outcome {
    // What DHCP offers is for whoever asked, who may have no address yet; no workload says such a thing.
    if datagram.message.kind == Kind::Discovery || segment::is_dhcp_reply(datagram) {
        return Ok(Verdict::PASS);
    }
    if !segment::is_for_many(snapshot, port.network, (to, datagram.dst.ip()))? {
        return Err(DropReason::Undecided);
    }
    let peer = match snapshot.endpoint(port.network, datagram.src.ip()) {
        Some(from) if from.is_gateway() => return Ok(Verdict::PASS),
        Some(from) => from.identity,
        None => snapshot.peer(datagram.src.ip()),
    };
    judge::receives(snapshot, &Service::of_packet(datagram), port.group_set, peer)?;
    Ok(Verdict::PASS)
}
