//! Translation: masquerade, forwards, elastic IPs, metadata (RFC 4787, 5382, 5508).
//!
//! Frames out of the uplink have no destination MAC yet: the kernel finds the next hop.

use vnet_common::{Delivery, DropReason, Flow, FlowState, MacAddr, V4};

use super::{
    frame::{
        ACK, ICMP, ICMPV6, RST, SCTP, SYN, SYN_ACK, Segment, TCP, UDP, carried, icmp, packet, routed, tcp,
        udp,
    },
    icmp::echo,
    step::{Case, Entry, Step, from, host, outside},
    world::{
        A, C, Device, ELASTIC, FAR, G, H, METADATA, MOVED, O, Party, Policy, ROUTER4, ROUTER6, U, Version,
    },
};

/// Where no neighbour is known yet.
pub(super) const NEXT_HOP: MacAddr = MacAddr([0; 6]);

pub(super) fn cases() -> Vec<Case> {
    let of_version = |version| {
        [masquerade(version), forwards(version), elastic(version), metadata(version), errors(version)]
            .concat()
    };
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

/// One who sends, and one who is sent to: whose addresses and ports a packet carries.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub(super) version: Version,
    pub(super) from: (Party, u16),
    pub(super) to: (Party, u16),
}

impl Way {
    pub(super) const fn back(self) -> Self {
        Self { from: self.to, to: self.from, ..self }
    }

    pub(super) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        packet(self.from.0.addr(self.version), self.to.0.addr(self.version), protocol, payload)
    }

    pub(super) const fn ports(&self) -> (u16, u16) {
        (self.from.1, self.to.1)
    }

    pub(super) fn udp(&self) -> Vec<u8> {
        self.packet(UDP, &udp((self.from.1, self.to.1)))
    }

    /// A packet of TCP without data: flags, sequence number, acknowledgment.
    #[must_use]
    pub fn tcp(&self, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        self.packet(TCP, &tcp((self.from.1, self.to.1), Segment { flags, seq, ack, data: 0 }))
    }
}

/// What the first sends to the second.
#[must_use]
pub const fn way(version: Version, from: (Party, u16), to: (Party, u16)) -> Way {
    Way { version, from, to }
}

/// Sent by C to its gateway.
pub(super) fn sent(packet: &[u8]) -> Vec<u8> {
    carried(C.mac, H.mac, packet)
}

/// Received by the uplink from the router.
#[must_use]
pub fn received(packet: &[u8]) -> Vec<u8> {
    carried(O.mac, U.mac, packet)
}

/// Case steps for translated packets: the frame that goes in, and the packet that comes out, one hop further.
pub(super) trait Translated {
    /// C's packet leaves by the uplink as `out`.
    fn leaves(self, packet: &[u8], out: &[u8]) -> Self;
    /// A packet from outside reaches C as `out`.
    fn enters(self, packet: &[u8], out: &[u8]) -> Self;
}

impl Translated for Case {
    fn leaves(self, packet: &[u8], out: &[u8]) -> Self {
        let out = routed(&carried(C.mac, H.mac, out), NEXT_HOP, U.mac);
        self.sends(from(&C), sent(packet), (Device::U, O.delivery), out)
    }

    fn enters(self, packet: &[u8], out: &[u8]) -> Self {
        let out = routed(&carried(O.mac, U.mac, out), C.mac, H.mac);
        self.sends(outside(), received(packet), (Device::C, C.delivery), out)
    }
}

