//! TCP connections: from the first SYN to TIME-WAIT (RFC 9293).

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, FIN, RST, SYN, SYN_ACK, Talk},
    rules::{A_SENDS, HTTP},
    step::{Case, from},
    world::{A, B, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

/// All of them, in both versions of IP.
pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

/// A talk with the service that A may use.
pub(super) const fn http(version: Version) -> Talk {
    Talk::new(version, A, B, 80)
}

/// A case that begins with an established connection.
pub(super) fn established(name: &str, talk: &Talk) -> Case {
    opening(name, talk)
        .switches(from(&talk.server), talk.syn_ack(), &talk.client)
        .switches(from(&talk.client), talk.ack(), &talk.server)
        .state(FlowState::Established)
}

/// A case that begins with a SYN.
pub(super) fn opening(name: &str, talk: &Talk) -> Case {
    Case::new(format!("{name} ({:?})", talk.version)).switches(from(&talk.client), talk.syn(), &talk.server)
}

fn of_version(version: Version) -> Vec<Case> {
    let talk = &http(version);
    let mut cases = handshakes(talk);
    cases.extend(anomalies(talk));
    cases.extend(closes(talk));
    cases
}

fn handshakes(talk: &Talk) -> Vec<Case> {
    let handshake = opening("a_handshake_establishes", talk)
        .state(FlowState::New)
        .switches(from(&B), talk.syn_ack(), &A)
        .state(FlowState::SynReceived)
        .switches(from(&A), talk.ack(), &B)
        .state(FlowState::Established)
        .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 100), &B)
        .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 101, 50), &A)
        .flows("both directions are recorded", |flows| {
            flows.iter().all(|flow| match flow.is_reply {
                false => flow.packets == 3 && flow.seq_next == CLIENT + 101 && flow.ack == SERVER + 1,
                true => flow.packets == 2 && flow.seq_next == SERVER + 51 && flow.ack == CLIENT + 101,
            })
        })
        .flows("the rules that allowed it are remembered", |flows| {
            flows.len() == 2 && flows.iter().all(|flow| flow.rules == [A_SENDS, HTTP])
        });
    let bypass = established("a_reply_bypasses_ingress_policy", talk)
        .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 10), &A)
        .drops(from(&B), Talk { client: B, server: A, ..*talk }.syn(), DropReason::EgressDenied);
    let retransmission = opening("a_syn_is_retransmitted", talk)
        .advance(3)
        .switches(from(&A), talk.syn(), &B)
        .state(FlowState::New)
        .flows("it is one flow", |flows| flows.len() == 2 && flows.iter().any(|flow| flow.packets == 2))
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&B), talk.syn_ack(), &A)
        .state(FlowState::SynReceived)
        .switches(from(&A), talk.ack(), &B)
        .state(FlowState::Established);
    let last_acknowledgement_lost = opening("data_completes_the_handshake", talk)
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 7), &B)
        .state(FlowState::Established);
    let fast_open = Case::new(format!("a_syn_may_carry_data ({:?})", talk.version))
        .switches(from(&A), talk.forth(SYN, CLIENT, 0, 20), &B)
        .switches(from(&B), talk.back(SYN_ACK, SERVER, CLIENT + 21, 0), &A)
        .state(FlowState::SynReceived);
    let wrap = Case::new(format!("sequence_numbers_wrap ({:?})", talk.version))
        .switches(from(&A), talk.forth(SYN, u32::MAX, 0, 0), &B)
        .switches(from(&B), talk.back(SYN_ACK, u32::MAX, 0, 0), &A)
        .state(FlowState::SynReceived)
        .switches(from(&A), talk.forth(ACK, 0, 0, 0), &B)
        .state(FlowState::Established)
        .switches(from(&A), talk.forth(ACK, 0, 0, 10), &B)
        .switches(from(&B), talk.back(ACK, 0, 10, 0), &A)
        .flows("the numbers after the wrap are higher", |flows| {
            flows.iter().any(|flow| !flow.is_reply && flow.seq_next == 10)
                && flows.iter().any(|flow| flow.is_reply && flow.ack == 10)
        });
    vec![handshake, bypass, retransmission, last_acknowledgement_lost, fast_open, wrap]
}

