//! The packets whose cost is measured, each with what has to come before it, so that the figures are those of
//! the ways that the cases prove right.

use vnet_common::{DropReason, mark};

use super::{
    frame::{ACK, FIN, SYN, SYN_ACK, Talk, UDP, carried, switched, udp},
    nat::{Translated as _, Way, received, sent, way},
    segment::measured::{overlay_in, overlay_out, vlan_in, vlan_out},
    step::{Case, Entry, Hook, from, outside, to},
    tcp::{established, http},
    world::{A, B, Beyond, C, Device, O, Policy, U, Version},
};

/// Where the ports of TCP and UDP are in the frames of the cases.
const SRC_PORT_V4: usize = 14 + 20;
const DST_PORT_V4: usize = SRC_PORT_V4 + 2;
const SRC_PORT_V6: usize = 14 + 40;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The program, and which of its ways.
    pub name: &'static str,
    /// What becomes of the packet.
    pub fate: Fate,
    /// Which packets come, one after another.
    pub packets: Packets,
    /// Whether the program sees it before there is a socket buffer.
    pub is_early: bool,
    /// What comes before the packet of the flow that a number tells apart, and the packet.
    pub flow: fn(u16) -> (Case, Packet),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to another device.
    Sent,
    /// It passes.
    Passed,
    /// It is dropped.
    Dropped,
}

/// Which packets come, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// The same one.
    Same,
    /// One of each of many flows in turn, which there are already. They differ in the port at this offset.
    OfKnownFlows(usize),
    /// Each the first one of a flow, or of what would be one. They differ in the port at this offset.
    OfNewFlows(usize),
}

/// A packet that is measured.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Where it enters.
    pub entry: Entry,
    /// Its bytes.
    pub frame: Vec<u8>,
    /// A mark other than the entry's own.
    pub mark: Option<u32>,
}

pub(super) const fn packet(entry: Entry, frame: Vec<u8>) -> Packet {
    Packet { entry, frame, mark: None }
}

/// Everything that is measured, and under which policy.
pub const ALL: &[(Policy, &[Measured])] = &[
    (Policy::Nat, HERE),
    (Policy::Nat, ENDING),
    (Policy::NatClosed, FROM_OUTSIDE),
    (Policy::Beyond(Beyond::RemotePort), BY_VLAN),
    (Policy::Beyond(Beyond::Overlay), BY_OVERLAY),
];

/// What goes between ports, the host and the outside.
const HERE: &[Measured] = &[
    measured("from_port: TCP v4, established", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), tcp_v4),
    measured("from_port: TCP v6, established", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V6), tcp_v6),
    measured("from_port: UDP v4, established", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), udp_v4),
    measured("from_port: SNAT, out", Fate::Sent, Packets::OfKnownFlows(DST_PORT_V4), snat_out),
    measured("from_uplink: SNAT, back", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), snat_back),
    measured("from_uplink: DNAT, in", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), dnat_in),
    measured("from_port: DNAT, answer", Fate::Sent, Packets::OfKnownFlows(DST_PORT_V4), dnat_answer),
    measured("from_port: first packet, UDP v4", Fate::Sent, Packets::OfNewFlows(SRC_PORT_V4), first),
    measured("from_port: first packet, SNAT", Fate::Sent, Packets::OfNewFlows(DST_PORT_V4), first_snat),
    measured("from_uplink: first packet, DNAT", Fate::Sent, Packets::OfNewFlows(SRC_PORT_V4), first_dnat),
    measured("from_port: dropped by policy", Fate::Dropped, Packets::Same, denied),
    measured("from_port: first one dropped", Fate::Dropped, Packets::OfNewFlows(SRC_PORT_V4), denied),
    measured("from_port: dropped as malformed", Fate::Dropped, Packets::Same, malformed),
    measured("from_uplink: passed to the host", Fate::Passed, Packets::Same, for_the_host),
    measured("to_port: passed as decided", Fate::Passed, Packets::Same, decided),
];

