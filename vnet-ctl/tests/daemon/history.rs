//! The life of a policy: installed, confirmed or not, rolled back, and what a crash or a full disk does to it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use vnet_ctl::api::types::PolicyInForce;

use crate::{
    process::{Process, eventually, json, two},
    support::in_netns,
    world::World,
};

const ADD: [&str; 10] = ["sg", "add", "web", "ingress", "-p", "tcp", "--port", "99", "--from", "any"];

/// A test with a daemon, the policy that it runs, and another one with the path of its file.
fn with_daemon(test: impl FnOnce(&mut Process<'_>, [String; 2], &str) + Send + 'static) {
    in_netns(move |scratch| {
        let world = World::new(scratch);
        let texts = two(&world);
        let mut daemon = Process::start(world);
        let file = daemon.beside("new.toml", &texts[1]);
        test(&mut daemon, texts, &file);
    });
}

fn withdrawn(daemon: &Process<'_>) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("withdrawn-")).collect()
}

#[test]
fn applying_another_file_makes_its_text_the_policy_file_s() {
    with_daemon(|daemon, [old, new], file| {
        let ended = daemon.ok(1, &["diff", "-f", file]);
        assert!(ended.stdout.contains("group web: rule added: ingress tcp 81 from any"), "{ended:?}");
        daemon.ok(0, &["apply", "-f", file, "--dry-run"]);
        daemon.assert_has(&old);

        daemon.ok(0, &["apply", "-f", file]);

        daemon.assert_has(&new);
        daemon.ok(0, &["diff", "-f", file]);
        assert!(daemon.ok(0, &["apply", "-f", file]).stdout.contains("nothing had to change"));
        assert_eq!(daemon.ctl_with_input(&["apply", "-f", "-"], &old).code, 0);
        daemon.assert_has(&old);
        let exported = daemon.ok(0, &["export"]);
        assert_eq!(exported.stdout, old);
        let exported = json(&daemon.ok(0, &["export", "-o", "json"]));
        let addresses = exported["effective"]["ports"]["web-1"]["addresses"].as_array().unwrap();
        assert_eq!(addresses.len(), 2, "{exported}");
    });
}

#[test]
fn a_policy_that_is_confirmed_in_time_stays() {
    with_daemon(|daemon, [old, new], file| {
        assert!(daemon.ok(5, &["confirm"]).stderr.contains("no policy waits"));
        let ended = daemon.ok(0, &["apply", "-f", file, "--confirm", "30m"]);
        assert!(ended.stderr.contains("30m") && ended.stderr.contains("vnet-ctl confirm"), "{ended:?}");
        daemon.assert_has(&new);
        let left = daemon.status().pending.unwrap().seconds_left;
        assert!((1700..=1800).contains(&left), "{left}");
        for args in [&ADD[..], &["apply", "-f", file]] {
            assert!(daemon.ok(5, args).stderr.contains("vnet-ctl rollback"), "{args:?}");
        }
        daemon.assert_has(&new);

        daemon.ok(0, &["confirm"]);

        assert_eq!(daemon.status().pending, None);
        assert!(!daemon.state_dir().join("pending.json").exists());
        daemon.ok(0, &["rollback"]);
        daemon.assert_has(&old);
    });
}

#[test]
fn a_policy_that_nobody_confirms_goes_by_itself() {
    with_daemon(|daemon, [old, new], file| {
        daemon.ok(0, &["apply", "-f", file, "--confirm", "1s"]);

        eventually("rolled back", || daemon.status().pending.is_none());

        daemon.assert_has(&old);
        assert_eq!(daemon.events("which nobody confirmed").len(), 1);
        let withdrawn = withdrawn(daemon);
        assert_eq!(withdrawn.len(), 1);
        assert_eq!(fs::read_to_string(&withdrawn[0]).unwrap(), new);
        assert!(daemon.ok(5, &["rollback"]).stderr.contains("no previous policy"));
        daemon.ok(0, &ADD);
    });
}

#[test]
fn a_policy_that_waits_is_rolled_back_at_once_when_asked() {
    with_daemon(|daemon, [old, _], file| {
        daemon.ok(0, &["apply", "-f", file, "--confirm", "1h"]);

        daemon.ok(0, &["rollback"]);

        daemon.assert_has(&old);
        assert_eq!(daemon.status().pending, None);
        daemon.ok(5, &["confirm"]);
    });
}

#[test]
fn a_daemon_that_is_killed_rolls_back_when_it_is_back_after_the_deadline() {
    with_daemon(|daemon, [old, new], file| {
        daemon.ok(0, &["apply", "-f", file, "--confirm", "2s"]);
        daemon.kill();
        assert_eq!(daemon.file(), new);
        thread::sleep(Duration::from_millis(2500));

        daemon.start_again(&[]);

        assert_eq!(daemon.in_force(), old, "from its first answer on");
        eventually("rolled back", || daemon.status().pending.is_none());
        daemon.assert_has(&old);
    });
}

#[test]
fn a_daemon_that_is_killed_waits_on_when_it_is_back_in_time() {
    with_daemon(|daemon, [old, new], file| {
        daemon.ok(0, &["apply", "-f", file, "--confirm", "5s"]);
        daemon.kill();
        daemon.start_again(&[]);
        assert!(daemon.status().pending.is_some());
        daemon.assert_has(&new);
        eventually("rolled back", || daemon.status().pending.is_none());
        daemon.assert_has(&old);

        daemon.ok(0, &["apply", "-f", file, "--confirm", "1h"]);
        daemon.kill();
        daemon.start_again(&[]);
        daemon.ok(0, &["confirm"]);
        daemon.kill();
        daemon.start_again(&[]);
        daemon.assert_has(&new);
    });
}

#[test]
fn a_crash_before_the_file_has_the_new_text_leaves_the_old_one() {
    with_daemon(|daemon, [old, _], file| {
        daemon.ok(0, &["apply", "-f", file, "--confirm", "1h"]);
        daemon.kill();
        // As if it had died between the commit and the rename.
        fs::write(daemon.world.policy_path(), &old).unwrap();

        daemon.start_again(&[]);

        daemon.assert_has(&old);
        assert_eq!(daemon.status().pending, None);
        assert!(!daemon.state_dir().join("pending.json").exists());
    });
}

#[test]
fn what_somebody_writes_while_a_policy_waits_comes_after_it() {
    with_daemon(|daemon, [old, new], file| {
        let edited = format!("# edited\n{old}");
        daemon.ok(0, &["apply", "-f", file, "--confirm", "1h"]);
        fs::write(daemon.world.policy_path(), &edited).unwrap();
        eventually("told", || daemon.events("is read once").len() == 1);
        assert_eq!(daemon.in_force(), new);

        daemon.ok(0, &["confirm"]);

        eventually("reloaded", || daemon.in_force() == edited);
        let again = format!("# again\n{old}");
        daemon.ok(0, &["apply", "-f", file, "--confirm", "2s"]);
        fs::write(daemon.world.policy_path(), &again).unwrap();
        eventually("rolled back", || daemon.status().pending.is_none());
        daemon.assert_has(&edited);
        assert_eq!(fs::read_to_string(&withdrawn(daemon)[0]).unwrap(), again, "not lost");
    });
}

#[test]
fn rolling_back_twice_returns_to_where_one_was() {
    with_daemon(|daemon, [old, _], _| {
        assert!(daemon.ok(5, &["rollback"]).stderr.contains("there is no previous policy"));
        daemon.ok(0, &ADD);
        let added = daemon.file();
        assert!(added.contains("99"));

        daemon.ok(0, &["rollback"]);
        daemon.assert_has(&old);
        daemon.ok(0, &["rollback"]);
        daemon.assert_has(&added);

        daemon.kill();
        daemon.start_again(&[]);
        daemon.ok(0, &["rollback"]);
        daemon.assert_has(&old);
    });
}

#[test]
fn a_policy_that_nobody_confirmed_is_not_left_to_the_next_daemon() {
    in_netns(|scratch| {
        let world = World::new(scratch);
        let [old, new] = two(&world);
        let mut daemon = Process::start(world);
        let file = daemon.beside("new.toml", &new);
        daemon.ok(0, &["apply", "-f", &file, "--confirm", "1h"]);
        daemon.kill();

        let report = daemon.world.teardown();

        assert!(report.problems.is_empty(), "{report:?}");
        assert_eq!(daemon.file(), old);
        let left: Vec<_> = fs::read_dir(daemon.state_dir()).unwrap().collect();
        assert_eq!(left.len(), 1, "what was withdrawn: {left:?}");
    });
}

#[test]
fn a_read_only_policy_file_refuses_changes_and_stays_in_force() {
    with_daemon(|daemon, [old, new], file| {
        daemon.ok(0, &["apply", "-f", file]);
        daemon.ok(0, &["rollback"]);
        let generation = daemon.status().generation;
        fs::set_permissions(daemon.world.policy_path(), Permissions::from_mode(0o444)).unwrap();

        for args in
            [&ADD[..], &["apply", "-f", file], &["apply", "-f", file, "--confirm", "1h"], &["rollback"]]
        {
            let ended = daemon.ok(1, args);
            assert!(ended.stderr.contains("read-only") && ended.stderr.contains("chmod"), "{ended:?}");
        }

        daemon.assert_has(&old);
        assert_eq!((daemon.status().generation, daemon.status().pending), (generation, None));
        fs::set_permissions(daemon.world.policy_path(), Permissions::from_mode(0o644)).unwrap();
        daemon.ok(0, &["rollback"]);
        daemon.assert_has(&new);
    });
}

/// A small disk, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=256k", "vnet-test"];
        assert!(Command::new("mount").args(mount).arg(path).status().unwrap().success());
        Self(path.to_owned())
    }

    fn fill(&self) {
        assert!(fs::write(self.0.join("fill"), vec![0; 1 << 20]).is_err(), "full");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_for_the_state_refuses_changes_and_the_old_policy_stays() {
    in_netns(|scratch| {
        let world = World::new(scratch);
        let [old, new] = two(&world);
        let disk = SmallDisk::mount(&world.options().state_dir);
        let mut daemon = Process::start(world);
        let file = daemon.beside("new.toml", &new);
        let generation = daemon.status().generation;
        disk.fill();

        for args in [&ADD[..], &["apply", "-f", &file], &["apply", "-f", &file, "--confirm", "1h"]] {
            let ended = daemon.ok(1, args);
            assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
        }

        daemon.assert_has(&old);
        assert_eq!((daemon.status().generation, daemon.status().pending), (generation, None));
        daemon.kill();
        daemon.start_again(&[]);
        daemon.assert_has(&old);
        fs::remove_file(disk.0.join("fill")).unwrap();
        daemon.ok(0, &["apply", "-f", &file]);
        daemon.assert_has(&new);
        drop(daemon);
        drop(disk);
    });
}

#[test]
fn what_is_asked_of_the_api_directly_is_checked() {
    with_daemon(|daemon, [old, _], _| {
        for secs in [0, 86_401] {
            let body = serde_json::json!({ "text": old, "origin": "x", "confirm_secs": secs });
            assert_eq!(daemon.world.request("POST", "/v1/policy", Some(&body)).0, 400);
        }
        for path in ["/v1/policy/confirm", "/v1/policy/rollback"] {
            assert_eq!(daemon.world.request("POST", path, None).0, 409);
        }
        let policy: PolicyInForce = daemon.world.get("/v1/policy");
        assert_eq!((policy.text, policy.origin), (old, daemon.world.policy_path()));
    });
}
