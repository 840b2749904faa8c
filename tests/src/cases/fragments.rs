//! Fragments: RFC 791 section 3.2, RFC 8200 section 4.5, RFC 4787 REQ-14, RFC 5722, RFC 1858.
//!
//! The kernel's test run shows neither what is held back nor what arrives again, so the cases let it arrive.

use vnet_common::DropReason;

use super::{
    frame::{ACK, Segment, TCP, UDP, carried, fragment, packet, routed, tcp},
    nat::{Translated as _, Way, received, sent, way},
    step::{Case, from, host, outside},
    world::{A, B, C, Device, G, H, O, Policy, U, Version},
};

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(|version| [inside(version), translated(version)].concat()).collect()
}

/// A datagram with 40 bytes of data.
fn datagram(way: &Way) -> Vec<u8> {
    way.packet(UDP, &payload(way.ports()))
}

fn payload((src, dst): (u16, u16)) -> Vec<u8> {
    let data: Vec<u8> = (0..40).collect();
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &48_u16.to_be_bytes(), &[0; 2], &data].concat()
}

/// It in three fragments.
fn in_three(packet: &[u8], id: u16) -> [Vec<u8>; 3] {
    [0..16, 16..32, 32..48].map(|part| fragment(packet, id, part))
}

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Identifications of datagrams differ, for the kernel remembers those of cases before.
fn id(version: Version, case: u16) -> u16 {
    case * 16 + if version == Version::V4 { 4 } else { 6 }
}

fn translated(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Nat);
    let (asked, inner) = (way(version, (O, 7000), (U, 5000)), way(version, (O, 7000), (C, 6000)));
    let (ask, seen) = (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)));
    let of = |packet: &[u8], number| in_three(packet, id(version, number));
    let through_forward = |number: u16, order: [usize; 3]| {
        let (sent, arrives) = (of(&datagram(&asked), number), of(&datagram(&inner), number));
        let frames = sent.each_ref().map(|packet| received(packet));
        let case = begin(&format!("a_datagram_in_three_fragments_is_forwarded_in_the_order_{order:?}"));
        let first = order.iter().position(|part| *part == 0).expect("the first fragment");
        // Those before the first one pass to the host, which they may be for, and a copy is held back.
        let held: Vec<usize> = order[..first].to_vec();
        let mut case = held.iter().fold(case, |case, part| case.passes(outside(), frames[*part].clone()));
        if held.is_empty() {
            case = case.enters(&sent[0], &arrives[0]);
        } else {
            let mut again = vec![&frames[0]];
            again.extend(held.iter().map(|part| &frames[*part]));
            case = case.takes(outside(), frames[0].clone(), &again);
            for part in [0].into_iter().chain(held) {
                let out = routed(&carried(O.mac, U.mac, &arrives[part]), C.mac, H.mac);
                case = case.sends(outside().again(), frames[part].clone(), (Device::C, C.delivery), out);
            }
        }
        order[first + 1..].iter().fold(case, |case, part| case.enters(&sent[*part], &arrives[*part]))
    };
    let leaving = |number: u16| (of(&datagram(&ask), number), of(&datagram(&seen), number));
    let (own, out) = leaving(20);
    let (late, late_out) = leaving(21);
    let (answer, back) = (of(&datagram(&seen.back()), 22), of(&datagram(&ask.back()), 22));
    let hosts = of(&datagram(&way(version, (O, 7000), (U, 40_000))), 23);
    let overlapping = fragment(&datagram(&asked), id(version, 24), 8..24);
    let (whole, whole_in) = (of(&datagram(&asked), 24), of(&datagram(&inner), 24));
    let mut cases: Vec<Case> =
        (10..).zip(ORDERS).map(|(number, order)| through_forward(number, order)).collect();
    cases.extend([
        begin("fragments_leave_with_the_address_of_the_uplink")
            .leaves(&own[0], &out[0])
            .leaves(&own[1], &out[1])
            .leaves(&own[2], &out[2])
            .enters(&answer[0], &back[0])
            .enters(&answer[2], &back[2])
            .enters(&answer[1], &back[1]),
        begin("a_workloads_fragment_waits_for_the_first_one")
            .takes(from(&C), sent(&late[2]), &[])
            .takes(from(&C), sent(&late[0]), &[&sent(&late[0]), &sent(&late[2])])
            .sends(
                from(&C).again(),
                sent(&late[0]),
                (Device::U, O.delivery),
                routed(&carried(C.mac, H.mac, &late_out[0]), super::nat::NEXT_HOP, U.mac),
            )
            .sends(
                from(&C).again(),
                sent(&late[2]),
                (Device::U, O.delivery),
                routed(&carried(C.mac, H.mac, &late_out[2]), super::nat::NEXT_HOP, U.mac),
            )
            .leaves(&late[1], &late_out[1]),
        begin("the_hosts_own_fragments_pass")
            .passes(outside(), received(&hosts[0]))
            .passes(outside(), received(&hosts[2]))
            .passes(outside(), received(&hosts[1])),
        begin("a_fragment_that_overlaps_is_dropped_and_nothing_follows_it")
            .enters(&whole[0], &whole_in[0])
            .drops(outside(), received(&overlapping), DropReason::FragmentOverlap)
            .drops(outside(), received(&whole[1]), DropReason::FragmentOverlap)
            .drops(outside(), received(&whole[2]), DropReason::FragmentOverlap),
    ]);
    cases
}