/// What changes the state of flows, which are of no use to others afterwards.
const ENDING: &[Measured] =
    &[measured("from_port: TCP v4, closing", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), closing)];

/// What comes from outside, at an uplink with XDP and at one without.
const FROM_OUTSIDE: &[Measured] = &[
    measured("from_uplink: dropped by policy", Fate::Dropped, Packets::Same, shut),
    early("uplink_xdp: dropped by policy", Fate::Dropped, shut),
    early("uplink_xdp: passed, TCP v4", Fate::Passed, for_the_host),
    early("uplink_xdp: passed, first packet", Fate::Passed, asked_for_nothing),
];

/// What goes between a port and one on another host, by a trunk. A driver takes off what the first one pushes, and
/// pushes what the second one takes off: the figures include that.
const BY_VLAN: &[Measured] = &[
    measured("from_port: VLAN, push", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), vlan_out),
    measured("from_segment: VLAN, pop", Fate::Sent, Packets::OfKnownFlows(DST_PORT_V4), vlan_in),
];

/// The same by an overlay, to and from a peer for whom the kernel's VXLAN device encapsulates: that is no part of it.
const BY_OVERLAY: &[Measured] = &[
    measured("from_port: VXLAN, out", Fate::Sent, Packets::OfKnownFlows(SRC_PORT_V4), overlay_out),
    measured("from_segment: VXLAN, in", Fate::Sent, Packets::OfKnownFlows(DST_PORT_V4), overlay_in),
];

const fn measured(
    name: &'static str,
    fate: Fate,
    packets: Packets,
    flow: fn(u16) -> (Case, Packet),
) -> Measured {
    Measured { name, fate, packets, is_early: false, flow }
}

/// The same packet again and again, before there is a socket buffer.
const fn early(name: &'static str, fate: Fate, flow: fn(u16) -> (Case, Packet)) -> Measured {
    Measured { name, fate, packets: Packets::Same, is_early: true, flow }
}

fn tcp_v4(port: u16) -> (Case, Packet) {
    tcp(Version::V4, port)
}

fn tcp_v6(port: u16) -> (Case, Packet) {
    tcp(Version::V6, port)
}

/// A FIN that is sent again and again: it changes the state of its flow, which is a way of its own.
fn closing(port: u16) -> (Case, Packet) {
    let talk = Talk { ports: (port, 80), ..http(Version::V4) };
    let case = established("established", &talk);
    (case, packet(from(&A), talk.forth(FIN | ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 0)))
}

fn tcp(version: Version, port: u16) -> (Case, Packet) {
    let talk = Talk { ports: (port, 80), ..http(version) };
    let case = established("established", &talk);
    (case, packet(from(&A), talk.forth(ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 0)))
}

fn udp_v4(port: u16) -> (Case, Packet) {
    let (question, answer) = (question(port, 53), switched(Version::V4, (&B, &A), UDP, &udp((53, port))));
    let case = Case::new("answered").switches(from(&A), question.clone(), &B).switches(from(&B), answer, &A);
    (case, packet(from(&A), question))
}

fn question(src_port: u16, dst_port: u16) -> Vec<u8> {
    switched(Version::V4, (&A, &B), UDP, &udp((src_port, dst_port)))
}

/// As C sends, and as it leaves; C's source port is one that it may keep.
const fn masquerade(port: u16) -> (Way, Way) {
    (way(Version::V4, (C, 1030), (O, port)), way(Version::V4, (U, 1030), (O, port)))
}

fn translated(port: u16) -> Case {
    let (inner, outer) = masquerade(port);
    Case::new("translated")
        .leaves(&inner.tcp(SYN, 100, 0), &outer.tcp(SYN, 100, 0))
        .enters(&outer.back().tcp(SYN_ACK, 500, 101), &inner.back().tcp(SYN_ACK, 500, 101))
        .leaves(&inner.tcp(ACK, 101, 501), &outer.tcp(ACK, 101, 501))
}

