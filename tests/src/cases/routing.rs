//! Where packets go: straight to a neighbour, through the gateway, or nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{DropReason, FlowState, MacAddr};

use super::{
    frame::{ACK, IP, Talk, UDP, carried, fix_ipv4_checksum, packet, packet_with_ttl, udp},
    step::{Case, from},
    tcp::http,
    world::{A, B, C, G, H, HOST_ELSEWHERE, Party, T, Version},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Version::BOTH.into_iter().flat_map(of_version).collect();
    cases.push(checksum_carry());
    cases.push(metadata());
    cases
}

/// A UDP question from A to `dst`, in a frame to `mac`.
fn question(ttl: u8, dst: IpAddr, mac: MacAddr) -> Vec<u8> {
    let src = A.addr(if dst.is_ipv4() { Version::V4 } else { Version::V6 });
    carried(A.mac, mac, &packet_with_ttl(ttl, src, dst, UDP, &udp((40_000, 53))))
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let (a, b) = (A.addr(version), B.addr(version));
    let answer = |mac| carried(B.mac, mac, &packet(b, a, UDP, &udp((53, 40_000))));
    let nobody: IpAddr = match version {
        Version::V4 => Ipv4Addr::new(10, 0, 0, 99).into(),
        Version::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99).into(),
    };
    let outside = HOST_ELSEWHERE.addr(version);
    let from_c = |dst| carried(C.mac, H.mac, &packet(C.addr(version), dst, UDP, &udp((40_000, 53))));
    let mut cases = vec![
        Case::new(name("a_frame_to_the_gateway_is_routed_and_so_are_its_answers"))
            .routes(from(&A), question(64, b, G.mac), &B, &G)
            .routes(from(&B), answer(G.mac), &A, &G)
            .state(FlowState::Established)
            .routes(from(&A), question(2, b, G.mac), &B, &G)
            .drops(from(&A), question(1, b, G.mac), DropReason::TtlExceeded),
        Case::new(name("the_last_hop_is_spent_at_the_gateway"))
            .drops(from(&A), question(1, b, G.mac), DropReason::TtlExceeded)
            .drops(from(&A), question(0, b, G.mac), DropReason::TtlExceeded)
            .no_flows()
            .switches(from(&A), question(1, b, B.mac), &B),
        Case::new(name("an_address_that_nobody_has_is_no_route"))
            .drops(from(&A), question(64, nobody, G.mac), DropReason::NoRoute)
            .drops(from(&A), question(64, outside, G.mac), DropReason::NoRoute)
            .no_flows(),
        Case::new(name("networks_are_isolated"))
            .drops(from(&A), question(64, C.addr(version), G.mac), DropReason::NoRoute)
            .drops(from(&C), from_c(a), DropReason::Untranslated)
            .drops(from(&C), from_c(outside), DropReason::Untranslated)
            .drops(from(&C), from_c(G.addr(version)), DropReason::Untranslated)
            .no_flows(),
        Case::new(name("a_frame_to_somebody_else_is_dropped"))
            .drops(from(&A), question(64, b, T.mac), DropReason::WrongMac)
            .drops(from(&A), question(64, b, MacAddr::BROADCAST), DropReason::WrongMac)
            .drops(from(&A), question(64, b, H.mac), DropReason::WrongMac)
            .no_flows(),
    ];
    cases.push(change_of_way(version));
    cases.push(to_oneself(version));
    cases
}

/// The client turns to the gateway in mid-connection, which is judged again and tracked on.
fn change_of_way(version: Version) -> Case {
    let talk = http(version);
    let via_gateway = Talk { server: Party { mac: G.mac, ..B }, ..talk };
    super::tcp::established("other_macs_are_judged_again_and_the_connection_goes_on", &talk)
        .routes(from(&A), via_gateway.forth(ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 10), &B, &G)
        .state(FlowState::Established)
        .flows("the record is kept", |flows| {
            flows.len() == 2 && flows.iter().any(|flow| flow.packets == 3 && flow.is_routed && !flow.is_reply)
        })
        .switches(from(&A), talk.forth(ACK, Talk::CLIENT + 11, Talk::SERVER + 1, 10), &B)
        .switches(from(&B), talk.back(ACK, Talk::SERVER + 1, Talk::CLIENT + 21, 10), &A)
        .state(FlowState::Established)
}

/// A gateway gives a port's packets to itself back; its own rules apply.
fn to_oneself(version: Version) -> Case {
    let own = carried(A.mac, G.mac, &packet(A.addr(version), A.addr(version), UDP, &udp((1, 2))));
    Case::new(format!("a_port_has_no_way_around_its_own_rules ({version:?})"))
        .drops(from(&A), own, DropReason::IngressDenied)
        .no_flows()
}

/// Where clouds keep metadata: nobody, unless it is configured.
fn metadata() -> Case {
    let service = Ipv4Addr::new(169, 254, 169, 254).into();
    let of = |party: &Party, gateway: &Party| {
        carried(party.mac, gateway.mac, &packet(party.v4.into(), service, UDP, &udp((1, 80))))
    };
    Case::new("the_metadata_address_is_nobodys")
        .drops(from(&A), of(&A, &G), DropReason::NoRoute)
        .drops(from(&C), of(&C, &H), DropReason::NoRoute)
        .no_flows()
}

/// The checksum's carry: identifications for which it is 0xfeff, 0xff00 and 0xffff before the hop.
fn checksum_carry() -> Case {
    let mut case = Case::new("the_header_checksum_survives_every_carry");
    for id in [0_u16, 0x1234, 0x8000, 0xfffe, 0xffff] {
        let frame = with_id(id);
        case = case.routes(from(&A), frame, &B, &G);
    }
    for wanted in [0xfeff_u16, 0xff00, 0xfffe, 0x0000, 0x00ff] {
        let found = (0..=u16::MAX).map(with_id).find(|frame| frame[IP + 10..IP + 12] == wanted.to_be_bytes());
        case = case.routes(from(&A), found.expect("some identification gives any checksum"), &B, &G);
    }
    case
}

fn with_id(id: u16) -> Vec<u8> {
    let mut frame = question(64, B.v4.into(), G.mac);
    frame[IP + 4..IP + 6].copy_from_slice(&id.to_be_bytes());
    fix_ipv4_checksum(&mut frame[IP..]);
    frame
}
