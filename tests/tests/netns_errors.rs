//! Bad input and bad surroundings: a message that names the place and the remedy, the exit code of
//! its kind, and nothing changed.

use std::{fs, process::Command};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::os::unix::process::CommandExt as _;

use vnet_tests::{Finished, World, binary, process::finish};

const POLICY: &str = r#"version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[prefix_lists]
office = ["203.0.113.0/24"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@a", create = true }
"#;

/// What a person mistypes: the words replaced, by which, and what the message must say.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    ("version = 1", "version = 2", &["version", ":1:"]),
    ("version = 1", "", &["version"]),
    ("version = 1", "version = 1\nfoo = 1", &["foo", ":2:1"]),
    ("type = \"nat\"", "tipe = \"nat\"", &["tipe", "type", ":4:1"]),
    ("type = \"nat\"", "type = \"gnat\"", &["gnat", "nat", ":4:"]),
    ("type = \"nat\"", "type = 7", &["type", ":4:"]),
    ("type = \"nat\"", "type = \"nat\"\nmtu = 100", &["100", "1280", ":5:"]),
    ("10.10.0.0/24", "10.10.0.1/24", &["10.10.0.1/24", "10.10.0.0/24", ":5:"]),
    ("10.10.0.0/24", "10.10.0.0/40", &["10.10.0.0/40", ":5:"]),
    ("10.10.0.0/24", "lan", &["lan", ":5:"]),
    ("\"fd00:10::/64\"]", "\"10.10.0.128/25\"]", &["10.10.0.128/25", "overlap", "10.10.0.0/24"]),
    ("203.0.113.0/24", "203.0.113.9/24", &["203.0.113.9/24", "203.0.113.0/24", ":8:"]),
    ("protocol = \"tcp\"", "protocol = \"tpc\"", &["tpc", "tcp", ":12:"]),
    ("ports = [80]", "ports = [0]", &["0", ":12:"]),
    ("ports = [80]", "ports = [70000]", &["70000", "65535", ":12:"]),
    ("ports = [80]", "ports = [\"90-80\"]", &["90-80", ":12:"]),
    ("ports = [80]", "prots = [80]", &["prots", "ports", ":12:"]),
    ("from = [\"any\"]", "from = [\"sg:wbe\"]", &["wbe", "web", ":12:"]),
    ("from = [\"any\"]", "from = [\"net:wbe\"]", &["wbe", "web", ":12:"]),
    ("from = [\"any\"]", "from = [\"list:ofice\"]", &["ofice", "office", ":12:"]),
    ("from = [\"any\"]", "from = [\"10.0.0.1/8\"]", &["10.0.0.1/8", "10.0.0.0/8", ":12:"]),
    ("from = [\"any\"]", "to = [\"any\"]", &["to", "from", ":12:"]),
    ("network = \"web\"", "network = \"wbe\"", &["wbe", "web", ":16:"]),
    ("\"10.10.0.10\"", "\"10.20.0.10\"", &["10.20.0.10", "10.10.0.0/24", ":17:"]),
    ("\"10.10.0.10\"", "\"10.10.0.1\"", &["10.10.0.1", "gateway", ":17:"]),
    ("\"10.10.0.10\"", "\"10.10.0.255\"", &["10.10.0.255", ":17:"]),
    ("\"10.10.0.10\"", "\"10.10.0.300\"", &["10.10.0.300", ":17:"]),
    ("\"10.10.0.10\", ", "\"10.10.0.10\", \"10.10.0.10\", ", &["10.10.0.10", ":17:"]),
    ("security_groups = [\"web\"]", "security_groups = [\"wbe\"]", &["wbe", "web", ":18:"]),
    ("security_groups = [\"web\"]", "mac = \"02:00\"", &["02:00", ":18:"]),
    ("security_groups = [\"web\"]", "mac = \"03:00:00:00:00:01\"", &["03:00:00:00:00:01", ":18:"]),
    ("netns = \"@a\"", "netsn = \"@a\"", &["netsn", "netns", ":19:"]),
    ("create = true", "create = \"yes\"", &["create", ":19:"]),
    ("create = true", "create = true, name = \"an-interface-name\"", &["an-interface-name", "15", ":19:"]),
    ("[networks.web]", "[networks.a-network-name]", &["a-network-name", "10"]),
    ("[networks.web]", "[networks.web", &[":3:"]),
    // Known, and not there yet: never silently ignored.
    ("type = \"nat\"", "type = \"bridged\"", &["no `uplink`", ":3:"]),
    ("type = \"nat\"", "type = \"nat\"\nvlan = 10", &["vlan", "no `trunk`", ":5:"]),
    ("type = \"nat\"", "type = \"nat\"\nuplink = \"eth 0\"", &["eth 0", ":5:"]),
    ("netns = \"@a\", create = true", "tap = \"a/b\"", &["a/b", ":19:"]),
    ("netns = \"@a\", create = true", "container = \"c\"", &["container", "not supported yet", ":19:"]),
    ("version = 1", "version = 1\n[host]\nfailsafe_ports = [\"icmp/8\"]", &["cannot be failsafe", ":3:"]),
    ("version = 1", "version = 1\n[[acl]]\naction = \"deny\"", &["acl", "no `direction`", ":2:"]),
    ("version = 1", "version = 1\n[[forwards]]\nlisten = \"0.0.0.0:80\"", &["forward", "protocol", ":2:"]),
    (
        "version = 1",
        "version = 1\n[elastic_ips]\n\"198.51.100.20\" = { port = \"nobody\" }",
        &["nobody", ":3:"],
    ),
    ("version = 1", "version = 1\n[[metadata]]\nnetwork = \"web\"", &["metadata", "listen", ":2:"]),
];

