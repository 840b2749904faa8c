//! What a reviewer who played the attacker found, and what has to hold beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{DropReason, FlowState, MacAddr};

use super::{
    frame::{
        ACK, FIN, ICMPV6, IP, RST, SYN, SYN_ACK, Talk, UDP, carried, icmp, packet, packet_with_ttl, switched,
        udp,
    },
    icmp::echo,
    step::{Case, from, host},
    tcp::{established, http, opening},
    world::{A, B, C, G, H, OTHER_MAC_OF_B, Party, Policy, T, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

/// Identifier 0, sequence number 1: the ports of its flow are those of an ICMP message that has none.
const SESSION_0: [u8; 4] = [0, 0, 0, 1];

pub(super) fn cases() -> Vec<Case> {
    let of_version = |version| {
        let talk = &http(version);
        [
            session_0(version),
            commits(version),
            resets(talk),
            reuse(talk),
            other_macs(talk),
            data_in_the_syn(talk),
            dhcp(version),
        ]
        .concat()
    };
    Version::BOTH.into_iter().flat_map(of_version).chain([offers(), strangers()]).collect()
}

/// An echo session with identifier 0 has the tuple of any other ICMP between the two.
fn session_0(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let (protocol, request, reply) = echo(version);
    let message =
        |parties, kind, body: &[u8]| switched(version, parties, protocol, &icmp(kind, SESSION_0, body));
    let (unreachable, too_big, single) = match version {
        Version::V4 => ((3, 3), (3, 4), (17, 0)),
        Version::V6 => ((1, 4), (2, 0), (139, 0)),
    };
    // What B answered T, as far as an error quotes it: a flow that is no business of A's.
    let question = switched(version, (&T, &B), UDP, &udp((40_000, 53)));
    let answer = switched(version, (&B, &T), UDP, &udp((53, 40_000)));
    let quoted = &answer[IP..][..if version == Version::V4 { 28 } else { 48 }];
    let ping = message((&A, &B), (request, 0), b"x");
    let pinged = |name: String| Case::new(name).switches(from(&A), ping.clone(), &B);
    vec![
        Case::new(name("an_error_about_the_flow_of_two_others_is_dropped"))
            .switches(from(&T), question.clone(), &B)
            .drops(from(&A), message((&A, &B), unreachable, quoted), DropReason::UnrelatedError),
        pinged(name("an_echo_with_identifier_0_lets_no_error_pass"))
            .switches(from(&T), question, &B)
            .drops(from(&A), message((&A, &B), unreachable, quoted), DropReason::UnrelatedError)
            .drops(from(&A), message((&A, &B), too_big, quoted), DropReason::UnrelatedError),
        pinged(name("an_echo_with_identifier_0_lets_no_error_about_nothing_pass")).drops(
            from(&A),
            message((&A, &B), too_big, quoted),
            DropReason::UnrelatedError,
        ),
        pinged(name("an_echo_with_identifier_0_lets_no_other_icmp_pass")).drops(
            from(&A),
            message((&A, &B), single, b"x"),
            DropReason::IngressDenied,
        ),
        pinged(name("an_answered_echo_with_identifier_0_lets_no_error_back"))
            .switches(from(&B), message((&B, &A), (reply, 0), b"x"), &A)
            .drops(from(&B), message((&B, &A), unreachable, quoted), DropReason::UnrelatedError),
        pinged(name("an_echo_with_identifier_0_lets_no_echo_back")).drops(
            from(&B),
            message((&B, &A), (request, 0), b"x"),
            DropReason::EgressDenied,
        ),
    ]
}

/// A flow to the gateway is judged again with the gateway's own identity, whoever speaks first.
fn commits(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let ssh = Talk::new(version, B, G, 22);
    let committed = |name: String| {
        Case::new(name)
            .switches(from(&B), ssh.syn(), &G)
            .switches(host(&G), ssh.syn_ack(), &B)
            .switches(from(&B), ssh.ack(), &G)
            .commit(Policy::Usual)
    };
    vec![
        committed(name("a_flow_to_the_gateway_survives_a_commit_when_the_host_speaks_first")).switches(
            host(&G),
            ssh.back(ACK, SERVER + 1, CLIENT + 1, 10),
            &B,
        ),
        committed(name("a_flow_to_the_gateway_survives_a_commit_when_the_port_speaks_first")).switches(
            from(&B),
            ssh.forth(ACK, CLIENT + 1, SERVER + 1, 10),
            &G,
        ),
    ]
}

/// Resets as real stacks send them.
fn resets(talk: &Talk) -> Vec<Case> {
    let in_syn_received =
        |name: &str| opening(name, talk).switches(from(&talk.server), talk.syn_ack(), &talk.client);
    vec![
        established("a_reset_behind_data_not_yet_acknowledged_ends_the_flow", talk)
            .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 100), &B)
            .switches(from(&A), talk.forth(RST | ACK, CLIENT + 101, SERVER + 1, 0), &B)
            .flows("it is not established any more", |flows| {
                flows.iter().all(|flow| flow.state != FlowState::Established)
            }),
        in_syn_received("the_server_may_reset_before_the_handshake_ends")
            .switches(from(&B), talk.back(RST, SERVER + 1, 0, 0), &A)
            .state(FlowState::Closed),
        in_syn_received("a_reset_at_0_before_the_handshake_ends_changes_nothing")
            .switches(from(&B), talk.back(RST, 0, 0, 0), &A)
            .state(FlowState::SynReceived),
    ]
}

