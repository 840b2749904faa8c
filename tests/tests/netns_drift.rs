//! What somebody else removes or changes comes back within seconds and is told; meanwhile nothing
//! passes that the policy refuses, neither to another port nor to the host.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use vnet_tests::{
    World, eventually,
    stream::Stream,
    traffic::{ANSWER, Echo, Outcome, ping, tcp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [7000], from = ["any"] },
  { protocol = "icmp", from = ["any"] },
]
egress = [
  { protocol = "tcp", ports = [7000], to = ["any"] },
  { protocol = "udp", ports = [7003, 7005], to = ["sg:web"] },
  { protocol = "icmp", to = ["any"] },
]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["web"]
attach = { netns = "@b", create = true }
"#;

/// A repair takes seconds at most; twice as long on a loaded machine.
const SECONDS: Duration = Duration::from_secs(10);

/// What must never arrive: at the other port (its ingress refuses it) and at the host (the sender's
/// egress does), IPv4 and IPv6.
fn forbidden(world: &World) -> Vec<Stream> {
    let start = |host, to: &str| {
        let address: SocketAddr = to.parse().expect("ADDRESS:PORT");
        let receiver = if host { world.host().clone() } else { world.port("b") };
        Stream::start(&world.port("a"), &receiver, address, 2000)
    };
    vec![
        start(false, "10.10.0.11:7003"),
        start(false, "[fd00:10::b]:7005"),
        start(true, "10.10.0.1:7004"),
        start(true, "[fd00:10::1]:7006"),
    ]
}

/// Asserts that what `damage` does to a running world is put right, and told in an event that says
/// each of `words`; meanwhile nothing forbidden passes.
fn assert_repaired(words: &[&str], damage: impl FnOnce(&World)) {
    let world = World::running(POLICY);
    let _servers = [Echo::serve(&world.port("b"), 7000), Echo::serve(world.host(), 7000)];
    assert_whole(&world);
    let streams = forbidden(&world);
    let last = world.last_event();
    let begin = Instant::now();
    damage(&world);
    let told = world.event(last, "repaired", words);
    let took = begin.elapsed();
    println!("after {took:.1?}: {told}");
    assert_whole(&world);
    for stream in streams {
        let report = stream.finish();
        assert!(report.sent > 0, "the stream ran: {report:?}");
        assert_eq!(report.received, 0, "forbidden packets passed: {report:?}");
    }
    assert!(took < SECONDS, "repaired only after {took:?}");
}

/// The world does all that its policy says. Some of it is told to be repaired before all of it is.
fn assert_whole(world: &World) {
    eventually("the host to reach a", || {
        (ping("10.10.0.10").run(world.host(), Duration::from_secs(1)) == Outcome::Answered).then_some(())
    });
    for to in ["10.10.0.11:7000", "[fd00:10::b]:7000", "10.10.0.1:7000", "[fd00:10::1]:7000"] {
        eventually(to, || {
            (tcp(to).run(&world.port("a"), Duration::from_secs(1)) == Outcome::Answered).then_some(())
        });
    }
    assert_eq!(tcp("10.10.0.11:7000").run(world.host(), ANSWER), Outcome::Answered);
}

fn on_host(world: &World, argv: &[&str]) {
    let _ = world.host_exec(argv).ok();
}

#[test]
fn a_deleted_bridge_comes_back() {
    assert_repaired(&["web"], |world| on_host(world, &["ip", "link", "delete", "vnet-web"]));
}

#[test]
fn a_bridge_that_was_taken_down_comes_up() {
    assert_repaired(&["web"], |world| on_host(world, &["ip", "link", "set", "vnet-web", "down"]));
}

#[test]
fn flushed_addresses_of_a_gateway_come_back() {
    assert_repaired(&["10.10.0.1"], |world| on_host(world, &["ip", "address", "flush", "dev", "vnet-web"]));
}

#[test]
fn a_flushed_workload_gets_its_addresses_back() {
    assert_repaired(&["10.10.0.10"], |world| {
        let _ = world.exec("a", &["ip", "address", "flush", "dev", "eth0", "scope", "global"]).ok();
    });
}

#[test]
fn a_deleted_default_route_of_a_workload_comes_back() {
    let world = World::running(POLICY);
    let last = world.last_event();
    let _ = world.exec("a", &["ip", "route", "delete", "default"]).ok();
    let _ = world.event(last, "repaired", &["route"]);
    let routes = world.exec("a", &["ip", "route", "show", "default"]).ok();
    assert!(routes.stdout.contains("10.10.0.1"), "{routes}");
}

#[test]
fn a_deleted_device_of_a_port_comes_back() {
    assert_repaired(&["a"], |world| on_host(world, &["ip", "link", "delete", &world.device("a")]));
}

