//! ICMP errors: they pass when they are about a flow, and leave it as it is (RFC 5508 REQ-4, REQ-9).

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, ICMP, ICMPV6, IP, Talk, UDP, icmp, switched, udp},
    icmp::{ping, pong},
    step::{Case, from, host},
    tcp::{established, http},
    world::{A, B, C, G, H, HOST_ELSEWHERE, Party, T, Version},
};

/// As much of the quoted packet as RFC 792 promises: its IP header and eight bytes.
fn promised(version: Version) -> usize {
    match version {
        Version::V4 => 28,
        Version::V6 => 48,
    }
}

/// "Port unreachable" about `about`, of which it quotes `len` bytes.
fn unreachable(version: Version, parties: (&Party, &Party), about: &[u8], len: usize) -> Vec<u8> {
    let (protocol, message) = match version {
        Version::V4 => (ICMP, (3, 3)),
        Version::V6 => (ICMPV6, (1, 4)),
    };
    switched(version, parties, protocol, &icmp(message, [0; 4], &about[IP..][..len]))
}

/// "Too big", as a router sends it about `about`.
pub(super) fn too_big(version: Version, parties: (&Party, &Party), about: &[u8]) -> Vec<u8> {
    let (protocol, message) = match version {
        Version::V4 => (ICMP, (3, 4)),
        Version::V6 => (ICMPV6, (2, 0)),
    };
    let mtu = [0, 0, 5, 0];
    switched(version, parties, protocol, &icmp(message, mtu, &about[IP..][..promised(version)]))
}

pub(super) fn cases() -> Vec<Case> {
    let of_version = |version| [related(version), unrelated(version)].concat();
    Version::BOTH.into_iter().flat_map(of_version).chain([misdirected()]).collect()
}

fn related(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let question = switched(version, (&A, &B), UDP, &udp((40_000, 53)));
    let len = promised(version);
    let talk = http(version);
    let segment = talk.forth(ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 60);
    let host_question = switched(version, (&HOST_ELSEWHERE, &B), UDP, &udp((40_000, 53)));
    vec![
        Case::new(name("an_error_about_a_flow_passes_and_leaves_it"))
            .switches(from(&A), question.clone(), &B)
            .advance(30)
            .switches(from(&B), unreachable(version, (&B, &A), &question, len), &A)
            .state(FlowState::New)
            .flows("it neither counts nor refreshes", |flows| {
                flows.len() == 2
                    && flows.iter().all(|flow| flow.is_idle && flow.packets == u64::from(!flow.is_reply))
            }),
        established("too_big_from_the_host_passes", &talk)
            .switches(from(&A), segment.clone(), &B)
            .switches(host(&G), too_big(version, (&G, &A), &segment), &A)
            .state(FlowState::Established),
        established("too_big_from_the_server_passes", &talk)
            .switches(from(&B), too_big(version, (&B, &A), &segment), &A)
            .state(FlowState::Established),
        Case::new(name("an_error_about_a_reply_passes"))
            .switches(from(&A), question.clone(), &B)
            .switches(from(&B), switched(version, (&B, &A), UDP, &udp((53, 40_000))), &A)
            .switches(
                from(&A),
                unreachable(version, (&A, &B), &switched(version, (&B, &A), UDP, &udp((53, 40_000))), len),
                &B,
            ),
        Case::new(name("an_error_about_a_ping_session_leaves_it"))
            .switches(from(&A), ping(version, (&A, &B)), &B)
            .switches(from(&B), pong(version, (&B, &A)), &A)
            .advance(30)
            .switches(from(&B), unreachable(version, (&B, &A), &ping(version, (&A, &B)), len), &A)
            .state(FlowState::Established)
            .flows("nothing is refreshed", |flows| flows.iter().all(|flow| flow.is_idle)),
        Case::new(name("an_error_about_what_the_host_sent_reaches_it"))
            .switches(host(&G), switched(version, (&G, &B), UDP, &udp((40_000, 53))), &B)
            .switches(
                from(&B),
                unreachable(version, (&B, &G), &switched(version, (&G, &B), UDP, &udp((40_000, 53))), len),
                &G,
            ),
        Case::new(name("an_error_about_what_the_host_sent_from_elsewhere_reaches_it"))
            .switches(host(&G), host_question.clone(), &B)
            .switches(from(&B), unreachable(version, (&B, &HOST_ELSEWHERE), &host_question, len), &G),
    ]
}

/// To another address of the very port that sent what is quoted.
fn misdirected() -> Case {
    let (version, other) = (Version::V6, Party { v6: A.link_local(), ..A });
    let question = switched(version, (&A, &B), UDP, &udp((40_000, 53)));
    let error = unreachable(version, (&B, &other), &question, promised(version));
    Case::new("an_error_goes_to_the_very_address_that_it_quotes").switches(from(&A), question, &B).drops(
        from(&B),
        error,
        DropReason::UnrelatedError,
    )
}

fn unrelated(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let question = switched(version, (&A, &B), UDP, &udp((40_000, 53)));
    let never_sent = switched(version, (&A, &B), UDP, &udp((40_001, 53)));
    let len = promised(version);
    let asked = |what: &str| Case::new(name(what)).switches(from(&A), question.clone(), &B);
    vec![
        asked("an_error_about_an_unknown_flow_is_dropped").drops(
            from(&B),
            unreachable(version, (&B, &A), &never_sent, len),
            DropReason::UnrelatedError,
        ),
        asked("a_third_party_may_not_send_errors_about_a_flow").drops(
            from(&T),
            unreachable(version, (&T, &A), &question, len),
            DropReason::UnrelatedError,
        ),
        asked("an_error_goes_to_the_sender_of_what_it_quotes").drops(
            from(&B),
            unreachable(version, (&B, &T), &question, len),
            DropReason::UnrelatedError,
        ),
        asked("an_error_that_quotes_too_little_is_truncated").drops(
            from(&B),
            unreachable(version, (&B, &A), &question, len - 5),
            DropReason::Truncated,
        ),
        Case::new(name("no_error_crosses_networks"))
            .switches(host(&H), switched(version, (&H, &C), UDP, &udp((40_000, 53))), &C)
            .drops(
                from(&B),
                unreachable(version, (&B, &G), &switched(version, (&H, &C), UDP, &udp((40_000, 53))), len),
                DropReason::UnrelatedError,
            ),
    ]
}
