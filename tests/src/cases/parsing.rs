//! Headers that are cut, lie, or are not on vnet's list.

use std::net::IpAddr;

use vnet_common::DropReason;

use super::{
    frame::{
        ACK, FIN, ICMP, ICMPV6, IP, RST, SYN, Segment, TCP, UDP, carried, ether, fix_ipv4_checksum, icmp,
        packet, switched, tcp, udp,
    },
    icmp::ping,
    step::{Case, Entry, from, host, to},
    world::{A, B, G, Version},
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// Where a header above IP begins, without options.
const ABOVE_IPV4: usize = IP + 20;
const ABOVE_IPV6: usize = IP + 40;

pub(super) fn cases() -> Vec<Case> {
    [ethernet(), ipv4(), ipv6(), extensions(), tcp_headers(), cut()].concat()
}

fn question(version: Version) -> Vec<u8> {
    switched(version, (&A, &B), UDP, &udp((40_000, 53)))
}

fn ethernet() -> Vec<Case> {
    let tagged = |outer: u16, id: u16| {
        let frame = question(Version::V4);
        [&frame[..12], &outer.to_be_bytes(), &id.to_be_bytes(), &frame[12..]].concat()
    };
    let of_type = |ether_type| ether(A.mac, B.mac, ether_type, &[0; 46]);
    let beside = Entry { vlan_tag: true, ..from(&A) };
    vec![
        Case::new("a_tagged_frame_is_dropped")
            .drops(from(&A), tagged(0x8100, 10), DropReason::VlanTag)
            .drops(from(&A), tagged(0x8100, 0), DropReason::VlanTag)
            .drops(from(&A), tagged(0x88a8, 10), DropReason::VlanTag)
            .drops(host(&G), tagged(0x8100, 10), DropReason::VlanTag)
            .drops(to(&B), tagged(0x8100, 0), DropReason::VlanTag)
            .no_flows(),
        Case::new("a_tag_beside_the_frame_is_one_too")
            .model_only()
            .drops(beside, question(Version::V4), DropReason::VlanTag)
            .drops(beside, question(Version::V6), DropReason::VlanTag),
        Case::new("a_frame_that_is_neither_arp_nor_ip_is_dropped")
            // LLC: a length in place of the type; then PPPoE, LLDP, QinQ as some switches write it.
            .drops(from(&A), of_type(46), DropReason::EtherType)
            .drops(from(&A), of_type(0x8864), DropReason::EtherType)
            .drops(from(&A), of_type(0x88cc), DropReason::EtherType)
            .drops(from(&A), of_type(0x9100), DropReason::EtherType)
            .drops(to(&B), of_type(46), DropReason::EtherType)
            .drops(host(&G), of_type(0x88cc), DropReason::EtherType),
    ]
}

/// An IPv4 question with one byte changed and the header checksum right.
fn with_ipv4_byte(at: usize, value: u8) -> Vec<u8> {
    let mut frame = question(Version::V4);
    frame[IP + at] = value;
    if frame[IP] & 15 >= 5 {
        frame[IP + 10..IP + 12].fill(0);
        let header = &mut frame[IP..];
        if usize::from(header[0] & 15) * 4 <= header.len() {
            fix_ipv4_checksum(header);
        }
    }
    frame
}

fn with_ipv4_len(len: u16) -> Vec<u8> {
    let mut frame = question(Version::V4);
    frame[IP + 2..IP + 4].copy_from_slice(&len.to_be_bytes());
    fix_ipv4_checksum(&mut frame[IP..]);
    frame
}

/// An IPv4 question with these options, a multiple of four bytes.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut frame = question(Version::V4);
    frame.splice(ABOVE_IPV4..ABOVE_IPV4, options.iter().copied());
    frame[IP] += options.len() as u8 / 4;
    frame[IP + 3] += options.len() as u8;
    fix_ipv4_checksum(&mut frame[IP..]);
    frame
}

