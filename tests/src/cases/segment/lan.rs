//! Flows with stations beyond: who is here is judged, who is beyond is not trusted to be anybody here.

use vnet_common::{DropReason, FlowState};

use super::{BRIDGED_LANS, LANS, Lan, ROUTED_LANS, VLAN_LAN, WITH_D, each};
use crate::cases::{
    frame::{ACK, Talk, UDP, carried, packet, switched, udp},
    icmp::{ping, pong},
    rules::{A_SENDS, D_SERVES, FROM_LAN},
    step::{Case, from, host},
    world::{
        A, B, Beyond, C, Device, FAR, G, Party, Policy, T, Version,
        segment::{D, R},
    },
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    [
        each(&LANS, talks),
        each(&LANS, commits),
        each(&LANS, strangers),
        each(&ROUTED_LANS, with_the_host),
        each(&LANS, spoofed),
        each(&ROUTED_LANS, spoofed_routed),
        each(&BRIDGED_LANS, other_subnets),
        each(&[WITH_D], remote_port),
        each(&[VLAN_LAN], host_excluded),
    ]
    .concat()
}

/// A asks R.
const fn asks(version: Version) -> Talk {
    Talk::new(version, A, R, 80)
}

fn established(lan: Lan, text: &str, talk: &Talk) -> Case {
    opened(lan, lan.begin(text, talk.version), talk)
}

/// `talk`, whose server is beyond, becomes established.
pub(super) fn opened(lan: Lan, case: Case, talk: &Talk) -> Case {
    let case = lan.leaves(case, from(&talk.client), &talk.syn());
    let case = lan.comes(case, &talk.syn_ack(), &talk.client);
    lan.leaves(case, from(&talk.client), &talk.ack()).state(FlowState::Established)
}

fn forth(talk: &Talk) -> Vec<u8> {
    talk.forth(ACK, CLIENT + 1, SERVER + 1, 10)
}

fn back(talk: &Talk) -> Vec<u8> {
    talk.back(ACK, SERVER + 1, CLIENT + 1, 10)
}

fn talks(lan: Lan, version: Version) -> Vec<Case> {
    let talk = asks(version);
    let case = established(lan, "a_port_speaks_to_a_station_that_nobody_knows", &talk);
    let case = lan.leaves(case, from(&A), &forth(&talk));
    let case = lan.comes(case, &back(&talk), &A).flows("each direction is where it belongs", |flows| {
        flows.len() == 2
            && flows.iter().all(|flow| match flow.is_reply {
                false => {
                    let places = (flow.arrives, flow.pair_device) == (Some(Device::A), Some(Device::BeyondW));
                    places && flow.packets == 3 && !flow.is_routed && flow.rules == [A_SENDS, 0]
                }
                true => {
                    let places = (flow.arrives, flow.device) == (Some(Device::BeyondW), Some(Device::A));
                    places && flow.packets == 2 && flow.tags == (0, 0)
                }
            })
    });
    let of_tap = Talk { client: T, ..talk };
    let pinged = lan.begin("a_port_pings_a_station", version);
    let pinged = lan.leaves(pinged, from(&A), &ping(version, (&A, &R)));
    let pinged = lan.comes(pinged, &pong(version, (&R, &A)), &A).state(FlowState::Established);
    vec![
        case,
        established(lan, "a_tap_speaks_to_a_station", &of_tap),
        pinged,
        lan.begin("a_port_speaks_to_stations_as_its_egress_rules_say", version)
            .drops(from(&B), Talk { client: B, ..talk }.syn(), DropReason::EgressDenied)
            .no_flows(),
    ]
}

