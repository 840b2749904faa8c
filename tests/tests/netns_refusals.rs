//! What cannot be done is refused with a reason, and the policy in force stays in force: pins that are
//! not what they should be, policies that do not fit, disks that are full, files that cannot be written.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vnet_tests::{
    World,
    soak::size,
    traffic::{ANSWER, Connection, Echo, tcp},
};

const POLICY: &str = r#"version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]

[security_groups.web]
# Kept, whatever commands do to this file.
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },  # the web
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

/// Traffic whose treatment shows which policy is in force.
struct Witness {
    _servers: [Echo; 2],
    connection: Connection,
}

impl Witness {
    fn of(world: &World) -> Self {
        let servers = [80, 81].map(|port| Echo::serve(&world.port("b"), port));
        let connection = Connection::from(&world.port("a"), "10.10.0.11:80");
        Self { _servers: servers, connection }
    }

    /// The first policy is in force, and what was connected still is.
    fn assert_unchanged(&mut self, world: &World) {
        world.judge(&[("a", tcp("10.10.0.11:80"), true), ("a", tcp("10.10.0.11:81"), false)]);
        self.connection.echo(ANSWER).expect("the connection lives on");
    }
}

/// The only folder under which a build has pinned.
fn abi_folder(world: &World) -> PathBuf {
    let entries = fs::read_dir(world.bpffs().join("vnet")).expect("the pins");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<_> = paths.filter(|path| path.join("maps").exists()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.remove(0)
}

fn bpftool(world: &World, args: &[&str]) {
    let _ = world.host_exec(&[&["bpftool"], args].concat()).ok();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_pin_of_another_shape_is_refused() {
    let mut world = World::running(POLICY);
    let mut witness = Witness::of(&world);
    world.kill();
    let pin = abi_folder(&world).join("maps/PORTS");
    let kept = pin.with_file_name("KEPT");
    fs::rename(&pin, &kept).expect("put the real pin aside");
    // Another type, other sizes, fewer entries; and what nobody would see without comparing.
    for shape in [
        ["type", "array", "key", "4", "value", "8", "entries", "1"],
        ["type", "hash", "key", "8", "value", "4", "entries", "8192"],
        ["type", "hash", "key", "4", "value", "4", "entries", "8192"],
    ] {
        let made = [&["map", "create", text(&pin)][..], &shape, &["name", "PORTS"]].concat();
        bpftool(&world, &made);
        let refused = world.run_to_end(&[]).refused().says(&["PORTS", "teardown"]);
        println!("{shape:?}: {}", refused.stderr.trim());
        witness.assert_unchanged(&world);
        fs::remove_file(&pin).expect("remove the wrong pin");
    }
    fs::rename(&kept, &pin).expect("put the real pin back");
    world.start(&[]);
    witness.assert_unchanged(&world);
}

#[test]
fn a_datapath_whose_flows_are_not_understood_stays_in_force() {
    let mut world = World::running(POLICY);
    let mut witness = Witness::of(&world);
    world.kill();
    let own = abi_folder(&world);
    let other = own.with_file_name("v77");
    fs::rename(&own, &other).expect("give the pins another version");
    let control = other.join("maps/CONTROL");
    let layout = |bytes: &str| {
        let bytes = ["2", "0", "0", "0", bytes, "0", "0", "0"];
        let update =
            ["map", "update", "pinned", text(&control), "key", "hex", "0", "0", "0", "0", "value", "hex"];
        bpftool(&world, &[&update[..], &bytes].concat());
    };
    layout("9");
    let refused = world.run_to_end(&[]).refused().says(&["v77", "teardown"]);
    println!("{}", refused.stderr.trim());
    assert!(other.join("maps").exists(), "nothing of it was removed");
    // Of a layout that is understood, it is carried over.
    layout("1");
    world.start(&[]);
    witness.assert_unchanged(&world);
    assert!(!other.exists(), "the other version's pins are gone");
}

/// `POLICY` and a group with a rule from `prefixes` addresses to `ports`.
fn large(world: &World, prefixes: u32, ports: &str) -> String {
    let mut list = String::new();
    for n in 0..prefixes {
        let _ = write!(list, "\"{}/32\",", std::net::Ipv4Addr::from_bits((11 << 24) + n * 2));
    }
    let rule = format!("{{ protocol = \"tcp\", ports = [{ports}], from = [\"list:many\"] }},\n]");
    POLICY
        .replacen("]\n\n[ports.a]", &format!("  {rule}\n\n[ports.a]"), 1)
        .replace('@', &world.netns_name(""))
        + &format!("\n[prefix_lists]\nmany = [{list}]\n")
}

#[test]
fn a_policy_that_is_too_large_is_refused_whole() {
    let world = World::running(POLICY);
    let mut witness = Witness::of(&world);
    let generation = world.json(&["status"])["generation"].clone();
    let file = world.folder().join("large.toml");
    for (what, prefixes, ports) in [
        ("prefixes", 70_000, "443"),
        // Thirty blocks for each of them.
        ("rules", 40_000, "\"1-65534\""),
    ] {
        fs::write(&file, large(&world, prefixes, ports)).expect("write a large policy");
        let refused = world.ctl(&["apply", "-f", text(&file)]).refused();
        println!("too many {what}: {}", refused.stderr.trim());
        let told = refused.stderr.to_lowercase();
        assert!(told.contains("room for"), "{refused}");
        witness.assert_unchanged(&world);
    }
    assert_eq!(world.json(&["status"])["generation"], generation);
    fs::write(&file, large(&world, 1000, "81")).expect("write a smaller policy");
    let _ = world.ctl(&["apply", "-f", text(&file)]).ok();
}

/// A file system of its own; taken down when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_for_the_state_changes_nothing() {
    let mut world = World::prepare(POLICY);
    let folder = world.state_dir();
    fs::create_dir_all(&folder).expect("the state folder");
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).expect("mount a tmpfs");
    let disk = Mounted(folder.clone());
    world.start(&[]);
    let mut witness = Witness::of(&world);
    let ballast = folder.join("ballast");
    // As much as there is room for, and then byte by byte.
    let _ = fs::write(&ballast, vec![0; 16 << 20]);

    let generation = world.json(&["status"])["generation"].clone();
    let new = world.folder().join("new.toml");
    let port = "\n[ports.c]\nnetwork = \"web\"\nattach = { netns = \"@c\", create = true }\n";
    let more = (POLICY.to_owned() + port).replace("[80]", "[80, 81]").replace('@', &world.netns_name(""));
    fs::write(&new, &more).expect("write a policy");
    let refused = world.ctl(&["apply", "-f", text(&new)]).refused().says(&["space", text(&folder)]);
    println!("{}", refused.stderr.trim());
    witness.assert_unchanged(&world);
    assert_eq!(world.json(&["status"])["generation"], generation);
    assert!(!world.port("c").exists(), "nothing of it was made");
    let put = serde_json::json!({ "network": "web", "attach": { "netns": world.netns_name("d"), "create": true }, "origin": "test" });
    let answer = world.api().put("/v1/ports/d", &put);
    assert!(answer.status >= 400 && answer.body.contains("space"), "{answer:?}");
    assert!(!world.port("d").exists());

    // A daemon that is started meanwhile cannot keep what it must, and says so, or needs to keep nothing.
    world.kill();
    world.start(&[]);
    witness.assert_unchanged(&world);
    fs::remove_file(&ballast).expect("make room");
    let _ = world.ctl(&["apply", "-f", text(&new)]).ok();
    world.assert_reaches("c", tcp("10.10.0.11:81"));
    world.stop();
    let _ = world.teardown().ok();
    drop(disk);
}