fn ipv4() -> Vec<Case> {
    let mut padded = question(Version::V4);
    padded.resize(60, 0);
    let ip_len = question(Version::V4).len() as u16 - IP as u16;
    vec![
        Case::new("ipv4_options_are_skipped")
            // Router alert (RFC 2113); no operation and the end of the list.
            .switches(from(&A), with_options(&[0x94, 4, 0, 0]), &B)
            .switches(from(&A), with_options(&[1, 1, 0, 131]), &B)
            .switches(from(&A), question(Version::V4), &B)
            .flows("it is the same flow", |flows| flows.len() == 2),
        Case::new("an_ipv4_source_route_is_malformed")
            .drops(from(&A), with_options(&[131, 7, 4, 10, 9, 0, 12, 0]), DropReason::MalformedHeader)
            .drops(from(&A), with_options(&[1, 137, 7, 4, 10, 9, 0, 12]), DropReason::MalformedHeader)
            .drops(from(&A), with_options(&[0x94, 4, 0, 0, 131, 3, 4, 0]), DropReason::MalformedHeader)
            .drops(host(&G), with_options(&[131, 3, 4, 0]), DropReason::MalformedHeader)
            .drops(from(&A), with_options(&[1; 12]), DropReason::MalformedHeader)
            .no_flows(),
        Case::new("padding_after_the_packet_is_carried").switches(from(&A), padded, &B),
        Case::new("an_ipv4_header_that_lies_is_malformed")
            .drops(from(&A), with_ipv4_byte(0, 0x44), DropReason::MalformedHeader)
            .drops(from(&A), with_ipv4_byte(0, 0x40), DropReason::MalformedHeader)
            .drops(from(&A), with_ipv4_byte(0, 0x55), DropReason::MalformedHeader)
            .drops(from(&A), with_ipv4_byte(0, 0x65), DropReason::MalformedHeader)
            .drops(from(&A), with_ipv4_len(19), DropReason::MalformedHeader)
            .drops(from(&A), with_ipv4_len(0), DropReason::MalformedHeader)
            .no_flows(),
        Case::new("what_lies_behind_the_end_of_an_ipv4_packet_is_no_header")
            .drops(from(&A), with_ipv4_len(20), DropReason::Truncated)
            .drops(from(&A), with_ipv4_len(24), DropReason::Truncated)
            .drops(from(&A), with_ipv4_len(27), DropReason::Truncated)
            .no_flows(),
        Case::new("an_ipv4_packet_shorter_than_it_says_is_truncated")
            .drops(from(&A), with_ipv4_len(ip_len + 1), DropReason::Truncated)
            .drops(from(&A), with_ipv4_len(u16::MAX), DropReason::Truncated)
            .no_flows(),
        Case::new("ipv4_fragments_that_make_no_sense_are_dropped")
            .drops(from(&A), with_ipv4_byte(6, 0x20), DropReason::MalformedHeader)
            .drops(from(&A), with_ipv4_byte(6, 0x3f), DropReason::MalformedHeader)
            .drops(to(&B), with_ipv4_byte(6, 0x20), DropReason::Fragment)
            .no_flows(),
    ]
}

fn ipv6() -> Vec<Case> {
    let with_len = |len: u16| {
        let mut frame = question(Version::V6);
        frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
        frame
    };
    let with_version = |first: u8| {
        let mut frame = question(Version::V6);
        frame[IP] = first;
        frame
    };
    vec![
        Case::new("an_ipv6_header_that_lies_is_malformed")
            .drops(from(&A), with_version(0x45), DropReason::MalformedHeader)
            .drops(from(&A), with_version(0x50), DropReason::MalformedHeader)
            .no_flows(),
        Case::new("what_lies_behind_the_end_of_an_ipv6_packet_is_no_header")
            .drops(from(&A), with_len(0), DropReason::Truncated)
            .drops(from(&A), with_len(7), DropReason::Truncated)
            .no_flows(),
        Case::new("an_ipv6_packet_shorter_than_it_says_is_truncated")
            .drops(from(&A), with_len(13), DropReason::Truncated)
            .drops(from(&A), with_len(u16::MAX), DropReason::Truncated)
            .no_flows(),
    ]
}

