//! The ICMP errors that vnet makes itself, and the segment sizes that it lowers.
//!
//! Under [`Policy::Narrow`] the uplink carries 1400 bytes, network X 1300 and W 1500.

use std::{net::IpAddr, ops::Range};

use vnet_common::{Delivery, DropReason, FlowState, MacAddr, limits::ERRORS_PER_TICK};

use super::{
    frame::{
        ACK, ICMP, ICMPV6, IP, SYN, SYN_ACK, Segment, TCP, UDP, carried, fix_ipv4_checksum, fragment, icmp,
        packet, packet_with_ttl, routed, tcp, udp,
    },
    nat::{Translated as _, Way, received, sent, way, with_ttl},
    step::{Case, Entry, from, host, outside},
    world::{A, B, C, Device, G, H, MTU_U, MTU_W, MTU_X, O, PORTS, Party, Policy, U, Version},
};

/// Where an error goes that tells C.
const TO_C: (Device, Delivery) = (Device::C, Delivery::Device);
/// Where one goes that tells somebody outside.
const OUTSIDE: (Device, Delivery) = (Device::U, Delivery::NextHop);

pub(super) fn cases() -> Vec<Case> {
    let of_version =
        |version| [too_big(version), segments(version), spent(version), limits(version), clamped(version)];
    Version::BOTH.into_iter().flat_map(of_version).flatten().collect()
}

fn begin(text: &str, version: Version) -> Case {
    Case::new(format!("{text} ({version:?})")).commit(Policy::Narrow)
}

/// An error of vnet's own in a frame between these MACs: from whom, to whom, and what it quotes.
pub(super) struct Told<'a> {
    pub(super) macs: (MacAddr, MacAddr),
    pub(super) ends: (IpAddr, IpAddr),
    pub(super) about: &'a [u8],
}

impl Told<'_> {
    /// Of `kind` and code, with the last word of its header.
    fn frame(&self, kind: (u8, u8), rest: u32) -> Vec<u8> {
        let quoted = &self.about[..self.about.len().min(512) & !3];
        let protocol = if self.ends.0.is_ipv4() { ICMP } else { ICMPV6 };
        let message = icmp(kind, rest.to_be_bytes(), quoted);
        let mut error = packet(self.ends.0, self.ends.1, protocol, &message);
        if protocol == ICMP {
            // Internetwork control, and no identification.
            (error[1], error[4], error[5]) = (0xc0, 0, 0);
            fix_ipv4_checksum(&mut error);
        }
        carried(self.macs.0, self.macs.1, &error)
    }

    pub(super) fn too_big(&self, mtu: u16) -> Vec<u8> {
        self.frame(if self.ends.0.is_ipv4() { (3, 4) } else { (2, 0) }, mtu.into())
    }

    pub(super) fn time_exceeded(&self) -> Vec<u8> {
        self.frame(if self.ends.0.is_ipv4() { (11, 0) } else { (3, 0) }, 0)
    }

    fn prohibited(&self) -> Vec<u8> {
        self.frame(if self.ends.0.is_ipv4() { (3, 13) } else { (1, 1) }, 0)
    }
}

/// An error that tells C of its packet `about`.
fn to_c(version: Version, about: &[u8]) -> Told<'_> {
    Told { macs: (H.mac, C.mac), ends: (H.addr(version), C.addr(version)), about }
}

/// An error that tells whoever sent `about`, a packet of `of`, from outside.
fn to_outside<'a>(of: &Way, about: &'a [u8]) -> Told<'a> {
    let ends = (of.to.0.addr(of.version), of.from.0.addr(of.version));
    Told { macs: (U.mac, O.mac), ends, about }
}

const fn header_len(version: Version) -> usize {
    match version {
        Version::V4 => 20,
        Version::V6 => 40,
    }
}

