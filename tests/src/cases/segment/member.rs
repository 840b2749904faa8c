//! A port that takes part in two networks: untagged in its own, by a tag in the other.

use std::net::IpAddr;

use vnet_common::{Delivery, DropReason, FlowState, MacAddr};

use super::{CUSTOMER, Lan, SERVICE_TAG, VLAN_LAN, each, tagged, trunk, vlan};
use crate::cases::{
    frame::{ACK, Talk, UDP, carried, packet, packet_with_ttl, switched, udp},
    icmp::{ping, pong},
    multicast::{MDNS_V6, STREAM, multicast_from},
    neighbours::{
        Message, NO_MAC, REPLY, SOURCE_LINK, TARGET_LINK, advert, announce, arp, gratuitous_arp, solicit,
        who_has,
    },
    step::{Case, Sent, from, host, to},
    told::Told,
    world::{
        A, B, Beyond, C, Device, H, Party, Policy, T, Version,
        segment::{S, T_IN_X as TX, VLAN_X},
    },
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;
/// Out of T's device.
const TO_T: (Device, Delivery) = (Device::T, Delivery::Device);
/// Out of the trunk.
const TO_K: (Device, Delivery) = (Device::K, Delivery::Device);
const LAN: Lan = Lan { policy: Beyond::Member, ..VLAN_LAN };

pub(super) fn cases() -> Vec<Case> {
    let of = |lan: Lan, version| {
        [
            talks(lan, version),
            lies(lan, version),
            neighbours(lan, version),
            many(lan, version),
            told(lan, version),
        ]
        .concat()
    };
    each(&[LAN], of)
}

fn in_x(frame: &[u8]) -> Vec<u8> {
    vlan(frame, VLAN_X)
}

fn talks(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, TX, C, 80);
    let tcp = lan
        .begin("a_port_speaks_tagged_in_its_other_network", version)
        .sends(from(&T), in_x(&talk.syn()), (Device::C, Delivery::Peer), talk.syn())
        .sends(from(&C), talk.syn_ack(), TO_T, in_x(&talk.syn_ack()))
        .sends(from(&T), in_x(&talk.ack()), (Device::C, Delivery::Peer), talk.ack())
        .state(FlowState::Established)
        .flows("it is the link that it arrives by", |flows| {
            flows.iter().any(|flow| flow.arrives == Some(Device::MemberT) && flow.device == Some(Device::C))
                && flows.iter().any(|flow| {
                    let is_back = flow.is_reply && flow.pair_device == Some(Device::MemberT);
                    is_back && flow.device == Some(Device::T) && flow.tags == (VLAN_X, 0)
                })
        })
        .commit(Policy::Beyond(lan.policy));
    let back = talk.back(ACK, SERVER + 1, CLIENT + 1, 10);
    let forth = talk.forth(ACK, CLIENT + 1, SERVER + 11, 10);
    let tcp = tcp
        .sends(from(&C), back.clone(), TO_T, in_x(&back))
        .sends(from(&T), in_x(&forth), (Device::C, Delivery::Peer), forth)
        .state(FlowState::Established);
    let own = lan
        .begin("a_port_with_two_networks_speaks_untagged_in_its_own", version)
        .switches(from(&T), ping(version, (&T, &B)), &B)
        .switches(from(&B), pong(version, (&B, &T)), &T)
        .state(FlowState::Established);
    let refused = lan
        .begin("a_port_has_the_same_groups_in_its_other_network", version)
        .drops(from(&C), ping(version, (&C, &TX)), DropReason::IngressDenied)
        .no_flows();
    let (ask, answer) = (ping(version, (&TX, &S)), pong(version, (&S, &TX)));
    let three = 3 << 13 | VLAN_X;
    let beyond = lan
        .begin("a_tags_priority_goes_on_where_the_network_has_none", version)
        .sends(from(&T), vlan(&ask, three), TO_K, vlan(&ask, three))
        .at_priority(3)
        .sends(trunk(), vlan(&answer, 4 << 13 | VLAN_X), TO_T, vlan(&answer, 4 << 13 | VLAN_X))
        .at_priority(4)
        .state(FlowState::Established)
        .commit(Policy::Beyond(lan.policy))
        .sends(trunk(), in_x(&answer), TO_T, in_x(&answer))
        .sends(from(&T), in_x(&ask), TO_K, in_x(&ask));
    let gateway = lan.begin("a_port_reaches_the_gateway_of_its_other_network", version).sends(
        from(&T),
        in_x(&ping(version, (&TX, &H))),
        (Device::X, Delivery::Host),
        ping(version, (&TX, &H)),
    );
    let answer = pong(version, (&H, &TX));
    let gateway = gateway.sends(host(&H), answer.clone(), TO_T, in_x(&answer));
    vec![tcp, own, refused, beyond, gateway]
}

