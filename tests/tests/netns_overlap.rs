//! Networks with the same addresses: whoever is meant is reached, from wherever they are asked for.
//!
//! ```text
//!     open-1  10.10.0.10                     closed-1  10.10.0.10
//!       |                                       |       closed-2  10.10.0.1
//!       |                                       |          |
//!     vnet-open  10.10.0.1                   vnet-closed  (10.10.0.254: the host has no address there)
//!       `------------------------ H -----------------------'
//!                                 `---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//! ```

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
};

use vnet_common::DropReason;
use vnet_tests::{
    World, eventually,
    process::Finished,
    teller::{Line, Teller, address_seen, seen_as},
    traffic::{ANSWER, Echo, Outcome, Probe, SILENCE, ping, tcp},
};

const OPEN: &str = r#"
[networks.open]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[ports.open-1]
network = "open"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = { netns = "@open-1", create = true }
security_groups = ["all"]

[[forwards]]
listen = "0.0.0.0:8081"
protocol = "tcp"
to = "open-1:80"

[[forwards]]
listen = "[::]:8081"
protocol = "tcp"
to = "open-1:80"

[elastic_ips]
"198.51.100.21" = { port = "open-1" }
"2001:db8:100::21" = { port = "open-1" }
"#;

const CLOSED: &str = r#"
[networks.closed]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
gateway = ["10.10.0.254", "fd00:10::fe"]
host = false

[ports.closed-1]
network = "closed"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = { netns = "@closed-1", create = true }
security_groups = ["all"]

# It has the address of the other network's gateway.
[ports.closed-2]
network = "closed"
addresses = ["10.10.0.1", "fd00:10::1"]
attach = { netns = "@closed-2", create = true }
security_groups = ["all"]

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "closed-1:80"

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "udp"
to = "closed-1:80"

[[forwards]]
listen = "[::]:8080"
protocol = "tcp"
to = "closed-1:80"

[[forwards]]
listen = "[::]:8080"
protocol = "udp"
to = "closed-1:80"

[[elastic]]
"#;

const ELASTIC_OF_CLOSED: &str = r#""198.51.100.20" = { port = "closed-1" }
"2001:db8:100::20" = { port = "closed-1" }
"#;

/// A policy of both networks; `rules` are those of everybody, `more` comes at the end.
fn policy(rules: &str, more: &str) -> String {
    let closed = CLOSED.replace("[[elastic]]\n", "");
    format!(
        "version = 1\n{closed}{OPEN}{ELASTIC_OF_CLOSED}\n[security_groups.all]\ningress = [{rules}]\n{more}"
    )
}

const ANYBODY: &str = "{ protocol = \"any\", from = [\"any\"] }";

/// What a process of the host is told that opens a connection to `to`, and one that sends a datagram there.
fn asked_by_host(world: &World, to: &str) -> [Result<(), ErrorKind>; 2] {
    let to: SocketAddr = to.parse().expect("ADDRESS:PORT");
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    world.host().enter(|| {
        let tcp = TcpStream::connect_timeout(&to, ANSWER).map(drop);
        let udp = UdpSocket::bind(any).and_then(|socket| socket.send_to(b"marco", to)).map(drop);
        [tcp, udp].map(|done| done.map_err(|error| error.kind()))
    })
}

/// Applies another policy.
fn apply(world: &World, policy: &str) -> Finished {
    world.write_policy(policy);
    world.ctl(&["apply"]).ok()
}

/// The IP addresses of the host on `device`, link-local ones aside.
fn addresses(world: &World, device: &str) -> Vec<String> {
    let shown =
        world.host_exec(&["ip", "-json", "addr", "show", "dev", device, "scope", "global"]).ok().json();
    let shown = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    shown.iter().filter_map(|addr| Some(addr["local"].as_str()?.to_owned())).collect()
}

#[test]
fn from_outside_each_of_two_workloads_with_the_same_address_is_reached() {
    let world = World::running_with_outside(&policy(ANYBODY, ""));
    let [open, closed] = ["open-1", "closed-1"].map(|port| Teller::serve(&world.port(port), 80));
    for (of_open, of_closed) in [
        ("198.51.100.1:8081", "198.51.100.1:8080"),
        ("198.51.100.21:80", "198.51.100.20:80"),
        ("[2001:db8:100::1]:8081", "[2001:db8:100::1]:8080"),
        ("[2001:db8:100::21]:80", "[2001:db8:100::20]:80"),
    ] {
        let before = (open.asked_by().len(), closed.asked_by().len());
        // From one source port, so that nothing but the destination tells them apart.
        let ask = |to| Line::open(&world.outside(), 5000, tcp(to)).ask(ANSWER).expect("an answer");
        assert_eq!(ask(of_closed), ask(of_open));
        assert_eq!((open.asked_by().len(), closed.asked_by().len()), (before.0 + 1, before.1 + 1));
    }
    // Both leave as themselves, from the same port to the same server.
    let _outside = Teller::serve(&world.outside(), 80);
    let seen = ["open-1", "closed-1"].map(|port| {
        let mut line = Line::open(&world.port(port), 5000, tcp("203.0.113.5:80"));
        line.ask(ANSWER).expect("an answer").to_string()
    });
    assert_eq!(seen, ["198.51.100.21:5000", "198.51.100.20:5000"]);
}