/// An IPv6 question behind extension headers: their protocols and bytes, without the next header.
fn behind(headers: &[(u8, &[u8])]) -> Vec<u8> {
    let mut frame = switched(Version::V6, (&A, &B), UDP, &udp((40_000, 53)));
    let mut chain = Vec::new();
    for (number, (_, body)) in headers.iter().enumerate() {
        chain.push(headers.get(number + 1).map_or(UDP, |(next, _)| *next));
        chain.extend_from_slice(body);
    }
    frame[IP + 6] = headers[0].0;
    let len = (frame.len() - ABOVE_IPV6 + chain.len()) as u16;
    frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
    frame.splice(ABOVE_IPV6..ABOVE_IPV6, chain);
    frame
}

/// Eight bytes less the next header: length 0, PadN of four bytes.
const PADDING: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
/// The same in 16 bytes.
const MORE_PADDING: &[u8] = &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn extensions() -> Vec<Case> {
    let allowed = |name: &str, headers: &[(u8, &[u8])]| {
        Case::new(name)
            .switches(from(&A), behind(headers), &B)
            .switches(from(&A), question(Version::V6), &B)
            .flows("it is the same flow", |flows| flows.len() == 2)
    };
    let dropped = |name: &str, headers: &[(u8, &[u8])], reason| {
        Case::new(name).drops(from(&A), behind(headers), reason).no_flows()
    };
    let mut beyond = behind(&[(HOP_BY_HOP, PADDING)]);
    beyond[ABOVE_IPV6 + 1] = 200;
    let nothing = switched(Version::V6, (&A, &B), NO_NEXT_HEADER, &[]);
    vec![
        allowed("hop_by_hop_options_are_skipped", &[(HOP_BY_HOP, PADDING)]),
        allowed("destination_options_are_skipped", &[(DESTINATION_OPTIONS, MORE_PADDING)]),
        allowed(
            "several_options_headers_are_skipped",
            &[(HOP_BY_HOP, PADDING), (DESTINATION_OPTIONS, MORE_PADDING), (DESTINATION_OPTIONS, PADDING)],
        ),
        dropped("a_routing_header_is_dropped", &[(ROUTING, &[0; 7])], DropReason::ExtensionHeader),
        dropped(
            "an_authentication_header_is_dropped",
            &[(AUTHENTICATION, &[4; 23])],
            DropReason::ExtensionHeader,
        ),
        dropped("a_mobility_header_is_dropped", &[(MOBILITY, &[0; 7])], DropReason::ExtensionHeader),
        allowed("an_atomic_fragment_is_a_whole_datagram", &[(FRAGMENT, &[0; 7])]),
        dropped(
            "a_fragment_in_a_fragment_is_dropped",
            &[(FRAGMENT, &[0; 7]), (FRAGMENT, &[0; 7])],
            DropReason::MalformedHeader,
        ),
        dropped(
            "a_routing_header_behind_options_is_dropped",
            &[(HOP_BY_HOP, PADDING), (DESTINATION_OPTIONS, PADDING), (ROUTING, &[0; 7])],
            DropReason::ExtensionHeader,
        ),
        allowed(
            "as_many_extension_headers_as_the_list_has_are_skipped",
            &[(DESTINATION_OPTIONS, PADDING); 6],
        ),
        dropped(
            "too_many_extension_headers_are_dropped",
            &[(DESTINATION_OPTIONS, PADDING); 7],
            DropReason::ExtensionHeader,
        ),
        Case::new("an_extension_header_beyond_the_packet_is_malformed")
            .drops(from(&A), beyond, DropReason::MalformedHeader)
            .no_flows(),
        Case::new("an_unknown_protocol_has_no_ports")
            .drops(from(&A), nothing, DropReason::IngressDenied)
            .no_flows(),
    ]
}

