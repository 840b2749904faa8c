//! What vnet says itself: who sent a packet that was dropped is told why by an ICMP error, if it can do something about it,
//! and who has to show that they are there is asked to.
//!
//! A drop is a drop: it is decided and counted before anybody comes here, and the packet's buffer is what is left of
//! it. So nothing is rewritten before a packet is sure to go on: the error quotes it as it was sent.

use vnet_common::{Address, Delivery, DropReason, Ip, V4, V6, link};

use super::Arrival;
use crate::{
    case::Case,
    headers::{Carries, ETHERNET_LEN, Kind},
    packet::{Buffer, Ipv4Wire, Ipv6Wire, Packet},
    rewrite::{self, Quote},
    stages::{
        admit,
        parse::{self, Version},
        replay,
    },
    tables::{FlowTable, Snapshot, Tables},
    verdict::Verdict,
};

/// Whether senders are told of packets that are dropped for `reason`. Of all that a policy refuses they are not.
#[inline(always)]
#[must_use]
pub const fn is_answered(reason: DropReason) -> bool {
    matches!(reason, DropReason::TtlExceeded | DropReason::TooBig | DropReason::PortsExhausted)
}

/// Makes of a packet that came from a port or from outside, and was dropped for `reason`, the ICMP error that tells
/// its sender; where that goes, if it may be sent.
///
/// The case of the dropped packet is still there. The tables are looked at anew: a commit waits for this run too
/// before it changes those that the packet saw.
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
    reason: DropReason,
) -> Option<Verdict> {
    let snapshot = Snapshot::take(tables).ok()?;
    match parse::ethernet(packet).ok()?.carries {
        Carries::Ipv4 => about::<V4, P, T>(packet, &snapshot, arrival, reason),
        Carries::Ipv6 => about::<V6, P, T>(packet, &snapshot, arrival, reason),
        Carries::Arp => None,
    }
}

/// Makes of a SYN that came from outside by `device`, and was dropped for [`DropReason::SynChallenged`], the challenge; where that goes.
/// As [`answer`].
#[inline(always)]
pub fn challenge<P: Packet, T: Tables>(packet: &mut P, tables: &T, device: u32) -> Option<Verdict> {
    let snapshot = Snapshot::take(tables).ok()?;
    match parse::ethernet(packet).ok()?.carries {
        Carries::Ipv4 => challenge_syn::<V4, P, T>(packet, &snapshot, device),
        Carries::Ipv6 => challenge_syn::<V6, P, T>(packet, &snapshot, device),
        Carries::Arp => None,
    }
}

/// The same for a packet of one IP version.
#[inline(always)]
fn challenge_syn<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    device: u32,
) -> Option<Verdict> {
    let case = &*FlowTable::<A>::scratch(snapshot.tables).ok()?;
    rewrite::challenge(packet, &case.datagram, admit::challenge(snapshot, case)).ok()?;
    Some(Verdict::send(device, Delivery::NextHop))
}

/// The same where there is no socket buffer yet: the answer goes back as the packet came. How many bytes it has.
#[inline(always)]
pub fn challenge_early<B: Buffer, T: Tables>(packet: &mut B, tables: &T) -> Option<usize> {
    let snapshot = Snapshot::take(tables).ok()?;
    match parse::ethernet(packet).ok()?.carries {
        Carries::Ipv4 => challenge_anew::<V4, B, T>(packet, &snapshot),
        Carries::Ipv6 => challenge_anew::<V6, B, T>(packet, &snapshot),
        Carries::Arp => None,
    }
}

/// The same for a packet of one IP version.
#[inline(always)]
fn challenge_anew<A: Version, B: Buffer, T: Tables + FlowTable<A>>(
    packet: &mut B,
    snapshot: &Snapshot<'_, T>,
) -> Option<usize> {
    let case = &*FlowTable::<A>::scratch(snapshot.tables).ok()?;
    rewrite::challenge_anew(packet, &case.datagram, admit::challenge(snapshot, case)).ok()
}

