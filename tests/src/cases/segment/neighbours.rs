//! ARP and neighbour discovery with those beyond: vnet answers for who is here, and lets nobody claim to be one of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_common::{DropReason, MacAddr};

use super::{BRIDGED_LANS, LANS, Lan, ROUTED_LANS, WITH_D};
use crate::cases::{
    frame::{ICMPV6, carried, icmp, packet_with_ttl},
    neighbours::{
        ALL_NODES, Message, NO_ADDR, NO_ADDR_V6, NO_MAC, REPLY, REQUEST, SOURCE_LINK, TARGET_LINK, advert,
        announce, arp, back_to, gratuitous_arp, group_mac, solicit, who_has,
    },
    step::{Case, from, host},
    world::{
        A, B, G, Party, Version,
        segment::{D, R},
    },
};

const V4: Version = Version::V4;
const V6: Version = Version::V6;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;

pub(super) fn cases() -> Vec<Case> {
    let of_all = LANS.iter().flat_map(|lan| [asked(*lan), lies(*lan), told(*lan), asks(*lan)].concat());
    let of_routed = ROUTED_LANS.iter().flat_map(|lan| [gateway(*lan), from_the_host(*lan)].concat());
    let of_bridged = BRIDGED_LANS.iter().flat_map(|lan| bridged(*lan));
    of_all.chain(of_routed).chain(of_bridged).chain(remote(WITH_D)).collect()
}

/// An answer to `asker`: `owner` is at its own MAC.
fn is_at(owner: &Party, asker: &Party) -> Vec<u8> {
    arp(asker.mac, REPLY, (owner.mac, owner.v4), (asker.mac, asker.v4))
}

/// A question of `asker` for `target`, with its own MAC.
fn where_is(asker: &Party, target: Ipv6Addr) -> Vec<u8> {
    solicit(asker, asker.v6, target, &[(SOURCE_LINK, asker.mac.0)]).frame()
}

/// The unicast answer of `owner` to `asker`.
fn here_is(owner: &Party, asker: &Party) -> Vec<u8> {
    let own = [(TARGET_LINK, owner.mac.0)];
    let message = announce(owner, owner.v6, owner.v6, &own);
    Message { eth: (owner.mac, asker.mac), dst: asker.v6, flags: 0x60, ..message }.frame()
}

fn announced(party: &Party) -> Vec<u8> {
    announce(party, party.v6, party.v6, &[(TARGET_LINK, party.mac.0)]).frame()
}

/// An ICMPv6 message of routers from `src`'s link-local address to all nodes.
fn of_router(src: &Party, kind: u8) -> Vec<u8> {
    let body = icmp((kind, 0), [64, 0, 0, 0], &[0; 32]);
    let packet = packet_with_ttl(255, src.link_local().into(), ALL_NODES.into(), ICMPV6, &body);
    carried(src.mac, group_mac(ALL_NODES), &packet)
}

fn asked(lan: Lan) -> Vec<Case> {
    let case = lan.begin("arp_from_beyond_for_a_port_is_answered", V4);
    let case = lan.answers(case, &who_has(&R, A.v4), &is_at(&A, &R));
    // To make sure that it is still there.
    let unicast = arp(A.mac, REQUEST, (R.mac, R.v4), (NO_MAC, A.v4));
    let case = lan.answers(case, &unicast, &is_at(&A, &R));
    let probe = arp(MacAddr::BROADCAST, REQUEST, (R.mac, NO_ADDR), (NO_MAC, A.v4));
    let defence = arp(R.mac, REPLY, (A.mac, A.v4), (R.mac, NO_ADDR));
    let probed = lan.begin("a_probe_from_beyond_for_a_ports_address_is_answered", V4);
    let probed = lan.answers(probed, &probe, &defence);
    let discovered = lan.begin("discovery_from_beyond_of_a_port_is_answered", V6);
    let discovered = lan.answers(discovered, &where_is(&R, A.v6), &advert(&A, &R, (R.v6, A.v6), true));
    let local = solicit(&R, R.link_local(), A.link_local(), &[(SOURCE_LINK, R.mac.0)]).frame();
    let discovered = lan.answers(discovered, &local, &advert(&A, &R, (R.link_local(), A.link_local()), true));
    vec![case, probed, discovered]
}

fn gateway(lan: Lan) -> Vec<Case> {
    let case = lan.begin("arp_from_beyond_for_the_gateway_is_answered", V4);
    let case = lan.answers(case, &who_has(&R, G.v4), &is_at(&G, &R));
    let discovered = lan.begin("discovery_from_beyond_of_the_gateway_is_answered", V6);
    let discovered = lan.answers(discovered, &where_is(&R, G.v6), &advert(&G, &R, (R.v6, G.v6), true));
    let unknown = lan.begin("a_question_from_beyond_for_nobody_here_goes_nowhere", V4);
    let unknown =
        lan.refuses(unknown, &who_has(&R, Ipv4Addr::new(10, 0, 0, 99)), DropReason::UnknownNeighbour);
    let nobody = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99);
    let unknown = lan.refuses(unknown, &where_is(&R, nobody), DropReason::UnknownNeighbour);
    let routers = lan.begin("a_router_from_beyond_is_not_listened_to", V6);
    let routers = lan.refuses(routers, &of_router(&R, ROUTER_ADVERTISEMENT), DropReason::RouterAdvertisement);
    let routers = lan.refuses(routers, &of_router(&R, REDIRECT), DropReason::RouterAdvertisement);
    let own = lan.begin("what_a_port_tells_the_gateway_alone_goes_to_the_host", V4);
    let own = own.switches(from(&A), is_at(&A, &G), &G).switches(from(&A), here_is(&A, &G), &G);
    vec![case, discovered, unknown, routers, own]
}

