//! Networks that are joined, one of which goes beyond the host.

use vnet_common::{DropReason, FlowState};

use super::{Lan, VLAN_LAN, each, trunk, vlan};
use crate::cases::{
    frame::{ACK, Talk, UDP, carried, packet, packet_with_ttl, routed, udp},
    step::{Case, from, reach},
    told::Told,
    world::{
        Beyond, C, G, H, Party, Policy, Version,
        segment::{D, R, VLAN},
    },
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    each(&[Lan { policy: Beyond::Joined, ..VLAN_LAN }], of_version)
}

/// `frame` of C leaves by the trunk, to the MAC of `receiver`.
fn out(case: Case, frame: Vec<u8>, receiver: &Party) -> Case {
    let routed = routed(&frame, receiver.mac, G.mac);
    case.sends(from(&C), frame, reach(trunk(), receiver), vlan(&routed, VLAN))
}

/// `frame` of somebody beyond reaches C.
fn into_x(case: Case, frame: &[u8]) -> Case {
    case.sends(trunk(), vlan(frame, VLAN), reach(trunk(), &C), routed(frame, C.mac, H.mac))
}

fn of_version(lan: Lan, version: Version) -> Vec<Case> {
    let via = |sender: &Party, gateway: &Party, to: &Party, ports| {
        carried(sender.mac, gateway.mac, &packet(sender.addr(version), to.addr(version), UDP, &udp(ports)))
    };
    let case = lan.begin("a_port_of_a_joined_network_reaches_a_remote_port", version);
    let case = out(case, via(&C, &H, &D, (1, 53)), &D);
    let case = into_x(case, &via(&D, &G, &C, (53, 1))).state(FlowState::Established);
    let case = case.commit(Policy::Beyond(lan.policy));
    let case = out(case, via(&C, &H, &D, (1, 53)), &D);
    let case = into_x(case.commit(Policy::Beyond(lan.policy)), &via(&D, &G, &C, (53, 1)));
    let case = case
        .state(FlowState::Established)
        .drops(from(&C), via(&C, &H, &D, (1, 54)), DropReason::IngressDenied)
        .drops(from(&C), via(&C, &H, &R, (1, 53)), DropReason::NoRoute)
        .drops(from(&C), carried(C.mac, D.mac, &via(&C, &H, &D, (1, 53))[14..]), DropReason::WrongMac);

    // R sees the gateway of its own network, C that of its own.
    let seen_by_r = Talk::new(version, R, Party { mac: G.mac, ..C }, 80);
    let seen_by_c = Talk::new(version, Party { mac: H.mac, ..R }, C, 80);
    let begin = |text: &str| {
        let case = into_x(lan.begin(text, version), &seen_by_r.syn());
        let case = out(case, seen_by_c.syn_ack(), &R);
        into_x(case, &seen_by_r.ack()).state(FlowState::Established).commit(Policy::Beyond(lan.policy))
    };
    let back = || seen_by_c.back(ACK, SERVER + 1, CLIENT + 1, 10);
    let forth = seen_by_r.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let asker_first = into_x(begin("a_station_reaches_a_port_of_a_joined_network"), &forth);
    let asker_first = out(asker_first, back(), &R).state(FlowState::Established);
    let answer_first =
        out(begin("an_answer_to_a_station_from_a_joined_network_outlives_a_commit"), back(), &R);
    let answer_first = into_x(answer_first, &forth).state(FlowState::Established);

    let apart = begin("an_answer_to_a_station_of_a_network_that_is_joined_no_more_is_dropped")
        .commit(Policy::Beyond(Beyond::RemotePort))
        .drops(from(&C), back(), DropReason::Untranslated)
        .state(FlowState::Closed);

    let last_hop = packet_with_ttl(1, R.addr(version), C.addr(version), UDP, &udp((1, 53)));
    let told = Told { macs: (G.mac, R.mac), ends: (G.addr(version), R.addr(version)), about: &last_hop };
    let told = lan.begin("a_station_is_told_by_the_gateway_whose_last_hop_is_behind_it", version).tells(
        (trunk(), vlan(&carried(R.mac, G.mac, &last_hop), VLAN)),
        DropReason::TtlExceeded,
        reach(trunk(), &R),
        vlan(&told.time_exceeded(), VLAN),
    );
    vec![case, asker_first, answer_first, apart, told]
}