fn lies(lan: Lan, version: Version) -> Vec<Case> {
    let as_from = |mac: &Party, addr: &Party, to: &Party| {
        carried(mac.mac, to.mac, &packet(addr.addr(version), to.addr(version), UDP, &udp((1, 53))))
    };
    let case = lan
        .begin("a_port_has_the_addresses_of_the_network_that_it_speaks_in", version)
        .drops(from(&T), in_x(&as_from(&T, &T, &C)), DropReason::SpoofedAddress)
        .drops(from(&T), in_x(&as_from(&T, &C, &C)), DropReason::SpoofedAddress)
        .drops(from(&T), as_from(&T, &TX, &B), DropReason::SpoofedAddress)
        .drops(from(&T), in_x(&as_from(&C, &TX, &C)), DropReason::SpoofedMac)
        .drops(from(&T), in_x(&as_from(&C, &C, &C)), DropReason::SpoofedMac)
        .no_flows();
    let frame = as_from(&TX, &TX, &C);
    let tags = lan
        .begin("a_port_takes_part_by_its_tag_alone", version)
        .drops(from(&T), vlan(&frame, VLAN_X + 1), DropReason::VlanTag)
        .drops(from(&T), vlan(&frame, 0), DropReason::VlanTag)
        .drops(from(&T), tagged(&frame, &[(SERVICE_TAG, VLAN_X)]), DropReason::VlanTag)
        .drops(from(&T), tagged(&frame, &[(CUSTOMER, VLAN_X), (CUSTOMER, VLAN_X)]), DropReason::VlanTag)
        .drops(from(&A), in_x(&ping(version, (&A, &B))), DropReason::VlanTag)
        .no_flows();
    let beyond = lan
        .begin("a_port_of_two_networks_does_not_come_from_beyond", version)
        .drops(trunk(), in_x(&as_from(&TX, &TX, &C)), DropReason::SpoofedMac)
        .drops(trunk(), in_x(&as_from(&S, &TX, &C)), DropReason::SpoofedAddress)
        .no_flows();
    vec![case, tags, beyond]
}