fn bridged(lan: Lan) -> Vec<Case> {
    let unknown = lan.begin("a_question_from_a_lan_for_nobody_known_is_flooded", V4);
    let unknown = lan.floods(unknown, &who_has(&R, Ipv4Addr::new(10, 0, 0, 99)));
    let unknown = lan.floods(unknown, &where_is(&R, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99)));
    let routers = lan.begin("the_routers_of_a_lan_are_listened_to", V6);
    let routers = lan.floods(routers, &of_router(&R, ROUTER_ADVERTISEMENT));
    let redirect = of_router(&R, REDIRECT);
    vec![unknown, lan.floods(routers, &redirect)]
}

fn lies(lan: Lan) -> Vec<Case> {
    let claim = |operation, mac, addr| {
        let mut frame = arp(MacAddr::BROADCAST, operation, (mac, addr), (NO_MAC, addr));
        frame[6..12].copy_from_slice(&R.mac.0);
        frame
    };
    let mut case = lan.begin("arp_from_beyond_does_not_claim_who_is_here", V4);
    for operation in [REQUEST, REPLY] {
        case = lan.refuses_many(case, &claim(operation, R.mac, A.v4), DropReason::SpoofedArp);
        case = lan.refuses_many(case, &claim(operation, A.mac, R.v4), DropReason::SpoofedArp);
        if !lan.is_bridged() {
            case = lan.refuses_many(case, &claim(operation, R.mac, G.v4), DropReason::SpoofedArp);
        }
    }
    // To one of the ports only.
    let aimed = arp(B.mac, REPLY, (R.mac, A.v4), (B.mac, B.v4));
    let case = lan.refuses(case, &aimed, DropReason::SpoofedArp);
    let case = lan.refuses_many(case, &gratuitous_arp(&A), DropReason::SpoofedMac);
    let others = [(TARGET_LINK, A.mac.0)];
    let own = [(TARGET_LINK, R.mac.0)];
    let spoofed = lan.begin("discovery_from_beyond_does_not_claim_who_is_here", V6);
    let spoofed =
        lan.refuses_many(spoofed, &announce(&R, R.v6, A.v6, &own).frame(), DropReason::SpoofedNeighbour);
    let spoofed =
        lan.refuses_many(spoofed, &announce(&R, A.v6, A.v6, &own).frame(), DropReason::SpoofedNeighbour);
    let spoofed =
        lan.refuses_many(spoofed, &announce(&R, R.v6, R.v6, &others).frame(), DropReason::SpoofedNeighbour);
    let question = solicit(&R, A.v6, B.v6, &[(SOURCE_LINK, R.mac.0)]).frame();
    let spoofed = lan.refuses_many(spoofed, &question, DropReason::SpoofedNeighbour);
    let question = solicit(&R, R.v6, B.v6, &[(SOURCE_LINK, A.mac.0)]).frame();
    let spoofed = lan.refuses_many(spoofed, &question, DropReason::SpoofedNeighbour);
    let spoofed = lan.refuses_many(spoofed, &announced(&A), DropReason::SpoofedMac);
    let spoofed = if lan.is_bridged() {
        spoofed
    } else {
        lan.refuses_many(spoofed, &announce(&R, R.v6, G.v6, &own).frame(), DropReason::SpoofedNeighbour)
    };
    vec![case, spoofed]
}

fn told(lan: Lan) -> Vec<Case> {
    let case = lan.begin("what_a_station_tells_of_itself_is_heard_by_all", V4);
    let case = lan.floods(case, &gratuitous_arp(&R));
    let case = lan.floods(case, &arp(MacAddr::BROADCAST, REPLY, (R.mac, R.v4), (R.mac, R.v4)));
    let case = lan.floods(case, &announced(&R));
    let answers = lan.begin("a_stations_answer_is_heard_by_who_asked", V4);
    let answers = lan.comes(answers, &is_at(&R, &A), &A);
    let answers = lan.comes(answers, &here_is(&R, &A), &A);
    let routed = Message { hop_limit: 254, ..announce(&R, R.v6, R.v6, &[(TARGET_LINK, R.mac.0)]) }.frame();
    let malformed = lan.begin("a_neighbour_message_from_beyond_that_was_routed_is_malformed", V6);
    let malformed = lan.refuses_many(malformed, &routed, DropReason::MalformedHeader);
    vec![case, answers, malformed]
}