fn masquerade(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Nat);
    // A source port that the network may leave with is kept.
    let (inner, outer) = (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)));
    let (far, far_out) = (way(version, (C, 1030), (FAR, 53)), way(version, (U, 1030), (FAR, 53)));
    // The router's address stands where MACs would.
    let to_router = |packet: &[u8]| {
        let mut out = routed(&carried(C.mac, H.mac, packet), NEXT_HOP, NEXT_HOP);
        match version {
            Version::V4 => out[..4].copy_from_slice(&ROUTER4),
            Version::V6 => out[..8].copy_from_slice(&ROUTER6[8..]),
        }
        out
    };
    let (protocol, request, reply) = echo(version);
    let ping = |of: &Way, id: u16| {
        of.packet(protocol, &icmp((request, 0), [(id >> 8) as u8, id as u8, 0, 1], b"ping"))
    };
    let pong = |of: &Way, id: u16| {
        of.packet(protocol, &icmp((reply, 0), [(id >> 8) as u8, id as u8, 0, 1], b"ping"))
    };
    let talk = |case: Case| {
        case.leaves(&inner.tcp(SYN, 100, 0), &outer.tcp(SYN, 100, 0))
            .enters(&outer.back().tcp(SYN_ACK, 500, 101), &inner.back().tcp(SYN_ACK, 500, 101))
            .leaves(&inner.tcp(ACK, 101, 501), &outer.tcp(ACK, 101, 501))
            .state(FlowState::Established)
    };
    let data = (inner.tcp(ACK, 101, 501), outer.tcp(ACK, 101, 501));
    let answer = (outer.back().tcp(ACK, 501, 101), inner.back().tcp(ACK, 501, 101));
    vec![
        begin("a_workload_leaves_with_the_address_of_the_uplink")
            .leaves(&inner.udp(), &outer.udp())
            .enters(&outer.back().udp(), &inner.back().udp())
            .state(FlowState::Established)
            .leaves(&inner.udp(), &outer.udp())
            .enters(&outer.back().udp(), &inner.back().udp()),
        talk(begin("a_tcp_connection_is_translated_both_ways"))
            .leaves(&data.0, &data.1)
            .enters(&answer.0, &answer.1),
        begin("a_ping_is_translated_by_its_identifier")
            .leaves(&ping(&inner, 1025), &ping(&outer, 1025))
            .enters(&pong(&outer.back(), 1025), &pong(&inner.back(), 1025))
            .passes(outside(), received(&pong(&outer.back(), 1026))),
        begin("a_protocol_without_ports_is_translated_by_its_addresses")
            .leaves(&inner.packet(47, &[0; 8]), &outer.packet(47, &[0; 8]))
            .enters(&outer.back().packet(47, &[0; 8]), &inner.back().packet(47, &[0; 8])),
        begin("who_was_not_asked_is_not_let_in")
            .leaves(&inner.udp(), &outer.udp())
            .passes(outside(), received(&way(version, (O, 54), (U, 1030)).udp()))
            .passes(outside(), received(&way(version, (O, 53), (U, 1031)).udp())),
        begin("what_is_the_hosts_own_passes_untouched")
            .passes(outside(), received(&way(version, (O, 53), (U, 40_000)).udp()))
            .passes(outside(), received(&way(version, (O, 443), (U, 40_000)).tcp(ACK, 1, 1)))
            .passes(outside(), received(&way(version, (O, 443), (U, 22)).tcp(SYN, 1, 0)))
            .passes(outside(), carried(O.mac, C.mac, &outer.back().udp()))
            .no_flows(),
        begin("a_private_address_is_not_reached_from_outside")
            .passes(outside(), received(&way(version, (O, 53), (C, 1030)).udp()))
            .drops(forwarded(), received(&way(version, (O, 53), (C, 1030)).udp()), DropReason::Forwarded)
            .no_flows(),
        talk(begin("a_connection_begins_where_one_is_forgotten_with_the_same_port"))
            .then(Step::LastSeen(Flow::<V4>::EXPIRED))
            .leaves(&inner.tcp(SYN, 900, 0), &outer.tcp(SYN, 900, 0))
            .enters(&outer.back().tcp(SYN_ACK, 500, 901), &inner.back().tcp(SYN_ACK, 500, 901))
            .flows("they are the new one's", |flows| flows.len() == 2),
        talk(begin("an_answer_may_be_the_first_to_be_judged_again"))
            .commit(Policy::Nat)
            .enters(&answer.0, &answer.1)
            .leaves(&data.0, &data.1)
            .state(FlowState::Established)
            .flows("both entries are judged at once", |flows| flows.iter().all(|flow| flow.generation == 3)),
        talk(begin("a_flow_ends_with_the_address_that_it_left_with"))
            .commit(Policy::NatMoved)
            .drops(from(&C), sent(&data.0), DropReason::TranslationChanged)
            .state(FlowState::Closed)
            .drops(from(&C), sent(&data.0), DropReason::NoFlow)
            .leaves(&inner.tcp(SYN, 900, 0), &way(version, (MOVED, 1030), (O, 53)).tcp(SYN, 900, 0)),
        talk(begin("an_answer_to_an_address_that_is_gone_ends_the_flow"))
            .commit(Policy::NatMoved)
            .drops(outside(), received(&answer.0), DropReason::TranslationChanged)
            .state(FlowState::Closed)
            .passes(outside(), received(&answer.0)),
        talk(begin("a_flow_goes_with_the_way_out"))
            .commit(Policy::Usual)
            .drops(from(&C), sent(&data.0), DropReason::Untranslated)
            .state(FlowState::Closed),
        begin("what_goes_untranslated_keeps_its_address")
            .commit(Policy::NatExempt)
            .leaves(&inner.udp(), &inner.udp())
            .enters(&inner.back().udp(), &inner.back().udp())
            .commit(Policy::NatExempt)
            .enters(&inner.back().udp(), &inner.back().udp())
            .state(FlowState::Established),
        begin("nobody_leaves_for_another_network_or_a_local_address")
            .drops(from(&C), sent(&way(version, (C, 1030), (A, 53)).udp()), DropReason::NoRoute)
            .drops(from(&C), sent(&way(version, (C, 1030), (METADATA, 53)).udp()), DropReason::NoRoute),
        begin("a_last_hop_leaves_no_flow")
            .drops(from(&C), sent(&with_ttl(&inner.udp(), 1)), DropReason::TtlExceeded)
            .no_flows(),
        Case::new(name("what_goes_to_the_router_says_so_and_the_rest_is_looked_for"))
            .commit(Policy::NatBehindRouter)
            .leaves(&inner.udp(), &outer.udp())
            .sends(from(&C), sent(&far.udp()), (Device::U, Delivery::Gateway), to_router(&far_out.udp()))
            .enters(&far_out.back().udp(), &far.back().udp())
            .sends(from(&C), sent(&far.udp()), (Device::U, Delivery::Gateway), to_router(&far_out.udp())),
        Case::new(name("without_a_way_out_nothing_leaves")).drops(
            from(&C),
            sent(&inner.udp()),
            DropReason::Untranslated,
        ),
        begin("a_reset_ends_a_translated_connection")
            .leaves(&inner.tcp(SYN, 100, 0), &outer.tcp(SYN, 100, 0))
            .enters(&outer.back().tcp(RST | ACK, 0, 101), &inner.back().tcp(RST | ACK, 0, 101))
            .state(FlowState::Closed),
    ]
}

