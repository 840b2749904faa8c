//! An overlay: frames go to the peer behind which their receiver is, and come from peers alone.
//!
//! A test run of the kernel can bring no tunnel, and shows none: what comes out of one is the model's to play.

use std::net::IpAddr;

use vnet_common::{Delivery, DropReason, FlowState, MacAddr};
use vnet_ebpf::packet::Tunnel;

use super::{CUSTOMER, Lan, VLAN_LAN, each, tagged, trunk};
use crate::cases::{
    frame::{ACK, TCP, Talk, UDP, carried, packet, switched, udp},
    multicast::{MDNS_V6, STREAM, multicast_from},
    neighbours::{
        NO_MAC, REPLY, SOURCE_LINK, TARGET_LINK, advert, announce, arp, gratuitous_arp, solicit, who_has,
    },
    step::{Case, Entry, Hook, Sent, from, host},
    told::Told,
    world::{
        A, B, Beyond, Device, G, O, Party, Policy, T, U, Version,
        segment::{D, MTU_OVERLAY, OTHER_PEER, PEER, R, VNI, tunnel},
    },
};

const CLIENT: u32 = Talk::CLIENT;
const SERVER: u32 = Talk::SERVER;
/// The port of VXLAN (RFC 7348 section 5).
const OVERLAY: u16 = 4789;
const LAN: Lan = Lan { policy: Beyond::Overlay, ..VLAN_LAN };
const TO_K: (Device, Delivery) = (Device::K, Delivery::Device);

pub(super) fn cases() -> Vec<Case> {
    let of = |lan, version| {
        [
            talks(lan, version),
            heard(lan, version),
            refused(lan, version),
            ports(lan, version),
            lengths(lan, version),
        ]
        .concat()
    };
    [each(&[LAN], of), each(&[LAN], many), each(&[LAN], neighbours), each(&[LAN], underlay)].concat()
}

/// A frame that comes from a peer.
pub(super) const fn by(peer: Tunnel) -> Entry {
    trunk().out_of(peer)
}

/// `frame` goes to one peer.
fn goes(case: Case, entry: Entry, frame: &[u8], peer: Tunnel) -> Case {
    case.sends(entry, frame.to_vec(), TO_K, frame.to_vec()).into(peer)
}

/// Copies to all peers.
fn to_all(frame: &[u8]) -> Vec<Sent> {
    [PEER, OTHER_PEER].map(|peer| Sent::by(Device::K, frame.to_vec()).into(peer)).to_vec()
}

/// `frame` goes to all peers, and nowhere else.
pub(super) fn goes_to_all(case: Case, entry: Entry, frame: &[u8]) -> Case {
    case.takes(entry, frame.to_vec(), &[]).copied(to_all(frame))
}

fn comes(case: Case, peer: Tunnel, frame: &[u8], receiver: &Party) -> Case {
    case.switches(by(peer), frame.to_vec(), receiver)
}

/// `talk`, whose server is known to be behind `peer`, becomes established.
pub(super) fn opened(case: Case, talk: &Talk, peer: Tunnel) -> Case {
    let case = goes(case, from(&talk.client), &talk.syn(), peer);
    let case = comes(case, peer, &talk.syn_ack(), &talk.client);
    goes(case, from(&talk.client), &talk.ack(), peer).state(FlowState::Established)
}

