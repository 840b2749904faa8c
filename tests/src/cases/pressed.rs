//! A flow table that fills up: who asks from outside has to be there, and what nobody answers is limited.

use std::net::IpAddr;

use vnet_common::{Address as _, DropReason, FlowState, Ip, Pressure, V4, V6};

use super::{
    frame::{ACK, SYN, SYN_ACK, UDP, switched, udp},
    nat::{Translated as _, received, way},
    step::{Case, Step, from, host, outside},
    tcp::{established, http},
    world::{A, B, C, Device, G, O, Party, Policy, T, U, Version},
};

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(|version| [strangers(version), newcomers(version)].concat()).collect()
}

fn strangers(version: Version) -> Vec<Case> {
    let begin = |text: &str| Case::new(format!("{text} ({version:?})")).commit(Policy::Nat);
    let (asked, inner) = (way(version, (O, 7000), (U, 8080)), way(version, (O, 7000), (C, 80)));
    let (next, next_inner) = (way(version, (O, 7001), (U, 8080)), way(version, (O, 7001), (C, 80)));
    let (third, third_inner) = (way(version, (O, 7002), (U, 8080)), way(version, (O, 7002), (C, 80)));
    let (date, date_inner) = (way(version, (O, 7000), (U, 5000)), way(version, (O, 7000), (C, 6000)));
    let (later, later_inner) = (way(version, (O, 7001), (U, 5000)), way(version, (O, 7001), (C, 6000)));
    let opens = |case: Case| case.enters(&asked.tcp(SYN, 100, 0), &inner.tcp(SYN, 100, 0));
    let answers = |case: Case| {
        case.leaves(&inner.back().tcp(SYN_ACK, 500, 101), &asked.back().tcp(SYN_ACK, 500, 101))
            .enters(&asked.tcp(ACK, 101, 501), &inner.tcp(ACK, 101, 501))
            .state(FlowState::Established)
    };
    vec![
        answers(opens(
            begin("who_answers_a_challenge_may_open_connections")
                .then(Step::Press(Pressure::Filling))
                .then(Step::Challenge(asked))
                .no_flows(),
        ))
        .enters(&next.tcp(SYN, 100, 0), &next_inner.tcp(SYN, 100, 0)),
        answers(opens(
            begin("who_is_known_has_connections_of_their_own")
                .then(Step::Tick)
                .then(Step::Press(Pressure::Filling))
                .then(Step::Spend(Device::U))
                .then(Step::SpendOf(ip(&O, version)))
                .then(Step::Challenge(asked)),
        ))
        .enters(&next.tcp(SYN, 100, 0), &next_inner.tcp(SYN, 100, 0))
        .enters(&next.tcp(SYN, 100, 0), &next_inner.tcp(SYN, 100, 0))
        .drops(outside(), received(&third.tcp(SYN, 100, 0)), DropReason::NewFlowLimit)
        .then(Step::Tick)
        .enters(&third.tcp(SYN, 100, 0), &third_inner.tcp(SYN, 100, 0)),
        answers(
            opens(begin("a_connection_that_has_begun_is_not_challenged"))
                .then(Step::Press(Pressure::Filling)),
        )
        .enters(&asked.tcp(ACK, 101, 501), &inner.tcp(ACK, 101, 501)),
        begin("what_is_the_hosts_is_not_challenged")
            .then(Step::Press(Pressure::Filling))
            .passes(outside(), received(&way(version, (O, 7000), (U, 22)).tcp(SYN, 100, 0))),
        begin("other_protocols_are_limited_and_not_challenged")
            .then(Step::Tick)
            .then(Step::Press(Pressure::Filling))
            .then(Step::Spend(Device::U))
            .enters(&date.udp(), &date_inner.udp())
            .drops(outside(), received(&later.udp()), DropReason::NewFlowLimit)
            .leaves(&date_inner.back().udp(), &date.back().udp()),
        begin("what_other_protocols_open_is_given_back_to_the_device")
            .then(Step::Tick)
            .then(Step::Press(Pressure::Filling))
            .then(Step::Spend(Device::U))
            .then(Step::SpendOf(ip(&O, version)))
            .enters(&date.udp(), &date_inner.udp())
            .drops(outside(), received(&later.udp()), DropReason::NewFlowLimit)
            .leaves(&date_inner.back().udp(), &date.back().udp())
            .enters(&later.udp(), &later_inner.udp()),
    ]
}

fn ip(party: &Party, version: Version) -> Ip {
    match party.addr(version) {
        IpAddr::V4(addr) => V4::from_octets(addr.octets()).ip(),
        IpAddr::V6(addr) => V6::from_octets(addr.octets()).ip(),
    }
}

fn newcomers(version: Version) -> Vec<Case> {
    let name = |text: &str| format!("{text} ({version:?})");
    let question = |port| switched(version, (&A, &B), UDP, &udp((port, 53)));
    let answer = |port| switched(version, (&B, &A), UDP, &udp((53, port)));
    let spent = |text: &str| {
        Case::new(name(text))
            .then(Step::Tick)
            .then(Step::Press(Pressure::Filling))
            .then(Step::Spend(Device::A))
    };
    let from_host = |to: &Party| switched(version, (&G, to), UDP, &udp((7000, 53)));
    vec![
        spent("flows_that_nobody_answers_are_limited_for_each_device")
            .switches(from(&A), question(1), &B)
            .drops(from(&A), question(2), DropReason::NewFlowLimit)
            .switches(from(&A), question(1), &B)
            .switches(from(&B), answer(1), &A)
            .switches(from(&A), question(3), &B)
            .drops(from(&A), question(4), DropReason::NewFlowLimit)
            .then(Step::Tick)
            .switches(from(&A), question(4), &B),
        spent("the_host_is_not_limited").then(Step::Spend(Device::X)).switches(host(&G), from_host(&B), &B),
        established(&name("what_is_established_goes_on"), &http(version))
            .then(Step::Tick)
            .then(Step::Press(Pressure::Filling))
            .then(Step::Spend(Device::A))
            .switches(from(&A), question(1), &B)
            .switches(from(&A), http(version).forth(ACK, 101, 501, 10), &B),
        Case::new(name("who_has_opened_most_of_a_crowded_table_opens_no_more"))
            .switches(from(&A), question(1), &B)
            .then(Step::Crowd(Device::A))
            .then(Step::Press(Pressure::Filling))
            .switches(from(&A), question(2), &B)
            .then(Step::Press(Pressure::Crowded))
            .drops(from(&A), question(3), DropReason::FlowQuota)
            .switches(from(&A), question(1), &B)
            .switches(from(&B), answer(1), &A)
            .switches(from(&T), switched(version, (&T, &B), UDP, &udp((1, 53))), &B)
            .switches(host(&G), from_host(&B), &B)
            .then(Step::Press(Pressure::None))
            .switches(from(&A), question(3), &B),
        Case::new(name("the_last_of_a_table_is_the_hosts"))
            .switches(from(&A), question(1), &B)
            .then(Step::Press(Pressure::Reserved))
            .drops(from(&A), question(2), DropReason::FlowTableFull)
            .switches(from(&A), question(1), &B)
            .switches(from(&B), answer(1), &A)
            .switches(host(&G), from_host(&B), &B)
            .switches(from(&A), switched(version, (&A, &G), UDP, &udp((1, 53))), &G),
        Case::new(name("without_pressure_nothing_is_limited"))
            .then(Step::Tick)
            .then(Step::Spend(Device::A))
            .switches(from(&A), question(1), &B)
            .switches(from(&A), question(2), &B),
    ]
}
