//! What comes before the groups, and what stays in spite of them: the host's failsafe ports, networks that keep
//! the host out, the acl, and flows that their rules keep.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{Delivery, DropReason, FlowState, MacAddr};

use super::{
    frame::{ACK, ICMPV6, RST, Talk, UDP, carried, icmp, packet, switched, udp},
    icmp::{ping, pong},
    neighbours::gratuitous_arp,
    rules::{ACL_ADMITS, FAILSAFE},
    step::{Case, Step, from, host, to, up},
    tcp::{established, http},
    world::{A, B, Device, G, HOST_ELSEWHERE, OTHER_MAC_OF_B, Party, Policy, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    let of_version =
        |version| [acl(version), failsafe(version), host_excluded(version), kept(version)].concat();
    let mut cases: Vec<Case> = Version::BOTH.into_iter().flat_map(of_version).collect();
    cases.extend([acl_for_many(), storm(), one_generation_for_many(), host_excluded_for_many(), floods()]);
    cases
}

fn acl(version: Version) -> Vec<Case> {
    let begin = |name: &str| Case::new(format!("{name} ({version:?})")).commit(Policy::Acl);
    let syn = |client, server, port| Talk::new(version, client, server, port).syn();
    let ask =
        |client: &Party, server: &Party, port| switched(version, (client, server), UDP, &udp((1, port)));
    let telnet = Talk::new(version, B, G, 23);
    let talk = &http(version);
    vec![
        begin("the_acl_denies_what_a_group_allows")
            .drops(from(&A), syn(A, B, 80), DropReason::AclDenied)
            .drops(from(&A), syn(A, B, 8003), DropReason::AclDenied)
            .switches(from(&A), syn(A, B, 8004), &B)
            .drops(from(&A), ask(&A, &B, 53), DropReason::AclDenied),
        begin("the_acl_admits_what_no_group_allows")
            .switches(from(&A), syn(A, B, 81), &B)
            .flows("its rule is the one that is remembered", |flows| {
                flows.iter().all(|flow| flow.rules[1] == ACL_ADMITS)
            }),
        begin("the_first_rule_of_the_acl_decides_whatever_its_peers_and_ports")
            .drops(from(&super::world::T), syn(super::world::T, B, 81), DropReason::AclDenied)
            .drops(from(&A), syn(A, B, 82), DropReason::AclDenied)
            .switches(from(&A), syn(A, B, 81), &B),
        begin("what_the_acl_does_not_speak_of_is_the_groups")
            .drops(from(&A), syn(A, B, 9000), DropReason::IngressDenied)
            .drops(from(&B), syn(B, A, 9002), DropReason::EgressDenied)
            .switches(from(&B), syn(B, A, 9000), &A),
        begin("the_egress_acl_holds_towards_the_host")
            .switches(from(&B), telnet.syn(), &G)
            .switches(host(&G), telnet.syn_ack(), &B)
            .drops(from(&A), ask(&A, &G, 53), DropReason::AclDenied)
            .switches(from(&A), ask(&A, &G, 54), &G),
        begin("the_acl_does_not_judge_the_host").switches(host(&G), syn(G, B, 80), &B).switches(
            host(&G),
            ask(&G, &B, 53),
            &B,
        ),
        Case::new(format!("without_its_gate_the_acl_is_not_asked ({version:?})"))
            .commit(Policy::AclWithoutGates)
            .switches(from(&A), syn(A, B, 80), &B)
            .switches(from(&A), ask(&A, &B, 53), &B),
        established("a_flow_that_a_new_acl_denies_is_cut", talk)
            .commit(Policy::Acl)
            .drops(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 10), DropReason::AclDenied)
            .state(FlowState::Closed),
    ]
}