/// A UDP packet of `len` bytes altogether.
fn datagram(of: &Way, len: u16) -> Vec<u8> {
    let mut payload = udp((of.from.1, of.to.1));
    payload.resize(usize::from(len) - header_len(of.version), b'x');
    let len = payload.len() as u16;
    payload[4..6].copy_from_slice(&len.to_be_bytes());
    of.packet(UDP, &payload)
}

/// The IPv4 packet, which may be fragmented.
fn may_be_fragmented(packet: &[u8]) -> Vec<u8> {
    let mut out = packet.to_vec();
    out[6] = 0;
    fix_ipv4_checksum(&mut out);
    out
}

fn too_big(version: Version) -> Vec<Case> {
    let begin = |text: &str| begin(text, version);
    let (inner, outer) = (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)));
    let (asked, served) = (way(version, (O, 7000), (U, 5000)), way(version, (O, 7000), (C, 6000)));
    let long = datagram(&inner, MTU_U + 1);
    let from_outside = datagram(&asked, MTU_X + 1);
    let refused = |case: Case| {
        let told = to_c(version, &long).too_big(MTU_U);
        case.tells((from(&C), sent(&long)), DropReason::TooBig, TO_C, told)
    };
    let refused_outside = |case: Case| {
        let told = to_outside(&asked, &from_outside).too_big(MTU_X);
        case.tells((outside(), received(&from_outside)), DropReason::TooBig, OUTSIDE, told)
    };
    let switched = |len: u16| {
        let between = way(version, (A, 1), (B, 53));
        carried(A.mac, B.mac, &datagram(&between, len))
    };
    let to_host = carried(C.mac, H.mac, &datagram(&way(version, (C, 1), (H, 53)), MTU_X + 1));
    let routed_in_w = carried(A.mac, G.mac, &datagram(&way(version, (A, 1), (B, 53)), MTU_W + 1));
    let told_a =
        Told { macs: (G.mac, A.mac), ends: (G.addr(version), A.addr(version)), about: &routed_in_w[IP..] };
    let mut cases = vec![
        refused(begin("what_is_too_big_for_the_uplink_is_refused_and_opens_nothing"))
            .no_flows()
            .leaves(&datagram(&inner, MTU_U), &datagram(&outer, MTU_U)),
        refused(begin("so_it_is_in_a_flow_and_is_quoted_as_it_was_sent").leaves(&inner.udp(), &outer.udp()))
            .flows("it does not count", |flows| flows.iter().map(|flow| flow.packets).sum::<u64>() == 1)
            .enters(&outer.back().udp(), &inner.back().udp()),
        refused_outside(begin("what_is_too_big_for_the_network_is_refused_outside"))
            .no_flows()
            .enters(&datagram(&asked, MTU_X), &datagram(&served, MTU_X)),
        refused_outside(begin("so_it_is_in_a_forwards_flow").enters(&asked.udp(), &served.udp())),
        begin("each_direction_has_its_own_limit").leaves(&inner.udp(), &outer.udp()).flows(
            "both are known",
            |flows| {
                let mtu = |is_reply| flows.iter().find(|flow| flow.is_reply == is_reply).map(|flow| flow.mtu);
                (mtu(false), mtu(true)) == (Some(MTU_U), Some(MTU_X))
            },
        ),
        refused(
            begin("a_new_mtu_holds_for_flows_that_are_there")
                .commit(Policy::Nat)
                .leaves(&long, &{ datagram(&outer, MTU_U + 1) })
                .commit(Policy::Narrow),
        )
        .leaves(&inner.udp(), &outer.udp()),
        begin("what_is_switched_and_what_is_the_hosts_may_have_any_length")
            .switches(from(&A), switched(MTU_W + 100), &B)
            .switches(from(&C), to_host, &H),
        begin("between_ports_the_networks_mtu_counts").tells(
            (from(&A), routed_in_w.clone()),
            DropReason::TooBig,
            (Device::A, Delivery::Device),
            told_a.too_big(MTU_W),
        ),
    ];
    if version == Version::V4 {
        let long = may_be_fragmented(&long);
        cases.push(begin("what_may_be_fragmented_is_refused_as_well").tells(
            (from(&C), sent(&long)),
            DropReason::TooBig,
            TO_C,
            to_c(version, &long).too_big(MTU_U),
        ));
    }
    cases
}