#[test]
fn each_mistake_in_the_file_is_told_with_its_place() {
    let world = World::prepare(POLICY);
    let _ = world.ctl(&["validate"]).ok();
    let mut missed = Vec::new();
    for (right, wrong, words) in MISTAKES {
        assert!(POLICY.contains(right), "{right:?} is in the policy");
        world.write_policy(&POLICY.replacen(right, wrong, 1));
        let told = world.ctl(&["validate"]);
        let text = told.stderr.to_lowercase();
        let lacks: Vec<_> = words.iter().filter(|word| !text.contains(&word.to_lowercase())).collect();
        if told.code != Some(2) || !lacks.is_empty() || !text.contains("policy.toml") {
            missed.push(format!("{right} -> {wrong} lacks {lacks:?}: {told}"));
        }
    }
    assert!(missed.is_empty(), "{} of {}:\n{}", missed.len(), MISTAKES.len(), missed.join("\n"));
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let world = World::prepare(
        &POLICY.replace("ports = [80]", "ports = [0]").replace("\"10.10.0.10\"", "\"10.9.0.1\""),
    );
    let _ = world.ctl(&["validate"]).fails_with(2).says(&[":12:", ":17:", "10.9.0.1"]);
}

#[test]
fn two_ports_with_one_address_name_or_mac_are_refused() {
    let second = |line: &str| {
        let attach = "attach = { netns = \"@b\", create = true }";
        format!("{POLICY}\n[ports.b]\nnetwork = \"web\"\n{line}\n{attach}\n")
    };
    let world = World::prepare(POLICY);
    for (line, words) in [
        ("addresses = [\"10.10.0.10\"]", ["10.10.0.10", "a", ":23:"]),
        ("addresses = [\"fd00:10::a\"]", ["fd00:10::a", "a", ":23:"]),
    ] {
        world.write_policy(&second(line));
        let _ = world.ctl(&["validate"]).fails_with(2).says(&words);
    }
    let mac = "mac = \"02:00:00:00:00:01\"";
    world.write_policy(&second(mac).replacen("security_groups = [\"web\"]", mac, 1));
    let _ = world.ctl(&["validate"]).fails_with(2).says(&["02:00:00:00:00:01"]);
    world.write_policy(&format!(
        "{POLICY}\n[networks.two]\ntype = \"private\"\nsubnets = [\"10.10.0.0/16\"]\n"
    ));
    let _ = world.ctl(&["validate"]).fails_with(2).says(&["10.10.0.0/16", "10.10.0.0/24", "web", "overlap"]);
}

/// Asserts that a daemon started as `start` does is refused and changes nothing.
fn assert_refused(world: &World, words: &[&str], start: impl FnOnce(&World) -> Finished) -> Finished {
    let before = world.snapshot();
    let finished = start(world).refused().says(words);
    before.assert_same(&world.snapshot());
    assert!(!world.socket().exists(), "no socket of a daemon that is not there");
    finished
}

#[test]
fn an_invalid_policy_stops_the_start() {
    for (right, wrong, word) in [
        ("type = \"nat\"", "tipe = \"nat\"", "tipe"),
        ("ports = [80]", "ports = [70000]", "70000"),
        ("create = true", "create = ", "policy.toml"),
    ] {
        let world = World::prepare(&POLICY.replace(right, wrong));
        let refused = assert_refused(&world, &[word, "policy.toml:"], |world| world.run_to_end(&[]));
        assert_eq!(refused.code, Some(2), "{refused}");
    }
}