fn failsafe(version: Version) -> Vec<Case> {
    let ssh = Talk::new(version, A, G, 22);
    let failsafe_decides = "the host's rule is the one that is remembered";
    let connected = |name: &str, policy| {
        Case::new(format!("{name} ({version:?})"))
            .commit(policy)
            .switches(from(&A), ssh.syn(), &G)
            .switches(host(&G), ssh.syn_ack(), &A)
            .switches(from(&A), ssh.ack(), &G)
            .state(FlowState::Established)
            .flows(failsafe_decides, |flows| flows.iter().all(|flow| flow.rules == [FAILSAFE.id, 0]))
    };
    let goes_on = |case: Case, policy| {
        case.commit(policy)
            .switches(host(&G), ssh.back(ACK, SERVER + 1, CLIENT + 1, 10), &A)
            .commit(policy)
            .switches(from(&A), ssh.forth(ACK, CLIENT + 1, SERVER + 11, 10), &G)
            .state(FlowState::Established)
    };
    let name = |name: &str| format!("{name} ({version:?})");
    vec![
        goes_on(connected("a_failsafe_port_is_open_whatever_the_acl_says", Policy::Acl), Policy::Acl),
        goes_on(
            connected("a_failsafe_port_is_open_though_the_host_is_kept_out", Policy::HostExcluded),
            Policy::HostExcluded,
        ),
        Case::new(name("a_failsafe_port_needs_no_egress_rule")).commit(Policy::HostExcluded).switches(
            from(&B),
            Talk::new(version, B, G, 22).syn(),
            &G,
        ),
        Case::new(name("a_failsafe_port_is_the_hosts_alone"))
            .commit(Policy::HostExcluded)
            .drops(from(&A), Talk::new(version, A, B, 22).syn(), DropReason::IngressDenied)
            .drops(from(&A), switched(version, (&A, &G), UDP, &udp((1, 22))), DropReason::HostExcluded),
    ]
}

fn host_excluded(version: Version) -> Vec<Case> {
    let begin = |name: &str| Case::new(format!("{name} ({version:?})")).commit(Policy::HostExcluded);
    let from_host = Talk::new(version, G, A, 22);
    let elsewhere = Talk { client: HOST_ELSEWHERE, ..from_host };
    let to_host = Talk::new(version, A, G, 8080);
    let talk = &http(version);
    let cut = |name: &str, talk: &Talk, own, other| {
        Case::new(format!("{name} ({version:?})"))
            .switches(own, talk.syn(), &talk.server)
            .switches(other, talk.syn_ack(), &talk.client)
            .switches(own, talk.ack(), &talk.server)
            .commit(Policy::HostExcluded)
            .drops(other, talk.back(ACK, SERVER + 1, CLIENT + 1, 10), DropReason::HostExcluded)
            .state(FlowState::Closed)
    };
    vec![
        begin("a_network_that_keeps_the_host_out_drops_what_it_sends")
            .drops(host(&G), from_host.syn(), DropReason::HostExcluded)
            .drops(host(&G), elsewhere.syn(), DropReason::HostExcluded)
            .drops(host(&G), ping(version, (&G, &A)), DropReason::HostExcluded)
            .no_flows(),
        begin("a_network_that_keeps_the_host_out_drops_what_is_for_it")
            .drops(from(&A), to_host.syn(), DropReason::HostExcluded)
            .drops(from(&A), ping(version, (&A, &G)), DropReason::HostExcluded)
            .no_flows(),
        begin("ports_speak_though_the_host_is_kept_out")
            .switches(from(&A), talk.syn(), &B)
            .switches(from(&B), talk.syn_ack(), &A)
            .switches(from(&A), ping(version, (&A, &B)), &B)
            .switches(from(&B), pong(version, (&B, &A)), &A),
        cut("a_flow_of_the_host_is_cut_when_it_is_kept_out", &from_host, host(&G), from(&A)),
        cut("a_flow_to_the_host_is_cut_when_it_is_kept_out", &to_host, from(&A), host(&G)),
        begin("a_host_that_is_kept_out_says_nothing_about_flows_of_others")
            .switches(from(&A), talk.syn(), &B)
            .drops(
                host(&G),
                super::errors::too_big(version, (&G, &A), &talk.syn()),
                DropReason::HostExcluded,
            ),
    ]
}

