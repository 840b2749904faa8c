//! The daemon killed at random instants, and replaced by other builds, under traffic: no connection
//! is lost, nothing forbidden passes, and the longest silence is told.
//!
//! `VNET_SOAK=1` runs 100 rounds and 20 upgrades; `VNET_SEED` repeats a run.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;
use vnet_tests::{
    World, binary,
    crowd::{Crowd, CrowdReport},
    random::Random,
    soak::size,
    stream::Stream,
    traffic::tcp,
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.talk]
ingress = [{ protocol = "tcp", ports = [7000], from = ["sg:talk"] }]
egress = [
  { protocol = "tcp", ports = [7000], to = ["sg:talk"] },
  { protocol = "udp", ports = [7003], to = ["sg:talk"] },
]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["talk"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["talk"]
attach = { netns = "@b", create = true }
"#;

/// Connections that must live through everything.
const CONNECTIONS: usize = 200;
/// The longest time that a daemon runs before it is killed.
const LONGEST_LIFE: Duration = Duration::from_millis(400);

/// Traffic that must never stop, and traffic that must never pass.
struct Traffic {
    crowds: [Crowd; 2],
    /// Refused by the receiver's ingress, and by the sender's egress on its way to the host.
    forbidden: [Stream; 2],
}

impl Traffic {
    fn begin(world: &World) -> Self {
        let (a, b) = (world.port("a"), world.port("b"));
        let at = |text: &str| -> SocketAddr { text.parse().expect("ADDRESS:PORT") };
        Self {
            crowds: [
                Crowd::open(&a, &b, at("10.10.0.11:7000"), CONNECTIONS * 3 / 4),
                Crowd::open(&b, &a, at("[fd00:10::a]:7000"), CONNECTIONS / 4),
            ],
            forbidden: [
                Stream::start(&a, &b, at("10.10.0.11:7003"), 2000),
                Stream::start(&a, world.host(), at("10.10.0.1:7004"), 2000),
            ],
        }
    }

    /// The longest silence of a connection since this was asked last.
    fn gap(&self) -> Duration {
        self.crowds.iter().map(Crowd::gap_since_last_asked).max().unwrap_or_default()
    }

    /// Asserts that all of it went as it must.
    fn end(self, what: &str) {
        let reports = self.crowds.map(Crowd::finish);
        for CrowdReport { connections, lost, longest_gap, received_bytes } in &reports {
            println!(
                "{what}: {connections} connections, {received_bytes} bytes, longest gap {longest_gap:.1?}"
            );
            assert!(lost.is_empty(), "{} of {connections} lost:\n{}", lost.len(), lost.join("\n"));
        }
        for report in self.forbidden.map(Stream::finish) {
            println!("{what}: {} forbidden packets sent, {} arrived", report.sent, report.received);
            assert_eq!(report.received, 0, "forbidden packets passed: {report:?}");
            assert!(report.sent > 0, "{report:?}");
        }
    }
}

/// Changes rules that no connection needs, for as long as `work` takes; gives how many changes the
/// daemons agreed to.
fn under_changes<T>(world: &mut World, work: impl FnOnce(&mut World) -> T) -> (T, u32) {
    let (stop, agreed) = (AtomicBool::new(false), AtomicU32::new(0));
    let text = POLICY.replace('@', &world.netns_name(""));
    let mut api = world.api();
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            for port in (10_000..60_000_u32).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let rule =
                    format!("ingress = [{{ protocol = \"tcp\", ports = [{port}], from = [\"any\"] }}, ");
                let text = text.replacen("ingress = [", &rule, 1);
                let body = json!({ "text": text, "origin": "policy.toml" });
                // The daemon may be dead, or die while it answers.
                match api.try_call("POST", "/v1/policy", Some(&body)) {
                    Ok(answer) if answer.status == 200 => drop(agreed.fetch_add(1, Ordering::Relaxed)),
                    Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        // A panic must end the changes as well, or the scope waits for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(world)));
        stop.store(true, Ordering::Relaxed);
        done
    });
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    (done, agreed.into_inner())
}

