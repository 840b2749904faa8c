//! What the rules say, and what becomes of flows when they change.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, Talk, UDP, switched, udp},
    step::{Case, from},
    tcp::{established, http},
    world::{A, B, OTHER_MAC_OF_B, Party, Policy, T, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(|version| [rules(version), changes(version)].concat()).collect()
}

fn rules(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let syn = |client, server, port| Talk::new(version, client, server, port).syn();
    let question = switched(version, (&A, &B), UDP, &udp((40_000, 53)));
    let answer = switched(version, (&B, &A), UDP, &udp((53, 40_000)));
    vec![
        Case::new(name("a_rule_admits_the_group_that_it_names_and_no_other"))
            .switches(from(&A), syn(A, B, 80), &B)
            .drops(from(&T), syn(T, B, 80), DropReason::IngressDenied),
        Case::new(name("a_port_that_no_rule_opens_is_closed"))
            .drops(from(&A), syn(A, B, 81), DropReason::IngressDenied)
            .drops(from(&A), syn(A, B, 79), DropReason::IngressDenied)
            .no_flows(),
        Case::new(name("what_was_refused_is_refused_again_and_nothing_else_is"))
            .drops(from(&A), syn(A, B, 81), DropReason::IngressDenied)
            .drops(from(&A), syn(A, B, 81), DropReason::IngressDenied)
            .drops(from(&A), Talk::new(version, A, B, 81).forth(ACK, CLIENT, SERVER, 0), DropReason::NoFlow)
            .drops(from(&A), syn(Party { mac: OTHER_MAC_OF_B, ..A }, B, 81), DropReason::SpoofedMac)
            .drops(from(&A), syn(A, Party { mac: OTHER_MAC_OF_B, ..B }, 81), DropReason::WrongMac)
            .switches(from(&A), syn(A, B, 80), &B)
            .drops(from(&A), syn(A, B, 81), DropReason::IngressDenied)
            .commit(Policy::Nothing)
            .drops(from(&A), syn(A, B, 81), DropReason::EgressDenied),
        Case::new(name("what_was_refused_is_an_answer_once_the_other_end_has_asked"))
            .drops(from(&B), answer.clone(), DropReason::EgressDenied)
            .switches(from(&A), question, &B)
            .switches(from(&B), answer, &A),
        Case::new(name("a_port_range_has_both_its_ends"))
            .drops(from(&T), syn(T, B, 7999), DropReason::IngressDenied)
            .switches(from(&T), syn(T, B, 8000), &B)
            .switches(from(&T), syn(T, B, 8007), &B)
            .switches(from(&T), syn(T, B, 8008), &B)
            .switches(from(&T), syn(T, B, 8010), &B)
            .drops(from(&T), syn(T, B, 8011), DropReason::IngressDenied),
        Case::new(name("both_ends_have_to_agree"))
            .switches(from(&B), syn(B, A, 9000), &A)
            .drops(from(&B), syn(B, A, 9001), DropReason::IngressDenied)
            .drops(from(&B), syn(B, A, 9002), DropReason::EgressDenied)
            .drops(from(&B), syn(B, T, 9000), DropReason::EgressDenied)
            .drops(from(&T), syn(T, A, 9000), DropReason::IngressDenied),
        Case::new(name("a_rule_for_every_protocol_admits_each"))
            .switches(from(&A), syn(A, T, 1), &T)
            .switches(from(&A), switched(version, (&A, &T), UDP, &udp((1, 65_535))), &T)
            .switches(from(&A), switched(version, (&A, &T), 89, &[0; 8]), &T)
            .drops(from(&B), switched(version, (&B, &T), 89, &[0; 8]), DropReason::EgressDenied),
    ]
}

fn changes(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let talk = &http(version);
    let data = talk.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let reply = talk.back(ACK, SERVER + 1, CLIENT + 11, 10);
    let question = switched(version, (&A, &B), UDP, &udp((40_000, 53)));
    let answer = switched(version, (&B, &A), UDP, &udp((53, 40_000)));
    let moved = Talk { server: Party { mac: OTHER_MAC_OF_B, ..B }, ..*talk };
    vec![
        established("a_flow_that_the_new_policy_allows_goes_on", talk)
            .commit(Policy::Usual)
            .flows("no packet has been judged again yet", |flows| {
                flows.iter().all(|flow| flow.generation == 1)
            })
            .switches(from(&A), data.clone(), &B)
            .flows("both entries are judged at once", |flows| flows.iter().all(|flow| flow.generation == 2))
            .switches(from(&B), reply.clone(), &A)
            .state(FlowState::Established)
            .flows("the counters go on", |flows| flows.iter().map(|flow| flow.packets).sum::<u64>() == 5),
        established("a_reply_may_be_the_first_to_be_judged_again", talk)
            .commit(Policy::Usual)
            .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 10), &A)
            .flows("both entries are judged at once", |flows| flows.iter().all(|flow| flow.generation == 2))
            .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 11, 10), &B)
            .state(FlowState::Established),
        established("a_flow_that_the_new_policy_forbids_is_cut", talk)
            .commit(Policy::WithoutHttp)
            .drops(from(&A), data.clone(), DropReason::IngressDenied)
            .state(FlowState::Closed)
            .drops(from(&A), data.clone(), DropReason::NoFlow)
            .drops(from(&B), reply.clone(), DropReason::NoFlow),
        established("a_reply_of_a_forbidden_flow_cuts_it_too", talk)
            .commit(Policy::WithoutHttp)
            .drops(from(&B), reply.clone(), DropReason::IngressDenied)
            .state(FlowState::Closed),
        Case::new(name("an_answer_in_a_flow_that_was_cut_is_none"))
            .switches(from(&A), question.clone(), &B)
            .switches(from(&B), answer.clone(), &A)
            .commit(Policy::Nothing)
            .drops(from(&A), question.clone(), DropReason::EgressDenied)
            .state(FlowState::Closed)
            .commit(Policy::Usual)
            .drops(from(&B), answer.clone(), DropReason::EgressDenied)
            .switches(from(&A), question, &B)
            .switches(from(&B), answer, &A)
            .state(FlowState::Established),
        established("a_policy_that_returns_in_time_leaves_the_flow", talk)
            .commit(Policy::WithoutHttp)
            .commit(Policy::Usual)
            .switches(from(&A), data.clone(), &B)
            .state(FlowState::Established),
        Case::new(name("a_handshake_survives_a_commit"))
            .switches(from(&A), talk.syn(), &B)
            .commit(Policy::Usual)
            .switches(from(&B), talk.syn_ack(), &A)
            .commit(Policy::Usual)
            .switches(from(&A), talk.ack(), &B)
            .state(FlowState::Established),
        established("a_flow_follows_its_server_to_another_mac", talk)
            .commit(Policy::OtherMac)
            .switches(from(&A), moved.forth(ACK, CLIENT + 1, SERVER + 1, 10), &B)
            .state(FlowState::Established)
            .switches(from(&B), moved.back(ACK, SERVER + 1, CLIENT + 11, 10), &A)
            .drops(from(&B), talk.back(ACK, SERVER + 11, CLIENT + 11, 10), DropReason::SpoofedMac),
        established("a_frame_to_the_old_mac_is_dropped", talk).commit(Policy::OtherMac).drops(
            from(&A),
            data.clone(),
            DropReason::WrongMac,
        ),
        established("a_port_that_leaves_the_policy_is_cut_off", talk)
            .commit(Policy::WithoutB)
            .drops(from(&B), reply, DropReason::UnknownDevice)
            .drops(from(&A), data, DropReason::NoRoute)
            .state(FlowState::Closed),
    ]
}