fn commits(lan: Lan, version: Version) -> Vec<Case> {
    let talk = asks(version);
    let again = |case: Case| case.commit(Policy::Beyond(lan.policy));
    let from_here =
        again(established(lan, "a_flow_beyond_outlives_a_commit_that_its_client_sees_first", &talk));
    let from_here = lan
        .leaves(from_here, from(&A), &forth(&talk))
        .flows("both entries are new", |flows| flows.iter().all(|flow| flow.generation == 3));
    let from_here = lan.comes(from_here, &back(&talk), &A).state(FlowState::Established);
    let from_there =
        again(established(lan, "a_flow_beyond_outlives_a_commit_that_its_server_sees_first", &talk));
    let from_there = lan
        .comes(from_there, &back(&talk), &A)
        .flows("both entries are new", |flows| flows.iter().all(|flow| flow.generation == 3));
    let from_there = lan.leaves(from_there, from(&A), &forth(&talk)).state(FlowState::Established);

    let asked = Talk::new(version, R, B, 8000);
    let incoming = lan.begin("a_flow_from_beyond_outlives_commits", version);
    let incoming = lan.comes(incoming, &asked.syn(), &B);
    let incoming = lan.leaves(incoming, from(&B), &asked.syn_ack());
    let incoming = again(lan.comes(incoming, &asked.ack(), &B).state(FlowState::Established));
    let incoming = again(lan.leaves(incoming, from(&B), &back(&asked)));
    let incoming = lan.comes(incoming, &asked.forth(ACK, CLIENT + 1, SERVER + 11, 10), &B);
    let incoming = lan.leaves(incoming, from(&B), &asked.back(ACK, SERVER + 11, CLIENT + 11, 10));

    let gone = established(lan, "a_flow_beyond_ends_with_the_segment", &talk)
        .commit(Policy::Usual)
        .drops(from(&A), forth(&talk), DropReason::NoRoute)
        .state(FlowState::Closed)
        .passes(lan.entry(), lan.arriving(&back(&talk)));
    vec![from_here, from_there, incoming.state(FlowState::Established), gone]
}

fn strangers(lan: Lan, version: Version) -> Vec<Case> {
    let to = |port| switched(version, (&R, &A), UDP, &udp((1, port)));
    let tcp_to = |receiver: Party, port| Talk::new(version, R, receiver, port);
    let allowed = lan.begin("a_station_reaches_what_a_ports_ingress_rules_allow", version);
    let allowed = lan.comes(allowed, &to(5000), &A);
    let allowed = lan.comes(allowed, &tcp_to(B, 8000).syn(), &B);
    let named = lan.begin("a_rule_may_name_the_addresses_of_stations", version);
    let named = lan.comes(named, &tcp_to(A, 9500).syn(), &A).flows("it is that rule", |flows| {
        flows.len() == 2 && flows.iter().all(|flow| flow.rules == [0, FROM_LAN])
    });
    let elsewhere = Party { v4: [10, 0, 0, 99].into(), v6: "fd00::99".parse().expect("an address"), ..R };
    let unnamed = Talk { client: elsewhere, ..tcp_to(A, 9500) };
    let named = lan.refuses(named, &unnamed.syn(), DropReason::IngressDenied);
    let denied = lan.begin("a_station_reaches_nothing_else", version);
    let denied = lan.refuses(denied, &to(5001), DropReason::IngressDenied);
    let denied = lan.refuses(denied, &tcp_to(A, 80).syn(), DropReason::IngressDenied);
    let denied = lan.refuses(denied, &tcp_to(B, 80).syn(), DropReason::IngressDenied);
    let denied = lan.refuses(denied, &tcp_to(T, 80).syn(), DropReason::IngressDenied).no_flows();
    let stray = lan.begin("a_stray_packet_from_beyond_opens_nothing", version);
    let stray = lan.refuses(stray, &tcp_to(B, 8000).ack(), DropReason::NoFlow);
    let stray = lan.refuses(stray, &pong(version, (&R, &A)), DropReason::Unsolicited).no_flows();
    // The MAC is B's, the address A's; and the other way round.
    let crossed = |mac: &Party, to: &Party| {
        carried(R.mac, mac.mac, &packet(R.addr(version), to.addr(version), UDP, &udp((1, 53))))
    };
    let wrong = lan.begin("a_frame_from_beyond_for_one_ports_mac_and_anothers_address_is_dropped", version);
    let wrong = lan.refuses(wrong, &crossed(&A, &B), DropReason::WrongMac);
    let wrong = lan.refuses(wrong, &crossed(&B, &A), DropReason::WrongMac);
    let nobody = carried(R.mac, C.mac, &packet(R.addr(version), A.addr(version), UDP, &udp((1, 5000))));
    let unknown = lan.begin("a_frame_from_beyond_for_a_mac_that_is_not_here_goes_nowhere", version);
    let unknown = if lan.is_shared() {
        unknown.passes(lan.entry(), nobody)
    } else {
        lan.refuses(unknown, &nobody, DropReason::UnknownStation)
    };
    vec![allowed, named, denied, stray, wrong, unknown.no_flows()]
}