/// What is segmented later counts by its segments.
fn segments(version: Version) -> Vec<Case> {
    let begin = |text: &str| begin(text, version);
    let (inner, outer) = (way(version, (C, 1030), (O, 80)), way(version, (U, 1030), (O, 80)));
    let data = |of: &Way| {
        let segment = Segment { flags: ACK, seq: 101, ack: 501, data: 2600 };
        of.packet(TCP, &tcp((of.from.1, of.to.1), segment))
    };
    let talk = |case: Case| {
        case.leaves(&inner.tcp(SYN, 100, 0), &outer.tcp(SYN, 100, 0))
            .enters(&outer.back().tcp(SYN_ACK, 500, 101), &inner.back().tcp(SYN_ACK, 500, 101))
            .leaves(&inner.tcp(ACK, 101, 501), &outer.tcp(ACK, 101, 501))
            .state(FlowState::Established)
    };
    let leaves = |case: Case, entry: Entry, packet: &[u8], out: &[u8]| {
        let out = routed(&carried(C.mac, H.mac, out), MacAddr([0; 6]), U.mac);
        case.sends(entry, sent(packet), OUTSIDE, out)
    };
    let room = MTU_U - header_len(version) as u16;
    let (fits, exceeds) = (from(&C).in_segments_of(room - 20), from(&C).in_segments_of(room - 19));
    let (questions, asked) = (datagram(&inner, 2000), datagram(&outer, 2000));
    vec![
        leaves(
            talk(begin("tcp_that_is_cut_into_segments_that_fit_passes")),
            fits,
            &data(&inner),
            &data(&outer),
        ),
        talk(begin("tcp_that_is_cut_into_longer_segments_is_refused")).tells(
            (exceeds, sent(&data(&inner))),
            DropReason::TooBig,
            TO_C,
            to_c(version, &data(&inner)).too_big(MTU_U),
        ),
        leaves(begin("so_it_is_with_udp"), from(&C).in_segments_of(room - 8), &questions, &asked).tells(
            (from(&C).in_segments_of(room - 7), sent(&questions)),
            DropReason::TooBig,
            TO_C,
            to_c(version, &questions).too_big(MTU_U),
        ),
    ]
}