/// The host forwards a packet from outside into network X.
fn forwarded() -> super::step::Entry {
    super::step::Entry { forwarded: true, ..host(&H) }
}

/// The packet with this TTL or hop limit.
pub(super) fn with_ttl(packet: &[u8], ttl: u8) -> Vec<u8> {
    let mut out = packet.to_vec();
    if out[0] >> 4 == 4 {
        out[8] = ttl;
        super::frame::fix_ipv4_checksum(&mut out);
    } else {
        out[7] = ttl;
    }
    out
}

fn forwards(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Nat);
    let (asked, inner) = (way(version, (O, 7000), (U, 8080)), way(version, (O, 7000), (C, 80)));
    let talk = |case: Case| {
        case.enters(&asked.tcp(SYN, 100, 0), &inner.tcp(SYN, 100, 0))
            .leaves(&inner.back().tcp(SYN_ACK, 500, 101), &asked.back().tcp(SYN_ACK, 500, 101))
            .enters(&asked.tcp(ACK, 101, 501), &inner.tcp(ACK, 101, 501))
            .state(FlowState::Established)
    };
    let range = |port: u16, to: u16| (way(version, (O, 7000), (U, port)), way(version, (O, 7000), (C, to)));
    let ((first, first_in), (last, last_in)) = (range(5000, 6000), range(5007, 6007));
    let from_a = |packet: &[u8]| carried(A.mac, G.mac, packet);
    let a_asks = way(version, (A, 7000), (U, 8080));
    let a_seen = way(version, (A, 7000), (C, 80));
    // C leaves with the address of the uplink, to itself as well.
    let (own, own_seen) = (way(version, (C, 1030), (U, 8080)), way(version, (U, 1030), (C, 80)));
    let to_c = |packet: &[u8]| routed(&carried(C.mac, H.mac, packet), C.mac, H.mac);
    vec![
        talk(begin("a_forward_reaches_the_workload_which_sees_the_client"))
            .leaves(&inner.back().tcp(ACK, 501, 101), &asked.back().tcp(ACK, 501, 101))
            .enters(&asked.tcp(ACK, 101, 501), &inner.tcp(ACK, 101, 501)),
        begin("a_range_is_forwarded_port_by_port")
            .enters(&first.udp(), &first_in.udp())
            .leaves(&first_in.back().udp(), &first.back().udp())
            .enters(&last.udp(), &last_in.udp())
            .passes(outside(), received(&range(5008, 0).0.udp()))
            .passes(outside(), received(&range(4999, 0).0.udp())),
        begin("an_answer_that_a_socket_of_the_hosts_waits_for_is_not_forwarded")
            .passes(Entry { awaited: true, ..outside() }, received(&first.udp()))
            .enters(&first.udp(), &first_in.udp())
            .model_only(),
        begin("sctp_is_forwarded_with_its_ports").enters(
            &way(version, (O, 7000), (U, 5000)).packet(SCTP, &sctp((7000, 5000))),
            &way(version, (O, 7000), (C, 5000)).packet(SCTP, &sctp((7000, 5000))),
        ),
        begin("another_protocol_is_not_forwarded").passes(outside(), received(&asked.udp())),
        begin("a_forward_opens_nothing_by_itself")
            .commit(Policy::Nothing)
            .commit(Policy::Nat)
            .passes(outside(), received(&way(version, (O, 7000), (U, 8081)).tcp(SYN, 1, 0))),
        talk(begin("a_forward_that_is_gone_ends_its_flows"))
            .commit(Policy::NatMoved)
            .drops(outside(), received(&asked.tcp(ACK, 101, 501)), DropReason::TranslationChanged)
            .state(FlowState::Closed)
            .passes(outside(), received(&asked.tcp(SYN, 900, 0)))
            .passes(outside(), received(&asked.tcp(ACK, 901, 1))),
        talk(begin("the_workloads_answer_ends_such_a_flow_as_well"))
            .commit(Policy::NatMoved)
            .drops(from(&C), sent(&inner.back().tcp(ACK, 501, 101)), DropReason::TranslationChanged)
            .state(FlowState::Closed),
        talk(begin("the_workloads_answer_has_a_forwarded_flow_judged_again"))
            .commit(Policy::Nat)
            .leaves(&inner.back().tcp(ACK, 501, 101), &asked.back().tcp(ACK, 501, 101))
            .state(FlowState::Established),
        begin("another_network_reaches_a_forward")
            .sends(
                from(&A),
                from_a(&a_asks.tcp(SYN, 100, 0)),
                (Device::C, C.delivery),
                routed(&from_a(&a_seen.tcp(SYN, 100, 0)), C.mac, H.mac),
            )
            .sends(
                from(&C),
                sent(&a_seen.back().tcp(SYN_ACK, 500, 101)),
                (Device::A, A.delivery),
                routed(&sent(&a_asks.back().tcp(SYN_ACK, 500, 101)), A.mac, G.mac),
            )
            .state(FlowState::SynReceived),
        begin("a_workload_reaches_itself_by_its_forward")
            .sends(
                from(&C),
                sent(&own.tcp(SYN, 100, 0)),
                (Device::C, C.delivery),
                to_c(&own_seen.tcp(SYN, 100, 0)),
            )
            .sends(
                from(&C),
                sent(&own_seen.back().tcp(SYN_ACK, 500, 101)),
                (Device::C, C.delivery),
                to_c(&own.back().tcp(SYN_ACK, 500, 101)),
            )
            .sends(
                from(&C),
                sent(&own.tcp(ACK, 101, 501)),
                (Device::C, C.delivery),
                to_c(&own_seen.tcp(ACK, 101, 501)),
            )
            .state(FlowState::Established),
    ]
}

