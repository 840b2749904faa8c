//! Protocols without a handshake: UDP, SCTP, and those without ports.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{SCTP, UDP, switched, udp},
    step::{Case, from},
    world::{A, B, Party, T, Version},
};

const GRE: u8 = 47;

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let datagram = |parties: (&Party, &Party), ports| switched(version, parties, UDP, &udp(ports));
    let question = datagram((&A, &B), (40_000, 53));
    let answer = datagram((&B, &A), (53, 40_000));
    let len = question.len() as u64;
    assert_eq!(len, if version == Version::V4 { 46 } else { 66 });

    let asked = Case::new(name("the_first_answer_establishes_a_udp_flow"))
        .switches(from(&A), question.clone(), &B)
        .switches(from(&A), question.clone(), &B)
        .state(FlowState::New)
        .switches(from(&B), answer.clone(), &A)
        .state(FlowState::Established)
        .advance(60)
        .flows("time passes for both", |flows| flows.iter().all(|flow| flow.is_idle))
        .switches(from(&A), question.clone(), &B)
        .flows("a packet refreshes its direction", |flows| {
            flows.iter().all(|flow| flow.is_idle == flow.is_reply)
        })
        .flows("packets and bytes are counted by direction", |flows| {
            flows.len() == 2
                && flows.iter().all(|flow| {
                    let packets = if flow.is_reply { 1 } else { 3 };
                    let len =
                        if flow.received.dst() == B.mac || flow.is_reply { flow.bytes / packets } else { 0 };
                    flow.packets == packets && (len == 46 || len == 66)
                })
        });
    let unasked = Case::new(name("an_answer_without_a_question_is_judged"))
        .drops(from(&B), answer, DropReason::EgressDenied)
        .no_flows();
    let denied = Case::new(name("a_udp_port_that_no_rule_opens_is_closed"))
        .drops(from(&A), datagram((&A, &B), (40_000, 54)), DropReason::IngressDenied)
        .no_flows();
    let other_source = Case::new(name("an_answer_from_another_port_is_another_flow"))
        .switches(from(&A), question, &B)
        .drops(from(&B), datagram((&B, &A), (54, 40_000)), DropReason::EgressDenied);
    let sctp = [&40_000_u16.to_be_bytes()[..], &5000_u16.to_be_bytes(), &[0; 8]].concat();
    let sctp_reply = [&5000_u16.to_be_bytes()[..], &40_000_u16.to_be_bytes(), &[0; 8]].concat();
    let sctp = Case::new(name("sctp_ports_are_judged_and_tracked"))
        .switches(from(&A), switched(version, (&A, &B), SCTP, &sctp), &B)
        .switches(from(&B), switched(version, (&B, &A), SCTP, &sctp_reply), &A)
        .state(FlowState::Established)
        .drops(from(&A), switched(version, (&A, &B), SCTP, &sctp_reply), DropReason::IngressDenied);
    let gre = Case::new(name("a_protocol_without_ports_is_judged_and_tracked"))
        .switches(from(&A), switched(version, (&A, &B), GRE, &[0; 8]), &B)
        .switches(from(&B), switched(version, (&B, &A), GRE, &[0; 8]), &A)
        .state(FlowState::Established)
        .drops(from(&A), switched(version, (&A, &B), GRE + 1, &[0; 8]), DropReason::IngressDenied);
    let tap = Case::new(name("a_tap_sends_and_receives_through_its_device"))
        .switches(from(&A), datagram((&A, &T), (1, 2)), &T)
        .switches(from(&T), datagram((&T, &A), (2, 1)), &A)
        .state(FlowState::Established)
        .switches(from(&T), datagram((&T, &B), (1, 53)), &B)
        .switches(from(&B), datagram((&B, &T), (53, 1)), &T);
    vec![asked, unasked, denied, other_source, sctp, gre, tap]
}
