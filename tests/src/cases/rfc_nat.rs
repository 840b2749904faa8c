//! What NATs get wrong, as RFC 4787, 5382 and 5508 tell it: handshakes that cross, SYNs that nobody asked for, data
//! outside the window, ICMP errors about everything that is translated.
//!
//! `crate::requirements` tells which requirement each case proves.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, FIN, ICMP, RST, SYN, SYN_ACK, Segment, TCP, carried, fix_ipv4_checksum, icmp, routed, tcp},
    icmp::echo,
    nat::{Translated as _, Way, error, received, sent, way},
    step::{Case, from, outside},
    world::{C, Device, H, O, PORTS, Party, Policy, U, Version},
};

pub(super) fn cases() -> Vec<Case> {
    let of_version = |version| [handshakes(version), connections(version), errors(version)].concat();
    Version::BOTH.into_iter().flat_map(of_version).chain(of_ipv4()).collect()
}

/// C to O's port 53, as C sends it and as O sees it. C's port is one that the network may leave with, and is kept.
const fn ways(version: Version) -> (Way, Way) {
    (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)))
}

fn begin(name: &str, version: Version) -> Case {
    Case::new(format!("{name} ({version:?})")).commit(Policy::Nat)
}

/// A case that begins with an established connection: C has sent up to 101, O up to 501.
fn established(name: &str, version: Version) -> Case {
    let (inner, outer) = ways(version);
    begin(name, version)
        .leaves(&inner.tcp(SYN, 100, 0), &outer.tcp(SYN, 100, 0))
        .enters(&outer.back().tcp(SYN_ACK, 500, 101), &inner.back().tcp(SYN_ACK, 500, 101))
        .leaves(&inner.tcp(ACK, 101, 501), &outer.tcp(ACK, 101, 501))
        .state(FlowState::Established)
}

fn handshakes(version: Version) -> Vec<Case> {
    let (inner, outer) = ways(version);
    let (answer, answered) = (outer.back(), inner.back());
    // Both ends have sent a SYN, and C's has left first.
    let crossed = |case: Case| {
        case.leaves(&inner.tcp(SYN, 100, 0), &outer.tcp(SYN, 100, 0))
            .state(FlowState::New)
            .enters(&answer.tcp(SYN, 500, 0), &answered.tcp(SYN, 500, 0))
            .state(FlowState::SynReceived)
            .leaves(&inner.tcp(SYN_ACK, 100, 501), &outer.tcp(SYN_ACK, 100, 501))
            .enters(&answer.tcp(SYN_ACK, 500, 101), &answered.tcp(SYN_ACK, 500, 101))
            .leaves(&inner.tcp(ACK, 101, 501), &outer.tcp(ACK, 101, 501))
            .state(FlowState::Established)
    };
    vec![
        crossed(begin("a_simultaneous_open_through_snat_establishes", version)),
        crossed(
            // It is the host's to answer, whose address it is sent to.
            begin("a_syn_that_nobody_asked_for_leaves_no_trace_and_the_workloads_own_wins", version)
                .passes(outside(), received(&answer.tcp(SYN, 500, 0)))
                .no_flows()
                .advance(3),
        ),
        begin("a_segment_of_no_connection_neither_leaves_nor_enters", version)
            .drops(from(&C), sent(&inner.tcp(ACK, 101, 501)), DropReason::NoFlow)
            .drops(from(&C), sent(&inner.tcp(SYN_ACK, 100, 501)), DropReason::NoFlow)
            .drops(from(&C), sent(&inner.tcp(RST, 101, 0)), DropReason::NoFlow)
            .passes(outside(), received(&answer.tcp(ACK, 501, 101)))
            .no_flows(),
    ]
}

