//! Security groups as a person uses them: rules come and go by commands, traffic follows at once,
//! and the file keeps the person's own words.
//!
//! Ports a, b and c are members of one network; b is in the group `web`.

use std::fs;

use vnet_common::DropReason;
use vnet_tests::{
    World, eventually,
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, ping, tcp, udp},
    world::rows,
};

const POLICY: &str = r#"# Our host. Ask Ada before you change it.
version = 1

[networks.web]
type = "nat"                 # no uplink yet
subnets = ["10.10.0.0/24", "fd00:10::/64"]

# The public tier.
[security_groups.web]
description = "public web tier"
ingress = [
  # admins only
  { protocol = "tcp", ports = [22], from = ["10.10.0.12"], description = "admins" },
]

[security_groups.client]     # may open, takes nothing

[security_groups.spare]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["client"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["web"]
attach = { netns = "@b", create = true }

[ports.c]
network = "web"
addresses = ["10.10.0.12", "fd00:10::c"]
security_groups = ["client"]
attach = { netns = "@c", create = true }
"#;

/// The person's words that no command may lose.
const COMMENTS: &[&str] = &[
    "# Our host. Ask Ada before you change it.",
    "type = \"nat\"                 # no uplink yet",
    "# The public tier.",
    "  # admins only",
    "# may open, takes nothing",
];

const OPEN_80: &[&str] = &["web", "ingress", "-p", "tcp", "--port", "80", "--from", "any"];

#[test]
fn without_a_rule_tcp_is_refused_by_silence_and_counted() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", tcp("10.10.0.11:80")));
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", tcp("[fd00:10::b]:80")));
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", udp("10.10.0.11:80")));
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", ping("10.10.0.11")));
    let at_ports =
        world.port_drops("a", DropReason::IngressDenied) + world.port_drops("b", DropReason::IngressDenied);
    assert!(at_ports > 0, "counted at a port: {}", world.json(&["drops"]));
}

#[test]
fn an_added_rule_lets_traffic_flow_at_once() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    world.assert_silent("a", tcp("10.10.0.11:80"));
    world.sg_add(OPEN_80);
    for probe in [tcp("10.10.0.11:80"), tcp("[fd00:10::b]:80")] {
        assert_eq!(probe.run(&world.port("a"), SILENCE), Outcome::Answered, "{probe:?} at the first attempt");
    }
    // The rule opens that protocol of that group, and nothing beside it.
    world.judge(&[("a", udp("10.10.0.11:80"), false), ("a", tcp("10.10.0.12:80"), false)]);
}

#[test]
fn an_added_rule_stands_in_the_file_among_the_comments() {
    let world = World::running(POLICY);
    let id = world.sg_add(&[OPEN_80, &["--description", "the public site"]].concat());
    let text = world.policy_text();
    for comment in COMMENTS {
        assert!(text.contains(comment), "lost {comment:?}:\n{text}");
    }
    assert!(text.contains("the public site"), "{text}");
    let group = text.find("[security_groups.web]").expect("the group");
    let added = text.find("the public site").expect("the rule");
    let next = text.find("[security_groups.client]").expect("the next group");
    assert!(group < added && added < next, "{text}");
    let shown = world.ctl(&["sg", "show", "web"]).ok().stdout;
    assert!(shown.contains(&id) && shown.contains("the public site"), "{shown}");
    let _ = world.ctl(&["validate"]).ok();
}

#[test]
fn adding_and_removing_a_rule_gives_the_file_back() {
    let world = World::running(POLICY);
    let before = world.policy_text();
    let id = world.sg_add(OPEN_80);
    assert_ne!(world.policy_text(), before);
    let _ = world.ctl(&["sg", "remove", "web", "--id", &id]).ok();
    assert_eq!(world.policy_text(), before);
}