/// An SCTP packet with a checksum that nobody here looks at.
fn sctp((src_port, dst_port): (u16, u16)) -> Vec<u8> {
    [&src_port.to_be_bytes()[..], &dst_port.to_be_bytes(), &[1, 2, 3, 4, 5, 6, 7, 8], &[0; 4]].concat()
}

fn elastic(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Elastic);
    let (asked, inner) = (way(version, (O, 7000), (ELASTIC, 22)), way(version, (O, 7000), (C, 22)));
    let (protocol, request, reply) = echo(version);
    let (timestamp, stamped) = ((13, 0), (14, 0));
    let singles = Case::new(name("a_message_of_no_flow_is_translated_by_its_addresses"))
        .commit(Policy::Elastic)
        .enters(
            &asked.packet(ICMP, &icmp(timestamp, [0, 1, 0, 1], &[0; 12])),
            &inner.packet(ICMP, &icmp(timestamp, [0, 1, 0, 1], &[0; 12])),
        )
        .leaves(
            &inner.back().packet(ICMP, &icmp(stamped, [0, 1, 0, 1], &[0; 12])),
            &asked.back().packet(ICMP, &icmp(stamped, [0, 1, 0, 1], &[0; 12])),
        );
    let mut cases = vec![
        begin("an_elastic_ip_leads_to_its_port_with_every_port")
            .enters(&asked.tcp(SYN, 100, 0), &inner.tcp(SYN, 100, 0))
            .leaves(&inner.back().tcp(SYN_ACK, 500, 101), &asked.back().tcp(SYN_ACK, 500, 101))
            .enters(&asked.udp(), &inner.udp())
            .leaves(&inner.back().udp(), &asked.back().udp()),
        // A host that forwards would send it back to the router.
        begin("what_belongs_to_no_flow_of_an_elastic_ip_is_nobodys")
            .drops(outside(), received(&asked.tcp(ACK, 100, 1)), DropReason::Unsolicited)
            .drops(
                outside(),
                received(&asked.packet(protocol, &icmp((reply, 0), [0, 9, 0, 1], b"ping"))),
                DropReason::Unsolicited,
            )
            .no_flows(),
        begin("an_elastic_ip_carries_every_protocol")
            .enters(&asked.packet(47, &[0; 8]), &inner.packet(47, &[0; 8]))
            .enters(
                &asked.packet(protocol, &icmp((request, 0), [0, 9, 0, 1], b"ping")),
                &inner.packet(protocol, &icmp((request, 0), [0, 9, 0, 1], b"ping")),
            )
            .leaves(
                &inner.back().packet(protocol, &icmp((reply, 0), [0, 9, 0, 1], b"ping")),
                &asked.back().packet(protocol, &icmp((reply, 0), [0, 9, 0, 1], b"ping")),
            ),
        begin("a_port_with_an_elastic_ip_leaves_with_it_and_keeps_its_ports")
            .leaves(
                &way(version, (C, 50_000), (O, 53)).udp(),
                &way(version, (ELASTIC, 50_000), (O, 53)).udp(),
            )
            .enters(
                &way(version, (O, 53), (ELASTIC, 50_000)).udp(),
                &way(version, (O, 53), (C, 50_000)).udp(),
            ),
        begin("the_address_of_the_uplink_is_still_the_hosts")
            .passes(outside(), received(&way(version, (O, 7000), (U, 22)).tcp(SYN, 1, 0))),
        begin("a_port_reaches_itself_by_its_elastic_ip").sends(
            from(&C),
            sent(&way(version, (C, 7000), (ELASTIC, 22)).tcp(SYN, 100, 0)),
            (Device::C, C.delivery),
            routed(&sent(&way(version, (ELASTIC, 7000), (C, 22)).tcp(SYN, 100, 0)), C.mac, H.mac),
        ),
        begin("a_flow_ends_with_its_elastic_ip")
            .enters(&asked.udp(), &inner.udp())
            .commit(Policy::Nat)
            .drops(outside(), received(&asked.udp()), DropReason::TranslationChanged)
            .state(FlowState::Closed),
    ];
    if version == Version::V4 {
        cases.push(singles);
    }
    cases
}