fn tcp_headers() -> Vec<Case> {
    let with_flags = |version, flags| {
        let segment = Segment { flags, seq: 1, ack: 1, data: 0 };
        switched(version, (&A, &B), TCP, &tcp((40_000, 80), segment))
    };
    let with_offset = |version, words: u8| {
        let mut frame = with_flags(version, SYN);
        let at = if version == Version::V4 { ABOVE_IPV4 } else { ABOVE_IPV6 };
        frame[at + 12] = words << 4;
        frame
    };
    let of_version = |version: Version| {
        let impossible = [0, SYN | FIN, SYN | RST, SYN | FIN | RST | ACK, 0x08, 0x20, 0x28, SYN | FIN | ACK];
        let flags = Case::new(format!("flags_that_no_connection_uses_are_dropped ({version:?})"));
        let flags = impossible.into_iter().fold(flags, |case, flags| {
            case.drops(from(&A), with_flags(version, flags), DropReason::TcpFlags)
        });
        let offsets = Case::new(format!("a_tcp_header_that_lies_is_malformed ({version:?})"));
        let offsets = [0, 4, 6, 15].into_iter().fold(offsets, |case, words| {
            case.drops(from(&A), with_offset(version, words), DropReason::MalformedHeader)
        });
        let ecn = Case::new(format!("a_syn_may_ask_for_ecn ({version:?})")).switches(
            from(&A),
            with_flags(version, SYN | 0xc0),
            &B,
        );
        [flags.no_flows(), offsets.no_flows(), ecn]
    };
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

fn cut() -> Vec<Case> {
    let headers = |frame: Vec<u8>, len: usize| frame[..len].to_vec();
    // A whole packet whose payload is too short for its own header.
    let short = |version: Version, protocol, len| {
        let (a, b): (IpAddr, IpAddr) = (A.addr(version), B.addr(version));
        carried(A.mac, B.mac, &packet(a, b, protocol, &vec![8; len]))
    };
    let echo = icmp((8, 0), [0; 4], &[]);
    let mut case = Case::new("a_payload_too_short_for_its_header_is_truncated");
    for (protocol, len) in [(TCP, 19), (TCP, 0), (UDP, 7), (UDP, 4), (UDP, 0), (ICMP, 7), (ICMP, 0)] {
        case = case.drops(from(&A), short(Version::V4, protocol, len), DropReason::Truncated);
    }
    for (protocol, len) in [(TCP, 19), (UDP, 7), (UDP, 0), (ICMPV6, 0), (ICMPV6, 3)] {
        case = case.drops(from(&A), short(Version::V6, protocol, len), DropReason::Truncated);
    }
    vec![
        Case::new("an_ethernet_header_that_is_cut_is_truncated")
            .model_only()
            .drops(from(&A), headers(question(Version::V4), 13), DropReason::Truncated)
            .drops(from(&A), Vec::new(), DropReason::Truncated),
        Case::new("an_ip_header_that_is_cut_is_truncated")
            .model_only()
            .drops(from(&A), headers(question(Version::V4), ABOVE_IPV4 - 1), DropReason::Truncated)
            .drops(from(&A), headers(question(Version::V6), ABOVE_IPV6 - 1), DropReason::Truncated),
        Case::new("a_header_above_ip_that_is_cut_is_truncated")
            .drops(from(&A), headers(question(Version::V4), ABOVE_IPV4 + 3), DropReason::Truncated)
            .drops(from(&A), headers(question(Version::V4), ABOVE_IPV4 + 7), DropReason::Truncated)
            .drops(from(&A), headers(question(Version::V6), ABOVE_IPV6 + 7), DropReason::Truncated)
            .drops(from(&A), headers(ping(Version::V4, (&A, &B)), ABOVE_IPV4 + 7), DropReason::Truncated)
            .drops(from(&A), headers(ping(Version::V6, (&A, &B)), ABOVE_IPV6 + 7), DropReason::Truncated)
            .no_flows(),
        Case::new("the_smallest_packet_is_whole").switches(
            from(&A),
            switched(Version::V4, (&A, &B), ICMP, &echo),
            &B,
        ),
        case.no_flows(),
    ]
}