/// What a world that lives through this is still able to do.
fn assert_alive(world: &World) {
    let _servers = [7000, 7005].map(|port| vnet_tests::traffic::Echo::serve(&world.port("b"), port));
    world.judge(&[("a", tcp("10.10.0.11:7000"), true), ("a", tcp("10.10.0.11:7005"), false)]);
}

#[test]
fn a_daemon_killed_at_any_instant_costs_no_connection() {
    let rounds = size(12, 100);
    let mut random = Random::told();
    let mut world = World::running(POLICY);
    let traffic = Traffic::begin(&world);
    let _ = traffic.gap();
    let ((in_start, slowest), changes) = under_changes(&mut world, |world| {
        let (mut in_start, mut slowest) = (0, LONGEST_LIFE);
        for round in 0..rounds {
            thread::sleep(random.up_to(LONGEST_LIFE));
            world.kill();
            // Each third daemon does not even live to the end of its start.
            if round % 3 == 0 {
                world.spawn(&[]);
                thread::sleep(random.up_to(slowest));
                world.kill();
                in_start += 1;
            }
            world.spawn(&[]);
            slowest = slowest.max(world.wait_until_ready());
            println!("round {round}: longest gap {:.1?}", traffic.gap());
        }
        (in_start, slowest)
    });
    println!("{rounds} kills, {in_start} more in a start, {changes} changes; slowest start {slowest:.1?}");
    assert!(changes > 0, "no change was made at all");
    traffic.end("kill -9");
    assert_alive(&world);
}

#[test]
fn a_daemon_of_another_build_costs_no_connection() {
    let rounds = size(4, 20);
    let mut world = World::running(POLICY);
    let builds = [binary::other_build(), binary::vnet_ctl()];
    let traffic = Traffic::begin(&world);
    let _ = traffic.gap();
    let mut seen = Vec::new();
    for (round, build) in builds.iter().cycle().take(rounds).enumerate() {
        // Every second daemon has no chance to prepare for its end.
        if round % 2 == 0 {
            world.kill();
        } else {
            assert!(world.stop().success());
        }
        world.install(build);
        world.spawn(&[]);
        let took = world.wait_until_ready();
        let folders = abi_folders(world.bpffs());
        println!("upgrade {round}: start {took:.1?}, longest gap {:.1?}, pins {folders:?}", traffic.gap());
        assert_eq!(folders.len(), 1, "pins of one build only: {folders:?}");
        seen.extend(folders);
        thread::sleep(Duration::from_millis(300));
    }
    seen.dedup();
    println!("{rounds} upgrades; pin folders in turn: {seen:?}");
    assert_eq!(seen.len(), rounds, "the other build has an ABI of its own: {seen:?}");
    traffic.end("upgrade");
    assert_alive(&world);
}

#[test]
fn an_upgrade_that_is_killed_half_way_is_finished_by_the_next() {
    let rounds = size(4, 20);
    let mut random = Random::told();
    let mut slowest = LONGEST_LIFE;
    let mut world = World::running(POLICY);
    let builds = [binary::other_build(), binary::vnet_ctl()];
    let traffic = Traffic::begin(&world);
    for (round, build) in builds.iter().cycle().take(rounds).enumerate() {
        world.kill();
        world.install(build);
        world.spawn(&[]);
        thread::sleep(random.up_to(slowest));
        world.kill();
        // Forward with the same build, or back to the one before.
        if random.within(0..2) == 0 {
            world.install(builds[(round + 1) % 2]);
        }
        world.spawn(&[]);
        slowest = slowest.max(world.wait_until_ready());
        println!("round {round}: longest gap {:.1?}", traffic.gap());
    }
    traffic.end("upgrade killed half-way");
    assert_alive(&world);
}

/// The names of the folders below `bpffs` under which a build pins: `v` and its ABI.
fn abi_folders(bpffs: &Path) -> Vec<String> {
    let read =
        |path: &Path| fs::read_dir(path).expect("a folder in bpffs").map(|entry| entry.expect("an entry"));
    let names = read(&bpffs.join("vnet")).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_abi = |name: &String| name.strip_prefix('v').is_some_and(|abi| abi.parse::<u32>().is_ok());
    names.filter(is_abi).collect()
}
