//! Tables at their limits: full, in the middle of a removal, damaged, or without the device.

use vnet_common::{DropReason, Flow, FlowState, V4};

use super::{
    frame::{ACK, Talk, UDP, switched, udp},
    neighbours::gratuitous_arp,
    step::{Case, Hook, Step, from, host, stranger},
    tcp::{established, http},
    world::{A, B, G, Version},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Version::BOTH.into_iter().flat_map(of_version).collect();
    cases.extend(full());
    cases
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let talk = &http(version);
    let data = talk.forth(ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 10);
    let question = switched(version, (&A, &B), UDP, &udp((40_000, 53)));
    vec![
        established("a_flow_that_is_forgotten_is_over_and_another_begins_in_its_place", talk)
            .then(Step::LastSeen(Flow::<V4>::EXPIRED))
            .drops(from(&A), data.clone(), DropReason::NoFlow)
            .drops(from(&B), talk.back(ACK, Talk::SERVER + 1, Talk::CLIENT + 1, 0), DropReason::NoFlow)
            .switches(from(&A), talk.syn(), &B)
            .switches(from(&B), talk.syn_ack(), &A)
            .switches(from(&A), talk.ack(), &B)
            .state(FlowState::Established),
        established("a_flow_that_is_being_removed_makes_who_begins_another_wait", talk)
            .then(Step::LastSeen(Flow::<V4>::REMOVED))
            .drops(from(&A), data.clone(), DropReason::NoFlow)
            .drops(from(&A), talk.syn(), DropReason::FlowExpiring),
        established("a_damaged_entry_sends_nothing", talk).then(Step::Corrupt).drops(
            from(&A),
            data,
            DropReason::Internal,
        ),
        Case::new(name("a_device_that_the_policy_does_not_know_is_cut_off"))
            .drops(stranger(Hook::FromPort), question.clone(), DropReason::UnknownDevice)
            .drops(stranger(Hook::FromHost), question.clone(), DropReason::UnknownDevice)
            .drops(stranger(Hook::ToPort), question, DropReason::UnknownDevice)
            .drops(stranger(Hook::FromPort), gratuitous_arp(&A), DropReason::UnknownDevice)
            .drops(stranger(Hook::FromHost), gratuitous_arp(&G), DropReason::UnknownDevice)
            .drops(stranger(Hook::ToPort), gratuitous_arp(&A), DropReason::UnknownDevice)
            .no_flows(),
    ]
}

fn full() -> Vec<Case> {
    let version = Version::V6;
    let question = |port| switched(version, (&A, &B), UDP, &udp((port, 53)));
    let answer = switched(version, (&B, &A), UDP, &udp((53, 40_000)));
    let late_answer = switched(version, (&B, &A), UDP, &udp((53, 40_001)));
    let asked = |name: &str| Case::new(name).switches(from(&A), question(40_000), &B);
    vec![
        asked("a_full_table_refuses_new_flows_and_keeps_the_old")
            .then(Step::Fill { free: 0 })
            .drops(from(&A), question(40_001), DropReason::FlowTableFull)
            .switches(from(&B), answer, &A)
            .state(FlowState::Established)
            .flows("the old flow is whole", |flows| flows.len() == 2),
        asked("a_flow_gets_both_entries_or_none_that_lets_anything_pass")
            .then(Step::Fill { free: 1 })
            .drops(from(&A), question(40_001), DropReason::FlowTableFull)
            .flows("the one of the refused one has ended", |flows| {
                flows.len() == 3 && flows.iter().filter(|flow| flow.state == FlowState::Closed).count() == 1
            })
            .drops(from(&B), late_answer, DropReason::EgressDenied),
        asked("the_last_two_entries_hold_a_flow")
            .then(Step::Fill { free: 2 })
            .switches(from(&A), question(40_001), &B)
            .drops(host(&G), switched(version, (&G, &B), UDP, &udp((1, 53))), DropReason::FlowTableFull),
    ]
}