fn kept(version: Version) -> Vec<Case> {
    let talk = &http(version);
    let kept = |name: &str, then| {
        let keeps = Case::new(format!("{name} ({version:?})"))
            .commit(Policy::Keeps)
            .switches(from(&A), talk.syn(), &B)
            .switches(from(&B), talk.syn_ack(), &A)
            .switches(from(&A), talk.ack(), &B);
        keeps.commit(then)
    };
    let data = talk.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let reply = talk.back(ACK, SERVER + 1, CLIENT + 11, 10);
    let moved = Talk { server: Party { mac: OTHER_MAC_OF_B, ..B }, ..*talk };
    let both = "both entries are of the new generation and keep their rules";
    vec![
        kept("a_flow_whose_rule_keeps_it_stays", Policy::WithoutHttp)
            .switches(from(&A), data.clone(), &B)
            .flows(both, |flows| {
                let rules = [super::rules::A_SENDS, super::rules::HTTP];
                flows.len() == 2 && flows.iter().all(|flow| flow.generation == 3 && flow.rules == rules)
            })
            .commit(Policy::WithoutHttp)
            .switches(from(&B), reply.clone(), &A)
            .state(FlowState::Established)
            .drops(from(&A), Talk { ports: (40_001, 80), ..*talk }.syn(), DropReason::IngressDenied),
        kept("a_flow_that_both_ends_keep_outlives_all_rules", Policy::Nothing)
            .switches(from(&B), talk.back(ACK, SERVER + 1, CLIENT + 1, 10), &A)
            .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 11, 10), &B)
            .state(FlowState::Established),
        kept("a_syn_on_a_kept_flow_is_judged_as_a_new_one", Policy::WithoutHttp)
            .drops(from(&A), talk.syn(), DropReason::IngressDenied)
            .switches(from(&A), data.clone(), &B)
            .state(FlowState::Established),
        kept("a_kept_flow_ends_as_any_other", Policy::WithoutHttp)
            .switches(from(&A), talk.forth(RST, CLIENT + 1, 0, 0), &B)
            .state(FlowState::Closed)
            .drops(from(&A), talk.syn(), DropReason::IngressDenied),
        kept("a_kept_flow_of_a_rule_that_is_back_and_keeps_no_more_is_cut", Policy::Usual)
            .switches(from(&A), data.clone(), &B)
            .commit(Policy::WithoutHttp)
            .drops(from(&A), data.clone(), DropReason::IngressDenied)
            .state(FlowState::Closed),
        kept("the_acl_cuts_a_kept_flow", Policy::Acl)
            .drops(from(&A), data.clone(), DropReason::AclDenied)
            .state(FlowState::Closed),
        kept("a_kept_flow_goes_with_its_port", Policy::WithoutB)
            .drops(from(&A), data.clone(), DropReason::NoRoute)
            .state(FlowState::Closed),
        kept("a_kept_flow_follows_its_server_to_another_mac", Policy::OtherMac)
            .switches(from(&A), moved.forth(ACK, CLIENT + 1, SERVER + 1, 10), &B)
            .state(FlowState::Established),
        established("a_flow_whose_rule_does_not_keep_it_is_cut_by_either_end", talk)
            .commit(Policy::Nothing)
            .drops(from(&A), data, DropReason::EgressDenied)
            .state(FlowState::Closed),
    ]
}

/// What is for many, from a port: mDNS, or a stream that A's group lets in.
fn to_many(sender: &Party, port: u16) -> Vec<u8> {
    let group = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
    let mac = MacAddr([1, 0, 0x5e, 1, 2, 3]);
    carried(sender.mac, mac, &packet(sender.v4.into(), group, UDP, &udp((5000, port))))
}