fn connections(version: Version) -> Vec<Case> {
    let (inner, outer) = ways(version);
    let (answer, answered) = (outer.back(), inner.back());
    let data =
        |way: &Way, seq, ack| way.packet(TCP, &tcp(way.ports(), Segment { flags: ACK, seq, ack, data: 20 }));
    // No window is larger than 2^30 bytes (RFC 7323 section 2.3).
    let far = 1 << 30;
    let closed = |case: Case| {
        case.leaves(&inner.tcp(FIN | ACK, 101, 501), &outer.tcp(FIN | ACK, 101, 501))
            .state(FlowState::FinWait)
            .enters(&answer.tcp(FIN | ACK, 501, 102), &answered.tcp(FIN | ACK, 501, 102))
            .state(FlowState::TimeWait)
            .leaves(&inner.tcp(ACK, 102, 502), &outer.tcp(ACK, 102, 502))
    };
    vec![
        established("data_outside_the_window_is_translated_and_changes_nothing", version)
            .enters(&data(&answer, 501 + far, 101), &data(&answered, 501 + far, 101))
            .leaves(&data(&inner, 101 + far, 501), &data(&outer, 101 + far, 501))
            .enters(
                &data(&answer, 501_u32.wrapping_sub(far), 101),
                &data(&answered, 501_u32.wrapping_sub(far), 101),
            )
            .state(FlowState::Established)
            .leaves(&data(&inner, 101, 501), &data(&outer, 101, 501))
            .enters(&data(&answer, 501, 121), &data(&answered, 501, 121))
            .state(FlowState::Established)
            // What each end has acknowledged still tells which reset is exact.
            .enters(&answer.tcp(RST, 501 + far, 0), &answered.tcp(RST, 501 + far, 0))
            .state(FlowState::Established)
            .enters(&answer.tcp(RST, 501, 0), &answered.tcp(RST, 501, 0))
            .state(FlowState::Closed),
        closed(established("both_ends_close_a_translated_connection", version))
            .leaves(&inner.tcp(SYN, 9_000, 0), &outer.tcp(SYN, 9_000, 0))
            .state(FlowState::New),
        begin("each_direction_refreshes_a_translated_flow", version)
            .leaves(&inner.udp(), &outer.udp())
            .enters(&answer.udp(), &answered.udp())
            .advance(60)
            .flows("both are idle", |flows| flows.len() == 2 && flows.iter().all(|flow| flow.is_idle))
            .leaves(&inner.udp(), &outer.udp())
            .flows("what leaves refreshes", |flows| flows.iter().any(|flow| !flow.is_reply && !flow.is_idle))
            .advance(60)
            .enters(&answer.udp(), &answered.udp())
            .flows("what enters refreshes", |flows| flows.iter().any(|flow| flow.is_reply && !flow.is_idle)),
    ]
}

/// The first packet with the checksum of ICMP of the second, which nobody updates in what an error quotes.
fn with_checksum_of(shown: &[u8], of: &[u8], version: Version) -> Vec<u8> {
    let at = if version == Version::V4 { 22 } else { 42 };
    let mut shown = shown.to_vec();
    shown[at..at + 2].copy_from_slice(&of[at..at + 2]);
    shown
}