#[test]
fn from_the_host_only_the_workload_of_its_own_network_is_reached() {
    let world = World::running_with_outside(&policy(ANYBODY, ""));
    let [open, closed] = ["open-1", "closed-1"].map(|port| Teller::serve(&world.port(port), 80));
    for to in [
        "127.0.0.1:8080",
        "198.51.100.1:8080",
        "10.10.0.1:8080",
        "[::1]:8080",
        "[2001:db8:100::1]:8080",
        "198.51.100.20:80",
        "[2001:db8:100::20]:80",
    ] {
        assert_eq!(asked_by_host(&world, to), [Err(ErrorKind::PermissionDenied); 2], "{to}");
    }
    assert_eq!((open.asked_by().len(), closed.asked_by().len()), (0, 0));
    for to in ["127.0.0.1:8081", "198.51.100.21:80", "10.10.0.10:80", "[::1]:8081", "[fd00:10::a]:80"] {
        seen_as(world.host(), tcp(to));
    }
    assert_eq!((open.asked_by().len(), closed.asked_by().len()), (5, 0));
}

#[test]
fn the_host_has_an_address_in_one_of_two_networks_as_the_policy_goes() {
    let mut world = World::with_outside(&policy(ANYBODY, ""));
    // Nor must what the host forwards get to somebody else.
    world.allow_forwarding(true);
    world.start(&[]);
    let _host = Echo::serve(world.host(), 22);
    let _outside = Echo::serve(&world.outside(), 80);
    let open = || addresses(&world, "vnet-open");
    let closed = || addresses(&world, "vnet-closed");
    let works_inside = || {
        for to in [tcp("203.0.113.5:80"), tcp("[2001:db8:5::5]:80"), ping("203.0.113.5")] {
            assert_eq!(to.run(&world.port("closed-1"), ANSWER), Outcome::Answered, "{to:?}");
        }
    };
    assert_eq!((open(), closed()), (vec!["10.10.0.1".to_owned(), "fd00:10::1".to_owned()], vec![]));
    works_inside();
    let failsafe = |port, to: Probe| to.run(&world.port(port), SILENCE);
    assert_eq!(failsafe("open-1", tcp("10.10.0.1:22")), Outcome::Answered);
    world.assert_counts(DropReason::HostExcluded, || {
        for to in [tcp("10.10.0.254:22"), tcp("[fd00:10::fe]:22")] {
            assert_eq!(failsafe("closed-1", to), Outcome::Silence, "{to:?}");
        }
    });

    // Alone it is a network as others, with the host's failsafe ports.
    let alone = CLOSED.replace(
        "[[elastic]]\n",
        "[security_groups.all]\ningress = [{ protocol = \"any\", from = [\"any\"] }]\n",
    );
    let _ = apply(&world, &format!("version = 1\n{alone}"));
    assert_eq!(closed(), ["10.10.0.254", "fd00:10::fe"]);
    works_inside();
    assert_eq!(failsafe("closed-1", tcp("10.10.0.254:22")), Outcome::Answered);

    let _ = apply(&world, &policy(ANYBODY, ""));
    assert_eq!((open().len(), closed().len()), (2, 0));
    works_inside();
    assert_eq!(failsafe("closed-1", tcp("10.10.0.254:22")), Outcome::Silence);

    // What is refused changes nothing.
    world.write_policy(&policy(ANYBODY, "").replace("host = false\n", ""));
    let _ = world.ctl(&["apply"]).fails_with(2).says(&[
        "10.10.0.0/24 is given twice",
        "network `closed` has it",
        "host = false",
    ]);
    assert_eq!((open().len(), closed().len()), (2, 0));
}

#[test]
fn an_address_that_somebody_puts_back_by_hand_is_no_way_in() {
    let world = World::running_with_outside(&policy(ANYBODY, ""));
    let [open, closed] = ["open-1", "closed-1"].map(|port| Teller::serve(&world.port(port), 80));
    let _ = world.host_exec(&["ip", "route", "add", "10.10.0.10/32", "dev", "vnet-closed"]).ok();
    world.assert_counts(DropReason::HostExcluded, || {
        assert_ne!(tcp("10.10.0.10:80").run(world.host(), SILENCE), Outcome::Answered);
    });
    assert_eq!((open.asked_by().len(), closed.asked_by().len()), (0, 0));
}

