//! An overlay whose packets the programs encapsulate themselves, and take apart.
//!
//! What differs from packet to packet (the source port, the identification) is brought to one value by whoever plays the
//! cases: [`crate::cases::frame::without_entropy`].

use std::net::IpAddr;

use vnet_common::{Delivery, DropReason, FlowState};

use super::{Lan, VLAN_LAN, each, overlay::goes_to_all};
use crate::cases::{
    frame::{ACK, Talk, UDP, fix_ipv4_checksum, switched, udp},
    multicast::{MDNS_V6, STREAM, multicast_from},
    step::{Case, Entry, Hook, from, host, reach},
    world::{
        A, Beyond, Device, G, Party, U, Version,
        segment::{D, LOCAL, R, VNI},
    },
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;
/// The port of VXLAN (RFC 7348 section 5).
const PORT: [u8; 2] = 4789_u16.to_be_bytes();
const LAN: Lan = Lan { policy: Beyond::Encapsulated, ..VLAN_LAN };
const OUT: (Device, Delivery) = (Device::U, Delivery::NextHop);
/// Offsets in a packet of an overlay.
const IP: usize = 14;
const UDP_HEADER: usize = IP + 20;
const INNER: usize = UDP_HEADER + 16;
/// Traffic class, or type of service: congestion met, and that one may be told of it (RFC 3168 section 5).
const CONGESTED: u8 = 3;
const CAPABLE: u8 = 2;

pub(super) fn cases() -> Vec<Case> {
    [each(&[LAN], talks), each(&[LAN], congestion), each(&[LAN], left_alone)].concat()
}

/// `frame` between this host and the peer with the address `192.0.2.last`.
fn around(frame: &[u8], macs: &[u8], (from, to): ([u8; 4], [u8; 4]), class: u8) -> Vec<u8> {
    let len = (20 + 16 + frame.len()) as u16;
    let mut ip = [&[0x45, class][..], &len.to_be_bytes(), &[0, 0, 0, 0, 64, UDP, 0, 0], &from, &to].concat();
    fix_ipv4_checksum(&mut ip);
    let udp = [&[0xc0, 0], &PORT[..], &(len - 20).to_be_bytes(), &[0, 0]].concat();
    let vxlan = [&[8, 0, 0, 0][..], &(VNI << 8).to_be_bytes()].concat();
    [macs, &[8, 0], &ip, &udp, &vxlan, frame].concat()
}

const PEER_ADDRESS: [u8; 4] = [192, 0, 2, 12];

/// `frame` as it leaves. Whoever sends it finds the router's MAC.
fn outer(frame: &[u8], class: u8) -> Vec<u8> {
    around(frame, &frame[..12], (LOCAL.octets(), PEER_ADDRESS), class)
}

/// `frame` as it comes.
fn arriving(frame: &[u8]) -> Vec<u8> {
    let macs = [U.mac.0, [2, 0, 0, 0, 0, 0xee]].concat();
    around(frame, &macs, (PEER_ADDRESS, LOCAL.octets()), 0)
}

const fn underlay() -> Entry {
    Entry::at(Hook::FromUnderlay, Device::U)
}

fn goes(case: Case, entry: Entry, frame: &[u8]) -> Case {
    case.sends(entry, frame.to_vec(), OUT, outer(frame, 0))
}

fn comes(case: Case, frame: &[u8], receiver: &Party) -> Case {
    case.sends(underlay(), arriving(frame), reach(underlay(), receiver), frame.to_vec())
}

fn opened(case: Case, talk: &Talk) -> Case {
    let case = goes(case, from(&talk.client), &talk.syn());
    let case = comes(case, &talk.syn_ack(), &talk.client);
    goes(case, from(&talk.client), &talk.ack()).state(FlowState::Established)
}

fn talks(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, A, D, 80);
    let (forth, back) =
        (talk.forth(ACK, CLIENT + 1, SERVER + 1, 10), talk.back(ACK, SERVER + 1, CLIENT + 1, 10));
    let case = opened(lan.begin("a_packet_has_its_envelope_here_and_loses_it_here", version), &talk);
    let case = comes(goes(case, from(&A), &forth), &back, &A);
    let of_host = Talk { client: G, ..talk };
    let of_host = goes(lan.begin("the_hosts_packets_have_theirs_too", version), host(&G), &of_host.syn());
    let asked = Talk::new(version, D, A, 22);
    let asked = lan.begin("what_comes_in_an_envelope_is_judged", version).drops(
        underlay(),
        arriving(&asked.syn()),
        DropReason::EgressDenied,
    );
    let lie = switched(version, (&A, &A), UDP, &udp((1, 53)));
    let lie = lan.begin("nobody_beyond_is_a_port_here_by_an_envelope", version).drops(
        underlay(),
        arriving(&lie),
        DropReason::SpoofedMac,
    );
    vec![case, of_host, asked, lie]
}

