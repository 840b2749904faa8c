//! Two networks that are joined: routed through their gateways, judged at both ends, isolated at once when
//! they are joined no more.

use vnet_common::{DropReason, FlowState};

use super::{
    frame::{ACK, Talk, UDP, carried, packet, packet_with_ttl, routed, udp},
    icmp::ping,
    step::{Case, from, host},
    world::{A, B, C, Device, G, H, Party, Policy, Version},
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

/// How a frame to `via` looks that comes out of the network of `gateway` at `receiver`.
fn crosses(case: Case, sender: &Party, frame: Vec<u8>, (receiver, gateway): (&Party, &Party)) -> Case {
    case.routes(from(sender), frame, receiver, gateway)
}

/// The client sees its own gateway's MAC, the server its own's.
fn talks(version: Version, port: u16) -> (Talk, Talk) {
    let seen_by_client = Talk::new(version, A, Party { mac: G.mac, ..C }, port);
    let seen_by_server = Talk::new(version, Party { mac: H.mac, ..A }, C, port);
    (seen_by_client, seen_by_server)
}

fn established(name: &str, version: Version) -> Case {
    let (client, server) = talks(version, 80);
    let case = Case::new(format!("{name} ({version:?})")).commit(Policy::Joined);
    let case = crosses(case, &A, client.syn(), (&C, &H));
    let case = crosses(case, &C, server.syn_ack(), (&A, &G));
    crosses(case, &A, client.ack(), (&C, &H)).state(FlowState::Established)
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Joined);
    let (client, server) = talks(version, 80);
    let data = client.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let reply = server.back(ACK, SERVER + 1, CLIENT + 1, 10);
    let ask = |sender: &Party, to: &Party, mac| {
        carried(sender.mac, mac, &packet(sender.addr(version), to.addr(version), UDP, &udp((1, 53))))
    };
    let last_hop =
        carried(A.mac, G.mac, &packet_with_ttl(1, A.addr(version), C.addr(version), UDP, &udp((1, 53))));
    let nobody = Party { v4: [10, 9, 0, 99].into(), v6: "fd00:9::99".parse().expect("an address"), ..C };
    let error = super::errors::too_big(version, (&C, &A), &routed(&client.syn(), C.mac, H.mac));
    let error = {
        let mut error = error;
        error[..6].copy_from_slice(&H.mac.0);
        error
    };
    let cases = vec![
        established("joined_networks_are_routed_both_ways", version)
            .routes(from(&C), reply.clone(), &A, &G)
            .routes(from(&A), data.clone(), &C, &H)
            .flows("each end sees its own gateway", |flows| {
                flows.len() == 2 && flows.iter().all(|flow| flow.is_routed)
            }),
        established("a_flow_between_networks_is_judged_again_from_the_client", version)
            .commit(Policy::Joined)
            .routes(from(&A), data.clone(), &C, &H)
            .flows("both entries are judged at once", |flows| flows.iter().all(|flow| flow.generation == 3))
            .routes(from(&C), reply.clone(), &A, &G)
            .state(FlowState::Established),
        established("a_flow_between_networks_is_judged_again_from_the_server", version)
            .commit(Policy::Joined)
            .routes(from(&C), reply.clone(), &A, &G)
            .routes(from(&A), data.clone(), &C, &H)
            .state(FlowState::Established),
        established("networks_that_are_joined_no_more_are_cut", version)
            .commit(Policy::Usual)
            .drops(from(&A), data.clone(), DropReason::NoRoute)
            .state(FlowState::Closed)
            .drops(from(&C), reply.clone(), DropReason::NoFlow),
        established("a_reply_cuts_a_flow_between_networks_that_are_joined_no_more", version)
            .commit(Policy::Usual)
            .drops(from(&C), reply, DropReason::Untranslated)
            .state(FlowState::Closed),
        begin("rules_hold_at_both_ends_of_joined_networks")
            .drops(from(&C), ask(&C, &A, H.mac), DropReason::IngressDenied)
            .drops(from(&B), ask(&B, &C, G.mac), DropReason::EgressDenied)
            .routes(from(&C), ask(&C, &B, H.mac), &B, &G),
        begin("between_networks_there_is_only_routing")
            .drops(from(&A), ask(&A, &C, C.mac), DropReason::WrongMac)
            .drops(from(&A), ask(&A, &C, H.mac), DropReason::WrongMac)
            .no_flows(),
        begin("a_hop_between_networks_counts").drops(from(&A), last_hop, DropReason::TtlExceeded).no_flows(),
        begin("an_address_that_nobody_has_in_a_joined_network_is_no_route")
            .drops(from(&A), ask(&A, &nobody, G.mac), DropReason::NoRoute)
            .no_flows(),
        begin("the_host_has_no_way_between_networks").drops(
            host(&G),
            carried(G.mac, G.mac, &packet(G.addr(version), C.addr(version), UDP, &udp((1, 53)))),
            DropReason::NoRoute,
        ),
        begin("an_error_about_a_flow_between_networks_finds_its_way")
            .routes(from(&A), client.syn(), &C, &H)
            .routes(from(&C), error, &A, &G),
    ];
    [cases, far_gateway(version)].concat()
}

/// The host under the address that it has in the joined network: it answers by the asker's own bridge.
fn far_gateway(version: Version) -> Vec<Case> {
    let far = Party { mac: G.mac, device: Device::W, ..H };
    let (talk, answering) = (Talk::new(version, A, far, 8080), Talk::new(version, A, far, 8080));
    let connected = |name: &str| {
        Case::new(format!("{name} ({version:?})"))
            .commit(Policy::Joined)
            .switches(from(&A), talk.syn(), &far)
            .switches(host(&G), answering.syn_ack(), &A)
            .switches(from(&A), talk.ack(), &far)
            .state(FlowState::Established)
    };
    let data = talk.forth(ACK, CLIENT + 1, SERVER + 1, 10);
    let reply = answering.back(ACK, SERVER + 1, CLIENT + 1, 10);
    vec![
        connected("the_gateway_of_a_joined_network_is_the_host")
            .commit(Policy::Joined)
            .switches(host(&G), reply.clone(), &A)
            .commit(Policy::Joined)
            .switches(from(&A), talk.forth(ACK, CLIENT + 1, SERVER + 11, 10), &far)
            .state(FlowState::Established),
        connected("the_gateway_of_a_network_that_is_joined_no_more_is_cut_off")
            .commit(Policy::Usual)
            .drops(from(&A), data, DropReason::NoRoute)
            .state(FlowState::Closed),
        connected("its_answers_are_cut_off_too")
            .commit(Policy::Usual)
            .drops(host(&G), reply, DropReason::NoRoute)
            .state(FlowState::Closed),
        Case::new(format!("a_port_pings_the_gateway_of_a_joined_network ({version:?})"))
            .commit(Policy::Joined)
            .switches(from(&A), ping(version, (&A, &far)), &far),
    ]
}