fn asks(lan: Lan) -> Vec<Case> {
    let case = lan.begin("a_question_for_who_is_not_known_goes_beyond", V4);
    let case = lan.asks(case, from(&A), &who_has(&A, R.v4));
    let case = lan.asks(case, from(&A), &where_is(&A, R.v6));
    // To make sure that it is still there.
    let case = lan.asks(case, from(&A), &arp(R.mac, REQUEST, (A.mac, A.v4), (NO_MAC, R.v4)));
    let unicast = Message { eth: (A.mac, R.mac), dst: R.v6, ..solicit(&A, A.v6, R.v6, &[]) }.frame();
    let case = lan.asks(case, from(&A), &unicast);
    let here = lan.begin("a_question_for_who_is_here_stays_here", V4);
    let here = here.sends(from(&A), who_has(&A, B.v4), back_to(&A), is_at(&B, &A)).sends(
        from(&A),
        where_is(&A, B.v6),
        back_to(&A),
        advert(&B, &A, (A.v6, B.v6), true),
    );
    let lies = lan
        .begin("a_port_does_not_lie_to_who_is_beyond", V4)
        .drops(from(&A), arp(R.mac, REPLY, (A.mac, B.v4), (R.mac, R.v4)), DropReason::SpoofedArp)
        .drops(from(&A), arp(R.mac, REPLY, (A.mac, R.v4), (R.mac, R.v4)), DropReason::SpoofedArp)
        .drops(from(&A), announce(&A, A.v6, R.v6, &[]).frame(), DropReason::SpoofedNeighbour)
        .drops(from(&A), of_router(&A, ROUTER_ADVERTISEMENT), DropReason::RouterAdvertisement);
    let own = lan.begin("what_a_port_tells_of_itself_goes_to_the_host_and_beyond", V4);
    let own = lan.tells(own, from(&A), &gratuitous_arp(&A));
    let own = lan.tells(own, from(&A), &announced(&A));
    let probe = arp(MacAddr::BROADCAST, REQUEST, (A.mac, NO_ADDR), (NO_MAC, A.v4));
    let own = lan.tells(own, from(&A), &probe);
    let own = lan.tells(own, from(&A), &solicit(&A, NO_ADDR_V6, A.v6, &[]).frame());
    let answered = lan.begin("a_ports_answer_goes_beyond_to_who_asked", V4);
    let answered = lan.asks(answered, from(&A), &is_at(&A, &R));
    let answered = lan.asks(answered, from(&A), &here_is(&A, &R));
    let others = arp(MacAddr::BROADCAST, REQUEST, (A.mac, NO_ADDR), (NO_MAC, R.v4));
    let probes = lan.begin("a_ports_probe_for_an_address_that_may_be_beyond_goes_there", V4);
    let probes = lan.asks(probes, from(&A), &others);
    vec![case, here, lies, own, answered, probes]
}

fn from_the_host(lan: Lan) -> Vec<Case> {
    let case = lan.begin("a_question_of_the_hosts_for_who_is_not_known_goes_beyond", V4);
    let case = lan.asks(case, host(&G), &who_has(&G, R.v4));
    let case = lan.asks(case, host(&G), &where_is(&G, R.v6));
    let case = lan.comes(case, &is_at(&R, &G), &G);
    let case = lan.comes(case, &here_is(&R, &G), &G);
    let own = lan.begin("what_the_host_tells_of_itself_is_heard_by_all_here_and_beyond", V4);
    let own = lan.spreads(own, host(&G), &gratuitous_arp(&G));
    let own = lan.spreads(own, host(&G), &announced(&G));
    let here = lan.begin("a_question_of_the_hosts_for_a_port_is_answered", V4);
    let here = here.sends(host(&G), who_has(&G, A.v4), back_to(&G), is_at(&A, &G));
    vec![case, own, here]
}

fn remote(lan: Lan) -> Vec<Case> {
    let case = lan.begin("a_question_for_a_remote_port_is_answered_at_once", V4);
    let case = case
        .sends(from(&A), who_has(&A, D.v4), back_to(&A), is_at(&D, &A))
        .sends(from(&A), where_is(&A, D.v6), back_to(&A), advert(&D, &A, (A.v6, D.v6), true))
        .sends(host(&G), who_has(&G, D.v4), back_to(&G), is_at(&D, &G));
    let claims = lan.begin("a_remote_port_is_not_claimed_by_others", V4);
    let claim = arp(MacAddr::BROADCAST, REPLY, (R.mac, D.v4), (NO_MAC, D.v4));
    let claims = lan.refuses(claims, &claim, DropReason::SpoofedArp);
    let claim = announce(&R, R.v6, D.v6, &[(TARGET_LINK, R.mac.0)]).frame();
    let claims = lan.refuses(claims, &claim, DropReason::SpoofedNeighbour);
    let claims = lan.floods(claims, &gratuitous_arp(&D));
    let others = lan.begin("a_question_from_beyond_for_a_remote_port_is_not_answered", V4);
    let others = lan.refuses(others, &who_has(&R, D.v4), DropReason::UnknownNeighbour);
    vec![case, claims, others]
}
