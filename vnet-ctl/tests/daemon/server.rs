//! The daemon as a service: what it tells its manager, and whom it lets in.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
        process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use vnet_ctl::{api::AccessOptions, daemon::RunOptions};

use crate::{
    support::{Scratch, in_netns},
    world::World,
};

/// Whom no file belongs to.
const NOBODY: u32 = 65534;
/// Long enough for a busy machine, and no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program itself, on an empty policy, with a manager.
fn service(scratch: &Scratch, manager: &UnixDatagram) -> Child {
    let policy = scratch.dir().join("policy.toml");
    fs::write(&policy, "version = 1\n").unwrap();
    let address = manager.local_addr().unwrap();
    Command::new(env!("CARGO_BIN_EXE_vnet-ctl"))
        .args(["run", "--policy", policy.to_str().unwrap(), "--ephemeral"])
        .env("VNET_SOCKET", scratch.dir().join("run/vnet.sock"))
        .env("VNET_STATE_DIR", scratch.dir().join("state"))
        .env("VNET_BPFFS", scratch.bpffs())
        .env("NOTIFY_SOCKET", address.as_pathname().unwrap())
        .env("WATCHDOG_USEC", "200000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn message(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let length = manager.recv(&mut bytes).expect("a message of the daemon's");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn the_service_manager_is_told_from_start_to_end() {
    in_netns(|scratch| {
        let manager = UnixDatagram::bind(scratch.dir().join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut daemon = service(scratch, &manager);

        let first = message(&manager);
        assert!(first.starts_with("STATUS=networks 0, ports 0"), "{first}");
        assert_eq!(message(&manager), "READY=1");
        assert!(scratch.dir().join("run/vnet.sock").exists(), "whoever waits for it can connect");
        for _ in 0..3 {
            assert_eq!(message(&manager), "WATCHDOG=1");
        }
        kill(Pid::from_raw(i32::try_from(daemon.id()).unwrap()), Signal::SIGTERM).unwrap();
        while message(&manager) != "STOPPING=1" {}
        assert!(daemon.wait().unwrap().success());
    });
}

/// What the daemon answers a user without rights, in no group but `group`.
fn ask_as_nobody(world: &World<'_>, method: &str, group: u32) -> String {
    let curl = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
            "--request",
            method,
        ])
        .arg("--unix-socket")
        .arg(world.socket())
        .arg("http://vnet/v1/flows")
        .uid(NOBODY)
        .gid(group)
        .output()
        .expect("run curl");
    String::from_utf8_lossy(if curl.status.success() { &curl.stdout } else { &curl.stderr }).into_owned()
}

#[test]
fn others_get_in_as_far_as_the_daemon_was_told_to_let_them() {
    in_netns(|scratch| {
        fs::set_permissions(scratch.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        let group = nix::unistd::Group::from_gid(NOBODY.into()).unwrap().unwrap().name;
        let readers = |name: &str| AccessOptions { read_groups: vec![name.to_owned()], group: None };
        let writers = AccessOptions { group: Some(group.clone()), ..AccessOptions::default() };
        let table = [
            (AccessOptions::default(), 0o660, [None, None]),
            (readers("any"), 0o666, [Some(200), Some(403)]),
            (readers(&group), 0o666, [Some(200), Some(403)]),
            (writers, 0o660, [Some(200), Some(200)]),
        ];
        for (access, mode, expected) in table {
            let mut world = World::new(scratch);
            world.start(RunOptions { access: access.clone(), ..world.options() });
            let found = fs::metadata(world.socket()).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, mode, "{access:?}");
            assert_eq!(found.gid() == NOBODY, access.group.is_some(), "{access:?}");
            for (method, expected) in ["GET", "DELETE"].into_iter().zip(expected) {
                let answer = ask_as_nobody(&world, method, NOBODY);
                match expected {
                    Some(status) => {
                        assert!(answer.ends_with(&format!("\n{status}")), "{access:?} {method}: {answer}")
                    }
                    None => assert!(answer.contains("curl: (7)"), "{access:?} {method}: {answer}"),
                }
            }
            world.teardown();
            world.kill();
        }
    });
}

#[test]
fn a_group_that_is_not_there_ends_the_start_before_anything_is_touched() {
    in_netns(|scratch| {
        let world = World::new(scratch);
        let access = AccessOptions { group: Some("no-such-group".to_owned()), ..AccessOptions::default() };
        let error = world.run(RunOptions { access, ..world.options() }).unwrap_err();
        assert!(error.to_string().contains("groupadd"), "{error}");
        world.assert_nothing_left();
    });
}

#[test]
fn the_document_is_served_and_names_every_path() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let document: Value = world.get("/v1/openapi.json");
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"]["/v1/policy"]["post"].is_object());
        world.teardown();
    });
}

#[test]
fn who_waits_for_events_does_not_hold_up_the_end() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let handle = world.start(world.options());
        let begun = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| world.request("GET", "/v1/events?after=1000000&wait=true", None));
            thread::sleep(Duration::from_millis(300));
            assert_eq!(world.request("POST", "/v1/shutdown", None).0, 200);
            assert_eq!(waiting.join().unwrap(), (200, b"[]".to_vec()));
        });
        world.runtime.as_ref().unwrap().block_on(handle).unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        world.kill();
        world.teardown();
    });
}