fn talks(lan: Lan, version: Version) -> Vec<Case> {
    let talk = Talk::new(version, A, R, 80);
    let (forth, back) =
        (talk.forth(ACK, CLIENT + 1, SERVER + 1, 10), talk.back(ACK, SERVER + 1, CLIENT + 1, 10));
    let begin = |text: &str| {
        let case = goes_to_all(lan.begin(text, version).model_only(), from(&A), &talk.syn());
        let case = comes(case, PEER, &talk.syn_ack(), &A);
        goes(case, from(&A), &talk.ack(), PEER).state(FlowState::Established)
    };
    let case = begin("who_has_not_been_heard_is_looked_for_at_all_peers");
    let case = goes(case, from(&A), &forth, PEER);
    let case = comes(case, PEER, &back, &A).flows("the peer is remembered", |flows| {
        flows.len() == 2
            && flows.iter().all(|flow| match flow.is_reply {
                false => flow.tags == (0, 1) && flow.heard == 0 && flow.device == Some(Device::K),
                true => flow.tags == (0, 0) && flow.heard == 1 && flow.arrives == Some(Device::BeyondW),
            })
    });
    let moved = comes(begin("a_flow_follows_who_moves_to_another_peer"), OTHER_PEER, &back, &A);
    let moved = goes(moved, from(&A), &forth, OTHER_PEER).state(FlowState::Established);
    let fresh = Talk::new(version, A, R, 81);
    let moved = goes(moved, from(&A), &fresh.syn(), OTHER_PEER);
    let again =
        begin("after_a_commit_who_is_behind_which_peer_is_heard_anew").commit(Policy::Beyond(lan.policy));
    let again = goes_to_all(again, from(&A), &forth);
    let again = comes(again, PEER, &back, &A);
    let again = goes(again, from(&A), &forth, PEER).state(FlowState::Established);
    let answered = begin("after_a_commit_an_answer_tells_the_peer").commit(Policy::Beyond(lan.policy));
    let answered = comes(answered, PEER, &back, &A);
    let answered = goes(answered, from(&A), &forth, PEER).state(FlowState::Established);
    let of_host = Talk::new(version, G, R, 80);
    let host_asks = lan.begin("the_host_looks_for_a_station_at_all_peers", version).model_only();
    let host_asks = goes_to_all(host_asks, host(&G), &of_host.syn());
    let host_asks = comes(host_asks, PEER, &of_host.syn_ack(), &G);
    let host_asks = goes(host_asks, host(&G), &of_host.ack(), PEER).state(FlowState::Established);
    // Not only on the model: that there is no one verdict is what the kernel shows, too.
    let unknown = goes_to_all(lan.begin("who_is_not_known_is_sent_copies", version), from(&A), &talk.syn());
    vec![case, moved, again, answered, host_asks, unknown]
}

fn heard(lan: Lan, version: Version) -> Vec<Case> {
    let told = switched(version, (&R, &A), UDP, &udp((1, 5000)));
    let talk = Talk::new(version, A, R, 80);
    let case = lan.begin("who_has_been_heard_is_reached_by_that_peer", version).model_only();
    let case = comes(case, OTHER_PEER, &told, &A);
    let case = goes(case, from(&A), &talk.syn(), OTHER_PEER);
    let refused = lan.begin("who_is_refused_for_a_lie_is_not_heard", version).model_only();
    let lie = carried(R.mac, B.mac, &packet(A.addr(version), B.addr(version), UDP, &udp((1, 53))));
    let refused = refused.drops(by(OTHER_PEER), lie, DropReason::SpoofedAddress);
    let refused = goes_to_all(refused, from(&A), &talk.syn());
    let of_d = Talk::new(version, A, D, 80);
    let known = lan.begin("a_remote_port_is_reached_by_the_peer_that_the_policy_names", version);
    let known = goes(known, from(&A), &of_d.syn(), PEER);
    let known = goes(known, host(&G), &Talk { client: G, ..of_d }.syn(), PEER);
    let both = lan.begin("a_remote_port_speaks_both_ways", version).model_only();
    let both = opened(both, &of_d, PEER);
    let both = both.commit(Policy::Beyond(lan.policy));
    let both = goes(both, from(&A), &of_d.forth(ACK, CLIENT + 1, SERVER + 1, 10), PEER);
    let both = comes(both, PEER, &of_d.back(ACK, SERVER + 1, CLIENT + 11, 10), &A);
    let between = lan
        .begin("peers_do_not_reach_each_other_by_this_host", version)
        .model_only()
        .drops(by(OTHER_PEER), switched(version, (&R, &D), UDP, &udp((1, 53))), DropReason::UnknownStation)
        .no_flows();
    vec![case, refused, known, both.state(FlowState::Established), between]
}

