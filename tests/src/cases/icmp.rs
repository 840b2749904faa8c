//! ICMP questions and answers.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ICMP, ICMPV6, icmp, switched},
    step::{Case, from},
    world::{A, B, Party, T, Version},
};

/// Identifier 0x0102, sequence number 1.
const SESSION: [u8; 4] = [1, 2, 0, 1];

/// Number of the protocol, types of echo request and reply.
pub(super) const fn echo(version: Version) -> (u8, u8, u8) {
    match version {
        Version::V4 => (ICMP, 8, 0),
        Version::V6 => (ICMPV6, 128, 129),
    }
}

/// An echo request.
pub(super) fn ping(version: Version, parties: (&Party, &Party)) -> Vec<u8> {
    let (protocol, request, _) = echo(version);
    switched(version, parties, protocol, &icmp((request, 0), SESSION, b"ping"))
}

/// The reply to it.
pub(super) fn pong(version: Version, parties: (&Party, &Party)) -> Vec<u8> {
    let (protocol, _, reply) = echo(version);
    switched(version, parties, protocol, &icmp((reply, 0), SESSION, b"ping"))
}

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(of_version).chain(singles()).collect()
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let (protocol, _, reply) = echo(version);
    let other_session = switched(version, (&B, &A), protocol, &icmp((reply, 0), [1, 3, 0, 1], b"ping"));
    vec![
        Case::new(name("ping_works"))
            .switches(from(&A), ping(version, (&A, &B)), &B)
            .state(FlowState::New)
            .switches(from(&B), pong(version, (&B, &A)), &A)
            .state(FlowState::Established)
            .switches(from(&A), ping(version, (&A, &B)), &B)
            .flows("it is one flow", |flows| flows.len() == 2),
        Case::new(name("a_ping_that_no_rule_allows_is_dropped"))
            .drops(from(&T), ping(version, (&T, &A)), DropReason::IngressDenied)
            .drops(from(&B), ping(version, (&B, &A)), DropReason::EgressDenied)
            .no_flows(),
        Case::new(name("an_echo_reply_that_nobody_asked_for_is_dropped"))
            .drops(from(&T), pong(version, (&T, &B)), DropReason::Unsolicited)
            .drops(from(&B), pong(version, (&B, &A)), DropReason::Unsolicited)
            .switches(from(&A), ping(version, (&A, &B)), &B)
            .drops(from(&B), other_session, DropReason::Unsolicited),
        Case::new(name("pings_in_both_directions_are_two_flows"))
            .switches(from(&A), ping(version, (&A, &T)), &T)
            .drops(from(&T), ping(version, (&T, &A)), DropReason::IngressDenied)
            .switches(from(&T), pong(version, (&T, &A)), &A),
    ]
}

fn singles() -> Vec<Case> {
    let message = |kind, code| switched(Version::V4, (&A, &B), ICMP, &icmp((kind, code), SESSION, &[0; 12]));
    vec![
        Case::new("other_icmp_messages_are_judged_by_themselves")
            .switches(from(&A), message(13, 0), &B)
            .switches(from(&A), message(13, 7), &B)
            .drops(from(&A), message(17, 0), DropReason::IngressDenied)
            .no_flows(),
        Case::new("the_answer_to_one_is_judged_too").drops(
            from(&B),
            switched(Version::V4, (&B, &A), ICMP, &icmp((14, 0), SESSION, &[0; 12])),
            DropReason::EgressDenied,
        ),
        Case::new("icmp_of_the_other_ip_version_is_malformed")
            .drops(
                from(&A),
                switched(Version::V4, (&A, &B), ICMPV6, &icmp((128, 0), SESSION, b"ping")),
                DropReason::MalformedHeader,
            )
            .drops(
                from(&A),
                switched(Version::V6, (&A, &B), ICMP, &icmp((8, 0), SESSION, b"ping")),
                DropReason::MalformedHeader,
            ),
    ]
}