#[test]
fn a_device_that_was_taken_from_its_bridge_is_put_back() {
    assert_repaired(&[], |world| on_host(world, &["ip", "link", "set", &world.device("a"), "nomaster"]));
}

#[test]
fn a_device_that_was_taken_down_comes_up() {
    assert_repaired(&[], |world| on_host(world, &["ip", "link", "set", &world.device("a"), "down"]));
}

/// The pins of `folder` (`links` or `maps`) whose name ends in `end`.
fn pins(world: &World, folder: &str, end: &str) -> Vec<PathBuf> {
    let abis =
        fs::read_dir(world.bpffs().join("vnet")).expect("the pins").map(|abi| abi.expect("an ABI").path());
    let files = abis.flat_map(|abi| fs::read_dir(abi.join(folder)).into_iter().flatten());
    let paths = files.map(|file| file.expect("a pin").path());
    paths.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

/// Detaches every link of the program `name` with bpftool.
fn detach(world: &World, name: &str) {
    let pins = pins(world, "links", &format!("-{name}"));
    assert!(!pins.is_empty(), "no link of {name} is pinned");
    for pin in pins {
        on_host(world, &["bpftool", "link", "detach", "pinned", pin.to_str().expect("UTF-8")]);
    }
}

#[test]
fn a_detached_from_port_is_attached_again() {
    assert_repaired(&["from_port"], |world| detach(world, "from_port"));
}

#[test]
fn a_detached_to_port_is_attached_again() {
    assert_repaired(&["to_port"], |world| detach(world, "to_port"));
}

#[test]
fn a_detached_from_host_is_attached_again() {
    assert_repaired(&["from_host"], |world| detach(world, "from_host"));
}

#[test]
fn all_programs_detached_at_once_are_attached_again() {
    let world = World::running(POLICY);
    let _servers = [Echo::serve(&world.port("b"), 7000), Echo::serve(world.host(), 7000)];
    let last = world.last_event();
    // Until they are back nothing of vnet's is in the way of a packet, so nothing is asserted of that time.
    for name in ["to_host", "from_port", "to_port", "from_host"] {
        detach(&world, name);
    }
    world.event(last, "repaired", &["from_port"]);
    assert_whole(&world);
    world.judge(&[("a", tcp("10.10.0.11:7001"), false), ("a", tcp("10.10.0.1:7001"), false)]);
}

#[test]
fn deleted_pins_of_links_come_back() {
    assert_repaired(&[], |world| {
        for pin in pins(world, "links", "") {
            fs::remove_file(pin).expect("remove a pin");
        }
    });
}

fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths
}

#[test]
fn deleted_pins_of_maps_come_back() {
    let mut world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 7000);
    let last = world.last_event();
    let before = sorted(pins(&world, "maps", ""));
    for pin in &before {
        fs::remove_file(pin).expect("remove a pin");
    }
    let told = world.event(last, "repaired", &[]);
    println!("{told}");
    eventually("all of them", || (sorted(pins(&world, "maps", "")) == before).then_some(()));
    // They are the maps that the programs use, not others of the same names.
    world.kill();
    world.start(&[]);
    world.judge(&[("a", tcp("10.10.0.11:7000"), true), ("a", tcp("10.10.0.11:7001"), false)]);
}

#[test]
fn what_was_missed_in_a_flood_of_messages_is_repaired_as_well() {
    assert_repaired(&["10.10.0.1"], |world| {
        // A daemon that does not read loses messages: the kernel says ENOBUFS once it reads again.
        world.signal(Signal::SIGSTOP);
        let change = |n: u32| {
            let (high, low) = (n / 250, n % 250 + 1);
            format!("address add 10.99.{high}.{low}/32 dev lo\naddress delete 10.99.{high}.{low}/32 dev lo\n")
        };
        let batch = world.folder().join("batch");
        fs::write(&batch, (0..5000).map(change).collect::<String>()).expect("write the changes");
        on_host(world, &["ip", "-batch", batch.to_str().expect("UTF-8")]);
        on_host(world, &["ip", "address", "flush", "dev", "vnet-web"]);
        world.signal(Signal::SIGCONT);
    });
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let world = World::running(POLICY);
    let last = world.last_event();
    on_host(&world, &["ip", "link", "add", "other0", "type", "bridge"]);
    on_host(&world, &["ip", "address", "add", "10.99.0.1/24", "dev", "other0"]);
    on_host(&world, &["ip", "address", "add", "10.10.0.2/32", "dev", "vnet-web"]);
    // A repair of vnet's own comes after everything that was done before it.
    on_host(&world, &["ip", "link", "set", "vnet-web", "down"]);
    let _ = world.event(last, "repaired", &[]);
    let addresses = world.host_exec(&["ip", "-oneline", "address"]).ok().stdout;
    assert!(addresses.contains("10.99.0.1/24"), "{addresses}");
}