fn refused(lan: Lan, version: Version) -> Vec<Case> {
    let frame = switched(version, (&R, &A), UDP, &udp((1, 5000)));
    let unmarked = lan
        .begin("an_overlay_has_its_own_way_in", version)
        .drops(trunk(), frame.clone(), DropReason::WrongUnderlay)
        // Somebody has marked it, but it came out of no tunnel.
        .drops(Entry { overlay: true, ..trunk() }, frame.clone(), DropReason::WrongUnderlay)
        .no_flows();
    let elsewhere = lan
        .begin("an_overlay_does_not_come_in_elsewhere", version)
        .model_only()
        .drops(by(PEER).unseen(), frame.clone(), DropReason::WrongUnderlay)
        .no_flows();
    let peers = lan
        .begin("an_overlay_has_its_peers_and_its_number", version)
        .model_only()
        .drops(by(tunnel(99)), frame.clone(), DropReason::UnknownPeer)
        .drops(by(Tunnel { vni: VNI + 1, ..PEER }), frame.clone(), DropReason::UnknownVni)
        .no_flows();
    let as_from = |mac: &Party, addr: &Party| {
        carried(mac.mac, B.mac, &packet(addr.addr(version), B.addr(version), UDP, &udp((1, 53))))
    };
    let spoofed = lan
        .begin("who_is_here_does_not_come_out_of_an_overlay", version)
        .model_only()
        .drops(by(PEER), as_from(&A, &R), DropReason::SpoofedMac)
        .drops(by(PEER), as_from(&R, &A), DropReason::SpoofedAddress)
        .drops(by(PEER), as_from(&R, &G), DropReason::SpoofedAddress)
        .drops(by(PEER), as_from(&R, &D), DropReason::SpoofedMac)
        .drops(by(PEER), as_from(&R, &O), DropReason::SpoofedAddress)
        .drops(by(PEER), tagged(&as_from(&R, &R), &[(CUSTOMER, 10)]), DropReason::VlanTag)
        .no_flows();
    vec![unmarked, elsewhere, peers, spoofed]
}

fn ports(lan: Lan, version: Version) -> Vec<Case> {
    let to = |receiver: &Party, port| switched(version, (&A, receiver), UDP, &udp((1, port)));
    let group: IpAddr = if version == Version::V4 { STREAM } else { MDNS_V6 };
    let case = lan
        .begin("a_port_makes_no_overlay_where_the_host_is_part_of_one", version)
        .drops(from(&A), to(&T, OVERLAY), DropReason::OverlayFromPort)
        .drops(from(&A), to(&G, OVERLAY), DropReason::OverlayFromPort)
        .drops(from(&A), to(&R, OVERLAY), DropReason::OverlayFromPort)
        .drops(
            from(&A),
            multicast_from(&A, A.addr(version), group, (1, OVERLAY)),
            DropReason::OverlayFromPort,
        )
        .no_flows()
        .switches(from(&A), to(&T, OVERLAY + 1), &T)
        .switches(from(&A), switched(version, (&A, &T), UDP, &udp((OVERLAY, 1))), &T)
        .switches(from(&A), Talk::new(version, A, T, OVERLAY).syn(), &T);
    let other = VLAN_LAN.begin("a_port_may_make_an_overlay_elsewhere", version).switches(
        from(&A),
        to(&T, OVERLAY),
        &T,
    );
    vec![case, other]
}

fn underlay(lan: Lan, version: Version) -> Vec<Case> {
    let entry = Entry::at(Hook::FromUnderlay, Device::U);
    let of = |ports| carried(O.mac, U.mac, &packet(O.addr(version), U.addr(version), UDP, &udp(ports)));
    let tcp = Talk::new(version, O, U, OVERLAY).syn();
    let other =
        carried(O.mac, U.mac, &packet(O.addr(version), U.addr(version), TCP + 100, &udp((1, OVERLAY))));
    let case = lan
        .begin("what_may_be_an_overlays_is_marked_where_it_may_come_in", version)
        .marks(entry, of((1, OVERLAY)))
        .passes(entry, of((1, OVERLAY - 1)))
        .passes(entry, of((OVERLAY, 1)))
        .passes(entry, tcp)
        .passes(entry, other)
        .passes(entry, tagged(&of((1, OVERLAY)), &[(CUSTOMER, 10)]))
        .passes(entry, who_has(&O, U.v4))
        .no_flows();
    vec![case]
}

/// A UDP packet of A's with `len` bytes altogether.
fn datagram(version: Version, to: &Party, len: u16) -> Vec<u8> {
    let header = if version == Version::V4 { 20 } else { 40 };
    let mut payload = udp((1, 53));
    payload.resize(usize::from(len - header), b'x');
    payload[4..6].copy_from_slice(&(len - header).to_be_bytes());
    packet(A.addr(version), to.addr(version), UDP, &payload)
}