fn neighbours(lan: Lan, version: Version) -> Vec<Case> {
    let is_at =
        |owner: &Party, asker: &Party| arp(asker.mac, REPLY, (owner.mac, owner.v4), (asker.mac, asker.v4));
    let where_is = |asker: &Party, owner: &Party| {
        solicit(asker, asker.v6, owner.v6, &[(SOURCE_LINK, asker.mac.0)]).frame()
    };
    let here = |owner: &Party, asker: &Party| advert(owner, asker, (asker.v6, owner.v6), true);
    let claim = arp(MacAddr::BROADCAST, REPLY, (TX.mac, C.v4), (NO_MAC, C.v4));
    let (own, about, beyond) = match version {
        Version::V4 => (gratuitous_arp(&TX), who_has(&TX, S.v4), is_at(&S, &TX)),
        Version::V6 => {
            let link = [(TARGET_LINK, S.mac.0)];
            let told = announce(&S, S.v6, S.v6, &link);
            let told = Message { eth: (S.mac, TX.mac), dst: TX.v6, ..told }.frame();
            (announce(&TX, TX.v6, TX.v6, &[(TARGET_LINK, TX.mac.0)]).frame(), where_is(&TX, &S), told)
        }
    };
    let case = lan.begin("neighbours_are_found_in_the_network_of_the_tag", version);
    let case = match version {
        Version::V4 => case
            .sends(from(&T), in_x(&who_has(&TX, C.v4)), TO_T, in_x(&is_at(&C, &TX)))
            .sends(from(&T), in_x(&who_has(&TX, H.v4)), TO_T, in_x(&is_at(&H, &TX)))
            .sends(from(&C), who_has(&C, TX.v4), (Device::C, Delivery::Device), is_at(&TX, &C))
            .sends(trunk(), in_x(&who_has(&S, TX.v4)), TO_K, in_x(&is_at(&TX, &S)))
            .drops(from(&T), in_x(&claim), DropReason::SpoofedArp)
            .drops(from(&T), in_x(&gratuitous_arp(&T)), DropReason::SpoofedArp)
            .drops(from(&T), gratuitous_arp(&TX), DropReason::SpoofedArp),
        Version::V6 => case
            .sends(from(&T), in_x(&where_is(&TX, &C)), TO_T, in_x(&here(&C, &TX)))
            .sends(from(&C), where_is(&C, &TX), (Device::C, Delivery::Device), here(&TX, &C))
            .sends(trunk(), in_x(&where_is(&S, &TX)), TO_K, in_x(&here(&TX, &S)))
            .drops(from(&T), in_x(&announce(&TX, TX.v6, C.v6, &[]).frame()), DropReason::SpoofedNeighbour),
    };
    let told = lan
        .begin("what_a_port_tells_by_its_tag_goes_to_that_network", version)
        .takes(from(&T), in_x(&own), &[])
        .copied(vec![Sent::by(Device::K, in_x(&own)), Sent::up(Device::X, own)])
        .takes(from(&T), in_x(&about), &[])
        .copied(vec![Sent::by(Device::K, in_x(&about))])
        .sends(trunk(), in_x(&beyond), TO_T, in_x(&beyond));
    vec![case, told]
}

fn many(lan: Lan, version: Version) -> Vec<Case> {
    let group: IpAddr = if version == Version::V4 { STREAM } else { MDNS_V6 };
    let of = |sender: &Party| multicast_from(sender, sender.addr(version), group, (1, 5000));
    let to_t = |frame: &[u8]| Sent::by(Device::T, in_x(frame));
    let to_k = |frame: &[u8]| Sent::by(Device::K, in_x(frame));
    let case = lan
        .begin("a_port_hears_its_other_network_with_the_tag", version)
        .passes(from(&C), of(&C))
        .copied(vec![to_t(&of(&C)), to_k(&of(&C))])
        .sends(trunk(), in_x(&of(&S)), (Device::X, Delivery::Flood), of(&S))
        .copied(vec![to_t(&of(&S)), Sent::up(Device::X, of(&S))])
        .sends(from(&T), in_x(&of(&TX)), (Device::X, Delivery::Flood), of(&TX))
        .copied(vec![to_k(&of(&TX)), Sent::up(Device::X, of(&TX))])
        // Its own network does not go beyond.
        .passes(from(&T), of(&T))
        .no_flows();
    let judged = lan
        .begin("what_a_port_hears_with_a_tag_is_judged", version)
        .passes(to(&T), in_x(&of(&H)))
        .drops(to(&T), in_x(&of(&C)), DropReason::IngressDenied)
        .drops(to(&T), in_x(&of(&S)), DropReason::IngressDenied)
        .drops(to(&T), vlan(&of(&H), VLAN_X + 1), DropReason::VlanTag)
        .drops(to(&A), in_x(&of(&H)), DropReason::VlanTag)
        .drops(to(&T), in_x(&switched(version, (&H, &TX), UDP, &udp((1, 2)))), DropReason::Undecided)
        .passes(to(&T), of(&A))
        .no_flows();
    vec![case, judged]
}

fn told(lan: Lan, version: Version) -> Vec<Case> {
    let last_hop = packet_with_ttl(1, TX.addr(version), C.addr(version), UDP, &udp((1, 53)));
    let frame = carried(T.mac, H.mac, &last_hop);
    let told = Told { macs: (H.mac, T.mac), ends: (H.addr(version), TX.addr(version)), about: &last_hop };
    let told = in_x(&told.time_exceeded());
    vec![lan.begin("a_port_is_told_of_its_tagged_packets_with_the_tag", version).tells(
        (from(&T), in_x(&frame)),
        DropReason::TtlExceeded,
        TO_T,
        told,
    )]
}