fn spent(version: Version) -> Vec<Case> {
    let begin = |text: &str| begin(text, version);
    let (inner, outer) = (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)));
    let (asked, served) = (way(version, (O, 7000), (U, 5000)), way(version, (O, 7000), (C, 6000)));
    let last = with_ttl(&inner.udp(), 1);
    let odd = with_ttl(&datagram(&inner, header_len(version) as u16 + 15), 1);
    let last_outside = with_ttl(&asked.udp(), 1);
    let part = |way: &Way, part: Range<usize>| fragment(&way.udp(), 0x7001 + version as u16, part);
    let told = |case: Case, about: &[u8]| {
        let error = to_c(version, about).time_exceeded();
        case.tells((from(&C), sent(about)), DropReason::TtlExceeded, TO_C, error)
    };
    let told_outside = |case: Case| {
        let error = to_outside(&asked, &last_outside).time_exceeded();
        case.tells((outside(), received(&last_outside)), DropReason::TtlExceeded, OUTSIDE, error)
    };
    let (protocol, unreachable) = if version == Version::V4 { (ICMP, (3, 3)) } else { (ICMPV6, (1, 4)) };
    let error = served.back().packet(protocol, &icmp(unreachable, [0; 4], &served.udp()));
    let from_host = packet_with_ttl(1, H.addr(version), C.addr(version), UDP, &udp((1, 2)));
    let nobody = Party { v4: std::net::Ipv4Addr::new(127, 0, 0, 1), v6: std::net::Ipv6Addr::LOCALHOST, ..O };
    let forged = with_ttl(&way(version, (nobody, 7000), (U, 5000)).udp(), 1);
    let mut cases = vec![
        told(begin("the_gateway_tells_where_a_last_hop_ended"), &last).no_flows(),
        told(begin("whole_words_are_quoted"), &odd).no_flows(),
        told(begin("so_it_does_in_a_flow").leaves(&inner.udp(), &outer.udp()), &last)
            .leaves(&inner.udp(), &outer.udp()),
        told_outside(begin("outside_whoever_was_asked_tells_it")).no_flows(),
        told_outside(begin("so_it_does_in_a_forwards_flow").enters(&asked.udp(), &served.udp())),
        begin("of_an_error_nobody_is_told").enters(&asked.udp(), &served.udp()).drops(
            from(&C),
            sent(&with_ttl(&error, 1)),
            DropReason::TtlExceeded,
        ),
        begin("of_a_later_fragment_nobody_is_told").leaves(&part(&inner, 0..8), &part(&outer, 0..8)).drops(
            from(&C),
            sent(&with_ttl(&part(&inner, 8..12), 1)),
            DropReason::TtlExceeded,
        ),
        begin("of_what_the_host_sends_nobody_is_told").drops(
            host(&H),
            carried(H.mac, H.mac, &from_host),
            DropReason::TtlExceeded,
        ),
        begin("nobody_is_told_who_is_no_host").drops(outside(), received(&forged), DropReason::TtlExceeded),
        begin("without_the_gateways_address_nobody_is_told").commit(Policy::Nat).drops(
            from(&C),
            sent(&last),
            DropReason::TtlExceeded,
        ),
    ];
    if version == Version::V6 {
        let unknown = way(version, (C, 0), (C, 0)).packet(ICMPV6, &icmp((100, 0), [0; 4], &[0; 8]));
        let unknown = sent(&with_ttl(&unknown, 1));
        cases.push(begin("an_error_of_an_unknown_kind_is_one").drops(
            from(&C),
            unknown,
            DropReason::TtlExceeded,
        ));
    }
    cases
}

fn limits(version: Version) -> Vec<Case> {
    let begin = |text: &str| begin(text, version);
    let inner = way(version, (C, 1030), (O, 53));
    let asked = way(version, (O, 7000), (U, 5000));
    let (last, last_outside) = (with_ttl(&inner.udp(), 1), with_ttl(&asked.udp(), 1));
    let told = |case: Case| {
        let error = to_c(version, &last).time_exceeded();
        case.tells((from(&C), sent(&last)), DropReason::TtlExceeded, TO_C, error)
    };
    let silent = |case: Case| case.drops(from(&C), sent(&last), DropReason::TtlExceeded);
    let told_outside = |case: Case| {
        let error = to_outside(&asked, &last_outside).time_exceeded();
        case.tells((outside(), received(&last_outside)), DropReason::TtlExceeded, OUTSIDE, error)
    };
    let (first, last_port) = PORTS;
    let ask = |port| way(version, (C, port), (O, 53));
    let seen = |port| way(version, (U, port), (O, 53));
    let exhausted = (first..=last_port)
        .fold(begin("an_exhausted_pool_is_told_and_the_others_go_on"), |case, port| {
            case.leaves(&ask(port).udp(), &seen(port).udp())
        });
    let eleventh = ask(50_000).udp();
    let burst = begin("a_burst_is_told_of_in_part_and_dropped_as_a_whole").then(super::Step::Tick);
    let burst = (0..ERRORS_PER_TICK).fold(burst, |case, _| told(case));
    vec![
        told(told_outside(silent(silent(burst))).then(super::Step::Tick)).no_flows(),
        (first..=last_port)
            .fold(
                exhausted.tells(
                    (from(&C), sent(&eleventh)),
                    DropReason::PortsExhausted,
                    TO_C,
                    to_c(version, &eleventh).prohibited(),
                ),
                |case, port| case.enters(&seen(port).back().udp(), &ask(port).back().udp()),
            )
            .flows("nothing is left of the refused one", |flows| flows.len() == 20),
    ]
}

