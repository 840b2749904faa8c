//! What a policy says besides groups: an acl before them, networks that are joined, networks that
//! keep the host out, ports of the host that nothing cuts off, flows that outlive their rule, and
//! prefix lists.

use std::time::Duration;

use vnet_common::DropReason;
use vnet_tests::{
    World, eventually,
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, ping, tcp, udp},
};

/// Two networks with a port each, one port more in the first, a group for each of them, and `more`.
fn policy(more: &str) -> String {
    format!(
        r#"version = 1

{more}

[networks.one]
type = "private"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
#one

[networks.two]
type = "private"
subnets = ["10.20.0.0/24", "fd00:20::/64"]
#two

[networks.three]
type = "private"
subnets = ["10.30.0.0/24"]

[security_groups.open]
ingress = [
  {{ protocol = "tcp", ports = ["80-90"], from = ["any"] }},
  {{ protocol = "udp", ports = ["80-90"], from = ["any"] }},
  {{ protocol = "icmp", from = ["any"] }},
]
#open

[ports.a]
network = "one"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = {{ netns = "@a", create = true }}

[ports.a2]
network = "one"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["open"]
attach = {{ netns = "@a2", create = true }}

[ports.b]
network = "two"
addresses = ["10.20.0.10", "fd00:20::a"]
security_groups = ["open"]
attach = {{ netns = "@b", create = true }}

[ports.c]
network = "three"
addresses = ["10.30.0.10"]
security_groups = ["open"]
attach = {{ netns = "@c", create = true }}
"#
    )
}

fn echoes(world: &World, name: &str, ports: &[u16]) -> Vec<Echo> {
    ports.iter().map(|port| Echo::serve(&world.port(name), *port)).collect()
}

fn apply(world: &World, text: &str) {
    let _ = world.api().apply(&text.replace('@', &world.netns_name(""))).ok();
}

#[test]
fn the_first_entry_of_the_acl_that_matches_decides() {
    let world = World::running(&policy(
        r#"
[[acl]]
action = "allow"
direction = "ingress"
protocol = "tcp"
ports = [81]
from = ["10.10.0.10/32"]

[[acl]]
action = "deny"
direction = "ingress"
protocol = "tcp"
ports = [81, 82]
from = ["any"]

[[acl]]
action = "allow"
direction = "ingress"
protocol = "tcp"
ports = [82, 7000]
from = ["any"]

[[acl]]
action = "deny"
direction = "egress"
protocol = "udp"
ports = [83]
to = ["net:one"]
"#,
    ));
    let _a2 = echoes(&world, "a2", &[80, 81, 82, 83, 7000, 7001]);
    let _a = echoes(&world, "a", &[81]);
    world.judge(&[
        // No entry: the group decides.
        ("a", tcp("10.10.0.11:80"), true),
        ("a", tcp("10.10.0.11:7001"), false),
        // The first entry, before the second.
        ("a", tcp("10.10.0.11:81"), true),
        ("a2", tcp("10.10.0.10:81"), false),
        // An IPv6 sender is not the first entry's.
        ("a", tcp("[fd00:10::b]:81"), false),
        // The second, before the third and before the group.
        ("a", tcp("10.10.0.11:82"), false),
        // The third admits what no group does.
        ("a", tcp("10.10.0.11:7000"), true),
        ("a", tcp("[fd00:10::b]:7000"), true),
        // Egress.
        ("a", udp("10.10.0.11:83"), false),
        ("a", udp("10.10.0.11:80"), true),
        ("a", tcp("10.10.0.11:83"), true),
    ]);
    assert!(world.drops(DropReason::AclDenied) > 0);
    // The other way round, the same entries say something else.
    let swapped = policy(
        r#"
[[acl]]
action = "deny"
direction = "ingress"
protocol = "tcp"
ports = [81]
from = ["any"]

[[acl]]
action = "allow"
direction = "ingress"
protocol = "tcp"
ports = [81]
from = ["10.10.0.10/32"]
"#,
    );
    apply(&world, &swapped);
    world.judge(&[("a", tcp("10.10.0.11:81"), false), ("a", tcp("10.10.0.11:82"), true)]);
}

#[test]
fn an_acl_can_be_edited_by_command() {
    let world = World::running(&policy(""));
    let _a2 = echoes(&world, "a2", &[80]);
    world.assert_reaches("a", tcp("10.10.0.11:80"));
    let _ = world.ctl(&["acl", "add", "deny", "ingress", "-p", "tcp", "--port", "80", "--from", "any"]).ok();
    world.assert_silent("a", tcp("10.10.0.11:80"));
    let listed = world.json(&["acl", "list"]);
    let entries = listed.as_array().expect("entries");
    assert_eq!(entries.len(), 1, "{listed}");
    let id = entries[0]["id"].as_str().expect("an id").to_owned();
    let _ = world.ctl(&["acl", "remove", "--id", &id]).ok();
    world.assert_reaches("a", tcp("10.10.0.11:80"));
}