fn with_the_host(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, G, R, 80);
    let asks = lan.begin("the_host_speaks_to_a_station", version);
    let asks = lan.leaves(asks, host(&G), &talk.syn());
    let asks = lan.comes(asks, &talk.syn_ack(), &G);
    let asks = lan.leaves(asks, host(&G), &talk.ack()).state(FlowState::Established);
    let asks = asks.commit(Policy::Beyond(lan.policy));
    let asks = lan.comes(asks, &back(&talk), &G);
    let asks = lan.leaves(asks, host(&G), &forth(&talk)).state(FlowState::Established);
    let pinged = lan.begin("a_station_pings_the_host", version);
    let pinged = lan.comes(pinged, &ping(version, (&R, &G)), &G);
    let pinged = lan.leaves(pinged, host(&G), &pong(version, (&G, &R))).state(FlowState::Established);
    let pinged = pinged.commit(Policy::Beyond(lan.policy));
    let pinged = lan.leaves(pinged, host(&G), &pong(version, (&G, &R)));
    vec![asks, pinged]
}

fn host_excluded(lan: Lan, version: Version) -> Vec<Case> {
    let ssh = Talk::new(version, R, G, 22);
    let lan = Lan { policy: Beyond::VlanWithoutHost, ..lan };
    let case = lan.begin("a_station_does_not_reach_a_host_that_is_kept_out_but_for_failsafe_ports", version);
    let case = lan.refuses(case, &ping(version, (&R, &G)), DropReason::HostExcluded);
    let case = lan.comes(case, &ssh.syn(), &G);
    let case = lan.leaves(case, host(&G), &ssh.syn_ack());
    let case = case.drops(host(&G), ping(version, (&G, &R)), DropReason::HostExcluded);
    let silent = Lan { policy: Beyond::VlanWithoutRules, ..lan };
    let talk = asks(version);
    let cut = |text: &str| established(VLAN_LAN, text, &talk).commit(Policy::Beyond(silent.policy));
    let by_client = cut("a_flow_beyond_that_no_rule_allows_any_more_is_cut")
        .drops(from(&A), forth(&talk), DropReason::EgressDenied)
        .state(FlowState::Closed);
    let by_server = cut("an_answer_from_beyond_to_what_no_rule_allows_any_more_is_dropped");
    let by_server =
        VLAN_LAN.refuses(by_server, &back(&talk), DropReason::EgressDenied).state(FlowState::Closed);
    vec![case, by_client, by_server]
}

fn spoofed(lan: Lan, version: Version) -> Vec<Case> {
    let as_from = |mac: &Party, addr: &Party| {
        carried(mac.mac, B.mac, &packet(addr.addr(version), B.addr(version), UDP, &udp((1, 53))))
    };
    let mac = lan.begin("a_mac_that_is_here_does_not_come_from_beyond", version);
    let mac = lan.refuses(mac, &as_from(&A, &R), DropReason::SpoofedMac);
    let mac = lan.refuses(mac, &as_from(&A, &A), DropReason::SpoofedMac);
    let mac = lan.refuses(mac, &as_from(&B, &B), DropReason::SpoofedMac).no_flows();
    let addr = lan.begin("an_address_that_is_here_does_not_come_from_beyond", version);
    let addr = lan.refuses(addr, &as_from(&R, &A), DropReason::SpoofedAddress);
    let addr = lan.refuses(addr, &as_from(&R, &B), DropReason::SpoofedAddress).no_flows();
    // With a flow that the port has with the very peer.
    let talk = Talk::new(version, A, B, 80);
    let flows = lan
        .begin("a_flow_of_two_ports_is_not_continued_from_beyond", version)
        .switches(from(&A), talk.syn(), &B)
        .switches(from(&B), talk.syn_ack(), &A)
        .switches(from(&A), talk.ack(), &B);
    let flows = lan.refuses(flows, &talk.forth(ACK, CLIENT + 1, SERVER + 1, 10), DropReason::SpoofedMac);
    let link_local =
        carried(R.mac, B.mac, &packet(A.link_local().into(), B.link_local().into(), UDP, &udp((1, 53))));
    let local = lan.begin("a_link_local_address_that_is_here_does_not_come_from_beyond", version);
    let local = lan.refuses(local, &link_local, DropReason::SpoofedAddress);
    let own =
        carried(R.mac, B.mac, &packet(R.link_local().into(), B.link_local().into(), UDP, &udp((1, 53))));
    let local = lan.comes(local, &own, &B);
    match version {
        Version::V4 => vec![mac, addr, flows],
        Version::V6 => vec![mac, addr, flows, local],
    }
}

