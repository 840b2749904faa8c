//! What is for many, here and beyond: multicast, broadcast and DHCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{DropReason, MacAddr};

use super::{LANS, Lan, ROUTED_LANS, each};
use crate::cases::{
    frame::{ICMPV6, UDP, carried, icmp, packet, udp},
    multicast::{BROADCAST, MDNS_V6, NOBODY, STREAM, group_mac, multicast_from},
    step::{Case, from, host, to},
    world::{A, B, G, Party, T, Version, segment::R},
};

const ALL_ROUTERS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));
const ALL_DHCP_SERVERS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2));

pub(super) fn cases() -> Vec<Case> {
    [each(&LANS, groups), each(&LANS, dhcp), each(&ROUTED_LANS, of_the_host)].concat()
}

/// A group that B may receive nothing from, and A udp/5000.
const fn group(version: Version) -> IpAddr {
    match version {
        Version::V4 => STREAM,
        Version::V6 => MDNS_V6,
    }
}

fn groups(lan: Lan, version: Version) -> Vec<Case> {
    let of =
        |sender: &Party, port| multicast_from(sender, sender.addr(version), group(version), (5000, port));
    let sent = lan.begin("what_a_port_sends_to_a_group_goes_to_all_here_and_beyond", version);
    let sent = lan.spreads(sent, from(&A), &of(&A, 5000));
    let sent = lan.spreads(sent, from(&T), &of(&T, 5000));
    let sent = sent.drops(from(&B), of(&B, 5001), DropReason::EgressDenied).no_flows();
    let heard = lan.begin("what_a_station_sends_to_a_group_is_judged_at_each_receiver", version);
    let heard = lan.floods(heard, &of(&R, 5000));
    let heard = lan
        .floods(heard, &of(&R, 5001))
        .passes(to(&A), of(&R, 5000))
        .drops(to(&A), of(&R, 5001), DropReason::IngressDenied)
        .drops(to(&B), of(&R, 5000), DropReason::IngressDenied)
        .drops(to(&T), of(&R, 5000), DropReason::IngressDenied)
        .no_flows();
    let spoofed =
        |mac: &Party, addr: &Party| multicast_from(mac, addr.addr(version), group(version), (1, 5000));
    let lies = lan.begin("a_group_hides_nobody_beyond_either", version);
    let lies = lan.refuses_many(lies, &spoofed(&R, &A), DropReason::SpoofedAddress);
    let lies = lan.refuses_many(lies, &spoofed(&A, &A), DropReason::SpoofedMac);
    vec![sent, heard, lan.refuses_many(lies, &spoofed(&A, &R), DropReason::SpoofedMac)]
}

fn of_the_host(lan: Lan, version: Version) -> Vec<Case> {
    let sent = multicast_from(&G, G.addr(version), group(version), (5000, 5001));
    let case = lan.begin("what_the_host_sends_to_a_group_goes_to_all_here_and_beyond", version);
    vec![lan.spreads(case, host(&G), &sent).no_flows()]
}

/// A DHCP message, from `sender`'s address or none to `to`.
fn dhcp_message(sender: &Party, src: IpAddr, to: (MacAddr, IpAddr), ports: (u16, u16)) -> Vec<u8> {
    carried(sender.mac, to.0, &packet(src, to.1, UDP, &udp(ports)))
}

fn dhcp(lan: Lan, version: Version) -> Vec<Case> {
    match version {
        Version::V4 => dhcp_v4(lan),
        Version::V6 => dhcp_v6(lan),
    }
}

fn dhcp_v4(lan: Lan) -> Vec<Case> {
    const V4: Version = Version::V4;
    let discover = multicast_from(&A, NOBODY, BROADCAST, (68, 67));
    let asks = lan.begin("a_dhcp_clients_broadcast_goes_to_the_host_and_beyond", V4);
    let asks = lan.tells(asks, from(&A), &discover);
    let asks = lan.tells(asks, from(&B), &multicast_from(&B, B.v4.into(), BROADCAST, (68, 67))).no_flows();
    let others = lan.begin("a_dhcp_client_is_nobody_else_beyond_either", V4).drops(
        from(&A),
        multicast_from(&A, B.v4.into(), BROADCAST, (68, 67)),
        DropReason::SpoofedAddress,
    );
    // To an address that the client does not have yet.
    let offered = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 77));
    let offer = lan.begin("a_dhcp_servers_answer_reaches_the_client", V4);
    let offer = lan.comes(offer, &dhcp_message(&R, R.v4.into(), (A.mac, offered), (67, 68)), &A);
    let offer = lan.comes(offer, &dhcp_message(&R, R.v4.into(), (B.mac, B.v4.into()), (67, 68)), &B);
    let nobody = MacAddr([2, 0, 0, 0, 0, 0x77]);
    let to_nobody = dhcp_message(&R, R.v4.into(), (nobody, offered), (67, 68));
    let offer = if lan.is_shared() {
        offer.passes(lan.entry(), to_nobody)
    } else {
        lan.refuses(offer, &to_nobody, DropReason::UnknownStation)
    };
    let to_all = multicast_from(&R, R.v4.into(), BROADCAST, (67, 68));
    let broadcast = lan.begin("a_dhcp_servers_broadcast_reaches_all", V4);
    let broadcast =
        lan.floods(broadcast, &to_all).passes(to(&A), to_all.clone()).passes(to(&B), to_all).no_flows();
    let spoofed = lan.begin("a_dhcp_server_is_nobody_here", V4);
    let spoofed = lan.refuses(
        spoofed,
        &dhcp_message(&R, A.v4.into(), (B.mac, B.v4.into()), (67, 68)),
        DropReason::SpoofedAddress,
    );
    let server = lan.begin("a_port_is_no_dhcp_server_for_who_is_beyond", V4).drops(
        from(&A),
        dhcp_message(&A, A.v4.into(), (R.mac, R.v4.into()), (67, 68)),
        DropReason::DhcpServer,
    );
    vec![asks, others, offer.no_flows(), broadcast, spoofed, server]
}

fn dhcp_v6(lan: Lan) -> Vec<Case> {
    const V6: Version = Version::V6;
    let local = IpAddr::V6(A.link_local());
    let asks = lan.begin("a_dhcp_clients_question_goes_to_all_here_and_beyond", V6);
    let asks = lan.spreads(asks, from(&A), &multicast_from(&A, local, ALL_DHCP_SERVERS, (546, 547)));
    let answer = dhcp_message(&R, R.link_local().into(), (A.mac, local), (547, 546));
    let offer = lan.begin("a_dhcp_servers_answer_reaches_the_client", V6);
    let offer = lan.comes(offer, &answer, &A).no_flows();
    // Router solicitations and listener reports are no rule's affair.
    let routers = |kind| {
        carried(
            A.mac,
            group_mac(ALL_ROUTERS),
            &packet(local, ALL_ROUTERS, ICMPV6, &icmp((kind, 0), [0; 4], &[])),
        )
    };
    let listens = lan.begin("what_a_port_tells_routers_goes_to_the_host_and_beyond", V6);
    let listens = lan.tells(listens, from(&A), &routers(133));
    let listens = lan.tells(listens, from(&A), &routers(143)).no_flows();
    vec![asks, offer, listens]
}
