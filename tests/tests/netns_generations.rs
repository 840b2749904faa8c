//! A packet sees exactly one policy, whole, however fast policies follow one another.
//!
//! Under A the sender's egress admits X and the receiver's ingress refuses it; under B it is the
//! other way round. A packet that saw half of each would arrive.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use vnet_common::DropReason;
use vnet_tests::{
    World,
    api::Api,
    eventually,
    soak::size,
    stream::{Stream, StreamReport},
};

/// X is UDP to this port.
const X: &str = "10.10.0.11:7001";
/// Y is UDP to this port; every policy here allows it.
const Y: &str = "10.10.0.11:7002";

/// A policy whose sender may send to `egress` and whose receiver may be reached at `ingress`.
fn policy(egress: &str, ingress: &str) -> String {
    format!(
        r#"
version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]

[security_groups.sender]
egress = [{{ protocol = "udp", ports = [{egress}], to = ["any"] }}]

[security_groups.receiver]
ingress = [{{ protocol = "udp", ports = [{ingress}], from = ["any"] }}]

[ports.a]
network = "web"
addresses = ["10.10.0.10"]
security_groups = ["sender"]
attach = {{ netns = "@a", create = true }}

[ports.b]
network = "web"
addresses = ["10.10.0.11"]
security_groups = ["receiver"]
attach = {{ netns = "@b", create = true }}
"#
    )
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("ADDRESS:PORT")
}

fn stream(world: &World, to: &str, per_second: u32) -> Stream {
    Stream::start(&world.port("a"), &world.port("b"), address(to), per_second)
}

/// Puts `texts` in force in turn for `time`, `most` times at most; gives how often, and the slowest.
fn alternate(api: &mut Api, texts: &[String; 2], time: Duration, most: u32) -> (u32, Duration) {
    let begin = Instant::now();
    let (mut changes, mut slowest) = (0, Duration::ZERO);
    while begin.elapsed() < time && changes < most {
        let change = Instant::now();
        let _ = api.apply(&texts[changes as usize % 2]).ok();
        slowest = slowest.max(change.elapsed());
        changes += 1;
    }
    (changes, slowest)
}

fn tell(name: &str, report: &StreamReport) {
    println!("{name}: {:.0} packets/s, {} lost, {report:?}", report.rate(), report.lost());
}

/// The texts of two policies with the world's own names of namespaces.
fn texts(world: &World, policies: [String; 2]) -> [String; 2] {
    policies.map(|policy| policy.replace('@', &world.netns_name("")))
}

#[test]
fn no_packet_passes_between_two_policies_that_both_refuse_it() {
    let both = policy("7001, 7002", "7001, 7002");
    let world = World::running(&both);
    let [a, b] = texts(&world, [policy("7001, 7002", "7002"), policy("7002", "7001, 7002")]);
    let mut api = world.api();

    // The way is open in principle: what refuses X later is the policy.
    let x = stream(&world, X, 1000);
    eventually("X to arrive while both ends allow it", || (x.received() > 0).then_some(()));
    let _ = x.finish();
    let _ = api.apply(&a).ok();

    let rate = size(20_000, 100_000);
    let (x, y) = (stream(&world, X, rate), stream(&world, Y, rate));
    eventually("Y to flow", || (y.received() > 0).then_some(()));
    let time = size(Duration::from_secs(10), Duration::from_secs(60));
    let begin = Instant::now();
    let (changes, slowest) = alternate(&mut api, &[b, a], time, 10_000);
    let took = begin.elapsed();
    let (x, y) = (x.finish(), y.finish());

    println!("{changes} changes in {took:.1?}, the slowest took {slowest:.1?}");
    tell("X", &x);
    tell("Y", &y);
    assert_eq!(x.received + x.overflowed, 0, "X arrived: {x:?}");
    assert!(x.sent > 1000 && y.received > 1000, "the streams ran: {x:?} {y:?}");
    assert_eq!((y.lost(), y.duplicates), (0, 0), "Y lost packets: {y:?}");
    assert!(changes > 50, "only {changes} changes in {took:?}");
    assert!(world.drops(DropReason::EgressDenied) > 0 && world.drops(DropReason::IngressDenied) > 0);
}

#[test]
fn a_policy_that_is_refused_under_load_changes_nothing() {
    let world = World::running(&policy("7002", "7002"));
    let mut api = world.api();
    let y = stream(&world, Y, 5000);
    let generation = api.get("/v1/status").ok().json()["generation"].clone();
    for (wrong, words) in [("700001", ["700001", "65535"]), ("\"x\"", ["policy.toml:", "x"])] {
        for _ in 0..10 {
            let _ = api.apply(&policy("7001, 7002", wrong)).refused(422, &words);
        }
    }
    assert_eq!(api.get("/v1/status").ok().json()["generation"], generation);
    let y = y.finish();
    assert_eq!(y.lost(), 0, "{y:?}");
}

#[test]
fn a_flow_is_judged_again_once_under_a_new_policy() {
    let world = World::running(&policy("7001, 7002", "7001, 7002"));
    let x = stream(&world, X, 1000);
    eventually("X to arrive", || (x.received() > 100).then_some(()));
    let [narrow] = [policy("7001, 7002", "7002")].map(|text| text.replace('@', &world.netns_name("")));
    let _ = world.api().apply(&narrow).ok();
    // What was on its way when the policy changed has arrived once as much again has been sent.
    let sent = x.sent();
    eventually("packets to be on their way", || (x.sent() > sent + 10).then_some(()));
    let before = x.received();
    eventually("more packets to be sent", || (x.sent() > sent + 500).then_some(()));
    let x_report = x.finish();
    assert_eq!(x_report.received, before, "the established flow was cut: {x_report:?}");
    let flows = world.api().get("/v1/flows").ok().json();
    let of_x = flows.as_array().expect("flows").iter().filter(|flow| flow["dst_port"] == 7001);
    assert!(of_x.clone().all(|flow| flow["state"] == "closed"), "it has ended: {flows}");
    assert!(world.port_drops("a", DropReason::IngressDenied) > 0, "and what followed was counted");
}