fn spoofed_routed(lan: Lan, version: Version) -> Vec<Case> {
    let as_from = |mac: &Party, addr: &Party| {
        carried(mac.mac, B.mac, &packet(addr.addr(version), B.addr(version), UDP, &udp((1, 53))))
    };
    let case = lan.begin("the_gateway_does_not_come_from_beyond", version);
    let case = lan.refuses(case, &as_from(&G, &G), DropReason::SpoofedMac);
    let case = lan.refuses(case, &as_from(&G, &R), DropReason::SpoofedMac);
    let case = lan.refuses(case, &as_from(&R, &G), DropReason::SpoofedAddress).no_flows();
    let outside = lan.begin("an_address_of_no_subnet_does_not_come_from_beyond", version);
    vec![case, lan.refuses(outside, &as_from(&R, &FAR), DropReason::SpoofedAddress).no_flows()]
}

fn other_subnets(lan: Lan, version: Version) -> Vec<Case> {
    let frame = carried(R.mac, B.mac, &packet(FAR.addr(version), B.addr(version), UDP, &udp((1, 53))));
    let case = lan.begin("a_lan_leads_on_to_any_address", version);
    vec![lan.comes(case, &frame, &B)]
}

fn remote_port(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, A, D, 80);
    let asks = established(lan, "a_remote_port_is_judged_by_its_groups", &talk)
        .flows("both ends were asked", |flows| flows.iter().all(|flow| flow.rules == [A_SENDS, D_SERVES]))
        .drops(from(&A), Talk::new(version, A, D, 81).syn(), DropReason::IngressDenied)
        .drops(from(&T), Talk { client: T, ..talk }.syn(), DropReason::IngressDenied)
        .commit(Policy::Beyond(lan.policy));
    let asks = lan.comes(asks, &back(&talk), &A);
    let asks = lan.leaves(asks, from(&A), &forth(&talk)).state(FlowState::Established);
    let of_d = |port| Talk::new(version, D, A, port);
    let asked = lan.begin("a_remote_port_has_its_identity_and_egress_rules", version);
    let asked = lan.comes(asked, &of_d(9002).syn(), &A);
    let asked = lan.refuses(asked, &of_d(9003).syn(), DropReason::IngressDenied);
    let asked = lan.refuses(asked, &of_d(9004).syn(), DropReason::EgressDenied);
    let stranger = lan.begin("a_stranger_does_not_have_what_a_remote_port_has", version);
    let stranger = lan.refuses(stranger, &Talk::new(version, R, A, 9002).syn(), DropReason::IngressDenied);
    let as_d = Party { mac: R.mac, ..D };
    let spoofed = lan.begin("a_remote_ports_address_comes_from_its_mac", version);
    let spoofed = lan.refuses(spoofed, &Talk { client: as_d, ..of_d(9002) }.syn(), DropReason::SpoofedMac);
    let wrong = Party { mac: R.mac, ..D };
    let wrong = lan.begin("a_remote_ports_address_goes_to_its_mac", version).drops(
        from(&A),
        Talk { server: wrong, ..talk }.syn(),
        DropReason::WrongMac,
    );
    let reflected = lan.begin("who_is_beyond_is_not_reached_from_beyond", version);
    let reflected =
        lan.refuses(reflected, &switched(version, (&R, &D), UDP, &udp((1, 53))), DropReason::UnknownStation);
    vec![asks, asked, stranger, spoofed, wrong, reflected.no_flows()]
}