/// The same for a packet of one IP version.
#[inline(always)]
fn about<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    arrival: Arrival,
    reason: DropReason,
) -> Option<Verdict> {
    let case = &*FlowTable::<A>::scratch(snapshot.tables).ok()?;
    let mtu = case.forth.mtu;
    let (kind_code, rest) = message::<A>(reason, mtu)?;
    if !may_be_told(case) {
        return None;
    }
    let (from, delivery) = origin(snapshot, case, arrival.device)?;
    let (link, peer) = (case.device, case.heard);
    let len = length::<A>(packet)?;
    if !snapshot.tables.may_tell(arrival.device, arrival.now) {
        return None;
    }
    let quote = Quote { kind_code, rest, from, datagram: &case.datagram, len };
    rewrite::error_about(packet, &quote).ok()?;
    if matches!(delivery, Delivery::Link) {
        return replay::by_link(packet, snapshot, link, peer).ok();
    }
    Some(Verdict::send(arrival.device, delivery))
}

/// Type × 256 + code of the error that tells of `reason`, and the last four bytes of its header.
#[inline(always)]
const fn message<A: Address>(reason: DropReason, mtu: u16) -> Option<(u16, u32)> {
    let (v4, v6, rest) = match reason {
        DropReason::TtlExceeded => ((11, 0), (3, 0), 0),
        // RFC 1191 section 4, RFC 4443 section 3.2: the next link's MTU.
        DropReason::TooBig => ((3, 4), (2, 0), mtu as u32),
        // RFC 5508 REQ-8: administratively prohibited.
        DropReason::PortsExhausted => ((3, 13), (1, 1), 0),
        _ => return None,
    };
    let (kind, code) = if A::IS_V4 { v4 } else { v6 };
    Some(((kind as u16) << 8 | code, rest))
}

/// Whether anybody may be told of the packet of `case` (RFC 1122 section 3.2.2, RFC 4443 section 2.4): it is no ICMP
/// error or redirect, the first fragment if it is one, and its source is one host. That its destination is one is why
/// it was routed.
#[inline(always)]
fn may_be_told<A: Address>(case: &Case<A>) -> bool {
    let (src, kind) = (case.datagram.src.ip(), case.datagram.message.icmp >> 8);
    let is_untold = match case.datagram.message.kind {
        Kind::Error | Kind::Discovery | Kind::Part => true,
        // RFC 1122 section 3.2.2: source quench and redirect. RFC 4443 section 2.1: all below 128.
        Kind::Single => {
            if A::IS_V4 {
                kind == 4 || kind == 5
            } else {
                kind < 128
            }
        }
        _ => false,
    };
    !is_untold && !src.is_multicast() && !src.is_local()
}

/// Who tells it, and how it gets back to where the packet came from: to a workload, here or beyond, the gateway, by the
/// port's own device or the link; outside whoever was asked for.
#[inline(always)]
fn origin<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
    device: u32,
) -> Option<(A, Delivery)> {
    let (network, delivery) = if link::is_link(case.device) {
        (case.network, Delivery::Link)
    } else if let Ok(port) = snapshot.port(device) {
        (port.network, Delivery::Device)
    } else {
        return Some((case.datagram.dst, Delivery::NextHop));
    };
    let network = snapshot.network(network).ok()?;
    let gateway = if A::IS_V4 { network.gateway4 } else { network.gateway6 };
    (gateway != Ip::UNSPECIFIED).then(|| (A::of(gateway), delivery))
}

/// Bytes of the IP packet.
#[inline(always)]
fn length<A: Address>(packet: &impl Packet) -> Option<u32> {
    Some(if A::IS_V4 {
        packet.read::<Ipv4Wire>(ETHERNET_LEN).ok()?.total_len.get().into()
    } else {
        let header: Ipv6Wire = packet.read(ETHERNET_LEN).ok()?;
        u32::from(header.payload_len.get()) + size_of::<Ipv6Wire>() as u32
    })
}