#[test]
fn a_removed_rule_cuts_new_and_established_connections() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    let id = world.sg_add(OPEN_80);
    let mut connections =
        ["10.10.0.11:80", "[fd00:10::b]:80"].map(|to| Connection::from(&world.port("a"), to));
    for connection in &mut connections {
        connection.echo(ANSWER).expect("an echo while the rule is there");
    }
    let _ = world.ctl(&["sg", "remove", "web", "--id", &id]).ok();
    for connection in &mut connections {
        assert_eq!(connection.outcome(SILENCE), Outcome::Silence, "cut without a word");
    }
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", tcp("10.10.0.11:80")));
}

#[test]
fn a_rule_is_removed_by_the_words_that_added_it() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    world.sg_add(OPEN_80);
    world.assert_reaches("a", tcp("10.10.0.11:80"));
    let _ = world.ctl(&[&["sg", "remove"], OPEN_80].concat()).ok();
    world.assert_silent("a", tcp("10.10.0.11:80"));
}

#[test]
fn a_change_elsewhere_leaves_established_connections_alone() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    world.sg_add(OPEN_80);
    let mut connection = Connection::from(&world.port("a"), "10.10.0.11:80");
    for port in ["81", "82", "83"] {
        connection.echo(ANSWER).expect("an echo under each generation");
        world.sg_add(&["web", "ingress", "-p", "udp", "--port", port, "--from", "any"]);
    }
    connection.echo(ANSWER).expect("an echo under the last generation");
}

#[test]
fn replies_need_no_rule() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 22);
    world.assert_reaches("c", tcp("10.10.0.11:22"));
    let _on_c = Echo::serve(&world.port("c"), 22);
    world.assert_silent("b", tcp("10.10.0.12:22"));
}

#[test]
fn a_rule_that_is_there_is_a_conflict_unless_one_says_otherwise() {
    let world = World::running(POLICY);
    let id = world.sg_add(OPEN_80);
    let before = world.policy_text();
    let _ = world.ctl(&[&["sg", "add"], OPEN_80].concat()).fails_with(5);
    assert_eq!(world.sg_add(&[OPEN_80, &["--if-not-exists"]].concat()), id);
    assert_eq!(world.policy_text(), before);
}