#[test]
fn a_policy_file_that_cannot_be_written_stays_as_it_is() {
    let world = World::running(POLICY);
    let mut witness = Witness::of(&world);
    let before = world.policy_text();
    let path = world.policy_path();
    let flags = MsFlags::MS_BIND;
    mount(Some(&path), &path, None::<&str>, flags, None::<&str>).expect("bind the file to itself");
    let read_only = Mounted(path.clone());
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &path, None::<&str>, flags, None::<&str>).expect("make it read-only");
    let refused = world.ctl(&["sg", "add", "web", "ingress", "-p", "tcp", "--port", "81", "--from", "any"]);
    let refused = refused.refused().says(&["policy.toml"]);
    println!("{}", refused.stderr.trim());
    drop(read_only);
    assert_eq!(world.policy_text(), before);
    witness.assert_unchanged(&world);
    let left: Vec<_> =
        fs::read_dir(world.folder()).expect("the folder").map(|e| e.expect("an entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("policy.toml.")), "{left:?}");
    world.sg_add(&["web", "ingress", "-p", "tcp", "--port", "81", "--from", "any"]);
    world.assert_reaches("a", tcp("10.10.0.11:81"));
}

#[test]
fn commands_from_two_shells_at_once_are_both_there() {
    let world = World::running(POLICY);
    let rounds = size(8_u16, 60);
    thread::scope(|scope| {
        for shell in 0..2 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..rounds {
                    let port = (1000 + shell * 1000 + round).to_string();
                    world.sg_add(&["web", "ingress", "-p", "tcp", "--port", &port, "--from", "any"]);
                }
            });
        }
    });
    let file = world.policy_text();
    for comment in ["# Kept, whatever commands do to this file.", "# the web"] {
        assert!(file.contains(comment), "{file}");
    }
    let shown = world.json(&["sg", "show", "web"]);
    let in_force = world.api().get("/v1/policy").ok().json();
    assert_eq!(in_force["text"], file, "the file and what is in force are the same");
    for shell in 0..2 {
        for round in 0..rounds {
            let port = (1000 + shell * 1000 + round).to_string();
            assert!(file.contains(&port), "port {port} is not in the file:\n{file}");
            assert!(shown.to_string().contains(&port), "port {port} is not shown: {shown}");
        }
    }
    let _ = world.ctl(&["validate"]).ok();
}