/// The server forgot a half-closed connection by a reset that did not count; the client comes again.
fn reuse(talk: &Talk) -> Vec<Case> {
    let (client, server) = (CLIENT + 700_000, SERVER + 9_000_000);
    vec![
        established("a_reused_tuple_begins_anew_behind_a_reset_that_did_not_count", talk)
            .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 1, 0), &B)
            .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 2, 100), &A)
            .switches(from(&B), talk.back(RST | ACK, SERVER + 101, CLIENT + 2, 0), &A)
            .switches(from(&A), talk.forth(SYN, client, 0, 0), &B)
            .switches(from(&B), talk.back(SYN_ACK, server, client + 1, 0), &A)
            .switches(from(&A), talk.forth(ACK, client + 1, server + 1, 0), &B)
            .state(FlowState::Established),
    ]
}

/// A frame to a wrong MAC is dropped, and says nothing about the flow.
fn other_macs(talk: &Talk) -> Vec<Case> {
    let data = talk.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let moved = Party { mac: OTHER_MAC_OF_B, ..B };
    let to_moved = carried(A.mac, moved.mac, &data[IP..]);
    vec![
        established("a_frame_to_a_wrong_mac_does_not_end_the_flow", talk)
            .drops(from(&A), carried(A.mac, T.mac, &data[IP..]), DropReason::WrongMac)
            .switches(from(&A), data.clone(), &B),
        established("a_frame_to_the_mac_before_a_commit_does_not_end_the_flow", talk)
            .commit(Policy::OtherMac)
            .drops(from(&A), data, DropReason::WrongMac)
            .switches(from(&A), to_moved, &moved),
    ]
}

/// TCP Fast Open (RFC 7413): a SYN with data.
fn data_in_the_syn(talk: &Talk) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({:?})", talk.version);
    let opened = |name: String| Case::new(name).switches(from(&A), talk.forth(SYN, CLIENT, 0, 20), &B);
    vec![
        opened(name("a_server_may_refuse_the_data_of_a_syn"))
            .switches(from(&B), talk.back(SYN_ACK, SERVER, CLIENT + 1, 0), &A)
            .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 20), &B)
            .state(FlowState::Established),
        opened(name("a_server_may_send_before_the_handshake_ends"))
            .switches(from(&B), talk.back(SYN_ACK, SERVER, CLIENT + 21, 0), &A)
            .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 21, 1000), &A)
            .switches(from(&A), talk.forth(ACK, CLIENT + 21, SERVER + 1, 0), &B)
            .state(FlowState::Established),
    ]
}

/// DHCP clients look at their own port only: what goes to it is a server's, from whatever port.
fn dhcp(version: Version) -> Vec<Case> {
    let client = if version == Version::V4 { 68 } else { 546 };
    let offer = switched(version, (&A, &T), UDP, &udp((50_000, client)));
    vec![
        Case::new(format!("a_dhcp_offer_from_another_port_is_dropped ({version:?})"))
            .drops(from(&A), offer, DropReason::DhcpServer)
            .no_flows(),
    ]
}

/// The same to everybody.
fn offers() -> Case {
    let offer = packet(A.v4.into(), IpAddr::V4(Ipv4Addr::BROADCAST), UDP, &udp((50_000, 68)));
    Case::new("a_dhcp_offer_from_another_port_to_everybody_is_dropped").drops(
        from(&A),
        carried(A.mac, MacAddr::BROADCAST, &offer),
        DropReason::DhcpServer,
    )
}

/// A neighbour message passes by the bridge, which would hand one for a stranger to the host's routes.
fn strangers() -> Case {
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    let message = |speaker: &Party, kind, destination: Ipv6Addr, mac| {
        let body = [&speaker.v6.octets()[..], &[200, 4], &[b's'; 30]].concat();
        let body = icmp((kind, 0), [0x20, 0, 0, 0], &body);
        carried(speaker.mac, mac, &packet_with_ttl(255, speaker.v6.into(), destination.into(), ICMPV6, &body))
    };
    let outside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    Case::new("a_neighbour_message_to_a_stranger_is_dropped")
        .drops(from(&A), message(&A, ADVERTISEMENT, outside, G.mac), DropReason::UnknownNeighbour)
        .drops(from(&A), message(&A, SOLICITATION, outside, G.mac), DropReason::UnknownNeighbour)
        .drops(from(&C), message(&C, ADVERTISEMENT, A.v6, H.mac), DropReason::UnknownNeighbour)
}