#[test]
fn commands_that_fail_say_why_by_their_exit_code_and_change_nothing() {
    let world = World::running(POLICY);
    let before = (world.policy_text(), world.json(&["status"])["generation"].clone());
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["sg", "add", "nosuch", "ingress", "-p", "tcp", "--port", "80", "--from", "any"], 4, &["nosuch"]),
        (&["sg", "remove", "web", "--id", "00c0ffee"], 4, &["00c0ffee"]),
        (&["sg", "remove", "web", "ingress", "-p", "udp", "--port", "9", "--from", "any"], 4, &[]),
        (&["sg", "remove", "web", "--id", "zebra"], 2, &["zebra"]),
        (&["sg", "show", "nosuch"], 4, &["nosuch"]),
        (&["sg", "delete", "nosuch"], 4, &["nosuch"]),
        (&["sg", "delete", "web"], 5, &["web", "b"]),
        (&["sg", "create", "web"], 5, &["web"]),
        (&["sg", "create", "no good"], 2, &["no good"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--port", "70000", "--from", "any"], 2, &["70000"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--port", "0", "--from", "any"], 2, &["0"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--port", "90-80", "--from", "any"], 2, &["90-80"]),
        (&["sg", "add", "web", "ingress", "-p", "tpc", "--port", "80", "--from", "any"], 2, &["tpc"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--from", "10.10.0.1/24"], 2, &["10.10.0.0/24"]),
        (&["sg", "add", "web", "sideways", "-p", "tcp", "--from", "any"], 2, &["sideways"]),
        (&["sg", "add", "web", "ingress", "-p", "icmp", "--icmp-type", "300", "--from", "any"], 2, &["300"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--from", "sg:nosuch"], 2, &["nosuch"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--from", "net:nosuch"], 2, &["nosuch"]),
        (&["sg", "add", "web", "ingress", "-p", "tcp", "--from", "list:nosuch"], 2, &["nosuch"]),
        (&["port", "show", "nosuch"], 4, &["nosuch"]),
        (&["port", "stats", "nosuch"], 4, &["nosuch"]),
        (&["network", "show", "nosuch"], 4, &["nosuch"]),
        (&["sg", "test", "--from", "nosuch", "--to", "b", "-p", "tcp", "--port", "80"], 4, &["nosuch"]),
        (&["frobnicate"], 2, &["frobnicate"]),
    ];
    for (args, code, words) in cases {
        let failed = world.ctl(args).fails_with(*code).says(words);
        assert!(failed.stdout.is_empty(), "answers belong on standard output, errors do not: {failed}");
    }
    assert_eq!((world.policy_text(), world.json(&["status"])["generation"].clone()), before);
}

#[test]
fn groups_are_created_listed_and_deleted() {
    let world = World::running(POLICY);
    let _ = world.ctl(&["sg", "create", "cache", "--description", "caches"]).ok();
    let _ = world.ctl(&["sg", "create", "cache"]).fails_with(5);
    let _ = world.ctl(&["sg", "create", "cache", "--if-not-exists"]).ok();
    let listed = world.ctl(&["sg", "list"]).ok().stdout;
    assert!(listed.contains("cache") && listed.contains("spare") && listed.contains("web"), "{listed}");
    world.sg_add(&["cache", "ingress", "-p", "tcp", "--port", "6379", "--from", "sg:web"]);
    let _ = world.ctl(&["sg", "delete", "cache"]).ok();
    let listed = world.ctl(&["sg", "list"]).ok().stdout;
    assert!(!listed.contains("cache"), "{listed}");
    for comment in COMMENTS {
        assert!(world.policy_text().contains(comment), "lost {comment:?}");
    }
}

#[test]
fn a_group_that_rules_name_is_not_deleted() {
    let world = World::running(POLICY);
    world.sg_add(&["web", "ingress", "-p", "tcp", "--port", "81", "--from", "sg:spare"]);
    let _ = world.ctl(&["sg", "delete", "spare"]).fails_with(5).says(&["web"]);
}

#[test]
fn sg_test_agrees_with_the_packets() {
    let world = World::running(POLICY);
    world.sg_add(&["web", "ingress", "-p", "tcp", "--port", "80,8000-8010", "--from", "sg:client"]);
    let _servers = [22, 80, 8000, 8010, 8011].map(|port| Echo::serve(&world.port("b"), port));
    let cases = [
        ("a", 22, false),
        ("c", 22, true),
        ("a", 80, true),
        ("a", 8000, true),
        ("c", 8010, true),
        ("a", 8011, false),
    ];
    for (from, port, allowed) in cases {
        let question = ["sg", "test", "--from", from, "--to", "b", "-p", "tcp", "--port", &port.to_string()];
        let said = world.ctl(&question);
        assert_eq!(said.code, Some(i32::from(!allowed)), "{said}");
    }
    world.judge(&cases.map(|(from, port, allowed)| (from, tcp(&format!("10.10.0.11:{port}")), allowed)));
}

#[test]
fn sg_test_names_the_rule_that_decides() {
    let world = World::running(POLICY);
    let id = world.sg_add(OPEN_80);
    let said = world.ctl(&["sg", "test", "--from", "a", "--to", "b", "-p", "tcp", "--port", "80"]).ok();
    assert!(said.stdout.contains(&id), "{said}");
}

#[test]
fn every_answer_and_every_error_is_json_when_asked_for() {
    let world = World::running(POLICY);
    let answers: &[&[&str]] = &[
        &["status"],
        &["validate"],
        &["sg", "list"],
        &["sg", "show", "web"],
        &["sg", "test", "--from", "c", "--to", "b", "-p", "tcp", "--port", "22"],
        &["sg", "create", "fresh"],
        &["sg", "add", "fresh", "ingress", "-p", "tcp", "--port", "80", "--from", "any"],
        &["sg", "remove", "fresh", "ingress", "-p", "tcp", "--port", "80", "--from", "any"],
        &["sg", "delete", "fresh"],
        &["port", "list"],
        &["port", "show", "a"],
        &["port", "stats", "a"],
        &["network", "list"],
        &["network", "show", "web"],
        &["drops"],
        &["flows", "list"],
        &["flows", "flush"],
        &["version"],
    ];
    for args in answers {
        let _ = world.json(args);
    }
    for args in [&["sg", "show", "nosuch"][..], &["sg", "delete", "web"], &["port", "show", "nosuch"]] {
        let failed = world.ctl(&[&["-o", "json"], args].concat());
        let error: serde_json::Value =
            serde_json::from_str(&failed.stderr).unwrap_or_else(|error| panic!("{error}: {failed}"));
        assert!(error["error"].is_string(), "{error}");
    }
}

#[test]
fn ports_and_networks_are_told_in_full() {
    let world = World::running(POLICY);
    let row = world.port_row("a");
    for (key, value) in [("name", "a"), ("network", "web")] {
        assert_eq!(row[key], value, "{row}");
    }
    let text = row.to_string();
    for word in ["10.10.0.10", "fd00:10::a", "client"] {
        assert!(text.contains(word), "no {word} in {row}");
    }
    let link = world.exec("a", &["ip", "-o", "link", "show", "dev", "eth0"]).ok().stdout;
    assert!(link.contains(row["mac"].as_str().expect("a MAC")), "{row} but {link}");
    let networks = world.json(&["network", "list"]);
    let network = rows(&networks, "networks").first().expect("a network").to_string();
    for word in ["web", "10.10.0.0/24", "10.10.0.1", "fd00:10::1"] {
        assert!(network.contains(word), "no {word} in {network}");
    }
}

#[test]
fn a_dry_run_changes_neither_file_nor_traffic() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    let before = world.policy_text();
    let _ = world.ctl(&[&["--dry-run", "sg", "add"], OPEN_80].concat()).ok();
    assert_eq!(world.policy_text(), before);
    world.assert_silent("a", tcp("10.10.0.11:80"));
}

#[test]
fn port_stats_count_what_a_port_sent_and_received() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 22);
    let before = world.json(&["port", "stats", "c"]);
    world.assert_reaches("c", tcp("10.10.0.11:22"));
    let after = world.json(&["port", "stats", "c"]);
    for direction in ["ingress", "egress"] {
        let packets = |stats: &serde_json::Value| stats[direction]["packets"].as_u64().expect("a counter");
        assert!(packets(&after) > packets(&before), "{direction}: {before} {after}");
    }
}