#[test]
fn joined_networks_reach_each_other_and_nobody_else_does() {
    let world = World::running(&policy("").replace("#one", "connect = [\"two\"]"));
    let _servers: Vec<_> = ["a", "b", "c"].iter().flat_map(|name| echoes(&world, name, &[80, 91])).collect();
    world.judge(&[
        // Both ways, whoever of the two names the other.
        ("a", tcp("10.20.0.10:80"), true),
        ("b", tcp("10.10.0.10:80"), true),
        ("a", udp("[fd00:20::a]:80"), true),
        ("b", tcp("[fd00:10::a]:80"), true),
        ("a", ping("10.20.0.10"), true),
        // Groups hold between them.
        ("a", tcp("10.20.0.10:91"), false),
        ("b", tcp("[fd00:10::a]:91"), false),
        // The third is isolated from both.
        ("a", tcp("10.30.0.10:80"), false),
        ("c", tcp("10.10.0.10:80"), false),
        ("b", tcp("10.30.0.10:80"), false),
        ("c", udp("10.20.0.10:80"), false),
    ]);
    let mut connection = Connection::from(&world.port("a"), "10.20.0.10:80");
    connection.echo(ANSWER).expect("an echo");
    // The packets go through the gateway: one hop.
    let hops = world.exec("a", &["ping", "-n", "-c", "1", "-W", "2", "10.20.0.10"]).ok();
    assert!(hops.stdout.contains("ttl=63"), "{hops}");
    // No longer joined: what was established between them ends as well.
    apply(&world, &policy(""));
    assert_eq!(connection.outcome(SILENCE), Outcome::Silence);
    world.assert_silent("b", tcp("10.10.0.10:80"));
}

#[test]
fn egress_rules_hold_between_joined_networks() {
    let text = policy("").replace("#two", "connect = [\"one\"]").replace(
        "#open",
        "egress = [{ protocol = \"tcp\", ports = [80], to = [\"net:two\"] }, { protocol = \"tcp\", ports = [81], to = [\"any\"] }]",
    );
    let world = World::running(&text);
    let _b = echoes(&world, "b", &[80, 81, 82]);
    let _a = echoes(&world, "a", &[80, 81]);
    world.judge(&[
        ("a", tcp("10.20.0.10:80"), true),
        ("a", tcp("10.20.0.10:81"), true),
        ("a", tcp("10.20.0.10:82"), false),
        ("b", tcp("10.10.0.10:80"), false),
        ("b", tcp("10.10.0.10:81"), true),
    ]);
}

#[test]
fn a_network_can_keep_the_host_out() {
    let world = World::running(&policy("").replace("#one", "host = false"));
    let _a = echoes(&world, "a", &[80]);
    let _b = echoes(&world, "b", &[80]);
    let _host = [Echo::serve(world.host(), 8080), Echo::serve(world.host(), 22)];
    let from_host = |probe: vnet_tests::traffic::Probe| probe.run(world.host(), SILENCE);
    for probe in [tcp("10.10.0.10:80"), udp("10.10.0.10:80"), ping("10.10.0.10"), tcp("[fd00:10::a]:80")] {
        assert_ne!(from_host(probe), Outcome::Answered, "{probe:?}");
    }
    assert_eq!(
        tcp("10.20.0.10:80").run(world.host(), ANSWER),
        Outcome::Answered,
        "the other network lets it in"
    );
    world.judge(&[
        ("a", tcp("10.10.0.1:8080"), false),
        ("a", tcp("[fd00:10::1]:8080"), false),
        ("a", ping("10.10.0.1"), false),
        ("b", tcp("10.20.0.1:8080"), true),
        // Nor by the address of another network's gateway.
        ("a", tcp("10.20.0.1:8080"), false),
        // tcp/22 is fail-safe by default.
        ("a", tcp("10.10.0.1:22"), true),
        ("a2", tcp("10.10.0.10:80"), true),
    ]);
    assert!(world.drops(DropReason::HostExcluded) > 0);
}

