//! A network that is bridged to the uplink, where the host has its own address.

use vnet_common::{Delivery, DropReason, FlowState, MacAddr};

use super::{BRIDGED, BRIDGED_LANS, Lan, each, lan_host};
use crate::cases::{
    frame::{ACK, Talk, UDP, carried, packet, switched, udp},
    icmp::{ping, pong},
    multicast::{MDNS_V6, STREAM, multicast_from},
    neighbours::{NO_MAC, REPLY, REQUEST, arp, gratuitous_arp, who_has},
    step::{Case, Entry, Sent, from},
    view::FlowView,
    world::{
        A, B, Device, FAR, G, Party, Policy, U, Version,
        segment::{LAN_HOST, LAN_ROUTER, R},
    },
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    [
        each(&[BRIDGED], of_the_host),
        each(&[BRIDGED], shared),
        each(&[BRIDGED], forwarded),
        each(&BRIDGED_LANS, by_the_router),
        vec![neighbours()],
    ]
    .concat()
}

fn of_the_host(lan: Lan, version: Version) -> Vec<Case> {
    let again = |case: Case| case.commit(Policy::Beyond(lan.policy));
    let to_a = Talk::new(version, LAN_HOST, A, 22);
    let asks = lan
        .begin("the_host_reaches_a_port_on_its_lan_that_no_rule_opens", version)
        .switches(lan_host(), to_a.syn(), &A)
        .switches(from(&A), to_a.syn_ack(), &LAN_HOST)
        .switches(lan_host(), to_a.ack(), &A)
        .state(FlowState::Established)
        .flows("it is the hosts", |flows| {
            let is_there = |flow: &FlowView| match flow.is_reply {
                false => flow.arrives == Some(Device::U) && flow.device == Some(Device::A),
                true => flow.arrives == Some(Device::A) && flow.device == Some(Device::U),
            };
            flows.len() == 2 && flows.iter().all(|flow| flow.rules == [0, 0] && is_there(flow))
        });
    let asks = again(asks).switches(from(&A), to_a.back(ACK, SERVER + 1, CLIENT + 1, 10), &LAN_HOST);
    let asks = again(asks)
        .switches(lan_host(), to_a.forth(ACK, CLIENT + 1, SERVER + 11, 10), &A)
        .state(FlowState::Established);
    let of_a = Talk::new(version, A, LAN_HOST, 80);
    let asked = lan
        .begin("a_port_reaches_the_host_on_its_lan", version)
        .switches(from(&A), of_a.syn(), &LAN_HOST)
        .switches(lan_host(), of_a.syn_ack(), &A)
        .switches(from(&A), of_a.ack(), &LAN_HOST);
    let asked = again(asked).switches(lan_host(), of_a.back(ACK, SERVER + 1, CLIENT + 1, 10), &A);
    let asked = again(asked)
        .switches(from(&A), of_a.forth(ACK, CLIENT + 1, SERVER + 11, 10), &LAN_HOST)
        .state(FlowState::Established)
        .drops(from(&B), Talk { client: B, ..of_a }.syn(), DropReason::EgressDenied);
    let lies = lan
        .begin("a_port_does_not_reach_the_host_as_somebody_else", version)
        .drops(
            from(&A),
            carried(A.mac, U.mac, &packet(B.addr(version), LAN_HOST.addr(version), UDP, &udp((1, 2)))),
            DropReason::SpoofedAddress,
        )
        .no_flows();
    let gateway = lan
        .begin("the_host_is_no_gateway_of_a_bridged_network", version)
        .drops(from(&A), switched(version, (&A, &G), UDP, &udp((1, 2))), DropReason::NoRoute)
        .drops(
            from(&A),
            carried(A.mac, G.mac, &packet(A.addr(version), FAR.addr(version), UDP, &udp((1, 2)))),
            DropReason::NoRoute,
        )
        .no_flows();
    vec![asks, asked, lies, gateway]
}