#[test]
fn a_prefix_in_a_rule_means_the_own_network_alone() {
    let own = "{ protocol = \"tcp\", ports = [80], from = [\"10.10.0.0/24\", \"fd00:10::/64\"] }";
    let world = World::running_with_outside(&policy(own, ""));
    let _closed = Teller::serve(&world.port("closed-1"), 80);
    let ways = [tcp("198.51.100.1:8080"), tcp("198.51.100.20:80"), tcp("[2001:db8:100::20]:80")];
    for to in ways {
        assert_eq!(to.run(&world.port("closed-2"), ANSWER), Outcome::Answered, "{to:?} of the own network");
        world.assert_counts(DropReason::IngressDenied, || {
            assert_eq!(to.run(&world.port("open-1"), SILENCE), Outcome::Silence, "{to:?}");
        });
    }
    for by_name in ["net:open", "sg:all"] {
        let rule = format!("{own}, {{ protocol = \"tcp\", from = [\"{by_name}\"] }}");
        let _ = apply(&world, &policy(&rule, ""));
        for to in ways {
            assert_eq!(to.run(&world.port("open-1"), ANSWER), Outcome::Answered, "{to:?} by {by_name}");
        }
    }
    // Nobody there sees the address that is somebody else's.
    assert_eq!(address_seen(&world.port("open-1"), tcp("198.51.100.1:8080")), "198.51.100.21");
}

#[test]
fn a_private_address_that_others_have_is_not_shown_to_them() {
    let private = r#"
[networks.hidden]
type = "private"
subnets = ["10.10.0.0/24"]
host = false

[ports.hidden-1]
network = "hidden"
addresses = ["10.10.0.10"]
attach = { netns = "@hidden-1", create = true }
security_groups = ["all"]
"#;
    let world = World::running_with_outside(&policy(ANYBODY, private));
    let closed = Teller::serve(&world.port("closed-1"), 80);
    world.assert_counts(DropReason::Untranslated, || {
        assert_eq!(tcp("198.51.100.1:8080").run(&world.port("hidden-1"), SILENCE), Outcome::Silence);
    });
    assert!(closed.asked_by().is_empty());
}

#[test]
fn a_joined_networks_workload_is_reached_though_the_host_listens_on_its_address_elsewhere() {
    let near = r#"
[networks.near]
type = "nat"
uplink = "eth0"
subnets = ["10.30.0.0/24", "fd00:30::/64"]
connect = ["closed"]

[ports.near-1]
network = "near"
addresses = ["10.30.0.10", "fd00:30::a"]
attach = { netns = "@near-1", create = true }
security_groups = ["all"]
"#;
    let world = World::running_with_outside(&policy(ANYBODY, near));
    let [open, closed_1, closed_2] = [("open-1", 80), ("closed-1", 80), ("closed-2", 8081)]
        .map(|(port, n)| Teller::serve(&world.port(port), n));
    // 8081 of 10.10.0.1, which the host has, is open-1's.
    for to in [tcp("10.10.0.1:8081"), tcp("[fd00:10::1]:8081")] {
        let seen = address_seen(&world.port("near-1"), to);
        assert!(["10.30.0.10", "fd00:30::a"].contains(&seen.as_str()), "{to:?}: {seen}");
    }
    // 8080 of the gateway that the host does not have is closed-1's, for those who know it.
    for port in ["near-1", "closed-2"] {
        seen_as(&world.port(port), tcp("10.10.0.254:8080"));
    }
    let asked = [&open, &closed_1, &closed_2].map(|teller| teller.asked_by().len());
    assert_eq!(asked, [0, 2, 2]);
    world.assert_counts(DropReason::HostExcluded, || {
        assert_eq!(tcp("10.10.0.254:22").run(&world.port("near-1"), SILENCE), Outcome::Silence);
    });
}

#[test]
fn what_is_told_names_the_workload_that_is_meant() {
    let world = World::running_with_outside(&policy(ANYBODY, ""));
    let _closed = Teller::serve(&world.port("closed-1"), 80);
    let mut line = Line::open(&world.outside(), 0, tcp("198.51.100.1:8080"));
    let _ = line.ask(ANSWER).expect("an answer");
    let flows = world.json(&["flows", "list", "--filter", "port=closed-1"]).to_string();
    assert!(flows.contains("10.10.0.10") && !flows.contains("open-1"), "{flows}");
    let test = |from: &str, to: &str| {
        world.ctl(&["sg", "test", "--from", from, "--to", to, "-p", "tcp", "--port", "80"])
    };
    assert!(test("closed-2", "10.10.0.10").ok().stdout.contains("at closed-1"));
    let _ = test("203.0.113.5", "10.10.0.10").fails_with(2).says(&["`closed`, `open`", "name the port"]);
    eventually("both leases", || {
        let shown = world.json(&["ipam", "show"]).to_string();
        (shown.matches("\"address\":\"10.10.0.10\"").count() == 2).then_some(())
    });
}