/// The same frame with this traffic class.
fn with_class(frame: &[u8], class: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[IP] >> 4 == 4 {
        frame[IP + 1] = class;
        fix_ipv4_checksum(&mut frame[IP..]);
    } else {
        frame[IP] |= class >> 4;
        frame[IP + 1] |= class << 4;
    }
    frame
}

fn congestion(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, A, D, 80);
    let begin = |text: &str| opened(lan.begin(text, version), &talk);
    let forth = talk.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let goes_as = |case: Case, inside, around| {
        let frame = with_class(&forth, inside);
        case.sends(from(&A), frame.clone(), OUT, outer(&frame, around))
    };
    // Expedited forwarding is the sender's wish within the network, and nothing to the hosts.
    let case = goes_as(begin("the_envelope_tells_who_may_be_told_of_congestion"), 0xb8, 0);
    let case = goes_as(case, CAPABLE, CAPABLE);
    let case = goes_as(goes_as(case, 1, 1), CONGESTED, CAPABLE);
    let met = around(
        &talk.back(ACK, SERVER + 1, CLIENT + 1, 10),
        &[U.mac.0, [2, 0, 0, 0, 0, 0xee]].concat(),
        (PEER_ADDRESS, LOCAL.octets()),
        CONGESTED,
    );
    vec![case, begin("the_overlays_device_tells_of_congestion").marks(underlay(), met)]
}

/// What is for the overlays' device, as it came.
fn left_alone(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, A, D, 80);
    let back = talk.back(ACK, SERVER + 1, CLIENT + 1, 10);
    let good = arriving(&back);
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let mended = |at: usize, value: u8| {
        let mut frame = changed(at, value);
        fix_ipv4_checksum(&mut frame[IP..]);
        frame
    };
    let begin = opened(lan.begin("what_is_not_plain_is_for_the_overlays_device", version), &talk);
    let strange = [
        ("a wrong checksum", changed(IP + 8, 63)),
        ("another host of ours", mended(IP + 19, 7)),
        ("from a stranger", mended(IP + 15, 99)),
        ("a checksum around it", changed(UDP_HEADER + 6, 1)),
        ("another flag", changed(UDP_HEADER + 8, 9)),
        ("another network", changed(UDP_HEADER + 14, 0)),
        ("a longer frame than is told", [&good[..], &[0]].concat()),
        ("a shorter datagram than is told", changed(UDP_HEADER + 5, 1)),
        ("no IP inside", changed(INNER + 12, 0x88)),
    ];
    let case = strange.into_iter().fold(begin, |case, (_, frame)| case.marks(underlay(), frame));
    let group: IpAddr = if version == Version::V4 { STREAM } else { MDNS_V6 };
    let case = case.marks(underlay(), arriving(&multicast_from(&D, D.addr(version), group, (1, 5353))));
    let case = case.marks(underlay().in_segments_of(100), good.clone());
    // An overlay's packets are not fragmented.
    let case = case.passes(underlay(), mended(IP + 6, 0x20)).passes(underlay(), mended(IP + 7, 1));
    // The same packet, whose sender has been told that nobody may fragment it.
    let case = case.sends(underlay(), mended(IP + 6, 0x40), reach(underlay(), &A), back);
    let unknown = lan.begin("who_is_not_known_is_looked_for_by_the_overlays_device", version);
    let unknown = goes_to_all(unknown, from(&A), &Talk::new(version, A, R, 80).syn());
    vec![case, unknown]
}
