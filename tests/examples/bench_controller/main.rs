//! Measures the controller in namespaces of its own; `cargo xtask bench controller` builds it, runs
//! it and prints what it found.
//!
//! What is measured is what a person or a runtime waits for: from outside, through the command line
//! and the API of the binary that `VNET_CTL` names. Stage times are the daemon's own, where its
//! answer has them. Standard output gets one JSON array; progress goes to standard error.

mod scale;

use std::{
    env,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vnet_tests::{World, api::Api, crowd::Crowd, random::Random, rules::RulePool};

/// Requests for ports that are under way at one time.
const IN_FLIGHT: usize = 16;
/// How often a small change is made, of which the median counts.
const CHANGES: usize = 21;
/// TCP connections that live through the kills.
const CONNECTIONS: usize = 200;
/// The longest that a daemon lives before it is killed.
const LONGEST_LIFE: Duration = Duration::from_millis(300);

/// One line of the table.
struct Measure {
    part: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
}

/// What was measured so far.
#[derive(Default)]
struct Bench {
    measures: Vec<Measure>,
}

impl Bench {
    fn add(&mut self, part: &'static str, what: &str, value: f64, unit: &'static str) {
        eprintln!("{part}: {what}: {value:.3} {unit}");
        self.measures.push(Measure { part, what: what.to_owned(), value, unit });
    }

    fn time(&mut self, part: &'static str, what: &str, took: Duration) {
        self.add(part, what, took.as_secs_f64() * 1000.0, "ms");
    }

    /// Adds what `count` of something took of the kernel's memory, each, and how much the daemon has now.
    fn memory(&mut self, part: &'static str, (each, count): (&str, usize), before: Memory, after: Memory) {
        let more = after.tables - before.tables;
        self.add(part, &format!("kernel memory for each {each}"), more / count as f64, "bytes");
        self.add(part, "memory of the daemon", after.daemon / 1e6, "MB");
    }

    /// The stage times in the daemon's answer to a change.
    fn stages(&mut self, part: &'static str, what: &str, applied: &Value) {
        for time in applied["stages"].as_array().into_iter().flatten() {
            let (stage, micros) = (time["stage"].as_str(), time["micros"].as_f64());
            let what = format!("{what}: {}", stage.unwrap_or_default());
            self.add(part, &what, micros.unwrap_or_default() / 1000.0, "ms");
        }
    }

    fn json(&self) -> Value {
        let row = |m: &Measure| json!({ "part": m.part, "what": m.what, "value": m.value, "unit": m.unit });
        self.measures.iter().map(row).collect()
    }
}

/// Bytes that the tables and the daemon take.
#[derive(Clone, Copy)]
struct Memory {
    tables: f64,
    daemon: f64,
}

impl Memory {
    fn of(world: &World) -> Self {
        let memory = &world.json(&["status"])["memory"];
        let [tables, daemon] = ["tables", "daemon"].map(|of| memory[of].as_f64().expect("bytes"));
        Self { tables, daemon }
    }
}

/// What a flow takes: two entries of a table that is set aside whole.
fn flows(bench: &mut Bench) {
    const PART: &str = "flows";
    let world = World::running("version = 1\n");
    for (table, version) in [("FLOWS4", "IPv4"), ("FLOWS6", "IPv6")] {
        let abi = format!("v{}", vnet_common::ABI_VERSION);
        let pin = world.bpffs().join("vnet").join(abi).join("maps").join(table);
        let pin = pin.to_str().expect("UTF-8");
        let map = world.host().exec(&["bpftool", "-j", "map", "show", "pinned", pin]).ok().json();
        let [bytes, entries] = ["bytes_memlock", "max_entries"].map(|of| map[of].as_f64().expect("a number"));
        bench.add(PART, &format!("kernel memory for each, {version}"), 2.0 * bytes / entries, "bytes");
    }
}

fn main() {
    let number = |name: &str, usual: usize| {
        env::var(name).map_or(usual, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let mut bench = Bench::default();
    flows(&mut bench);
    rules(&mut bench, number("BENCH_RULES", 100_000));
    scale::prefixes(number("BENCH_PREFIXES", 10_000)).measure(&mut bench);
    scale::groups(number("BENCH_GROUPS", 1000)).measure(&mut bench);
    scale::ports(number("BENCH_DECLARED_PORTS", 2000)).measure(&mut bench);
    ports(&mut bench, number("BENCH_PORTS", 1000));
    kills(&mut bench, number("BENCH_KILLS", 30));
    println!("{}", bench.json());
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let done = work();
    (done, begin.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The entries that an answer says were written or removed: "ports: 2 put in force, 1 removed". Other sentences are of
/// devices, whose names have numbers too.
fn entries_touched(applied: &Value) -> f64 {
    let changes = applied["changes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let counts = changes.filter_map(|change| change.rsplit_once(": ")).map(|(_, counts)| counts);
    let of_tables = counts.filter(|counts| counts.contains("put in force"));
    let numbers = of_tables.flat_map(|counts| counts.split(|c: char| !c.is_ascii_digit()));
    numbers.filter_map(|number| number.parse::<f64>().ok()).sum()
}

/// `text` with one more rule in the group g0, for `port`.
fn with_rule(text: &str, port: usize) -> String {
    let head = "[security_groups.g0]\ningress = [";
    let rule = format!("{head}\n  {{ protocol = \"tcp\", ports = [{port}], from = [\"203.0.113.7/32\"] }},");
    text.replacen(head, &rule, 1)
}

fn change_one_rule(bench: &mut Bench, part: &'static str, world: &World, text: &str) {
    let mut api = world.api();
    let (added, took) = timed(|| api.apply(&with_rule(text, 1)).ok());
    bench.time(part, "one rule added, of a prefix that no rule had", took);
    let added = added.json();
    bench.stages(part, "one rule added", &added);
    bench.add(part, "one rule added: entries touched", entries_touched(&added), "entries");
    change(bench, part, "one rule changed", world, |n| with_rule(text, 2 + n));
}

/// Puts one policy after another in force, that of each number, as `what` changes.
fn change(bench: &mut Bench, part: &'static str, what: &str, world: &World, text: impl Fn(usize) -> String) {
    let mut api = world.api();
    let mut last = Value::Null;
    let mut times = Vec::new();
    for n in 0..CHANGES {
        let text = text(n);
        let (applied, took) = timed(|| api.apply(&text).ok());
        times.push(took);
        last = applied.json();
    }
    bench.time(part, what, median(times));
    bench.stages(part, what, &last);
    bench.add(part, &format!("{what}: entries touched"), entries_touched(&last), "entries");
}

fn restart(bench: &mut Bench, part: &'static str, world: &mut World) {
    world.kill();
    let ((), took) = timed(|| {
        world.spawn(&[]);
        world.wait_until_ready();
    });
    bench.time(part, "killed and started again, until it answers", took);
}

fn rules(bench: &mut Bench, count: usize) {
    const PART: &str = "rules";
    let pool = RulePool::random(&mut Random::seeded(1), count);
    let text = pool.policy();
    bench.add(PART, "rules", count as f64, "rules");
    bench.add(PART, "size of the file", text.len() as f64 / 1e6, "MB");
    let small = RulePool::random(&mut Random::seeded(1), pool.ports()).policy();
    let mut world = World::running(&small);
    let text = text.replace('@', &world.netns_name(""));
    let file = world.folder().join("large.toml");
    let (written, took) = timed(|| std::fs::write(&file, &text));
    written.expect("write the policy");
    bench.time(PART, "written to a file", took);
    let file = file.to_str().expect("UTF-8").to_owned();
    let (read, took) = timed(|| std::fs::read_to_string(&file));
    assert_eq!(read.expect("read the policy").len(), text.len());
    bench.time(PART, "read", took);
    let (_, took) = timed(|| world.ctl(&["validate", "-f", &file]).ok());
    bench.time(PART, "`validate`: read, parsed and validated", took);
    let before = Memory::of(&world);
    let (applied, took) = timed(|| world.api().apply(&text).ok());
    let applied = applied.json();
    bench.memory(PART, ("rule", count), before, Memory::of(&world));
    bench.time(PART, "applied: parsed, compiled, written, flipped", took);
    bench.stages(PART, "applied", &applied);
    bench.add(PART, "applied: entries touched", entries_touched(&applied), "entries");
    let (_, took) = timed(|| world.api().apply(&text).ok());
    bench.time(PART, "the same applied again", took);
    change_one_rule(bench, PART, &world, &text);
    std::fs::write(world.policy_path(), &text).expect("write the policy file");
    let _ = world.api().apply(&text).ok();
    restart(bench, PART, &mut world);
}

fn ports(bench: &mut Bench, count: usize) {
    const PART: &str = "ports";
    let text = "version = 1\n\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.10.0.0/16\"]\n\n\
                [security_groups.g0]\ningress = [\n]\n";
    let mut world = World::running(text);
    bench.add(PART, "ports", count as f64, "ports");
    let before = Memory::of(&world);
    let (slowest, took) = timed(|| create_ports(&world, count));
    bench.memory(PART, ("port", count), before, Memory::of(&world));
    bench.time(PART, "created through the API, namespaces included, 16 in flight", took);
    bench.time(PART, "the slowest answer", slowest);
    let (listed, took) = timed(|| world.api().get("/v1/ports").ok().json());
    assert_eq!(listed.as_array().map(Vec::len), Some(count));
    bench.time(PART, "listed", took);
    change_one_rule(bench, PART, &world, text);
    restart(bench, PART, &mut world);
    assert_eq!(world.api().get("/v1/ports").ok().json().as_array().map(Vec::len), Some(count));
    let (_, took) = timed(|| world.teardown_patiently(Duration::from_secs(300)));
    bench.time(PART, "torn down", took);
}

/// Creates ports; gives the longest time that one took.
fn create_ports(world: &World, count: usize) -> Duration {
    let create = |api: &mut Api, n: usize| {
        let name = format!("m{n}");
        let attach = json!({ "netns": world.netns_name(&name), "create": true });
        let body =
            json!({ "network": "web", "security_groups": ["g0"], "attach": attach, "origin": "bench" });
        let (answer, took) = timed(|| api.put(&format!("/v1/ports/{name}"), &body));
        let _ = answer.ok();
        took
    };
    thread::scope(|scope| {
        let client = |client| {
            scope.spawn(move || {
                let mut api = world.api();
                (client..count).step_by(IN_FLIGHT).map(|n| create(&mut api, n)).max()
            })
        };
        let clients: Vec<_> = (0..IN_FLIGHT).map(client).collect();
        let slowest = clients.into_iter().filter_map(|client| client.join().expect("a client"));
        slowest.max().unwrap_or_default()
    })
}

fn kills(bench: &mut Bench, rounds: usize) {
    const PART: &str = "kills";
    let port = |name: &str, host: u8| {
        format!(
            "\n[ports.{name}]\nnetwork = \"web\"\naddresses = [\"10.10.0.{host}\"]\nsecurity_groups = [\"web\"]\n\
             attach = {{ netns = \"@{name}\", create = true }}\n"
        )
    };
    let text = format!(
        "version = 1\n\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.10.0.0/24\"]\n\n[security_groups.web]\n\
         ingress = [{{ protocol = \"tcp\", ports = [7000], from = [\"any\"] }}]\n{}{}",
        port("a", 10),
        port("b", 11)
    );
    let mut random = Random::seeded(1);
    let mut world = World::running(&text);
    let address: SocketAddr = "10.10.0.11:7000".parse().expect("ADDRESS:PORT");
    let crowd = Crowd::open(&world.port("a"), &world.port("b"), address, CONNECTIONS);
    thread::sleep(Duration::from_secs(2));
    bench.time(PART, "longest silence of a connection while nothing is done", crowd.gap_since_last_asked());
    let mut starts = Vec::new();
    for _ in 0..rounds {
        thread::sleep(random.up_to(LONGEST_LIFE));
        world.kill();
        let ((), took) = timed(|| {
            world.spawn(&[]);
            world.wait_until_ready();
        });
        starts.push(took);
    }
    let report = crowd.finish();
    bench.add(PART, "kill -9", rounds as f64, "times");
    bench.time(PART, "start, until it answers", median(starts));
    bench.add(PART, "connections", report.connections as f64, "connections");
    bench.add(PART, "connections lost", report.lost.len() as f64, "connections");
    bench.time(PART, "longest silence of a connection", report.longest_gap);
}