fn snat_out(port: u16) -> (Case, Packet) {
    (translated(port), packet(from(&C), sent(&masquerade(port).0.tcp(ACK, 101, 501))))
}

fn snat_back(port: u16) -> (Case, Packet) {
    (translated(port), packet(outside(), received(&masquerade(port).1.back().tcp(ACK, 501, 101))))
}

/// As somebody outside asks, and as C sees it.
const fn forward(port: u16) -> (Way, Way) {
    (way(Version::V4, (O, port), (U, 8080)), way(Version::V4, (O, port), (C, 80)))
}

fn forwarded(port: u16) -> Case {
    let (asked, inner) = forward(port);
    Case::new("forwarded")
        .enters(&asked.tcp(SYN, 100, 0), &inner.tcp(SYN, 100, 0))
        .leaves(&inner.back().tcp(SYN_ACK, 500, 101), &asked.back().tcp(SYN_ACK, 500, 101))
        .enters(&asked.tcp(ACK, 101, 501), &inner.tcp(ACK, 101, 501))
}

fn dnat_in(port: u16) -> (Case, Packet) {
    (forwarded(port), packet(outside(), received(&forward(port).0.tcp(ACK, 101, 501))))
}

fn dnat_answer(port: u16) -> (Case, Packet) {
    (forwarded(port), packet(from(&C), sent(&forward(port).1.back().tcp(ACK, 501, 101))))
}

fn first(port: u16) -> (Case, Packet) {
    (Case::new("nothing before"), packet(from(&A), question(port, 53)))
}

fn first_snat(port: u16) -> (Case, Packet) {
    (Case::new("nothing before"), packet(from(&C), sent(&masquerade(port).0.udp())))
}

fn first_dnat(port: u16) -> (Case, Packet) {
    (Case::new("nothing before"), packet(outside(), received(&forward(port).0.tcp(SYN, 100, 0))))
}

fn denied(port: u16) -> (Case, Packet) {
    let frame = question(port, 54);
    let case = Case::new("denied").drops(from(&A), frame.clone(), DropReason::IngressDenied);
    (case, packet(from(&A), frame))
}

/// A connection from outside that is not admitted.
fn shut(port: u16) -> (Case, Packet) {
    let frame = received(&forward(port).0.tcp(SYN, 100, 0));
    let case = Case::new("shut").drops(outside(), frame.clone(), DropReason::IngressDenied);
    (case, packet(outside(), frame))
}

/// A datagram from outside to a port of the host's that nobody forwards.
fn asked_for_nothing(port: u16) -> (Case, Packet) {
    let frame = received(&way(Version::V4, (O, port), (U, 9)).udp());
    (Case::new("nothing before").passes(outside(), frame.clone()), packet(outside(), frame))
}

fn malformed(_: u16) -> (Case, Packet) {
    // An IPv4 header whose length is less than the least.
    let mut frame = question(2000, 53);
    frame[14] = 0x44;
    let case = Case::new("malformed").drops(from(&A), frame.clone(), DropReason::MalformedHeader);
    (case, packet(from(&A), frame))
}

fn for_the_host(_: u16) -> (Case, Packet) {
    let frame = received(&way(Version::V4, (O, 443), (U, 40_000)).tcp(ACK, 1, 1));
    (Case::new("the host's own").passes(outside(), frame.clone()), packet(outside(), frame))
}

fn decided(_: u16) -> (Case, Packet) {
    let frame = carried(A.mac, B.mac, &question(2000, 53)[14..]);
    let entry = Entry::at(Hook::ToPort, Device::B);
    // Without the mark it is not what it seems.
    let case = Case::new("decided").drops(to(&B).unseen(), frame.clone(), DropReason::Undecided);
    (case, Packet { mark: Some(mark::DECIDED), ..packet(entry, frame) })
}