fn lengths(lan: Lan, version: Version) -> Vec<Case> {
    let to = |receiver: &Party, len| carried(A.mac, receiver.mac, &datagram(version, receiver, len));
    let tells = |case: Case, receiver: &Party| {
        let about = datagram(version, receiver, MTU_OVERLAY + 1);
        // It goes back to where the frame came from, from where that went.
        let macs = (receiver.mac, A.mac);
        let told = Told { macs, ends: (G.addr(version), A.addr(version)), about: &about };
        let told = told.too_big(MTU_OVERLAY);
        let entry = (from(&A), to(receiver, MTU_OVERLAY + 1));
        case.tells(entry, DropReason::TooBig, (Device::A, Delivery::Device), told)
    };
    let case = tells(lan.begin("what_an_overlay_does_not_carry_is_told_of", version), &D).no_flows();
    let case = goes(case, from(&A), &to(&D, MTU_OVERLAY), PEER);
    // A flow that is there does not let it through either.
    let case = tells(case, &D);
    let case = goes(case, from(&A).in_segments_of(1000), &to(&D, 3000), PEER);
    let unknown = lan.begin("what_an_overlay_does_not_carry_is_told_of_whoever_it_is_for", version);
    let unknown = tells(unknown, &R).no_flows();
    let unknown = goes_to_all(unknown, from(&A), &to(&R, MTU_OVERLAY));
    let local = lan.begin("who_is_here_is_sent_longer_packets_than_an_overlay_carries", version).switches(
        from(&A),
        to(&T, MTU_OVERLAY + 50),
        &T,
    );
    vec![case, unknown, local]
}

fn many(lan: Lan, version: Version) -> Vec<Case> {
    let group: IpAddr = if version == Version::V4 { STREAM } else { MDNS_V6 };
    let of = |sender: &Party| multicast_from(sender, sender.addr(version), group, (1, 5000));
    let sent = lan
        .begin("what_is_for_many_goes_to_all_peers", version)
        .passes(from(&A), of(&A))
        .copied(to_all(&of(&A)))
        .passes(host(&G), of(&G))
        .copied(to_all(&of(&G)));
    let heard = lan
        .begin("what_a_peer_sends_to_many_goes_to_no_other_peer", version)
        .model_only()
        .sends(by(PEER), of(&R), (Device::W, Delivery::Flood), of(&R))
        .copied(vec![Sent::up(Device::W, of(&R))]);
    vec![sent.no_flows(), heard.no_flows()]
}

fn neighbours(lan: Lan, version: Version) -> Vec<Case> {
    let is_at =
        |owner: &Party, asker: &Party| arp(asker.mac, REPLY, (owner.mac, owner.v4), (asker.mac, asker.v4));
    let where_is = |asker: &Party, owner: &Party| {
        solicit(asker, asker.v6, owner.v6, &[(SOURCE_LINK, asker.mac.0)]).frame()
    };
    let tells = |owner: &Party| announce(owner, owner.v6, owner.v6, &[(TARGET_LINK, owner.mac.0)]).frame();
    let (asks, answer, asked, told, own, lie) = match version {
        Version::V4 => (
            who_has(&R, A.v4),
            is_at(&A, &R),
            who_has(&A, R.v4),
            is_at(&R, &A),
            gratuitous_arp(&R),
            arp(MacAddr::BROADCAST, REPLY, (R.mac, A.v4), (NO_MAC, A.v4)),
        ),
        Version::V6 => (
            where_is(&R, &A),
            advert(&A, &R, (R.v6, A.v6), true),
            where_is(&A, &R),
            [&A.mac.0[..], &tells(&R)[6..]].concat(),
            tells(&R),
            announce(&R, R.v6, A.v6, &[]).frame(),
        ),
    };
    let reason = match version {
        Version::V4 => DropReason::SpoofedArp,
        Version::V6 => DropReason::SpoofedNeighbour,
    };
    let case = lan.begin("a_peers_question_is_answered_to_that_peer", version).model_only();
    let case = case.sends(by(OTHER_PEER), asks, TO_K, answer).into(OTHER_PEER).drops(by(PEER), lie, reason);
    let case = goes_to_all(case, from(&A), &asked);
    let talk = Talk::new(version, A, R, 80);
    let answers = lan.begin("who_has_answered_is_reached_by_that_peer", version).model_only();
    let answers = comes(goes_to_all(answers, from(&A), &asked), PEER, &told, &A);
    let answers = goes(answers, from(&A), &talk.syn(), PEER);
    let announced = lan
        .begin("who_has_announced_itself_is_reached_by_that_peer", version)
        .model_only()
        .sends(by(OTHER_PEER), own.clone(), (Device::W, Delivery::Flood), own.clone())
        .copied(vec![Sent::up(Device::W, own)]);
    let announced = goes(announced, from(&A), &talk.syn(), OTHER_PEER);
    vec![case, answers, announced]
}