fn metadata(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let (asked, inner) = (way(version, (C, 7000), (METADATA, 80)), way(version, (C, 7000), (H, 8775)));
    let from_host = |packet: &[u8]| carried(H.mac, C.mac, packet);
    vec![
        Case::new(name("a_metadata_service_sees_the_workloads_own_address"))
            .commit(Policy::Nat)
            .sends(
                from(&C),
                sent(&asked.tcp(SYN, 100, 0)),
                (Device::X, H.delivery),
                sent(&inner.tcp(SYN, 100, 0)),
            )
            .sends(
                host(&H),
                from_host(&inner.back().tcp(SYN_ACK, 500, 101)),
                (Device::C, vnet_common::Delivery::Device),
                from_host(&asked.back().tcp(SYN_ACK, 500, 101)),
            )
            .sends(
                from(&C),
                sent(&asked.tcp(ACK, 101, 501)),
                (Device::X, H.delivery),
                sent(&inner.tcp(ACK, 101, 501)),
            )
            .state(FlowState::Established),
        Case::new(name("another_port_of_the_metadata_address_is_nobodys")).commit(Policy::Nat).drops(
            from(&C),
            sent(&way(version, (C, 7000), (METADATA, 81)).tcp(SYN, 1, 0)),
            DropReason::NoRoute,
        ),
        Case::new(name("a_network_without_metadata_has_none")).commit(Policy::Nat).drops(
            from(&A),
            carried(A.mac, G.mac, &way(version, (A, 7000), (METADATA, 80)).tcp(SYN, 1, 0)),
            DropReason::NoRoute,
        ),
    ]
}

