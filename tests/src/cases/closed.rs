//! What comes from outside and is not admitted: it may be dropped before there is a socket buffer.

use vnet_common::DropReason;

use super::{
    frame::{ACK, SYN, SYN_ACK},
    nat::{Translated as _, Way, received, way, with_ttl},
    step::{Case, Step, outside},
    world::{C, ELASTIC, O, Policy, U, Version},
};

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

fn of_version(version: Version) -> Vec<Case> {
    let begin = |text: &str, policy: Policy| {
        Case::new(format!("{text} ({version:?})")).commit(policy).then(Step::Tick)
    };
    let (web, dns) = (way(version, (O, 7000), (U, 8080)), way(version, (O, 7000), (U, 5000)));
    let again = way(version, (O, 7001), (U, 8080));
    // A source port that the network leaves with.
    let (asked, asked_out) = (way(version, (C, 1030), (O, 53)), way(version, (U, 1030), (O, 53)));
    let (open, open_in) = (way(version, (O, 7000), (U, 8080)), way(version, (O, 7000), (C, 80)));
    let refused = |case: Case, packet: &[u8]| {
        case.drops(outside(), received(packet), DropReason::IngressDenied).drops(
            outside(),
            received(packet),
            DropReason::IngressDenied,
        )
    };
    let syn = |of: &Way| of.tcp(SYN, 100, 0);
    let closed = |text: &str| begin(text, Policy::NatClosed);
    vec![
        refused(refused(closed("connections_that_are_not_admitted_are_refused"), &syn(&web)), &syn(&again))
            .no_flows(),
        refused(closed("so_is_the_rest_once_and_again"), &dns.udp()).no_flows(),
        refused(closed("who_is_refused_is_let_in_by_the_next_policy"), &syn(&open))
            .commit(Policy::Nat)
            .enters(&syn(&open), &syn(&open_in))
            .leaves(&open_in.back().tcp(SYN_ACK, 500, 101), &open.back().tcp(SYN_ACK, 500, 101)),
        closed("what_is_asked_for_is_no_newcomer")
            .leaves(&asked.udp(), &asked_out.udp())
            .enters(&asked_out.back().udp(), &asked.back().udp())
            .leaves(&syn(&asked), &syn(&asked_out))
            .enters(&asked_out.back().tcp(SYN_ACK, 500, 101), &asked.back().tcp(SYN_ACK, 500, 101)),
        closed("a_host_is_asked_whatever_it_has_no_forward_for")
            .passes(outside(), received(&syn(&way(version, (O, 7000), (U, 22)))))
            .passes(outside(), received(&web.tcp(ACK, 100, 1))),
        closed("what_goes_no_further_is_refused_all_the_same").drops(
            outside(),
            received(&with_ttl(&syn(&web), 1)),
            DropReason::IngressDenied,
        ),
        begin("an_elastic_ip_lets_connections_in", Policy::Elastic)
            .enters(&syn(&way(version, (O, 7000), (ELASTIC, 22))), &syn(&way(version, (O, 7000), (C, 22)))),
    ]
}
