//! Which tags are a network's, and what becomes of all others.

use vnet_common::{DropReason, MacAddr};

use super::{BRIDGED, BRIDGED_VLAN, CUSTOMER, DOUBLE, SERVICE_TAG, VLAN_LAN, lan_host, tagged, trunk, vlan};
use crate::cases::{
    frame::{UDP, ether, switched, udp},
    icmp::ping,
    multicast::{STREAM, multicast_from},
    step::{Case, from, host, reach, to},
    world::{
        A, B, G, Version,
        segment::{PRIORITY, R, SERVICE, VLAN},
    },
};

const V4: Version = Version::V4;

pub(super) fn cases() -> Vec<Case> {
    [not_ours(), priorities(), malformed(), access()].concat()
}

/// What A may receive.
fn question(version: Version) -> Vec<u8> {
    switched(version, (&R, &A), UDP, &udp((1, 5000)))
}

fn not_ours() -> Vec<Case> {
    let frame = question(V4);
    let cases = [
        ("a_vlan_of_no_network_is_the_hosts", VLAN_LAN, &[(CUSTOMER, 11)][..]),
        ("untagged_frames_on_a_trunk_are_the_hosts", VLAN_LAN, &[]),
        ("a_priority_tag_on_a_trunk_is_the_hosts", VLAN_LAN, &[(CUSTOMER, 3 << 13)]),
        ("a_service_tag_is_not_a_vlan", VLAN_LAN, &[(SERVICE_TAG, VLAN)]),
        ("two_tags_are_not_one", VLAN_LAN, &[(SERVICE_TAG, SERVICE), (CUSTOMER, VLAN)]),
        ("a_network_within_a_vlan_is_another", VLAN_LAN, &[(CUSTOMER, VLAN), (CUSTOMER, 5)]),
        ("one_tag_is_not_two", DOUBLE, &[(CUSTOMER, VLAN)]),
        ("the_outer_tag_alone_is_not_two", DOUBLE, &[(SERVICE_TAG, SERVICE)]),
        ("two_tags_in_the_wrong_order_are_others", DOUBLE, &[(SERVICE_TAG, VLAN), (CUSTOMER, SERVICE)]),
        ("two_tags_of_one_kind_are_others", DOUBLE, &[(CUSTOMER, SERVICE), (CUSTOMER, VLAN)]),
        ("an_outer_tag_of_nobody_is_the_hosts", DOUBLE, &[(SERVICE_TAG, 101), (CUSTOMER, VLAN)]),
        ("a_vlan_on_a_bridged_uplink_is_the_hosts", BRIDGED, &[(CUSTOMER, VLAN)]),
        ("untagged_frames_on_an_uplink_with_a_vlan_are_the_hosts", BRIDGED_VLAN, &[]),
    ];
    let of = |(name, lan, tags): (&str, super::Lan, &[(u16, u16)])| {
        lan.begin(name, V4).passes(lan.entry(), tagged(&frame, tags)).no_flows()
    };
    let idle = Case::new("a_trunk_of_no_network_is_the_hosts").passes(trunk(), vlan(&frame, VLAN)).no_flows();
    let unknown = BRIDGED_VLAN
        .begin("what_the_host_sends_by_an_uplink_that_it_does_not_share_is_its_own", V4)
        .passes(lan_host(), frame.clone())
        .passes(lan_host(), vlan(&frame, VLAN));
    cases.into_iter().map(of).chain([idle, unknown]).collect()
}

