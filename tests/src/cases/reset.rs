//! Resets and SYNs on a connection that lives (RFC 5961): only what the receiver obeys ends a flow.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, RST, SYN, Talk},
    step::{Case, from},
    tcp::{established, http, opening},
    world::{A, B, Policy, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(|version| of_version(&http(version))).collect()
}

fn of_version(talk: &Talk) -> Vec<Case> {
    let mut cases = inexact(talk);
    cases.push(
        established("an_exact_reset_of_the_client_closes", talk)
            .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 0), &A)
            .switches(from(&A), talk.forth(RST, CLIENT + 1, 0, 0), &B)
            .state(FlowState::Closed)
            .drops(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 5), DropReason::NoFlow)
            .drops(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 5), DropReason::NoFlow)
            .state(FlowState::Closed),
    );
    cases.push(
        established("an_exact_reset_of_the_server_closes", talk)
            .switches(from(&B), talk.back(RST | ACK, SERVER + 1, CLIENT + 1, 0), &A)
            .state(FlowState::Closed),
    );
    cases.push(
        opening("a_refusal_closes_and_the_next_syn_starts_anew", talk)
            .switches(from(&B), talk.back(RST | ACK, 0, CLIENT + 1, 0), &A)
            .state(FlowState::Closed)
            .switches(from(&A), talk.forth(SYN, CLIENT + 50, 0, 0), &B)
            .state(FlowState::New),
    );
    cases.push(
        opening("a_reset_that_does_not_acknowledge_the_syn_refuses_nothing", talk)
            .switches(from(&B), talk.back(RST | ACK, 0, CLIENT + 2, 0), &A)
            .state(FlowState::New)
            .switches(from(&B), talk.back(RST, 0, 0, 0), &A)
            .state(FlowState::New),
    );
    cases.push(
        opening("the_client_may_give_up_in_the_handshake", talk)
            .switches(from(&B), talk.syn_ack(), &A)
            .switches(from(&A), talk.forth(RST, CLIENT + 1, 0, 0), &B)
            .state(FlowState::Closed),
    );
    cases.push(restart(talk));
    cases.push(restart_after_tightening(talk));
    cases.push(
        established("a_syn_of_the_server_on_the_flow_is_judged", talk)
            .drops(from(&B), talk.back(SYN, SERVER + 99, 0, 0), DropReason::EgressDenied)
            .state(FlowState::Established),
    );
    cases
}

fn inexact(talk: &Talk) -> Vec<Case> {
    let data =
        |name: &str| {
            // The server has acknowledged everything: it expects CLIENT + 101.
            established(name, talk)
                .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 100), &B)
                .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 101, 0), &A)
        };
    let expected = CLIENT + 101;
    let inexact = [
        ("a_reset_at_zero_leaves_the_flow", 0),
        ("a_reset_far_ahead_leaves_the_flow", expected + 1_000_000),
        ("a_reset_within_the_window_leaves_the_flow", expected + 10),
        ("a_reset_one_behind_leaves_the_flow", expected - 1),
    ];
    let mut cases = inexact
        .map(|(name, seq)| {
            data(name)
                .switches(from(&A), talk.forth(RST, seq, 0, 0), &B)
                .state(FlowState::Established)
                .switches(from(&B), talk.back(ACK, SERVER + 1, expected, 10), &A)
                .state(FlowState::Established)
        })
        .to_vec();
    cases.push(
        data("an_inexact_reset_leaves_the_exact_one_in_force")
            .switches(from(&A), talk.forth(RST, expected + 10, 0, 0), &B)
            .switches(from(&A), talk.forth(RST, expected, 0, 0), &B)
            .state(FlowState::Closed),
    );
    cases
}

/// The client has forgotten the connection: its SYN is challenged, its reset clears.
fn restart(talk: &Talk) -> Case {
    let new = CLIENT + 700_000;
    established("a_client_that_restarts_gets_through", talk)
        .switches(from(&A), talk.forth(SYN, new, 0, 0), &B)
        .state(FlowState::Established)
        .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 0), &A)
        .switches(from(&A), talk.forth(RST, CLIENT + 1, 0, 0), &B)
        .state(FlowState::Closed)
        .switches(from(&A), talk.forth(SYN, new, 0, 0), &B)
        .state(FlowState::New)
        .switches(from(&B), talk.back(SYN | ACK, SERVER + 400_000, new + 1, 0), &A)
        .switches(from(&A), talk.forth(ACK, new + 1, SERVER + 400_001, 0), &B)
        .state(FlowState::Established)
}

fn restart_after_tightening(talk: &Talk) -> Case {
    established("a_syn_on_the_old_tuple_is_denied_once_the_policy_is_tightened", talk)
        .commit(Policy::WithoutHttp)
        .drops(from(&A), talk.forth(SYN, CLIENT + 700_000, 0, 0), DropReason::IngressDenied)
        .drops(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 10), DropReason::IngressDenied)
        .drops(from(&A), talk.forth(SYN, CLIENT + 700_000, 0, 0), DropReason::IngressDenied)
        .state(FlowState::Closed)
}
