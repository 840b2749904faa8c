//! Trying a policy, keeping it, taking it back: as a person does it at a terminal, also when the
//! daemon dies in the middle; and the policy file, edited under a running daemon.

use std::{
    fs::{self, File},
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use vnet_tests::{
    Finished, World, eventually,
    traffic::{Echo, Outcome, tcp},
};

const POLICY: &str = r#"version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]

[security_groups.web]
# what the web tier offers
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
]

[ports.a]
network = "web"
addresses = ["10.10.0.10"]
security_groups = ["web"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11"]
security_groups = ["web"]
attach = { netns = "@b", create = true }
"#;

/// The policy with port `port` open in place of 80.
fn with_port(world: &World, port: u16) -> String {
    POLICY.replace("[80]", &format!("[{port}]")).replace('@', &world.netns_name(""))
}

/// A running world, echo servers on ports 80, 81 and 82 of b, and the file `new.toml` that opens 81.
fn world() -> (World, [Echo; 3], String) {
    let world = World::running(POLICY);
    let servers = [80, 81, 82].map(|port| Echo::serve(&world.port("b"), port));
    let new = world.folder().join("new.toml");
    fs::write(&new, with_port(&world, 81)).expect("write another policy");
    let new = new.to_str().expect("UTF-8").to_owned();
    (world, servers, new)
}

/// Of the ports 80, 81 and 82, only `port` is open.
fn assert_open(world: &World, port: u16) {
    let cases = [80, 81, 82].map(|other| ("a", tcp(&format!("10.10.0.11:{other}")), other == port));
    world.judge(&cases);
}

/// Waits until `port` is open.
fn open_in_the_end(world: &World, port: u16) {
    let probe = tcp(&format!("10.10.0.11:{port}"));
    eventually(&format!("port {port} to open"), || {
        (probe.run(&world.port("a"), Duration::from_millis(300)) == Outcome::Answered).then_some(())
    });
    assert_open(world, port);
}

#[test]
fn a_policy_that_is_confirmed_stays() {
    let (world, _servers, new) = world();
    let told = world.ctl(&["apply", "-f", &new, "--confirm", "3s"]).ok();
    assert!(told.to_string().contains("confirm"), "one is told what to do: {told}");
    assert_open(&world, 81);
    let _ = world.ctl(&["confirm"]).ok();
    thread::sleep(Duration::from_secs(4));
    assert_open(&world, 81);
    let _ = world.ctl(&["confirm"]).fails_with(5).says(&["confirmation"]);
}

#[test]
fn a_policy_that_nobody_confirms_is_taken_back() {
    let (world, _servers, new) = world();
    let last = world.last_event();
    let begin = Instant::now();
    let _ = world.ctl(&["apply", "-f", &new, "--confirm", "2s"]).ok();
    assert_open(&world, 81);
    let status = world.json(&["status"]).to_string();
    assert!(status.contains("pending"), "it is seen that one is waited for: {status}");
    open_in_the_end(&world, 80);
    assert!(begin.elapsed() >= Duration::from_secs(2), "not before its time: {:?}", begin.elapsed());
    let told = world.event(last, "applied", &["confirm"]);
    println!("{told}");
    let _ = world.ctl(&["confirm"]).fails_with(5);
}

#[test]
fn the_time_to_confirm_runs_out_while_the_daemon_is_dead() {
    let (mut world, _servers, new) = world();
    let _ = world.ctl(&["apply", "-f", &new, "--confirm", "2s"]).ok();
    world.kill();
    thread::sleep(Duration::from_secs(3));
    assert_open(&world, 81);
    world.start(&[]);
    open_in_the_end(&world, 80);
    let _ = world.ctl(&["confirm"]).fails_with(5);
}

#[test]
fn a_daemon_killed_meanwhile_still_takes_back_what_nobody_confirms() {
    let (mut world, _servers, new) = world();
    let begin = Instant::now();
    let _ = world.ctl(&["apply", "-f", &new, "--confirm", "6s"]).ok();
    world.kill();
    world.start(&[]);
    if begin.elapsed() < Duration::from_secs(4) {
        // The wait goes on: the new policy is still being tried.
        assert_open(&world, 81);
    }
    open_in_the_end(&world, 80);
    assert!(begin.elapsed() >= Duration::from_secs(6), "not before its time: {:?}", begin.elapsed());
}

#[test]
fn a_policy_can_be_confirmed_after_the_daemon_was_killed() {
    let (mut world, _servers, new) = world();
    let _ = world.ctl(&["apply", "-f", &new, "--confirm", "10s"]).ok();
    world.kill();
    world.start(&[]);
    let _ = world.ctl(&["confirm"]).ok();
    assert_open(&world, 81);
    thread::sleep(Duration::from_secs(10));
    assert_open(&world, 81);
}

#[test]
fn a_policy_is_taken_back_at_once_by_rollback() {
    let (world, _servers, new) = world();
    let _ = world.ctl(&["apply", "-f", &new, "--confirm", "60s"]).ok();
    let _ = world.ctl(&["rollback"]).ok();
    assert_open(&world, 80);
    let _ = world.ctl(&["confirm"]).fails_with(5);
    let before = world.policy_text();
    let _ = world.ctl(&["apply", "-f", &new]).ok();
    assert_open(&world, 81);
    assert_eq!(world.policy_text(), with_port(&world, 81), "the file says what is in force");
    let _ = world.ctl(&["rollback"]).ok();
    assert_open(&world, 80);
    assert_eq!(world.policy_text(), before);
}

#[test]
fn without_a_previous_policy_there_is_nothing_to_go_back_to() {
    let world = World::running(POLICY);
    let _ = world.ctl(&["rollback"]).fails_with(5).says(&["previous"]);
}

#[test]
fn rollback_survives_a_restart() {
    let (mut world, _servers, _) = world();
    fs::write(world.policy_path(), with_port(&world, 81)).expect("edit the policy");
    let _ = world.ctl(&["apply"]).ok();
    assert_open(&world, 81);
    world.kill();
    world.start(&[]);
    let _ = world.ctl(&["rollback"]).ok();
    assert_open(&world, 80);
}

#[test]
fn a_difference_is_told_in_the_words_of_the_policy() {
    let (world, _servers, new) = world();
    let same = world.ctl(&["diff"]).ok();
    println!("{same}");
    let different = world.ctl(&["diff", "-f", &new]).fails_with(1);
    for word in ["web", "80", "81"] {
        assert!(different.stdout.contains(word), "the difference names {word}: {different}");
    }
    let json = world.ctl(&["-o", "json", "diff", "-f", &new]).fails_with(1).json();
    assert_eq!(json["different"], true, "{json}");
    assert!(json["changes"].as_array().is_some_and(|changes| !changes.is_empty()), "{json}");
    assert_open(&world, 80);
    let last =
        world.policy_text() + "\n[ports.c]\nnetwork = \"web\"\nattach = { netns = \"c\", create = true }\n";
    fs::write(&new, last).expect("write a policy with a port more");
    let port = world.ctl(&["diff", "-f", &new]).fails_with(1);
    assert!(port.stdout.contains("port") && port.stdout.contains('c'), "{port}");
    fs::write(&new, "version = 7").expect("write a broken policy");
    let _ = world.ctl(&["diff", "-f", &new]).fails_with(2).says(&["version"]);
}

#[test]
fn what_is_exported_is_what_is_in_force() {
    let (world, _servers, new) = world();
    assert_eq!(world.ctl(&["export"]).ok().stdout.trim(), world.policy_text().trim());
    let _ = world.ctl(&["apply", "-f", &new]).ok();
    let exported = world.ctl(&["export"]).ok().stdout;
    assert_eq!(exported.trim(), with_port(&world, 81).trim());
    fs::write(&new, &exported).expect("write what was exported");
    let _ = world.ctl(&["diff", "-f", &new]).ok();
    let json: Value = world.json(&["export"]);
    assert!(json.to_string().contains("security_groups"), "{json}");
}

#[test]
fn a_policy_comes_from_standard_input_as_well() {
    let world = World::prepare(POLICY);
    let run = |text: &str| -> Finished {
        let file = world.folder().join("stdin");
        fs::write(&file, text).expect("write the input");
        let script =
            format!("exec {} validate -f - < {}", vnet_tests::binary::vnet_ctl().display(), file.display());
        world.host_exec(&["sh", "-c", &script])
    };
    let _ = run(&world.policy_text()).ok();
    let _ = run("version = 1\nfoo = 1\n").fails_with(2).says(&["foo", ":2:1"]);
}

#[test]
fn the_schema_of_the_policy_file_is_a_json_schema() {
    let world = World::prepare(POLICY);
    let schema = world.ctl(&["schema"]).ok().json();
    assert!(schema["$schema"].as_str().is_some_and(|url| url.contains("json-schema.org")), "{schema}");
    for key in ["networks", "security_groups", "ports", "acl", "prefix_lists", "host"] {
        assert!(schema["properties"][key].is_object(), "no {key} in the schema");
    }
}

#[test]
fn an_edited_file_is_put_in_force() {
    let (world, _servers, _) = world();
    let last = world.last_event();
    // As editors do: a new file takes the name of the old one.
    let beside = world.folder().join("policy.toml~");
    fs::write(&beside, with_port(&world, 81)).expect("write the new file");
    fs::rename(&beside, world.policy_path()).expect("give it the name");
    let _ = world.event(last, "applied", &[]);
    assert_open(&world, 81);
    // As others do: written over.
    let last = world.last_event();
    fs::write(world.policy_path(), with_port(&world, 82)).expect("write over the file");
    let _ = world.event(last, "applied", &[]);
    open_in_the_end(&world, 82);
}

#[test]
fn a_broken_edit_is_told_and_changes_nothing() {
    let (world, _servers, _) = world();
    let generation = world.json(&["status"])["generation"].clone();
    let last = world.last_event();
    fs::write(world.policy_path(), with_port(&world, 81).replace("from =", "form =")).expect("edit");
    let told = world.event(last, "problem", &["form", "policy.toml:"]);
    println!("{told}");
    assert_eq!(world.json(&["status"])["generation"], generation);
    assert_open(&world, 80);
    fs::write(world.policy_path(), with_port(&world, 81)).expect("put it right");
    open_in_the_end(&world, 81);
}

#[test]
fn a_file_that_goes_away_changes_nothing() {
    let (world, _servers, _) = world();
    let last = world.last_event();
    fs::remove_file(world.policy_path()).expect("remove the policy");
    world.signal(Signal::SIGHUP);
    let _ = world.event(last, "problem", &["policy.toml"]);
    assert_open(&world, 80);
    fs::write(world.policy_path(), with_port(&world, 81)).expect("a new one");
    open_in_the_end(&world, 81);
}

#[test]
fn a_signal_has_the_file_read_again() {
    let (world, _servers, _) = world();
    // What a program applied, and did not put into the file, gives way to it.
    let _ = world.api().apply(&with_port(&world, 81)).ok();
    assert_open(&world, 81);
    world.signal(Signal::SIGHUP);
    open_in_the_end(&world, 80);
    let last = world.last_event();
    fs::write(world.policy_path(), "version = 1\nfoo = 1\n").expect("break it");
    world.signal(Signal::SIGHUP);
    let _ = world.event(last, "problem", &["foo"]);
    assert_open(&world, 80);
}

#[test]
fn a_half_written_file_is_never_applied() {
    let (world, _servers, _) = world();
    let text = with_port(&world, 81);
    // The first half is a valid policy of its own, without the ports.
    let (first, rest) = text.split_at(text.find("[ports.a]").expect("the ports"));
    for _ in 0..5 {
        let mut file = File::create(world.policy_path()).expect("open the policy as an editor does");
        file.write_all(first.as_bytes()).expect("write the first half");
        file.sync_all().expect("to the disk");
        thread::sleep(Duration::from_millis(700));
        assert_eq!(world.json(&["status"])["ports"], 2, "half of a file was applied");
        assert!(world.port("a").exists() && world.port("b").exists());
        file.write_all(rest.as_bytes()).expect("write the rest");
        drop(file);
    }
    open_in_the_end(&world, 81);
    let events = world.api().get("/v1/events").ok().json().to_string();
    assert!(!events.contains("remove port"), "{events}");
}
