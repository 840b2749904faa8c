//! The daemon follows its policy file.

use std::{
    fs::{self, File},
    io::Write as _,
    thread,
    time::Duration,
};

use crate::{
    process::{Process, eventually, two},
    support::in_netns,
    world::{World, smaller},
};

fn with_daemon(test: impl FnOnce(&mut Process<'_>, [String; 2]) + Send + 'static) {
    in_netns(move |scratch| {
        let world = World::new(scratch);
        let texts = two(&world);
        test(&mut Process::start(world), texts);
    });
}

#[test]
fn an_edit_is_put_in_force() {
    with_daemon(|daemon, [old, new]| {
        fs::write(daemon.world.policy_path(), &new).unwrap();
        eventually("written", || daemon.in_force() == new);
        let other = daemon.beside("other", &old);
        fs::rename(other, daemon.world.policy_path()).unwrap();
        eventually("replaced", || daemon.in_force() == old);
        assert_eq!(daemon.file(), old);
    });
}

#[test]
fn what_vnet_itself_writes_is_applied_once() {
    with_daemon(|daemon, _| {
        let add = ["sg", "add", "web", "ingress", "-p", "tcp", "--port", "99", "--from", "any"];
        daemon.ok(0, &add);
        // Longer than the reload takes to look at the file.
        thread::sleep(Duration::from_millis(800));
        assert_eq!(daemon.events("in force as generation").len(), 1);
        assert_eq!(daemon.status().generation, 2);
    });
}

#[test]
fn a_broken_edit_is_told_once_and_changes_nothing() {
    with_daemon(|daemon, [old, new]| {
        let broken = new.replace("type = \"private\"", "type = \"privte\"");
        fs::write(daemon.world.policy_path(), &broken).unwrap();
        eventually("told", || !daemon.events("policy.toml:5:").is_empty());
        fs::write(daemon.world.policy_path(), &broken).unwrap();
        thread::sleep(Duration::from_millis(800));
        assert_eq!(daemon.events("policy.toml:5:").len(), 1);
        assert_eq!((daemon.in_force(), daemon.status().generation), (old, 1));

        fs::remove_file(daemon.world.policy_path()).unwrap();
        eventually("told", || daemon.events("is gone").len() == 1);
        fs::write(daemon.world.policy_path(), &new).unwrap();
        eventually("mended", || daemon.in_force() == new);
    });
}

#[test]
fn a_file_that_is_being_written_is_never_applied() {
    with_daemon(|daemon, [old, _]| {
        // Half of it is a valid policy as well.
        let half = smaller(&old);
        let rest = old.strip_prefix(&half).unwrap();
        let mut editor = File::create(daemon.world.policy_path()).unwrap();
        editor.write_all(half.as_bytes()).unwrap();
        editor.sync_all().unwrap();
        eventually("told", || daemon.events("is being written").len() == 1);
        let ended = daemon.ok(5, &["apply"]);
        assert!(ended.stderr.contains("is being written"), "{ended:?}");
        assert_eq!((daemon.in_force(), daemon.status().generation), (old.clone(), 1));

        editor.write_all(rest.as_bytes()).unwrap();
        editor.write_all(b"# the end\n").unwrap();
        drop(editor);
        eventually("whole", || daemon.in_force() == format!("{old}# the end\n"));
        assert_eq!(daemon.status().generation, 1, "no half of it was ever in force");
    });
}

#[test]
fn sighup_reloads_and_ends_only_an_ephemeral_daemon() {
    with_daemon(|daemon, [old, _]| {
        // Something else than the file is in force, as after a raw request.
        assert_eq!(daemon.world.apply(&smaller(&old)).0, 200);
        daemon.signal("HUP");
        eventually("reloaded", || daemon.in_force() == old);
        assert_eq!(daemon.status().ports, 2);
        fs::write(daemon.world.policy_path(), "version = 2\n").unwrap();
        eventually("told", || !daemon.events("is not put in force").is_empty());
        daemon.signal("HUP");
        eventually("told again, as it was asked", || daemon.events("is not put in force").len() == 2);
        fs::write(daemon.world.policy_path(), &old).unwrap();

        daemon.kill();
        daemon.start_again(&["--ephemeral"]);
        daemon.signal("HUP");
        assert_eq!(daemon.wait(), 0);
    });
}

#[test]
fn what_was_written_while_no_daemon_ran_can_be_rolled_back() {
    with_daemon(|daemon, [old, new]| {
        daemon.kill();
        fs::write(daemon.world.policy_path(), &new).unwrap();
        daemon.start_again(&[]);
        daemon.assert_has(&new);
        daemon.ok(0, &["rollback"]);
        daemon.assert_has(&old);
    });
}
