//! Who a port may say that it is, and what it may not be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, Talk, UDP, carried, packet, switched, udp},
    step::{Case, from},
    tcp::{established, http},
    world::{A, B, C, G, Party, Version},
};
use crate::frames::{Disguise, Eth, redirect, router_advertisement};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Version::BOTH.into_iter().flat_map(of_version).collect();
    cases.extend(routers());
    cases.push(mapped());
    cases
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let under = |src: IpAddr| carried(A.mac, B.mac, &packet(src, B.addr(version), UDP, &udp((1, 53))));
    let elsewhere: IpAddr = match version {
        Version::V4 => Ipv4Addr::new(203, 0, 113, 1).into(),
        Version::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let (loopback, group): (IpAddr, IpAddr) = match version {
        Version::V4 => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(224, 0, 0, 1).into()),
        Version::V6 => (Ipv6Addr::LOCALHOST.into(), ALL_NODES.into()),
    };
    let unspecified: IpAddr = match version {
        Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Version::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let talk = &http(version);
    let data = |client: Party| Talk { client, ..*talk }.forth(ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 10);
    let spoofed = |case: Case, src| case.drops(from(&A), under(src), DropReason::SpoofedAddress);
    let sources =
        [B.addr(version), G.addr(version), C.addr(version), elsewhere, loopback, group, unspecified];
    vec![
        sources
            .into_iter()
            .fold(Case::new(name("a_source_address_that_is_not_the_ports_own_is_dropped")), spoofed)
            .no_flows(),
        Case::new(name("a_source_mac_that_is_not_the_ports_own_is_dropped"))
            .drops(from(&A), switched(version, (&B, &G), UDP, &udp((1, 53))), DropReason::SpoofedMac)
            .drops(
                from(&A),
                carried(G.mac, B.mac, &packet(A.addr(version), B.addr(version), UDP, &udp((1, 53)))),
                DropReason::SpoofedMac,
            )
            .no_flows(),
        established("an_established_flow_does_not_excuse_another_mac", talk)
            .drops(from(&A), data(Party { mac: C.mac, ..A }), DropReason::SpoofedMac)
            .state(FlowState::Established),
        established("nobody_speaks_in_anothers_flow", talk)
            .drops(from(&C), data(A), DropReason::SpoofedMac)
            .drops(from(&C), data(Party { mac: C.mac, ..A }), DropReason::SpoofedAddress)
            .drops(from(&B), data(A), DropReason::SpoofedMac)
            .drops(from(&B), data(Party { mac: B.mac, ..A }), DropReason::SpoofedAddress)
            .flows("the flow has seen nothing of it", |flows| {
                flows.iter().map(|flow| flow.packets).sum::<u64>() == 3
            }),
    ]
}

fn routers() -> Vec<Case> {
    let route = (A.link_local(), ALL_NODES);
    let advertisement = |disguise| router_advertisement(Eth::multicast(A.mac, ALL_NODES), route, disguise);
    let case =
        |name: &str, disguise, reason| Case::new(name).drops(from(&A), advertisement(disguise), reason);
    let redirect = redirect(Eth::new(A.mac, B.mac), (A.link_local(), B.v6), A.link_local(), C.v6);
    vec![
        case("a_workload_is_no_router", Disguise::Plain, DropReason::RouterAdvertisement),
        case(
            "an_advertisement_behind_destination_options_is_one",
            Disguise::DestinationOptions,
            DropReason::RouterAdvertisement,
        ),
        case("an_advertisement_in_a_fragment_is_dropped", Disguise::AtomicFragment, DropReason::Fragment),
        case("an_advertisement_under_vlan_0_is_dropped", Disguise::VlanZero, DropReason::VlanTag),
        Case::new("a_workload_redirects_nobody").drops(from(&A), redirect, DropReason::RouterAdvertisement),
    ]
}

/// IPv4 addresses in IPv6 headers (RFC 4291 section 2.5.5.2) are no addresses of the network.
fn mapped() -> Case {
    let mapped = |party: &Party| IpAddr::V6(party.v4.to_ipv6_mapped());
    let frame = |src, dst| carried(A.mac, B.mac, &packet(src, dst, UDP, &udp((1, 53))));
    Case::new("an_ipv4_address_in_an_ipv6_header_is_malformed")
        .drops(from(&A), frame(mapped(&A), mapped(&B)), DropReason::MalformedHeader)
        .drops(from(&A), frame(mapped(&A), B.v6.into()), DropReason::MalformedHeader)
        .drops(from(&A), frame(A.v6.into(), mapped(&B)), DropReason::MalformedHeader)
        .no_flows()
}