fn errors(version: Version) -> Vec<Case> {
    let (inner, outer) = ways(version);
    let too_big = if version == Version::V4 { (3, 4) } else { (2, 0) };
    let unreachable = if version == Version::V4 { (3, 3) } else { (1, 4) };
    let router =
        Party { v4: [198, 51, 100, 254].into(), v6: [0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0xfe].into(), ..O };
    let (sent_segment, seen_segment) = (inner.tcp(ACK, 101, 501), outer.tcp(ACK, 101, 501));
    let of_router = |to: Party| way(version, (router, 0), (to, 0));

    // An identifier that the network may not leave with is replaced.
    let (first, _) = PORTS;
    let id = 50_000;
    let seen_id = first + (C.mac.link_local().digest().wrapping_add(u32::from(id)) % 10) as u16;
    let (protocol, request, reply) = echo(version);
    let message = |of: &Way, kind: u8, id: u16| {
        let [high, low] = id.to_be_bytes();
        of.packet(protocol, &icmp((kind, 0), [high, low, 0, 1], b"ping"))
    };
    let (ping, pinged) = (message(&inner, request, id), message(&outer, request, seen_id));
    let (pong, ponged) = (message(&outer.back(), reply, seen_id), message(&inner.back(), reply, id));

    // C reaches itself by a forward, and refuses its own packet.
    let (asked, seen) = (way(version, (C, 1030), (U, 8080)), way(version, (U, 1030), (C, 80)));
    let to_c = |packet: &[u8]| routed(&carried(C.mac, H.mac, packet), C.mac, H.mac);
    vec![
        established("too_big_about_a_masqueraded_connection_is_translated_and_leaves_it", version)
            .enters(
                &error(&of_router(U), too_big, &seen_segment),
                &error(&of_router(C), too_big, &sent_segment),
            )
            .state(FlowState::Established)
            .leaves(&sent_segment, &seen_segment),
        begin("an_error_about_a_masqueraded_ping_neither_refreshes_nor_ends_it", version)
            .leaves(&ping, &pinged)
            .enters(&pong, &ponged)
            .state(FlowState::Established)
            .advance(30)
            .enters(
                &error(&of_router(U), unreachable, &pinged),
                &error(&of_router(C), unreachable, &with_checksum_of(&ping, &pinged, version)),
            )
            .state(FlowState::Established)
            .flows("nothing is refreshed", |flows| flows.len() == 2 && flows.iter().all(|flow| flow.is_idle))
            .enters(&pong, &ponged),
        begin("an_error_about_a_hairpinned_packet_is_translated_outside_and_inside", version)
            .sends(
                from(&C),
                sent(&asked.tcp(SYN, 100, 0)),
                (Device::C, C.delivery),
                to_c(&seen.tcp(SYN, 100, 0)),
            )
            .sends(
                from(&C),
                sent(&error(&seen.back(), unreachable, &seen.tcp(SYN, 100, 0))),
                (Device::C, C.delivery),
                to_c(&error(&asked.back(), unreachable, &asked.tcp(SYN, 100, 0))),
            )
            .state(FlowState::New),
        begin("an_error_of_a_workload_about_no_flow_does_not_leave", version).drops(
            from(&C),
            sent(&error(&inner, unreachable, &inner.back().udp())),
            DropReason::UnrelatedError,
        ),
        established("an_error_that_is_spoiled_arrives_spoiled", version).enters(
            &spoiled(error(&of_router(U), too_big, &seen_segment), version),
            &spoiled(error(&of_router(C), too_big, &sent_segment), version),
        ),
    ]
}

/// An ICMP message whose checksum is one too high (RFC 1071).
fn spoiled(mut packet: Vec<u8>, version: Version) -> Vec<u8> {
    let at = if version == Version::V4 { 22 } else { 42 };
    let sum = u16::from_be_bytes([packet[at], packet[at + 1]]);
    let wrong = if sum == u16::MAX { 1 } else { sum + 1 };
    packet[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    packet
}

fn of_ipv4() -> Vec<Case> {
    let version = Version::V4;
    let (inner, outer) = ways(version);
    let quoting = |way: &Way, about: &[u8]| way.packet(ICMP, &icmp((3, 3), [0; 4], &about[..32]));
    vec![
        established("an_error_that_quotes_ip_options_is_translated", version).enters(
            &quoting(&outer.back(), &with_option(&outer.tcp(ACK, 101, 501))),
            &quoting(&inner.back(), &with_option(&inner.tcp(ACK, 101, 501))),
        ),
        begin("a_question_without_identifier_does_not_leave_with_an_address_that_others_share", version)
            .drops(
                from(&C),
                sent(&inner.packet(ICMP, &icmp((13, 0), [0, 1, 0, 1], &[0; 12]))),
                DropReason::Untranslated,
            ),
    ]
}

/// An IPv4 packet with four bytes of options: router alert (RFC 2113).
fn with_option(packet: &[u8]) -> Vec<u8> {
    let (header, payload) = packet.split_at(20);
    let mut header = [header, &[148, 4, 0, 0]].concat();
    header[0] = 0x46;
    header[2..4].copy_from_slice(&(24 + payload.len() as u16).to_be_bytes());
    fix_ipv4_checksum(&mut header);
    [header, payload.to_vec()].concat()
}
