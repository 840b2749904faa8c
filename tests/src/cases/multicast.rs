//! What goes to many: multicast is judged at both ends and left to the bridge, DHCP goes to the host alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{Delivery, DropReason, MacAddr};

use super::{
    frame::{ICMPV6, UDP, carried, icmp, packet, switched, udp},
    step::{Case, from, host, to},
    world::{A, B, Device, G, Party, T, Version},
};

pub(super) const STREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
const OTHER_STREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 2, 0, 1));
const MDNS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
pub(super) const MDNS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));
const ALL_ROUTERS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));
const ALL_MLDV2_ROUTERS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16));
pub(super) const BROADCAST: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);
pub(super) const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(super) fn cases() -> Vec<Case> {
    [multicast(), listeners(), dhcp()].concat()
}

/// The MAC of a group (RFC 1112 section 6.4, RFC 2464 section 7), or of everybody.
pub(super) fn group_mac(group: IpAddr) -> MacAddr {
    match group {
        IpAddr::V4(Ipv4Addr::BROADCAST) => MacAddr::BROADCAST,
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            MacAddr([1, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            MacAddr([0x33, 0x33, a, b, c, d])
        }
    }
}

pub(super) fn multicast_from(sender: &Party, src: IpAddr, group: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    carried(sender.mac, group_mac(group), &packet(src, group, UDP, &udp(ports)))
}

fn multicast() -> Vec<Case> {
    let of = |sender: &Party, group, port| multicast_from(sender, sender.v4.into(), group, (5000, port));
    let mdns_v6 = multicast_from(&A, A.link_local().into(), MDNS_V6, (5353, 5353));
    vec![
        Case::new("a_port_sends_to_groups_as_its_egress_rules_say")
            .passes(from(&A), of(&A, MDNS, 5353))
            .passes(from(&A), mdns_v6)
            .passes(from(&B), of(&B, STREAM, 5000))
            .drops(from(&B), of(&B, STREAM, 5001), DropReason::EgressDenied)
            .drops(from(&B), of(&B, OTHER_STREAM, 5000), DropReason::EgressDenied)
            .no_flows(),
        Case::new("a_port_receives_from_groups_as_its_ingress_rules_say")
            .passes(to(&A), of(&B, STREAM, 5000))
            .drops(to(&A), of(&B, STREAM, 5001), DropReason::IngressDenied)
            .drops(to(&B), of(&A, STREAM, 5000), DropReason::IngressDenied)
            .passes(to(&T), of(&A, STREAM, 5000))
            .drops(to(&T), of(&B, STREAM, 5000), DropReason::IngressDenied)
            .no_flows(),
        Case::new("the_host_sends_to_any_group")
            .passes(host(&G), of(&G, STREAM, 1))
            .passes(to(&B), of(&G, STREAM, 1)),
        Case::new("a_group_does_not_hide_a_spoofed_source")
            .drops(from(&A), multicast_from(&A, B.v4.into(), MDNS, (5353, 5353)), DropReason::SpoofedAddress)
            .drops(from(&A), multicast_from(&B, B.v4.into(), MDNS, (5353, 5353)), DropReason::SpoofedMac),
        Case::new("a_unicast_packet_that_the_bridge_floods_is_dropped")
            .drops(to(&B), switched(Version::V4, (&A, &B), UDP, &udp((1, 53))), DropReason::Undecided)
            .drops(to(&B), switched(Version::V6, (&A, &B), UDP, &udp((1, 53))), DropReason::Undecided)
            .drops(to(&B), switched(Version::V4, (&G, &B), UDP, &udp((1, 53))), DropReason::Undecided),
    ]
}

fn listeners() -> Vec<Case> {
    let unspecified = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let message = |src, group, kind| {
        carried(A.mac, group_mac(group), &packet(src, group, ICMPV6, &icmp((kind, 0), [0; 4], &[])))
    };
    let routers = [
        message(A.link_local().into(), ALL_ROUTERS, 133),
        message(unspecified, ALL_ROUTERS, 133),
        message(A.link_local().into(), ALL_MLDV2_ROUTERS, 143),
        message(unspecified, ALL_MLDV2_ROUTERS, 143),
    ];
    let igmp = carried(
        A.mac,
        group_mac(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 22))),
        &packet(A.v4.into(), IpAddr::V4(Ipv4Addr::new(224, 0, 0, 22)), 2, &[0x22, 0, 0, 0, 0, 0, 0, 0]),
    );
    vec![
        routers.into_iter().fold(
            Case::new("what_a_port_tells_routers_goes_to_the_host_alone").no_flows(),
            |case, message| case.sends(from(&A), message.clone(), (Device::W, Delivery::Host), message),
        ),
        [130, 131, 132, 133, 143].into_iter().fold(
            Case::new("what_is_meant_for_routers_is_judged_when_one_address_gets_it").no_flows(),
            |case, kind| {
                let body = icmp((kind, 0), [0; 4], &[0; 16]);
                case.drops(
                    from(&A),
                    switched(Version::V6, (&A, &B), ICMPV6, &body),
                    DropReason::IngressDenied,
                )
                .switches(from(&A), switched(Version::V6, (&A, &T), ICMPV6, &body), &T)
            },
        ),
        Case::new("a_port_reports_its_ipv4_groups").passes(from(&A), igmp).no_flows(),
        Case::new("a_listener_report_under_anothers_address_is_dropped").drops(
            from(&A),
            message(B.link_local().into(), ALL_MLDV2_ROUTERS, 143),
            DropReason::SpoofedAddress,
        ),
    ]
}