fn inside(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let whole = |ports| packet(A.addr(version), B.addr(version), UDP, &payload(ports));
    let frame = |packet: &[u8]| carried(A.mac, B.mac, packet);
    let parts = |packet: &[u8], number| in_three(packet, id(version, number)).map(|packet| frame(&packet));
    let (allowed, denied) = (whole((40_000, 53)), whole((40_000, 54)));
    let [first, second, third] = parts(&allowed, 30);
    let forbidden = parts(&denied, 31);
    let twice = parts(&allowed, 32);
    let other = parts(&allowed, 33);
    let early = parts(&allowed, 34);
    let overlap = |number, part| frame(&fragment(&allowed, id(version, number), part));
    let segment = |flags| tcp((40_000, 80), Segment { flags, seq: 1, ack: 0, data: 40 });
    let tiny = packet(A.addr(version), B.addr(version), TCP, &segment(ACK));
    let from_host = packet(G.addr(version), A.addr(version), UDP, &payload((1, 2)));
    let [to_a, later, _] = in_three(&from_host, id(version, 36)).map(|packet| carried(G.mac, A.mac, &packet));
    let short = overlap(35, 0..8);
    vec![
        Case::new(name("a_datagram_in_fragments_is_switched"))
            .switches(from(&A), first, &B)
            .switches(from(&A), third, &B)
            .switches(from(&A), second, &B)
            .flows("all are of one flow", |flows| {
                flows.len() == 2 && flows.iter().any(|flow| flow.packets == 3)
            }),
        Case::new(name("what_follows_a_fragment_that_is_not_allowed_is_dropped"))
            .drops(from(&A), forbidden[0].clone(), DropReason::IngressDenied)
            .drops(from(&A), forbidden[1].clone(), DropReason::Fragment)
            .no_flows(),
        Case::new(name("a_fragment_that_comes_twice_is_dropped_once"))
            .switches(from(&A), twice[0].clone(), &B)
            .drops(from(&A), twice[0].clone(), DropReason::Fragment)
            .switches(from(&A), twice[1].clone(), &B)
            .switches(from(&A), twice[2].clone(), &B),
        Case::new(name("fragments_that_overlap_by_a_unit_end_their_datagram"))
            .switches(from(&A), other[0].clone(), &B)
            .drops(from(&A), overlap(33, 8..24), DropReason::FragmentOverlap)
            .drops(from(&A), other[2].clone(), DropReason::FragmentOverlap),
        Case::new(name("so_do_those_that_come_before_the_first"))
            .takes(from(&A), overlap(34, 8..24), &[])
            .drops(from(&A), early[0].clone(), DropReason::FragmentOverlap)
            .drops(from(&A), early[1].clone(), DropReason::FragmentOverlap)
            .no_flows(),
        Case::new(name("a_first_fragment_without_all_of_its_headers_is_dropped"))
            .drops(from(&A), frame(&fragment(&tiny, id(version, 35), 0..16)), DropReason::Truncated)
            .drops(from(&A), frame(&fragment(&tiny, id(version, 35), 8..24)), DropReason::Fragment)
            .switches(from(&A), short, &B)
            .drops(from(&A), carried(A.mac, B.mac, &odd(&allowed)), DropReason::MalformedHeader),
        Case::new(name("the_host_sends_the_first_fragment_first"))
            .drops(host(&G), later.clone(), DropReason::Fragment)
            .switches(host(&G), to_a, &A)
            .switches(host(&G), later, &A),
    ]
}

/// A first fragment whose length is no multiple of 8.
fn odd(packet: &[u8]) -> Vec<u8> {
    fragment(packet, 1, 0..13)
}
