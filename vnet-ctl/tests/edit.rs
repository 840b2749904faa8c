//! Commands that edit the policy file, against a stand-in daemon that says yes or no.

mod bench;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Stdio,
};

use bench::{Answer, Bench};

const ADD: [&str; 10] = ["sg", "add", "web", "ingress", "-p", "tcp", "--port", "80", "--from", "any"];

#[test]
fn dry_runs_are_json_when_asked_and_say_so() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    for (args, key) in [("apply --dry-run -o json", "valid"), ("flows flush --dry-run -o json", "removed")] {
        let json = bench.run(&args.split(' ').collect::<Vec<_>>()).code(0).json();
        assert_eq!(json["dry_run"], true, "{json}");
        assert!(!json[key].is_null(), "{json}");
    }
}

#[test]
fn lists_of_what_does_not_exist_suggest_what_does() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    for (args, hint) in [
        ("port list --network nosuch", "there are no networks at all"),
        ("flows list --filter port=wbe-1", "did you mean `web-1`?"),
        ("flows flush --dry-run --filter port=wbe-1", "did you mean `web-1`?"),
    ] {
        let ended = bench.run(&args.split(' ').collect::<Vec<_>>()).code(4);
        assert!(ended.stderr.contains(hint), "{args}: {}", ended.stderr);
    }
    bench.run(&["flows", "list", "--filter", "port=web-1"]).code(0);
    bench.run(&["flows", "list", "--filter", "port=host"]).code(0);
}

#[test]
fn a_rule_is_added_to_the_file_once_the_daemon_has_it() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    fs::set_permissions(bench.policy(), fs::Permissions::from_mode(0o640)).unwrap();
    let ended = bench.run(&ADD).code(0);
    assert_eq!(ended.stdout.trim().len(), 8, "{}", ended.stdout);
    assert!(ended.stderr.contains("generation 2"), "{}", ended.stderr);
    let text = bench.text();
    assert_eq!(daemon.texts(), [text.as_str()]);
    for comment in ["# the test policy", "# a comment of its own", "# a comment at the end of a line"] {
        assert!(text.contains(comment), "{text}");
    }
    assert_eq!(fs::metadata(bench.policy()).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(bench.names(), ["policy.toml", "vnet.sock"]);
    let shown = bench.run(&["sg", "show", "web"]).code(0);
    assert!(shown.stdout.contains(ended.stdout.trim()), "{}", shown.stdout);
}

#[test]
fn what_was_added_can_be_removed_by_id_or_by_its_flags() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let id = bench.run(&ADD).code(0).stdout.trim().to_owned();
    bench.run(&["sg", "remove", "web", "--id", &id]).code(0);
    assert_eq!(bench.text(), before);
    bench.run(&ADD).code(0);
    let mut remove = ADD;
    remove[1] = "remove";
    let ended = bench.run(&remove).code(0);
    assert_eq!(ended.stdout, format!("removed {id}\n"));
    assert_eq!(bench.text(), before);
    bench.run(&remove).code(4);
    bench.run(&["sg", "remove", "web", "--id", &id]).code(4);
    bench.run(&["sg", "remove", "web", "--id", &id, "--if-exists"]).code(0);
}

#[test]
fn a_rule_that_is_there_is_a_conflict_unless_that_is_fine() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let id = bench.run(&ADD).code(0).stdout;
    bench.run(&ADD).code(5);
    let again = bench.run(&[&ADD[..], &["--if-not-exists"]].concat()).code(0);
    assert_eq!(again.stdout, id);
    assert_eq!(daemon.texts().len(), 1, "nothing to apply the second time");
    let json = bench.run(&[&ADD[..], &["--if-not-exists", "-o", "json"]].concat()).code(0).json();
    assert_eq!((&json["id"], &json["changed"]), (&id.trim().into(), &false.into()));
}

#[test]
fn a_refusal_of_the_daemon_leaves_everything_as_it_was() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::No);
    let before = bench.text();
    let ended = bench.run(&ADD).code(1);
    assert!(ended.stderr.contains("the kernel said no") && ended.stderr.contains("try another kernel"));
    assert!(ended.stdout.is_empty());
    assert_eq!(
        (bench.text(), bench.names()),
        (before, vec!["policy.toml".to_owned(), "vnet.sock".to_owned()])
    );
}

#[test]
fn a_dry_run_does_not_ask_the_daemon_to_apply() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let ended = bench.run(&[&ADD[..], &["--dry-run"]].concat()).code(0);
    assert!(ended.stdout.contains("\n+"), "{}", ended.stdout);
    assert_eq!((bench.text(), daemon.texts().len()), (before, 0));
}