/// "Port unreachable" and "too big" about a packet, which is quoted as far as RFC 792 promises.
pub(super) fn error(of: &Way, kind: (u8, u8), about: &[u8]) -> Vec<u8> {
    let (protocol, quoted) = match of.version {
        Version::V4 => (ICMP, 28),
        Version::V6 => (ICMPV6, 48),
    };
    of.packet(protocol, &icmp(kind, [0, 0, 5, 0], &about[..quoted]))
}

fn errors(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Nat);
    let unreachable = if version == Version::V4 { (3, 3) } else { (1, 4) };
    let (inner, outer) = (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)));
    let router = Party { v4: std::net::Ipv4Addr::new(198, 51, 100, 254), ..G };
    let (asked, served) = (way(version, (O, 7000), (U, 5000)), way(version, (O, 7000), (C, 6000)));
    // Only the quoted addresses and ports change, so the quoted checksum of UDP stays that of the other side.
    let quoted = |shown: &Way, of: &Way| {
        let (mut shown, of) = (shown.udp(), of.udp());
        let checksum = shown.len() - 6..shown.len() - 4;
        shown[checksum.clone()].copy_from_slice(&of[checksum]);
        shown
    };
    vec![
        begin("an_error_about_a_masqueraded_packet_is_translated_outside_and_inside")
            .leaves(&inner.udp(), &outer.udp())
            .enters(
                &error(&outer.back(), unreachable, &outer.udp()),
                &error(&inner.back(), unreachable, &quoted(&inner, &outer)),
            )
            .state(FlowState::New),
        begin("a_router_on_the_way_keeps_its_address").leaves(&inner.udp(), &outer.udp()).enters(
            &error(&way(version, (router, 0), (U, 0)), unreachable, &outer.udp()),
            &error(&way(version, (router, 0), (C, 0)), unreachable, &quoted(&inner, &outer)),
        ),
        begin("an_error_of_a_forwards_workload_comes_from_the_address_that_was_asked")
            .enters(&asked.udp(), &served.udp())
            .leaves(
                &error(&served.back(), unreachable, &served.udp()),
                &error(&asked.back(), unreachable, &quoted(&asked, &served)),
            ),
        begin("an_error_about_nothing_of_the_networks_is_the_hosts")
            .passes(outside(), received(&error(&outer.back(), unreachable, &outer.udp())))
            .leaves(&inner.udp(), &outer.udp())
            .passes(
                outside(),
                received(&error(&outer.back(), unreachable, &way(version, (U, 1031), (O, 53)).udp())),
            ),
    ]
}