#[test]
fn fail_safe_ports_of_the_host_win_over_everything() {
    let cut = |failsafe: &str| {
        policy(&format!(
            r#"
{failsafe}

[[acl]]
action = "deny"
direction = "egress"
protocol = "any"
to = ["any"]
"#
        ))
        .replace("#open", "egress = []")
        .replace("#one", "host = false")
    };
    let world = World::running(&cut("[host]\nfailsafe_ports = [\"tcp/2222\", \"udp/123\"]"));
    let _host = [22, 2222, 123, 8080].map(|port| Echo::serve(world.host(), port));
    let mut connection = Connection::from(&world.port("a"), "10.10.0.1:2222");
    world.judge(&[
        ("a", tcp("10.10.0.1:2222"), true),
        ("a", tcp("[fd00:10::1]:2222"), true),
        ("a", udp("10.10.0.1:123"), true),
        ("a", tcp("10.10.0.1:123"), false),
        ("a", tcp("10.10.0.1:22"), false),
        ("a", tcp("10.10.0.1:8080"), false),
        ("b", tcp("10.20.0.1:2222"), true),
        ("b", tcp("10.20.0.1:8080"), false),
    ]);
    apply(&world, &cut(""));
    world.judge(&[("a", tcp("10.10.0.1:22"), true), ("a", tcp("10.10.0.1:2222"), false)]);
    assert_ne!(connection.outcome(SILENCE), Outcome::Answered, "its port is not fail-safe any more");
    apply(&world, &cut("[host]\nfailsafe_ports = []"));
    world.judge(&[("a", tcp("10.10.0.1:22"), false), ("b", tcp("10.20.0.1:22"), false)]);
}

#[test]
fn a_group_says_what_becomes_of_flows_that_lose_their_rule() {
    for (on_change, lives) in
        [("#open", false), ("on_change = \"cut\"", false), ("on_change = \"keep\"", true)]
    {
        let before = policy("").replace("#open", on_change);
        let after = before.replace("ports = [\"80-90\"]", "ports = [90]");
        let world = World::running(&before);
        let _a2 = echoes(&world, "a2", &[80]);
        let mut connections =
            ["10.10.0.11:80", "[fd00:10::b]:80"].map(|to| Connection::from(&world.port("a"), to));
        connections.iter_mut().for_each(|connection| connection.echo(ANSWER).expect("an echo"));
        apply(&world, &after);
        let expected = if lives { Outcome::Answered } else { Outcome::Silence };
        for connection in &mut connections {
            let patience = if lives { ANSWER } else { SILENCE };
            assert_eq!(connection.outcome(patience), expected, "{on_change}");
        }
        // New ones are judged by the new rules in any case.
        world.assert_silent("a", tcp("10.10.0.11:80"));
        if lives {
            // More changes, and another daemon, do not end what is kept.
            apply(&world, &after.replace("[90]", "[89]"));
            connections.iter_mut().for_each(|connection| connection.echo(ANSWER).expect("an echo"));
        }
    }
}

#[test]
fn a_flow_that_an_acl_denies_is_cut_whatever_its_group_keeps() {
    let keep = policy("").replace("#open", "on_change = \"keep\"");
    let world = World::running(&keep);
    let _a2 = echoes(&world, "a2", &[80]);
    let mut connection = Connection::from(&world.port("a"), "10.10.0.11:80");
    connection.echo(ANSWER).expect("an echo");
    let deny = "[[acl]]\naction = \"deny\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = [80]\nfrom = [\"any\"]\n";
    apply(&world, &keep.replacen("version = 1\n", &format!("version = 1\n{deny}"), 1));
    assert_eq!(connection.outcome(SILENCE), Outcome::Silence);
}

#[test]
fn prefix_lists_stand_for_their_prefixes() {
    let listed = |list: &str| {
        policy(&format!("[prefix_lists]\nfriends = [{list}]")).replacen(
            "ports = [\"80-90\"], from = [\"any\"]",
            "ports = [80], from = [\"list:friends\"]",
            1,
        )
    };
    let world = World::running(&listed("\"10.10.0.10/32\", \"fd00:20::/64\""));
    let _a2 = echoes(&world, "a2", &[80]);
    let _a = echoes(&world, "a", &[80]);
    world.judge(&[("a", tcp("10.10.0.11:80"), true), ("a2", tcp("10.10.0.10:80"), false)]);
    apply(&world, &listed("\"10.10.0.11/32\""));
    world.judge(&[("a", tcp("10.10.0.11:80"), false), ("a2", tcp("10.10.0.10:80"), true)]);
    // An empty list stands for nobody.
    apply(&world, &listed(""));
    world.judge(&[("a", tcp("10.10.0.11:80"), false), ("a2", tcp("10.10.0.10:80"), false)]);
    eventually("drops to be counted", || (world.drops(DropReason::IngressDenied) > 0).then_some(()));
    assert_eq!(tcp("10.10.0.11:80").run(world.host(), Duration::from_secs(2)), Outcome::Answered);
}