#[test]
fn a_refused_edit_leaves_the_file_and_the_policy() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 22);
    // A person broke the file meanwhile: the command must not pile its edit on that.
    let broken = world.policy_text().replace("type = \"nat\"", "tpye = \"nat\"");
    fs::write(world.policy_path(), &broken).expect("break the file");
    let _ = world.ctl(&[&["sg", "add"], OPEN_80].concat()).fails_with(2).says(&["tpye", "type"]);
    assert_eq!(world.policy_text(), broken);
    world.assert_reaches("c", tcp("10.10.0.11:22"));
}

#[test]
fn edits_made_at_the_same_time_are_all_kept() {
    let world = World::running(POLICY);
    let ports: Vec<String> = (9001..=9008).map(|port: u16| port.to_string()).collect();
    std::thread::scope(|scope| {
        for port in &ports {
            let world = &world;
            scope.spawn(move || {
                world.sg_add(&["web", "ingress", "-p", "tcp", "--port", port, "--from", "any"]);
            });
        }
    });
    let text = world.policy_text();
    for port in &ports {
        assert!(text.contains(port), "lost the rule for {port}:\n{text}");
    }
    eventually("the last edit to be in force", || {
        let shown = world.ctl(&["sg", "show", "web"]).ok().stdout;
        ports.iter().all(|port| shown.contains(port)).then_some(())
    });
}