#[test]
fn an_empty_policy_is_told_what_it_needs() {
    let world = World::prepare("");
    let refused = assert_refused(&world, &["policy.toml", "version = 1"], |world| world.run_to_end(&[]));
    assert_eq!(refused.code, Some(2), "{refused}");
}

#[test]
fn a_missing_policy_is_told_by_its_path() {
    let world = World::prepare(POLICY);
    fs::remove_file(world.policy_path()).expect("remove the policy");
    let path = world.policy_path();
    let path = path.to_str().expect("a path in UTF-8");
    assert_refused(&world, &[path], |world| world.run_to_end(&[]));
    let _ = world.ctl(&["validate"]).refused().says(&[path]);
}

#[test]
fn a_folder_or_bytes_for_a_policy_are_told_by_their_path() {
    let world = World::prepare(POLICY);
    fs::write(world.policy_path(), [0xff, 0xfe, 0, 1]).expect("write bytes");
    let _ = world.ctl(&["validate"]).refused().says(&["policy.toml", "UTF-8"]);
    fs::remove_file(world.policy_path()).expect("remove the policy");
    fs::create_dir(world.policy_path()).expect("a folder in its place");
    assert_refused(&world, &["policy.toml", "directory"], |world| world.run_to_end(&[]));
}

#[test]
fn an_unknown_device_is_told_at_the_start_and_refused_in_an_edit() {
    let attach = "attach = { device = \"nosuch0\" }";
    let policy = format!("{POLICY}\n[ports.b]\nnetwork = \"web\"\naddresses = [\"10.10.0.11\"]\n{attach}\n");
    let mut world = World::prepare(&policy);
    world.start(&[]);
    assert_eq!(world.port_row("b")["state"], "missing");
    let told = world.ctl(&["monitor", "--past"]).ok().stdout;
    assert!(told.contains("nosuch0"), "{told}");
    let again = policy.replace("nosuch0", "nosuch1").replace('@', &world.netns_name(""));
    let other = world.folder().join("other.toml");
    fs::write(&other, again).expect("written");
    let refused = world.ctl(&["apply", "-f", &other.to_string_lossy()]).refused();
    let _ = refused.says(&["nosuch1", "b"]);
}

#[test]
fn without_root_one_is_told_to_become_root() {
    let world = World::prepare(POLICY);
    let binary = binary::copy_to(world.folder());
    assert_refused(&world, &["root"], |world| {
        let mut command = world.host().command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.arg("--policy").arg(world.policy_path()).arg("--socket").arg(world.socket()).arg("run");
        world.add_folders(&mut command);
        finish(command)
    });
}

#[test]
fn without_bpffs_one_is_told_how_to_mount_it() {
    let world = World::prepare(POLICY);
    let folder = world.folder().join("not-bpffs");
    fs::create_dir(&folder).expect("an ordinary folder");
    assert_refused(&world, &["bpf", "mount", folder.to_str().expect("UTF-8")], |world| {
        let mut command = world.ctl_command(&["run", "--state-dir"]);
        command.arg(world.state_dir()).arg("--bpffs").arg(&folder);
        finish(command)
    });
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 0, "nothing was put there");
}

#[test]
fn a_kernel_without_btf_is_told_apart() {
    let world = World::prepare(POLICY);
    let empty = world.folder().join("empty");
    fs::create_dir(&empty).expect("an empty folder");
    assert_refused(&world, &["BTF"], |world| {
        let mut command = world.run_command(&[]);
        hide(&mut command, "/sys/kernel/btf", empty);
        finish(command)
    });
}

/// Has `command` see the empty folder `nothing` in place of `path`.
fn hide(command: &mut Command, path: &'static str, nothing: std::path::PathBuf) {
    // SAFETY: between fork and exec the closure makes three system calls; `mount` copies short paths
    // to its stack and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            mount(Some(&nothing), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        });
    }
}

#[test]
fn clients_without_a_daemon_say_how_to_start_one() {
    let world = World::prepare(POLICY);
    for args in [&["status"][..], &["port", "list"], &["drops"], &["flows", "list"]] {
        let _ = world.ctl(args).fails_with(3).says(&["vnet-ctl run"]);
    }
    let _ = world.ctl(&["-o", "json", "status"]).fails_with(3).says(&["\"error\""]);
}

#[test]
fn the_socket_is_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::running(POLICY);
    let mode = fs::metadata(world.socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    let binary = binary::copy_to(world.folder());
    let mut command = world.host().command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    command.arg("--socket").arg(world.socket()).arg("status");
    let _ = finish(command).refused();
}
