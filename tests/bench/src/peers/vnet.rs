//! vnet itself: the real daemon, with a policy file, on the same veths.

use std::{fmt::Write as _, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use vnet_tests::{World, pair};

use crate::{
    load::{CONNECTIONS, MANY, REQUESTS, STREAM, UDP},
    peers::{
        Counter, Group, Peer, Ready,
        rules::{COUNTS, decoys, thousands},
    },
    place::{Ends, MAC_A, MAC_B, Place},
    shell::sh,
};

/// A and B in one network.
pub(super) fn switched() -> Peer {
    let what = "vnet, one private network; stateful groups, one rule for each port that is measured";
    Peer::new(Group::Paths, "vnet", what, Box::new(|| start(&in_one_network(0), Place::one_subnet)))
        .beside(&["bridge", "bridge + docker", "routed + docker"])
}

/// A and B in two joined networks.
pub(super) fn routed() -> Peer {
    let what = "vnet, two private networks joined by `connect`; the same groups";
    let set_up = || start(&in_two_networks(), Place::two_subnets);
    Peer::new(Group::Paths, "vnet routed", what, Box::new(set_up))
}

/// As [`switched`], with room for as many flows.
pub(super) fn with_room(flows: u32) -> Peer {
    let set_up = move || {
        let place = Place::new(&in_one_network(0))?;
        let ends = place.one_subnet()?;
        run_with_room(place, ends, flows)
    };
    Peer { set_up: Box::new(set_up), beside: Vec::new(), ..switched() }
}

/// As [`switched`], with more and more rules that match nothing.
pub(super) fn with_rules() -> Vec<Peer> {
    let peer = |count| {
        let set_up = move || {
            let mut ready = start(&in_one_network(0), Place::one_subnet)?;
            let Some(place) = ready.place.downcast_mut::<Place>() else { bail!("vnet has a place") };
            let policy = in_one_network(count);
            let mut api = place.world().api();
            let begin = Instant::now();
            let applied = api.apply(&policy);
            ready.applied_s = Some(begin.elapsed().as_secs_f64());
            let _ = applied.ok();
            Ok(ready)
        };
        let what = format!("vnet, {count} rules in the server's group");
        let name = format!("vnet {}", thousands(count));
        let beside: &[_] = match count {
            10_000 => &["iptables 10k", "vnet 1"],
            100_000 => &["nft set 100k", "nft set stateful 100k", "vnet 1"],
            _ => &[],
        };
        Peer::new(Group::Rules, name, what, Box::new(set_up)).with_rules("vnet", count).beside(beside)
    };
    COUNTS.map(peer).into()
}

/// Starts the daemon, and waits until the policy is in force.
pub(super) fn start(policy: &str, address: fn(&Place) -> Result<Ends>) -> Result<Ready> {
    let place = Place::new(policy)?;
    let ends = address(&place)?;
    run(place, ends)
}

/// Starts the daemon of each host in a place that is ready for it.
pub(super) fn run(mut place: Place, ends: Ends) -> Result<Ready> {
    pair::start(place.hosts());
    at_work(place, ends)
}

/// Starts the daemon of the only host in a place that is ready for it, with room for as many flows.
pub(super) fn run_with_room(mut place: Place, ends: Ends, flows: u32) -> Result<Ready> {
    place.world_mut().start(&["--flows", &flows.to_string()]);
    at_work(place, ends)
}

/// A place whose daemons run.
fn at_work(mut place: Place, ends: Ends) -> Result<Ready> {
    let counters: Vec<Counter> = place.hosts().map(|world| counter(world)).collect();
    // Each of them has to be at work.
    let counted = move || {
        let counts: Vec<u64> = counters.iter().map(|counted| counted()).collect::<Result<_>>()?;
        counts.into_iter().min().context("a host")
    };
    Ok(Ready { counted: Some(Box::new(counted)), filters: true, ..Ready::without_rules(place, ends) })
}

/// The packets of all flows that the daemon of `world` knows.
fn counter(world: &World) -> Counter {
    let asked = question(world, "flows list");
    Box::new(move || packets(&asked()?))
}

/// How many flows the daemon in S knows.
pub(super) fn flows(place: &Place) -> Result<Counter> {
    let asked = question(place.world(), "status");
    Ok(Box::new(move || asked()?["flows"]["v4"].as_u64().context("a number of flows")))
}

/// How many packets the daemon in S knows to have been dropped.
pub(super) fn drops(place: &Place) -> Counter {
    let asked = question(place.world(), "drops");
    Box::new(move || {
        let drops = asked()?;
        let total = drops["total"].as_array().context("drops are a list")?;
        total.iter().map(|row| row["packets"].as_u64().context("packets")).sum()
    })
}

/// Asks the daemon of `world` by a command of `vnet-ctl`.
fn question(world: &World, command: &str) -> impl Fn() -> Result<serde_json::Value> + use<> {
    let host = world.host().clone();
    let (program, socket) = (vnet_tests::binary::vnet_ctl().display(), world.socket());
    let script = format!("{program} --socket {} -o json {command}", socket.display());
    move || serde_json::from_str(&sh(&host, &script)?).with_context(|| format!("read {script}"))
}

/// The packets of all flows, both directions.
fn packets(flows: &serde_json::Value) -> Result<u64> {
    let flows = flows.as_array().context("flows are a list")?;
    ensure!(!flows.is_empty(), "vnet knows no flow");
    let sum = |flow: &serde_json::Value| -> u64 {
        ["original", "reply"].iter().filter_map(|way| flow[way]["packets"].as_u64()).sum()
    };
    Ok(flows.iter().map(sum).sum())
}

/// Groups of client and server: the client may ask anything and is asked nothing.
pub(super) fn groups(decoys: &str) -> String {
    let tcp = [REQUESTS, CONNECTIONS, STREAM].map(|port| port.to_string()).join(", ");
    let many = format!("\"{}-{}\"", MANY.start(), MANY.end());
    format!(
        "[security_groups.client]\ningress = []\n\n[security_groups.server]\ningress = [\n{decoys}  \
         {{ protocol = \"tcp\", ports = [{tcp}], from = [\"any\"] }},\n  \
         {{ protocol = \"udp\", ports = [{UDP}, {many}], from = [\"any\"] }},\n]\negress = []\n\n"
    )
}

/// A port on a device that is there.
pub(super) fn port(name: &str, who: (&str, &str, &str), device: &str) -> String {
    port_at(name, who, &format!("{{ device = \"{device}\" }}"))
}

/// A port: its network, address and MAC, and what it is attached to.
pub(super) fn port_at(name: &str, (network, address, mac): (&str, &str, &str), attach: &str) -> String {
    let group = if name == "b" { "server" } else { "client" };
    format!(
        "[ports.{name}]\nnetwork = \"{network}\"\naddresses = [\"{address}\"]\nmac = \"{mac}\"\n\
         security_groups = [\"{group}\"]\nattach = {attach}\n\n"
    )
}

fn in_one_network(rules: u32) -> String {
    let mut text =
        "version = 1\n\n[networks.one]\ntype = \"private\"\nsubnets = [\"10.1.0.0/24\"]\n\n".to_owned();
    let mut list = String::new();
    for (address, port) in decoys(rules) {
        let _ = writeln!(list, "  {{ protocol = \"udp\", ports = [{port}], from = [\"{address}/32\"] }},");
    }
    text += &groups(&list);
    text += &port("a", ("one", "10.1.0.2", MAC_A), "va");
    text + &port("b", ("one", "10.1.0.3", MAC_B), "vb")
}

fn in_two_networks() -> String {
    let network = |name: &str, subnet: &str, other: &str| {
        format!(
            "[networks.{name}]\ntype = \"private\"\nsubnets = [\"{subnet}\"]\nconnect = [\"{other}\"]\n\n"
        )
    };
    let mut text = "version = 1\n\n".to_owned();
    text += &network("one", "10.1.0.0/24", "two");
    text += &network("two", "10.2.0.0/24", "one");
    text += &groups("");
    text += &port("a", ("one", "10.1.0.2", MAC_A), "va");
    text + &port("b", ("two", "10.2.0.3", MAC_B), "vb")
}