fn priorities() -> Vec<Case> {
    let of = |version| {
        let frame = question(version);
        let arrives = VLAN_LAN
            .begin("a_tags_priority_stays_with_the_packet", version)
            .sends(trunk(), vlan(&frame, 3 << 13 | VLAN), reach(trunk(), &A), frame.clone())
            .at_priority(3)
            // It may be dropped earlier than others.
            .sends(trunk(), vlan(&frame, 1 << 12 | VLAN), reach(trunk(), &A), frame.clone());
        let double = tagged(&frame, &[(SERVICE_TAG, 7 << 13 | SERVICE), (CUSTOMER, 2 << 13 | VLAN)]);
        let inner = DOUBLE
            .begin("of_two_tags_the_inner_one_tells_the_priority", version)
            .sends(trunk(), double, reach(trunk(), &A), frame.clone())
            .at_priority(2);
        let ask = ping(version, (&G, &R));
        let asked = VLAN_LAN
            .begin("what_a_socket_of_the_hosts_asks_of_its_own_queues_is_no_priority_of_tags", version)
            .sends(host(&G).with_priority(6), ask.clone(), reach(trunk(), &R), vlan(&ask, VLAN))
            .at_priority(0);
        let tags = [(SERVICE_TAG, SERVICE | PRIORITY), (CUSTOMER, VLAN | PRIORITY)];
        let fixed = DOUBLE
            .begin("a_networks_priority_counts_more_than_a_packets", version)
            .sends(host(&G).with_priority(6), ask.clone(), reach(trunk(), &R), tagged(&ask, &tags))
            .at_priority(0);
        let untagged = tagged(&frame, &[(CUSTOMER, 3 << 13)]);
        let bridged = BRIDGED
            .begin("a_priority_tag_is_no_vlan", version)
            .sends(BRIDGED.entry(), untagged, reach(trunk(), &A), frame)
            .at_priority(3);
        vec![arrives, inner, asked, fixed, bridged]
    };
    Version::BOTH.into_iter().flat_map(of).collect()
}

fn malformed() -> Vec<Case> {
    let frame = question(V4);
    let three = tagged(&frame, &[(SERVICE_TAG, SERVICE), (CUSTOMER, VLAN), (CUSTOMER, 5)]);
    let of_type = |ether_type| ether(R.mac, A.mac, ether_type, &[0; 46]);
    let unlisted = VLAN_LAN.begin("what_is_neither_arp_nor_ip_does_not_come_from_beyond", V4);
    // LLC, LLDP, PPPoE.
    let unlisted = [46, 0x88cc, 0x8864].into_iter().fold(unlisted, |case, ether_type| {
        VLAN_LAN.refuses(case, &of_type(ether_type), DropReason::EtherType)
    });
    let to_all = ether(R.mac, MacAddr([1, 0x80, 0xc2, 0, 0, 0]), 38, &[0; 46]);
    let shared = BRIDGED
        .begin("what_is_neither_arp_nor_ip_for_many_is_the_hosts_where_it_shares_the_lan", V4)
        .passes(BRIDGED.entry(), to_all)
        .drops(BRIDGED.entry(), of_type(0x88cc), DropReason::EtherType);
    vec![
        DOUBLE.begin("a_third_tag_is_dropped", V4).drops(trunk(), three, DropReason::VlanTag).no_flows(),
        unlisted.no_flows(),
        shared.no_flows(),
    ]
}

fn access() -> Vec<Case> {
    let frame = ping(V4, (&A, &B));
    let flooded = multicast_from(&R, R.v4.into(), STREAM, (5000, 5000));
    let case = VLAN_LAN
        .begin("a_port_of_a_network_with_a_vlan_takes_no_tags", V4)
        .drops(from(&A), vlan(&frame, VLAN), DropReason::VlanTag)
        .drops(from(&A), vlan(&frame, 0), DropReason::VlanTag)
        .drops(from(&A), tagged(&frame, &[(SERVICE_TAG, SERVICE), (CUSTOMER, VLAN)]), DropReason::VlanTag)
        .drops(host(&G), vlan(&ping(V4, (&G, &B)), VLAN), DropReason::VlanTag)
        .drops(to(&A), vlan(&flooded, VLAN), DropReason::VlanTag)
        .no_flows();
    vec![case]
}