fn dhcp() -> Vec<Case> {
    let to_host = (Device::W, Delivery::Host);
    let discover = multicast_from(&A, NOBODY, BROADCAST, (68, 67));
    let rebind = multicast_from(&B, B.v4.into(), BROADCAST, (68, 67));
    let server_v6 = |group| multicast_from(&A, A.link_local().into(), group, (547, 546));
    vec![
        Case::new("a_dhcp_clients_broadcast_goes_to_the_host_alone")
            .sends(from(&A), discover.clone(), to_host, discover)
            .sends(from(&B), rebind.clone(), to_host, rebind)
            .no_flows(),
        Case::new("a_dhcp_client_has_its_own_address_or_none").drops(
            from(&A),
            multicast_from(&A, B.v4.into(), BROADCAST, (68, 67)),
            DropReason::SpoofedAddress,
        ),
        Case::new("a_dhcp_client_has_its_own_mac").drops(
            from(&A),
            multicast_from(&B, NOBODY, BROADCAST, (68, 67)),
            DropReason::SpoofedMac,
        ),
        Case::new("a_workload_is_no_dhcp_server")
            .drops(from(&A), multicast_from(&A, A.v4.into(), BROADCAST, (67, 68)), DropReason::DhcpServer)
            .drops(from(&A), switched(Version::V4, (&A, &B), UDP, &udp((67, 68))), DropReason::DhcpServer)
            .drops(from(&A), server_v6(MDNS_V6), DropReason::DhcpServer)
            .drops(from(&A), switched(Version::V6, (&A, &B), UDP, &udp((547, 546))), DropReason::DhcpServer),
        Case::new("the_host_answers_dhcp_clients")
            .passes(host(&G), multicast_from(&G, G.v4.into(), BROADCAST, (67, 68)))
            .passes(to(&A), multicast_from(&G, G.v4.into(), BROADCAST, (67, 68))),
        Case::new("nothing_else_has_no_source_address")
            .drops(from(&A), multicast_from(&A, NOBODY, BROADCAST, (68, 69)), DropReason::SpoofedAddress)
            .drops(from(&A), multicast_from(&A, NOBODY, BROADCAST, (69, 67)), DropReason::SpoofedAddress),
    ]
}
