//! Which source port a workload's packets leave with: kept, replaced, the same for everybody, or none left (RFC 4787
//! REQ-1 to REQ-3, RFC 5508 REQ-8).

use vnet_common::DropReason;

use super::{
    frame::{ACK, RST, SYN, SYN_ACK},
    nat::{Translated as _, received, sent, way},
    step::{Case, from, outside},
    world::{C, O, PORTS, Policy, U, Version},
};

pub(super) fn cases() -> Vec<Case> {
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

fn of_version(version: Version) -> Vec<Case> {
    let name = |name: &str| format!("{name} ({version:?})");
    let begin = |text: &str| Case::new(name(text)).commit(Policy::Nat);
    let (first, last) = PORTS;
    let independent = |text: &str| Case::new(name(text)).commit(Policy::NatIndependent);
    let to = |service, port| way(version, (C, port), (O, service));
    let seen_by = |service, port| way(version, (U, port), (O, service));
    // Where the search for another port than its own begins depends on the workload.
    let digest = C.mac.link_local().digest();
    let place = |port: u16, attempt: u32| {
        first + (digest.wrapping_add(u32::from(port)).wrapping_add(attempt) % 10) as u16
    };
    let tcp_port = place(50_001, 0);
    let ask = |port| way(version, (C, port), (O, 53));
    let seen = |port| way(version, (U, port), (O, 53));
    // All but the first port of the pool are taken by flows that keep theirs.
    let full =
        |case: Case| (first..=last).fold(case, |case, port| case.leaves(&ask(port).udp(), &seen(port).udp()));
    let almost_full = |case: Case| {
        (first + 1..=last).fold(case, |case, port| case.leaves(&ask(port).udp(), &seen(port).udp()))
    };
    let closed = |case: Case| {
        case.leaves(&ask(first).tcp(SYN, 100, 0), &seen(first).tcp(SYN, 100, 0))
            .enters(&seen(first).back().tcp(RST | ACK, 0, 101), &ask(first).back().tcp(RST | ACK, 0, 101))
    };
    let others = |case: Case| {
        (first + 1..=last)
            .fold(case, |case, port| case.leaves(&ask(port).tcp(SYN, 100, 0), &seen(port).tcp(SYN, 100, 0)))
    };
    // Where C's port is taken, it looks elsewhere than others of the same port would.
    let taken = place(50_000, 0);
    let other = (1..).map(|attempt| place(taken, attempt)).find(|port| *port != taken).expect("another");
    vec![
        begin("a_port_that_is_taken_gives_way_to_one_that_differs_for_each_workload")
            .leaves(&ask(50_000).udp(), &seen(taken).udp())
            .leaves(&ask(taken).udp(), &seen(other).udp())
            .enters(&seen(other).back().udp(), &ask(taken).back().udp()),
        almost_full(begin("a_port_that_is_not_in_the_pool_gets_one_that_is_free"))
            .leaves(&ask(50_000).udp(), &seen(first).udp())
            .enters(&seen(first).back().udp(), &ask(50_000).back().udp()),
        full(begin("an_exhausted_pool_refuses_and_the_others_go_on"))
            .drops(from(&C), sent(&ask(50_000).udp()), DropReason::PortsExhausted)
            .flows("nothing is left of the refused one", |flows| flows.len() == 20)
            .enters(&seen(last).back().udp(), &ask(last).back().udp())
            // Another destination has all of the pool.
            .leaves(&way(version, (C, first), (O, 54)).udp(), &way(version, (U, first), (O, 54)).udp()),
        almost_full(independent("a_port_becomes_the_same_one_whoever_is_spoken_to"))
            .leaves(&ask(50_000).udp(), &seen(first).udp())
            .leaves(&to(54, 50_000).udp(), &seen_by(54, first).udp())
            .enters(&seen_by(54, first).back().udp(), &to(54, 50_000).back().udp())
            .leaves(&to(55, last).udp(), &seen_by(55, last).udp())
            // Every port of the pool is somebody's, whoever they speak to.
            .drops(from(&C), sent(&to(54, 50_001).udp()), DropReason::PortsExhausted)
            // TCP has ports of its own.
            .leaves(&to(54, 50_001).tcp(SYN, 1, 0), &seen_by(54, tcp_port).tcp(SYN, 1, 0))
            .leaves(&to(55, 50_001).tcp(SYN, 1, 0), &seen_by(55, tcp_port).tcp(SYN, 1, 0)),
        independent("who_was_not_asked_is_not_let_in_by_a_mapping")
            .leaves(&ask(first).udp(), &seen(first).udp())
            .passes(outside(), received(&seen_by(54, first).back().udp())),
        others(closed(begin("the_port_of_a_flow_that_has_ended_is_free")))
            .leaves(&ask(50_000).tcp(SYN, 300, 0), &seen(first).tcp(SYN, 300, 0))
            .enters(&seen(first).back().tcp(SYN_ACK, 900, 301), &ask(50_000).back().tcp(SYN_ACK, 900, 301))
            // The flow that had it knows nothing of the new one.
            .drops(from(&C), sent(&ask(first).tcp(ACK, 101, 1)), DropReason::NoFlow),
    ]
}
