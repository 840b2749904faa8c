//! Where workloads are: namespaces that vnet makes, finds by name or by path, and devices that
//! others made. And how ports get the addresses that nobody wrote down.

use std::{collections::BTreeSet, fs};

use vnet_common::DropReason;
use vnet_tests::{
    World, eventually,
    frames::{ArpKind, Eth, MacAddr, arp, icmp4, parse_mac},
    raw::RawSocket,
    tap::Tap,
    traffic::{ANSWER, Echo, Outcome, ping, tcp},
};

const NETWORK: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "icmp", from = ["any"] },
  { protocol = "icmpv6", from = ["any"] },
]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@a", create = true }
"#;

/// Port b of the network, attached as `attach` says.
fn with_b(attach: &str) -> String {
    format!(
        r#"{NETWORK}
[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
mac = "02:00:00:00:00:0b"
security_groups = ["web"]
attach = {{ {attach} }}
"#
    )
}

fn assert_b_works(world: &World) {
    let _servers = [80, 81].map(|port| Echo::serve(&world.port("b"), port));
    world.assert_reaches("a", tcp("10.10.0.11:80"));
    world.assert_reaches("a", tcp("[fd00:10::b]:80"));
    world.assert_silent("a", tcp("10.10.0.11:81"));
    world.assert_reaches("b", ping("10.10.0.1"));
    world.assert_reaches("b", ping("fd00:10::a"));
    assert_eq!(ping("10.10.0.11").run(world.host(), ANSWER), Outcome::Answered);
}

#[test]
fn a_namespace_that_exists_is_used_and_stays() {
    let mut world = World::prepare(&with_b(r#"netns = "@b", create = false"#));
    world.create_namespace("b");
    let before = world.snapshot();
    let inside = world.exec("b", &["ip", "-o", "link"]).ok().stdout;
    world.start(&[]);
    assert_b_works(&world);
    world.stop();
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
    assert_eq!(world.exec("b", &["ip", "-o", "link"]).ok().stdout, inside);
}

#[test]
fn create_means_if_it_is_missing() {
    let mut world = World::prepare(&with_b(r#"netns = "@b", create = true"#));
    world.create_namespace("b");
    let before = world.snapshot();
    world.start(&[]);
    assert_b_works(&world);
    world.stop();
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
}

#[test]
fn a_namespace_is_found_by_its_path() {
    let mut world = World::prepare(NETWORK);
    world.create_namespace("b");
    // The way to a container's namespace: the one of a process.
    let mut sleeper = world.port("b").command("sleep");
    sleeper.arg("1000");
    let process = vnet_tests::Running::start(sleeper);
    let attach = format!(r#"netns = "/proc/{}/ns/net""#, process.pid());
    world.write_policy(&with_b(&attach));
    world.start(&[]);
    assert_b_works(&world);
}

#[test]
fn a_start_goes_on_without_a_namespace_and_takes_it_when_it_comes() {
    let mut world = World::prepare(&with_b(r#"netns = "@b""#));
    world.start(&[]);
    assert_eq!(world.port_row("b")["state"], "missing");
    world.create_namespace("b");
    eventually("b to be attached", || (world.port_row("b")["state"] == "up").then_some(()));
    assert_b_works(&world);
}

#[test]
fn an_edit_that_names_a_missing_namespace_is_refused_whole() {
    let mut world = World::prepare(NETWORK);
    world.start(&[]);
    let before = world.snapshot();
    for attach in [r#"netns = "@b""#, r#"netns = "@b", create = false"#, r#"netns = "/run/netns/@b""#] {
        let other = world.folder().join("other.toml");
        fs::write(&other, with_b(attach).replace('@', &world.netns_name(""))).expect("written");
        let refused = world.ctl(&["apply", "-f", &other.to_string_lossy()]).refused();
        let _ = refused.says(&[&world.netns_name("b"), "create"]);
        before.assert_same(&world.snapshot());
    }
}

#[test]
fn an_interface_name_that_is_taken_is_refused_whole() {
    let world = World::prepare(&with_b(r#"netns = "@b", create = false"#));
    world.create_namespace("b");
    let _ = world.exec("b", &["ip", "link", "add", "eth0", "type", "bridge"]).ok();
    let before = world.snapshot();
    let _ = world.run_to_end(&[]).refused().says(&["eth0"]);
    before.assert_same(&world.snapshot());
    let link = world.exec("b", &["ip", "-d", "link", "show", "dev", "eth0"]).ok().stdout;
    assert!(link.contains("bridge"), "{link}");
}

/// A veth whose one end is `dev-b` on the host, the other `eth0` in `@b` with b's addresses.
fn give_b_a_device(world: &World) {
    world.create_namespace("b");
    let namespace = world.netns_name("b");
    let veth = ["ip", "link", "add", "dev-b", "up", "type", "veth", "peer", "eth0", "netns", &namespace];
    let _ = world.host_exec(&veth).ok();
    for argv in [
        &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:0b", "up"][..],
        &["ip", "addr", "add", "10.10.0.11/24", "dev", "eth0"],
        &["ip", "addr", "add", "fd00:10::b/64", "dev", "eth0", "nodad"],
    ] {
        let _ = world.exec("b", argv).ok();
    }
    // The kernel notices the carrier, gives the device its link-local address and probes it, all on its own
    // time; before that the host is not what it will be.
    vnet_tests::eventually("dev-b is up and has its link-local address", || {
        let link = world.host_exec(&["ip", "-o", "link", "show", "dev", "dev-b"]).ok().stdout;
        let addr = world.host_exec(&["ip", "-6", "-o", "addr", "show", "dev", "dev-b"]).ok().stdout;
        (link.contains("state UP") && addr.contains("fe80::") && !addr.contains("tentative")).then_some(())
    });
}

#[test]
fn a_device_that_others_made_is_used_and_given_back() {
    let mut world = World::prepare(&with_b(r#"device = "dev-b""#));
    give_b_a_device(&world);
    let before = world.snapshot();
    world.start(&[]);
    assert_b_works(&world);
    assert_eq!(world.device("b"), "dev-b");
    world.stop();
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
}

#[test]
fn a_device_that_is_down_is_brought_up_for_its_port() {
    let mut world = World::prepare(&with_b(r#"device = "dev-b""#));
    give_b_a_device(&world);
    let _ = world.host_exec(&["ip", "link", "set", "dev-b", "down"]).ok();
    world.start(&[]);
    world.assert_reaches("a", ping("10.10.0.11"));
}

#[test]
fn lies_from_a_device_are_dropped_like_any_other() {
    let mut world = World::prepare(&with_b(r#"device = "dev-b""#));
    give_b_a_device(&world);
    world.start(&[]);
    let _ = world.exec("b", &["ip", "addr", "add", "10.10.0.99/24", "dev", "eth0"]).ok();
    // Without a question to ask first, which would be a lie too.
    let (row, neighbour) =
        (world.port_row("a"), ["ip", "neigh", "add", "10.10.0.10", "dev", "eth0", "lladdr"]);
    let _ = world.exec("b", &[&neighbour[..], &[row["mac"].as_str().expect("a MAC")]].concat()).ok();
    world.assert_counts(DropReason::SpoofedAddress, || {
        let sent = world.exec("b", &["ping", "-n", "-c", "1", "-W", "0.5", "-I", "10.10.0.99", "10.10.0.10"]);
        assert!(!sent.success(), "{sent}");
    });
}

#[test]
fn a_virtual_machine_on_a_tap_is_answered() {
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
    let mut world = World::prepare(&with_b(r#"device = "tap-b""#));
    let tap = Tap::create(world.host(), "tap-b");
    world.start(&[]);
    let own = ([10, 10, 0, 11]).into();
    let gateway = ([10, 10, 0, 1]).into();
    let question = arp(Eth::broadcast(MAC), ArpKind::Request, (MAC, own), (MacAddr([0; 6]), gateway));
    tap.send(&question);
    let is_answer = |frame: &[u8]| frame[12..14] == [8, 6] && frame[21] == 2;
    let answer = tap.receive("ARP reply", is_answer);
    let gateway_mac = MacAddr(answer[6..12].try_into().expect("six bytes"));
    let echo = icmp4(Eth::new(MAC, gateway_mac), own, gateway, (8, 0), [0, 1, 0, 1]);
    tap.send(&echo);
    tap.receive("echo reply of the gateway", |frame| {
        frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0
    });
    // And a neighbour in a namespace: its frames reach the tap.
    let neighbour = RawSocket::open(&world.port("a"), "eth0");
    let mac_a = world.port_row("a")["mac"].as_str().map(parse_mac).expect("a MAC");
    tap.send(&icmp4(Eth::new(MAC, mac_a), own, [10, 10, 0, 10].into(), (8, 0), [0, 2, 0, 1]));
    neighbour.receive("echo request", |frame| frame.len() > 40 && frame[23] == 1 && frame[34] == 8);
    tap.receive("echo reply of a", |frame| frame[12..14] == [8, 0] && frame[34] == 0 && frame[39] == 2);
}

/// Ports named x-0, x-1, … without addresses or MAC.
fn unaddressed(names: &[&str]) -> String {
    let port = |name: &&str| {
        format!("\n[ports.{name}]\nnetwork = \"web\"\nattach = {{ netns = \"@{name}\", create = true }}\n")
    };
    NETWORK.to_owned() + &names.iter().map(port).collect::<String>()
}

fn addresses(world: &World, port: &str) -> Vec<String> {
    let row = world.port_row(port);
    let list = row["addresses"].as_array().unwrap_or_else(|| panic!("no addresses: {row}"));
    list.iter().map(|address| address.as_str().expect("an address").to_owned()).collect()
}

#[test]
fn addresses_that_nobody_wrote_down_are_assigned_and_kept() {
    let mut world = World::running(&unaddressed(&["m", "n"]));
    let (m, n) = (addresses(&world, "m"), addresses(&world, "n"));
    assert_eq!((m.len(), n.len()), (2, 2), "one of each subnet: {m:?} {n:?}");
    let all: BTreeSet<_> = m.iter().chain(&n).collect();
    assert_eq!(all.len(), 4, "nobody shares: {m:?} {n:?}");
    for reserved in
        ["10.10.0.0", "10.10.0.1", "10.10.0.10", "10.10.0.255", "fd00:10::", "fd00:10::1", "fd00:10::a"]
    {
        assert!(!all.iter().any(|address| *address == reserved), "{reserved} is not free: {all:?}");
    }
    let mac = world.port_row("n")["mac"].clone();
    let inside = world.exec("n", &["ip", "-o", "addr", "show", "dev", "eth0"]).ok().stdout;
    assert!(n.iter().all(|address| inside.contains(address.as_str())), "{n:?} but {inside}");
    world.assert_reaches("m", ping(&n[0]));
    world.assert_reaches("m", ping(&n[1]));
    // A newcomer that sorts before them takes nothing from them, nor does a restart, nor a leaver.
    world.stop();
    world.write_policy(&unaddressed(&["c", "n"]));
    world.start(&[]);
    assert_eq!(addresses(&world, "n"), n);
    assert_eq!(world.port_row("n")["mac"], mac);
    world.assert_reaches("c", ping(&n[0]));
}

#[test]
fn a_successor_with_the_same_addresses_is_reached_at_once() {
    let mut world = World::running(&with_b(r#"netns = "@b", create = true"#));
    let talk = |world: &World, port: &str| {
        for address in ["10.10.0.11", "fd00:10::b"] {
            world.assert_reaches("a", ping(address));
            assert_eq!(ping(address).run(world.host(), ANSWER), Outcome::Answered);
        }
        world.assert_reaches(port, ping("10.10.0.10"));
    };
    talk(&world, "b");
    let mac = world.port_row("b")["mac"].clone();
    world.stop();
    let successor = world.policy_text().replace("[ports.b]", "[ports.c]");
    world.write_policy(&successor.replace("mac = \"02:00:00:00:00:0b\"", "").replace("-b\"", "-c\""));
    world.start(&[]);
    assert_ne!(world.port_row("c")["mac"], mac, "its own MAC, which nobody remembers");
    talk(&world, "c");
}

#[test]
fn an_assigned_address_is_kept_when_the_daemon_was_killed() {
    let mut world = World::running(&unaddressed(&["m"]));
    let m = addresses(&world, "m");
    world.kill();
    world.write_policy(&unaddressed(&["b", "m"]));
    world.start(&[]);
    assert_eq!(addresses(&world, "m"), m);
}

#[test]
fn a_network_without_room_is_refused_whole() {
    let tiny = unaddressed(&["m", "n"])
        .replace(r#"["10.10.0.0/24", "fd00:10::/64"]"#, r#"["10.10.0.8/30"]"#)
        .replace(r#"["10.10.0.10", "fd00:10::a"]"#, r#"["10.10.0.10"]"#);
    let world = World::prepare(&tiny);
    let before = world.snapshot();
    let _ = world.run_to_end(&[]).refused().says(&["10.10.0.8/30"]);
    before.assert_same(&world.snapshot());
}

#[test]
fn a_bridge_of_somebody_else_is_never_taken() {
    let world = World::prepare(NETWORK);
    let _ = world.host_exec(&["ip", "link", "add", "vnet-web", "type", "bridge"]).ok();
    let before = world.snapshot();
    let _ = world.run_to_end(&[]).refused().says(&["vnet-web"]);
    before.assert_same(&world.snapshot());
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
}

#[test]
fn state_that_is_unreadable_is_refused_rather_than_forgotten() {
    let mut world = World::running(&unaddressed(&["m"]));
    world.stop();
    let before = world.snapshot();
    let state = world.state_dir().join("state.json");
    fs::write(&state, "{ not json").expect("break the state");
    let _ = world.run_to_end(&[]).refused().says(&["state.json"]);
    before.assert_same(&world.snapshot());
}