fn acl_for_many() -> Case {
    Case::new("the_acl_holds_for_what_is_sent_to_many")
        .passes(from(&A), to_many(&A, 5353))
        .passes(to(&A), to_many(&B, 5000))
        .commit(Policy::Acl)
        .drops(from(&A), to_many(&A, 5353), DropReason::AclDenied)
        .passes(from(&A), to_many(&A, 5354))
        .drops(to(&A), to_many(&B, 5000), DropReason::AclDenied)
        .passes(to(&A), to_many(&G, 5000))
}

fn storm() -> Case {
    Case::new("a_workload_that_sends_too_many_of_what_is_for_many_is_held_to_a_budget")
        .then(Step::Tick)
        .then(Step::Spend(Device::A))
        .passes(from(&A), to_many(&A, 5000))
        .drops(from(&A), to_many(&A, 5000), DropReason::Storm)
        .passes(from(&B), to_many(&B, 5000))
        .passes(host(&G), to_many(&G, 5000))
        .switches(from(&A), Talk::new(Version::V4, A, B, 80).syn(), &B)
        .then(Step::Tick)
        .passes(from(&A), to_many(&A, 5000))
}

fn one_generation_for_many() -> Case {
    Case::new("what_is_sent_to_many_sees_one_generation_from_its_sender_to_each_receiver")
        .commit(Policy::Acl)
        .commit(Policy::Usual)
        .drops(to(&A).let_in_before(), to_many(&B, 5000), DropReason::AclDenied)
        .passes(to(&A), to_many(&B, 5000))
        .commit(Policy::Acl)
        .passes(to(&A).let_in_before(), to_many(&B, 5000))
        .drops(to(&A), to_many(&B, 5000), DropReason::AclDenied)
        .commit(Policy::HostExcluded)
        .passes(up(&G).let_in_before(), to_many(&A, 5000))
        .drops(up(&G), to_many(&A, 5000), DropReason::HostExcluded)
}

fn host_excluded_for_many() -> Case {
    let discover = carried(
        A.mac,
        MacAddr::BROADCAST,
        &packet(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into(), UDP, &udp((68, 67))),
    );
    let report = |speaker: &Party| {
        let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
        let body = icmp((143, 0), [0; 4], &[]);
        let mac = MacAddr([0x33, 0x33, 0, 0, 0, 0x16]);
        carried(speaker.mac, mac, &packet(speaker.link_local().into(), routers.into(), ICMPV6, &body))
    };
    Case::new("a_host_that_is_kept_out_neither_hears_nor_tells_many")
        .commit(Policy::HostExcluded)
        .drops(from(&A), discover, DropReason::HostExcluded)
        .drops(from(&A), report(&A), DropReason::HostExcluded)
        .drops(host(&G), report(&G), DropReason::HostExcluded)
        .drops(host(&G), to_many(&G, 5353), DropReason::HostExcluded)
        .passes(from(&A), to_many(&A, 5353))
        .drops(up(&G), to_many(&A, 5353), DropReason::HostExcluded)
        .passes(to(&A), to_many(&B, 5000))
        .passes(host(&G), gratuitous_arp(&G))
        .no_flows()
}

fn floods() -> Case {
    Case::new("what_no_program_has_seen_gets_out_of_the_bridge_nowhere")
        .passes(up(&G), to_many(&A, 5000))
        .drops(up(&G).unseen(), to_many(&A, 5000), DropReason::Undecided)
        .drops(up(&G).unseen(), gratuitous_arp(&A), DropReason::Undecided)
        .drops(up(&G).unseen(), switched(Version::V4, (&A, &G), UDP, &udp((1, 2))), DropReason::Undecided)
        .drops(to(&A).unseen(), to_many(&B, 5000), DropReason::Undecided)
        .drops(to(&A).unseen(), gratuitous_arp(&B), DropReason::Undecided)
        .drops(super::step::stranger(super::step::Hook::ToHost), to_many(&A, 5000), DropReason::UnknownDevice)
        .sends(from(&A), gratuitous_arp(&A), (Device::W, Delivery::Host), gratuitous_arp(&A))
}