/// A SYN or SYN-ACK with options, a multiple of four bytes.
fn syn(of: &Way, flags: u8, (seq, ack): (u32, u32), options: &[u8]) -> Vec<u8> {
    let mut segment = tcp((of.from.1, of.to.1), Segment { flags, seq, ack, data: 0 });
    segment.extend_from_slice(options);
    segment[12] = (5 + options.len() as u8 / 4) << 4;
    of.packet(TCP, &segment)
}

fn clamped(version: Version) -> Vec<Case> {
    let begin = |text: &str| begin(text, version);
    let (inner, outer) = (way(version, (C, 1030), (O, 80)), way(version, (U, 1030), (O, 80)));
    let (asked, served) = (way(version, (O, 7000), (U, 8080)), way(version, (O, 7000), (C, 80)));
    // What fits network X with the fixed headers of IP and TCP.
    let [hi, lo] = (MTU_X - header_len(version) as u16 - 20).to_be_bytes();
    let (most, high, low) = ([2, 4, hi, lo], [2, 4, 0x05, 0xb4], [2, 4, 0x02, 0x00]);
    let opens = |case: Case, before: &[u8], after: &[u8]| {
        case.leaves(&syn(&inner, SYN, (100, 0), before), &syn(&outer, SYN, (100, 0), after))
    };
    let odd = |[kind, len, hi, lo]: [u8; 4]| [1, kind, len, hi, lo, 1, 1, 0];
    let behind = |size: [u8; 4]| {
        [&[4, 2, 1, 1][..], &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3], &[3, 7, 1, 1], &size].concat()
    };
    let padded = |size: [u8; 4]| [&[1; 8][..], &size].concat();
    vec![
        opens(begin("a_syn_announces_what_fits_both_ways"), &high, &most).enters(
            &syn(&outer.back(), SYN_ACK, (500, 101), &high),
            &syn(&inner.back(), SYN_ACK, (500, 101), &most),
        ),
        opens(opens(begin("a_syn_that_comes_again_does_so_too"), &high, &most), &high, &most),
        begin("so_do_those_of_a_forward")
            .enters(&syn(&asked, SYN, (100, 0), &high), &syn(&served, SYN, (100, 0), &most))
            .leaves(
                &syn(&served.back(), SYN_ACK, (500, 101), &high),
                &syn(&asked.back(), SYN_ACK, (500, 101), &most),
            ),
        opens(begin("a_segment_size_at_an_odd_place_is_lowered"), &odd(high), &odd(most)),
        opens(begin("so_is_one_behind_other_options"), &behind(high), &behind(most)),
        opens(begin("so_is_one_behind_padding"), &padded(high), &padded(most)),
        opens(begin("a_small_segment_size_stays"), &low, &low),
        opens(begin("a_syn_without_a_segment_size_stays"), &[4, 2, 1, 1], &[4, 2, 1, 1]),
        opens(begin("a_segment_size_of_a_wrong_length_stays"), &[2, 3, 0x05, 1], &[2, 3, 0x05, 1]),
        opens(
            begin("an_option_without_length_ends_the_search"),
            &[5, 0, 2, 4, 5, 0xb4, 0, 0],
            &[5, 0, 2, 4, 5, 0xb4, 0, 0],
        ),
        opens(
            begin("what_follows_the_end_of_the_options_stays"),
            &[0, 0, 2, 4, 5, 0xb4, 0, 0],
            &[0, 0, 2, 4, 5, 0xb4, 0, 0],
        ),
        opens(begin("a_segment_size_stays_where_nobody_clamps").commit(Policy::Nat), &high, &high),
    ]
}