fn anomalies(talk: &Talk) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({:?})", talk.version);
    let simultaneous = opening("a_simultaneous_open_establishes", talk)
        .switches(from(&B), talk.back(SYN, SERVER, 0, 0), &A)
        .state(FlowState::SynReceived)
        .switches(from(&A), talk.forth(SYN_ACK, CLIENT, SERVER + 1, 0), &B)
        .switches(from(&B), talk.back(SYN_ACK, SERVER, CLIENT + 1, 0), &A)
        .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 0), &B)
        .state(FlowState::Established);
    let stale = opening("a_stale_syn_ack_is_dropped_and_the_right_one_establishes", talk)
        .drops(from(&B), talk.back(SYN_ACK, SERVER, CLIENT + 77, 0), DropReason::BadAck)
        .state(FlowState::New)
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&A), talk.ack(), &B)
        .state(FlowState::Established);
    let premature = opening("the_client_cannot_acknowledge_what_nobody_sent", talk)
        .drops(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 1, 0), DropReason::BadAck)
        .state(FlowState::New);
    let alone = opening("the_client_cannot_establish_alone", talk)
        .drops(from(&A), talk.forth(SYN_ACK, CLIENT, 0, 0), DropReason::BadAck)
        .drops(from(&A), talk.forth(ACK, CLIENT + 1, 0, 0), DropReason::BadAck)
        .state(FlowState::New);
    let wrong_ack = opening("a_wrong_last_acknowledgement_does_not_establish", talk)
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 9, 0), &B)
        .state(FlowState::SynReceived);
    let challenge = opening("a_challenge_ack_does_not_spoil_the_handshake", talk)
        .switches(from(&B), talk.back(ACK, SERVER + 1_000_000, CLIENT + 500_000, 0), &A)
        .state(FlowState::New)
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&A), talk.ack(), &B)
        .state(FlowState::Established);
    let new_syn = opening("an_unanswered_syn_gives_way_to_another", talk)
        .switches(from(&A), talk.forth(SYN, CLIENT + 900, 0, 0), &B)
        .flows("it is a flow of one packet", |flows| {
            flows.len() == 2 && flows.iter().any(|flow| flow.packets == 1 && flow.seq_next == CLIENT + 901)
        })
        .drops(from(&B), talk.syn_ack(), DropReason::BadAck)
        .switches(from(&B), talk.back(SYN_ACK, SERVER, CLIENT + 901, 0), &A)
        .state(FlowState::SynReceived);
    let no_flow = Case::new(name("a_segment_that_opens_nothing_has_no_flow"))
        .drops(from(&A), talk.ack(), DropReason::NoFlow)
        .drops(from(&A), talk.forth(SYN_ACK, CLIENT, 1, 0), DropReason::NoFlow)
        .drops(from(&A), talk.forth(RST, CLIENT, 0, 0), DropReason::NoFlow)
        .drops(from(&A), talk.forth(FIN | ACK, CLIENT, 1, 0), DropReason::NoFlow)
        .no_flows();
    vec![simultaneous, stale, premature, alone, wrong_ack, challenge, new_syn, no_flow]
}

fn closes(talk: &Talk) -> Vec<Case> {
    let orderly = established("both_ends_close", talk)
        .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 1, 0), &B)
        .state(FlowState::FinWait)
        .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 2, 30), &A)
        .state(FlowState::FinWait)
        .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 1, 0), &B)
        .state(FlowState::FinWait)
        .switches(from(&B), talk.back(FIN | ACK, SERVER + 31, CLIENT + 2, 0), &A)
        .state(FlowState::TimeWait)
        .switches(from(&A), talk.forth(ACK, CLIENT + 2, SERVER + 32, 0), &B)
        .state(FlowState::TimeWait);
    let server_first = established("the_server_may_close_first", talk)
        .switches(from(&B), talk.back(FIN | ACK, SERVER + 1, CLIENT + 1, 0), &A)
        .state(FlowState::FinWait)
        .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 2, 0), &B)
        .state(FlowState::TimeWait);
    let early = opening("a_fin_may_complete_the_handshake", talk)
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 1, 5), &B)
        .state(FlowState::FinWait);
    let again = established("a_syn_after_the_end_starts_anew", talk)
        .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 1, 0), &B)
        .switches(from(&B), talk.back(FIN | ACK, SERVER + 1, CLIENT + 2, 0), &A)
        .state(FlowState::TimeWait)
        .switches(from(&A), talk.forth(SYN, CLIENT + 9_000, 0, 0), &B)
        .state(FlowState::New)
        .switches(from(&B), talk.back(SYN_ACK, SERVER + 9_000, CLIENT + 9_001, 0), &A)
        .switches(from(&A), talk.forth(ACK, CLIENT + 9_001, SERVER + 9_001, 0), &B)
        .state(FlowState::Established)
        .flows("the counters are those of the new one", |flows| {
            flows.iter().map(|flow| flow.packets).sum::<u64>() == 3
        });
    let other_way = established("the_server_may_not_start_anew_what_it_may_not_ask_for", talk)
        .switches(from(&A), talk.forth(FIN | ACK, CLIENT + 1, SERVER + 1, 0), &B)
        .switches(from(&B), talk.back(FIN | ACK, SERVER + 1, CLIENT + 2, 0), &A)
        .drops(from(&B), talk.back(SYN, SERVER + 9_000, 0, 0), DropReason::EgressDenied);
    vec![orderly, server_first, early, again, other_way]
}
