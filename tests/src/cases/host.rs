//! The host and its ports: it is trusted and tracked, they are judged.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, Talk, UDP, carried, packet, switched, udp},
    icmp::{ping, pong},
    step::{Case, Entry, from, host},
    world::{A, B, C, G, H, HOST_ELSEWHERE, Party, Policy, T, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH
        .into_iter()
        .flat_map(|version| [from_the_host(version), to_the_host(version), limits(version)].concat())
        .collect()
}

fn from_the_host(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let talk = Talk::new(version, G, A, 22);
    let elsewhere = Talk { client: HOST_ELSEWHERE, ..talk };
    let connected = |name: String, talk: &Talk| {
        Case::new(name)
            .switches(host(&G), talk.syn(), &A)
            .switches(from(&A), talk.syn_ack(), &G)
            .switches(host(&G), talk.ack(), &A)
            .state(FlowState::Established)
    };
    vec![
        connected(name("the_host_reaches_a_port_that_no_rule_opens"), &talk)
            .flows("no rule was asked", |flows| flows.iter().all(|flow| flow.rules == [0, 0])),
        connected(name("a_flow_of_the_host_outlives_a_commit"), &talk)
            .commit(Policy::Usual)
            .switches(from(&A), talk.back(ACK, SERVER + 1, CLIENT + 1, 10), &G)
            .switches(host(&G), talk.forth(ACK, CLIENT + 1, SERVER + 11, 10), &A)
            .state(FlowState::Established),
        connected(name("the_host_may_use_another_of_its_addresses"), &elsewhere),
        connected(name("a_flow_from_elsewhere_outlives_a_commit"), &elsewhere)
            .commit(Policy::Usual)
            .switches(host(&G), elsewhere.forth(ACK, CLIENT + 1, SERVER + 1, 10), &A)
            .commit(Policy::Usual)
            .switches(from(&A), elsewhere.back(ACK, SERVER + 1, CLIENT + 11, 10), &G)
            .state(FlowState::Established)
            .flows("both entries are of the new generation", |flows| {
                flows.iter().all(|flow| flow.generation == 3)
            }),
        Case::new(name("the_host_pings_a_port"))
            .switches(host(&G), ping(version, (&G, &A)), &A)
            .switches(from(&A), pong(version, (&A, &G)), &G)
            .state(FlowState::Established),
        Case::new(name("the_host_reaches_a_tap")).switches(
            host(&G),
            switched(version, (&G, &T), UDP, &udp((1, 2))),
            &T,
        ),
    ]
}

fn to_the_host(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let talk = Talk::new(version, A, G, 8080);
    let ssh = Talk::new(version, B, G, 22);
    let telnet = Talk::new(version, B, G, 23);
    let stranger =
        carried(A.mac, G.mac, &packet(A.addr(version), HOST_ELSEWHERE.addr(version), UDP, &udp((1, 2))));
    vec![
        Case::new(name("a_port_reaches_the_gateway_and_is_answered"))
            .switches(from(&A), talk.syn(), &G)
            .switches(host(&G), talk.syn_ack(), &A)
            .switches(from(&A), talk.ack(), &G)
            .state(FlowState::Established)
            .switches(host(&G), talk.back(ACK, SERVER + 1, CLIENT + 1, 10), &A)
            .commit(Policy::Usual)
            .switches(host(&G), talk.back(ACK, SERVER + 11, CLIENT + 1, 10), &A)
            .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 21, 10), &G)
            .state(FlowState::Established),
        Case::new(name("egress_rules_hold_towards_the_gateway")).switches(from(&B), ssh.syn(), &G).drops(
            from(&B),
            telnet.syn(),
            DropReason::EgressDenied,
        ),
        Case::new(name("a_port_pings_the_gateway"))
            .switches(from(&A), ping(version, (&A, &G)), &G)
            .switches(host(&G), pong(version, (&G, &A)), &A)
            .state(FlowState::Established),
        Case::new(name("the_hosts_other_addresses_are_no_route_for_a_port")).drops(
            from(&A),
            stranger,
            DropReason::NoRoute,
        ),
    ]
}

fn limits(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let talk = Talk::new(version, G, A, 22);
    let forwarded = Entry { forwarded: true, ..host(&G) };
    let outsider = Party { mac: G.mac, ..HOST_ELSEWHERE };
    let outside = |to: &Party| {
        carried(G.mac, to.mac, &packet(outsider.addr(version), to.addr(version), UDP, &udp((40_000, 53))))
    };
    vec![
        Case::new(name("what_the_host_forwards_is_dropped"))
            .drops(forwarded, outside(&B), DropReason::Forwarded)
            .no_flows(),
        Case::new(name("what_the_host_forwards_is_dropped_on_a_flow_too"))
            .switches(host(&G), talk.syn(), &A)
            .switches(from(&A), talk.syn_ack(), &G)
            .switches(host(&G), talk.ack(), &A)
            .drops(forwarded, talk.forth(ACK, CLIENT + 1, SERVER + 1, 10), DropReason::Forwarded),
        Case::new(name("the_host_sends_to_nobody"))
            .drops(host(&G), switched(version, (&G, &C), UDP, &udp((1, 2))), DropReason::NoRoute)
            .drops(host(&H), switched(version, (&H, &A), UDP, &udp((1, 2))), DropReason::NoRoute)
            .no_flows(),
        Case::new(name("the_host_needs_the_right_mac_too")).drops(
            host(&G),
            carried(G.mac, B.mac, &packet(G.addr(version), A.addr(version), UDP, &udp((1, 2)))),
            DropReason::WrongMac,
        ),
    ]
}