fn shared(lan: Lan, version: Version) -> Vec<Case> {
    let to_host = ping(version, (&R, &LAN_HOST));
    let of_host = pong(version, (&LAN_HOST, &R));
    let own = lan
        .begin("what_the_host_and_its_lan_say_to_each_other_is_their_own", version)
        .passes(lan.entry(), to_host.clone())
        .passes(lan_host(), of_host)
        .no_flows();
    let cut = lan
        .begin("what_is_cut_is_the_hosts_too_where_it_is_its_own", version)
        .model_only()
        .passes(lan.entry(), to_host[..20].to_vec())
        .passes(lan_host(), to_host[..14].to_vec())
        .no_flows();
    let spoofed = lan.begin("the_hosts_mac_does_not_come_from_its_lan", version);
    let spoofed = lan.refuses(spoofed, &ping(version, (&LAN_HOST, &B)), DropReason::SpoofedMac).no_flows();
    let group = if version == Version::V4 { STREAM } else { MDNS_V6 };
    let sent = multicast_from(&LAN_HOST, LAN_HOST.addr(version), group, (1, 5000));
    let many = lan
        .begin("what_the_host_sends_to_many_on_its_lan_reaches_the_ports_too", version)
        .passes(lan_host(), sent.clone())
        .copied(vec![Sent::by(Device::W, sent)])
        .no_flows();
    vec![own, cut, spoofed, many]
}

/// What the host forwards from elsewhere to its LAN, with its own MAC.
fn forwarded(lan: Lan, version: Version) -> Vec<Case> {
    let entry = Entry { forwarded: true, ..lan_host() };
    let from_far = |src: &Party, port| {
        carried(U.mac, A.mac, &packet(src.addr(version), A.addr(version), UDP, &udp((1, port))))
    };
    let case = lan
        .begin("what_the_host_forwards_to_its_lan_is_judged_as_a_strangers", version)
        .switches(entry, from_far(&FAR, 5000), &A)
        .drops(entry, from_far(&FAR, 5001), DropReason::IngressDenied)
        .drops(entry, from_far(&B, 5000), DropReason::SpoofedAddress);
    // By the host as a router.
    let talk = Talk::new(version, A, Party { mac: U.mac, ..FAR }, 80);
    let asked = lan
        .begin("a_port_may_use_the_host_on_its_lan_as_a_router", version)
        .sends(from(&A), talk.syn(), (Device::U, Delivery::Host), talk.syn())
        .switches(entry, talk.syn_ack(), &A)
        .sends(from(&A), talk.ack(), (Device::U, Delivery::Host), talk.ack())
        .state(FlowState::Established)
        .commit(Policy::Beyond(lan.policy))
        .switches(entry, talk.back(ACK, SERVER + 1, CLIENT + 1, 10), &A)
        .state(FlowState::Established);
    vec![case, asked]
}

fn by_the_router(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, A, Party { mac: LAN_ROUTER.mac, ..FAR }, 80);
    let case = lan.begin("a_port_goes_anywhere_by_the_router_of_its_lan", version);
    let case = lan.leaves(case, from(&A), &talk.syn());
    let case = lan.comes(case, &talk.syn_ack(), &A);
    let case = lan.leaves(case, from(&A), &talk.ack()).state(FlowState::Established);
    let case = case.commit(Policy::Beyond(lan.policy));
    let case = lan.leaves(case, from(&A), &talk.forth(ACK, CLIENT + 1, SERVER + 1, 10));
    let case = lan.comes(case, &talk.back(ACK, SERVER + 1, CLIENT + 11, 10), &A);
    vec![case.state(FlowState::Established)]
}

fn neighbours() -> Case {
    let (lan, to_all) = (BRIDGED, MacAddr::BROADCAST);
    let asks = who_has(&LAN_HOST, A.v4);
    let is_at =
        |owner: &Party, asker: &Party| arp(asker.mac, REPLY, (owner.mac, owner.v4), (asker.mac, asker.v4));
    let unicast = arp(A.mac, REQUEST, (LAN_HOST.mac, LAN_HOST.v4), (NO_MAC, A.v4));
    let case = lan
        .begin("the_host_and_the_ports_of_its_lan_find_each_other", Version::V4)
        .passes(lan_host(), asks.clone())
        .copied(vec![Sent::by(Device::W, asks)])
        .passes(lan_host(), gratuitous_arp(&LAN_HOST))
        .copied(vec![Sent::by(Device::W, gratuitous_arp(&LAN_HOST))])
        .sends(lan_host(), unicast.clone(), (Device::A, Delivery::Device), unicast)
        .sends(lan_host(), is_at(&LAN_HOST, &A), (Device::A, Delivery::Device), is_at(&LAN_HOST, &A));
    let case = lan.asks(case, from(&A), &who_has(&A, LAN_HOST.v4));
    let case = lan.asks(case, from(&A), &is_at(&A, &LAN_HOST));
    let of_r = arp(to_all, REQUEST, (R.mac, R.v4), (NO_MAC, LAN_HOST.v4));
    let case = lan.floods(case, &of_r);
    case.passes(lan.entry(), is_at(&R, &LAN_HOST))
}