#[test]
fn two_at_once_both_land() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let children: Vec<_> = (1..=8)
        .map(|port: u16| {
            let port = port.to_string();
            let args = ["sg", "add", "web", "ingress", "-p", "tcp", "--port", &port, "--from", "any"];
            bench.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let json = bench.run(&["sg", "show", "web", "-o", "json"]).code(0).json();
    assert_eq!(json["ingress"].as_array().unwrap().len(), 9);
    assert_eq!(daemon.texts().last(), Some(&bench.text()));
    assert_eq!(bench.names(), ["policy.toml", "vnet.sock"]);
}

#[test]
fn the_target_of_a_symlink_is_edited() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let link = bench.path().join("link.toml");
    symlink(bench.policy(), &link).unwrap();
    bench.run(&[&ADD[..], &["--policy", "link.toml"]].concat()).code(0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_ne!(bench.text(), bench::POLICY);
}

#[test]
fn another_file_than_the_daemons_is_not_put_in_its_place() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    fs::write(bench.path().join("other.toml"), bench::POLICY).unwrap();
    let ended = bench.run(&[&ADD[..], &["--policy", "other.toml"]].concat()).code(5);
    assert!(ended.stderr.contains("other.toml"), "{}", ended.stderr);
    assert!(daemon.texts().is_empty());
}

#[test]
fn groups_come_and_go() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    bench.run(&["sg", "create", "new", "--description", "a new one"]).code(0);
    bench.run(&["sg", "create", "new"]).code(5);
    bench.run(&["sg", "create", "new", "--if-not-exists"]).code(0);
    let json = bench.run(&["sg", "show", "new", "-o", "json"]).code(0).json();
    assert_eq!(json["description"], "a new one");
    bench.run(&["sg", "delete", "new"]).code(0);
    assert_eq!(bench.text(), before);
    bench.run(&["sg", "delete", "new"]).code(4);
    bench.run(&["sg", "rm", "new", "--if-exists"]).code(0);
    bench.run(&["sg", "delete", "web"]).code(5);
    bench.run(&["sg", "add", "none", "ingress", "-p", "tcp", "--from", "any"]).code(4);
}

#[test]
fn apply_hands_over_the_file_as_it_stands() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let ended = bench.run(&["apply"]).code(0);
    assert_eq!(ended.stdout, "applied as generation 2\n  1 rule added\n");
    assert_eq!(daemon.texts(), [bench::POLICY]);
    let json = bench.run(&["apply", "-f", "policy.toml", "-o", "json"]).code(0).json();
    assert_eq!(json["generation"], 3);
    bench.run(&["apply", "--dry-run"]).code(0);
    fs::write(bench.path().join("other.toml"), bench::POLICY).unwrap();
    let ended = bench.run(&["apply", "-f", "other.toml", "--dry-run"]).code(0);
    assert!(ended.stderr.contains("other.toml: valid, not applied"), "{}", ended.stderr);
    assert!(ended.stdout.contains("network back: created"), "{}", ended.stdout);
    assert_eq!(daemon.texts().len(), 2);
}

#[test]
fn applying_another_file_says_where_its_text_goes() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    fs::write(bench.path().join("other.toml"), bench::POLICY).unwrap();
    let ended = bench.run(&["apply", "-f", "other.toml"]).code(0);
    assert!(ended.stderr.contains("policy.toml says so now"), "{}", ended.stderr);
    let ended = bench.run(&["apply", "-f", "policy.toml"]).code(0);
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
}

#[test]
fn a_daemon_that_dies_meanwhile_leaves_the_file_alone() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Hangup);
    let before = bench.text();
    let ended = bench.run(&ADD).code(3);
    assert!(ended.stderr.contains("vnet-ctl apply"), "{}", ended.stderr);
    assert_eq!((bench.text(), bench.names().len()), (before, 2));
}

#[test]
fn empty_answers_are_friendly_to_people_and_programs() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    for args in [["network", "list"], ["flows", "list"]] {
        let ended = bench.run(&args).code(0);
        assert!(ended.stdout.is_empty() && ended.stderr.lines().count() == 1, "{ended:?}");
        let ended = bench.run(&[&args[..], &["-o", "json"]].concat()).code(0);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("[]\n", ""));
        let ended = bench.run(&[&args[..], &["-q"]].concat()).code(0);
        assert!(ended.stderr.is_empty());
    }
    let ended = bench.run(&["drops"]).code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "Nothing was dropped.\n"));
}

#[test]
fn answers_of_the_daemon_become_tables() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let ended = bench.run(&["status"]).code(0);
    assert!(
        ended.stdout.contains("Generation:  1") && ended.stdout.contains("for 1m 1s"),
        "{}",
        ended.stdout
    );
    let ended = bench.run(&["port", "ls"]).code(0);
    let rows: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "NETWORK", "ADDRESSES", "GROUPS", "STATE"]);
    assert_eq!(rows[1], ["web-1", "front", "10.10.0.10,fd00:10::a", "web", "up"]);
    let ended = bench.run(&["port", "ls", "--group", "db"]).code(0);
    assert_eq!(ended.stderr, "No port matches.\n");
    bench.run(&["port", "show", "web-2"]).code(4);
    bench.run(&["port", "stats", "web-2"]).code(4);
}

#[test]
fn a_diff_shows_policy_and_host_and_says_by_its_code_that_there_is_one() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let ended = bench.run(&["diff"]).code(1);
    assert_eq!(
        ended.stdout,
        "network back: created\non the host:\n  create bridge vnet-back of network back\n"
    );
    assert_eq!(bench.run(&["diff", "-o", "json"]).code(1).json()["different"], true);
}
