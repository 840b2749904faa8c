//! The life of the daemon and of what it made: nothing is left when all is taken down, and nothing
//! is disturbed when the daemon merely dies.

use std::{fs, process::ExitStatus};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vnet_common::{DropReason, limits};
use vnet_tests::{
    Namespace, Running, World, eventually,
    process::finish,
    snapshot::KernelObjects,
    traffic::{ANSWER, Connection, Echo, Outcome, iperf3_server, ping, tcp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[networks.back]
type = "private"
subnets = ["10.20.0.0/24"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80, 5201], from = ["any"] },
  { protocol = "icmp", from = ["any"] },
  { protocol = "icmpv6", from = ["any"] },
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

fn use_it(world: &World) {
    let _server = Echo::serve(&world.port("b"), 80);
    world.assert_reaches("a", tcp("10.10.0.11:80"));
    world.assert_reaches("a", ping("fd00:10::b"));
    assert_eq!(ping("10.10.0.10").run(world.host(), ANSWER), Outcome::Answered);
}

/// Policy holds: port 80 is open, port 81 is not.
fn assert_policy_holds(world: &World) {
    let _servers = [80, 81].map(|port| Echo::serve(&world.port("b"), port));
    world.assert_reaches("a", tcp("10.10.0.11:80"));
    world.assert_reaches("a", tcp("[fd00:10::b]:80"));
    world.assert_silent("a", tcp("10.10.0.11:81"));
    world.assert_silent("a", tcp("[fd00:10::b]:81"));
}

/// Nothing but the person's own files is left in the world's folder: no socket, lock or state.
fn assert_no_files(world: &World) {
    let entries = fs::read_dir(world.folder()).expect("the world's folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = names.filter(|name| name != "policy.toml" && name != "daemon.log").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn status_tells_what_memory_the_tables_take() {
    let world = World::running(POLICY);
    let memory = &world.json(&["status"])["memory"];
    let [tables, daemon] = ["tables", "daemon"].map(|of| memory[of].as_u64().expect("bytes"));
    // The flow tables are made whole, each entry with its key.
    let flows = u64::from(limits::FLOWS4) * (16 + 96) + u64::from(limits::FLOWS6) * (40 + 120);
    assert!((flows..4 * flows).contains(&tables), "{tables} bytes, {flows} of them flows");
    assert!((1 << 20..1 << 30).contains(&daemon), "{daemon} bytes");
    let told = world.ctl(&["status"]).ok();
    assert!(told.stdout.contains("MB in the kernel"), "{told}");
}

#[test]
fn teardown_leaves_nothing_behind() {
    let mut world = World::prepare(POLICY);
    let before = world.snapshot();
    world.start(&[]);
    use_it(&world);
    let objects = world.kernel_objects();
    assert!(
        objects.count("map") >= 8 && objects.count("prog") >= 3 && objects.count("link") >= 3,
        "{objects:?}"
    );
    assert!(world.stop().success());
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
    objects.assert_gone();
    assert_no_files(&world);
    let _ = world.teardown().ok();
}

#[test]
fn teardown_of_a_running_daemon_leaves_nothing_behind() {
    let mut world = World::prepare(POLICY);
    let before = world.snapshot();
    world.start(&[]);
    use_it(&world);
    let objects = world.kernel_objects();
    let _ = world.teardown().ok();
    eventually("the daemon to end or to hold nothing", || {
        let _ = world.ctl(&["status"]).code.filter(|code| *code == 3)?;
        Some(())
    });
    before.assert_same(&world.snapshot());
    world.stop();
    objects.assert_gone();
    assert_no_files(&world);
}

#[test]
fn teardown_after_a_kill_leaves_nothing_behind() {
    let mut world = World::prepare(POLICY);
    let before = world.snapshot();
    world.start(&[]);
    use_it(&world);
    let objects = world.kernel_objects();
    world.kill();
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
    objects.assert_gone();
    assert_no_files(&world);
}

#[test]
fn an_ephemeral_daemon_takes_everything_with_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut world = World::prepare(POLICY);
        let before = world.snapshot();
        world.start(&["--ephemeral"]);
        use_it(&world);
        let objects = world.kernel_objects();
        let pid = Pid::from_raw(i32::try_from(world.daemon_pid()).expect("a pid is an int"));
        kill(pid, signal).expect("ask the daemon to end");
        let status: ExitStatus = world.stop();
        assert!(status.success(), "{signal}: {status}");
        before.assert_same(&world.snapshot());
        objects.assert_gone();
        assert_no_files(&world);
    }
}

#[test]
fn an_orderly_end_leaves_traffic_and_policy_in_force() {
    let mut world = World::running(POLICY);
    assert_policy_holds(&world);
    assert!(world.stop().success());
    assert!(!world.socket().exists(), "no socket that nobody serves");
    assert_policy_holds(&world);
}

#[test]
fn killing_the_daemon_and_starting_it_again_disturb_no_running_transfer() {
    let mut world = World::running(POLICY);
    let _server = iperf3_server(&world.port("b"));
    let mut client = world.port("a").command("iperf3");
    client.args(["-c", "10.10.0.11", "-t", "600", "-i", "0.5", "-f", "k", "--forceflush"]);
    let mut transfer = Running::start(client);
    transfer.line_with("Kbits/sec");
    world.kill();
    assert_policy_holds(&world);
    world.start(&[]);
    assert!(transfer.is_running(), "the daemon is back before the end");
    let lines = transfer.interrupted();
    // The sums at its end are none of them; the receiver has no part in its own.
    let reports = lines.iter().filter(|line| !line.ends_with("sender") && !line.ends_with("receiver"));
    let rates: Vec<f64> = reports.filter_map(|line| interval_rate(line)).collect();
    assert!(rates.len() >= 2, "{}", lines.join("\n"));
    assert!(rates.iter().all(|rate| *rate > 0.0), "it stood still: {}", lines.join("\n"));
}

/// The rate of a line of iperf3's report, in kbit/s: `[  5]   0.00-0.50   sec … 123 Kbits/sec …`.
fn interval_rate(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let interval = words.iter().position(|word| *word == "sec")? - 1;
    let (from, to) = words[interval].split_once('-')?;
    let length = to.parse::<f64>().ok()? - from.parse::<f64>().ok()?;
    let unit = words.iter().position(|word| *word == "Kbits/sec")?;
    // The last one may be a remainder too short to have sent anything.
    words[unit - 1].parse().ok().filter(|_| length > 0.25)
}

/// A hundred packets in a second that are all answered, for as long as it lives.
struct Flood(Running);

impl Flood {
    fn start(from: &Namespace, to: &str) -> Self {
        let mut command = from.command("ping");
        command.args(["-n", "-i", "0.01", to]);
        let mut running = Running::start(command);
        running.line_with("icmp_seq=1 ");
        Self(running)
    }

    /// Ends it and asserts that each answer came, and in its turn.
    fn assert_unbroken(self) {
        kill(Pid::from_raw(i32::try_from(self.0.pid()).expect("a pid is an int")), Signal::SIGINT)
            .expect("end the ping");
        let lines = self.0.finished();
        let answers = lines.iter().filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next());
        let answers: Vec<u32> = answers.map(|number| number.parse().expect("a number")).collect();
        assert!(answers.iter().copied().eq(1..=answers.len() as u32), "{}", lines.join("\n"));
        let summary = lines.iter().find(|line| line.contains("packets transmitted")).expect("a summary");
        let sent: usize = summary.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        // The last one may be under way when the ping ends.
        assert!(sent - answers.len() <= 1, "{summary}");
    }
}

#[test]
fn a_restarted_daemon_adopts_everything_without_a_lost_packet() {
    let mut world = World::running(POLICY);
    let server = Echo::serve(&world.port("b"), 80);
    let mut connection = Connection::from(&world.port("a"), "10.10.0.11:80");
    connection.echo(ANSWER).expect("an echo");
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", tcp("10.10.0.11:81")));
    let (host, denied) = (world.snapshot(), world.drops(DropReason::IngressDenied));
    let pinned = KernelObjects::of(world.bpffs(), None);
    let floods = [
        Flood::start(&world.port("a"), "10.10.0.11"),
        Flood::start(&world.port("b"), "fd00:10::a"),
        Flood::start(world.host(), "10.10.0.10"),
        Flood::start(&world.port("a"), "10.10.0.1"),
    ];
    world.kill();
    world.start(&[]);
    floods.into_iter().for_each(Flood::assert_unbroken);
    connection.echo(ANSWER).expect("the connection lives on");
    host.assert_same(&world.snapshot());
    let adopted = KernelObjects::of(world.bpffs(), None);
    for kind in ["map", "link"] {
        assert_eq!(adopted.ids(kind), pinned.ids(kind), "every {kind} is the same as before");
    }
    assert!(world.drops(DropReason::IngressDenied) >= denied, "counters are carried over");
    drop(server);
    assert_policy_holds(&world);
}

#[test]
fn an_orderly_restart_loses_no_packet_either() {
    let mut world = World::running(POLICY);
    let flood = Flood::start(&world.port("a"), "fd00:10::b");
    world.stop();
    world.start(&[]);
    flood.assert_unbroken();
    assert_policy_holds(&world);
}

#[test]
fn a_restart_puts_a_changed_file_into_force() {
    let mut world = World::running(POLICY);
    world.stop();
    let changed = world.policy_text().replace("ports = [80, 5201]", "ports = [81]");
    fs::write(world.policy_path(), changed).expect("change the file");
    world.start(&[]);
    let _servers = [80, 81].map(|port| Echo::serve(&world.port("b"), port));
    world.assert_reaches("a", tcp("10.10.0.11:81"));
    world.assert_silent("a", tcp("10.10.0.11:80"));
}

#[test]
fn a_restart_with_a_broken_file_leaves_everything_in_force() {
    let mut world = World::running(POLICY);
    world.stop();
    let before = world.snapshot();
    let broken = world.policy_text().replace("subnets", "subnest");
    fs::write(world.policy_path(), broken).expect("break the file");
    let _ = world.run_to_end(&[]).fails_with(2).says(&["subnest", "subnets"]);
    before.assert_same(&world.snapshot());
    assert_policy_holds(&world);
}

#[test]
fn a_second_daemon_is_refused() {
    let world = World::running(POLICY);
    let before = world.snapshot();
    let _ = world.run_to_end(&["--ephemeral"]).fails_with(5).says(&[&world.daemon_pid().to_string()]);
    before.assert_same(&world.snapshot());
    let _ = world.ctl(&["status"]).ok();
    assert_policy_holds(&world);
}

#[test]
fn a_second_daemon_with_folders_of_its_own_gets_nothing_of_the_first() {
    let world = World::running(POLICY);
    let before = world.snapshot();
    let (other, pins) = (world.folder().join("other"), world.bpffs().join("other"));
    fs::create_dir(&pins).expect("a folder in bpffs");
    // Not even the devices of networks and ports that its own policy does not have.
    let policy = world.folder().join("other.toml");
    let text = "version = 1\n[networks.two]\ntype = \"private\"\nsubnets = [\"10.30.0.0/24\"]\n";
    fs::write(&policy, text).expect("write another policy");
    for verb in ["run", "teardown"] {
        let mut command = world.host().command(vnet_tests::binary::vnet_ctl());
        command.arg("--policy").arg(&policy).arg("--socket").arg(other.join("vnet.sock")).arg(verb);
        command.arg("--state-dir").arg(other.join("state")).arg("--bpffs").arg(&pins);
        let _ = finish(command).fails_with(5).says(&["network namespace", "--socket"]);
    }
    assert!(!other.exists(), "no lock of a daemon that is not there");
    fs::remove_dir(&pins).expect("nothing is pinned by it");
    before.assert_same(&world.snapshot());
    assert_policy_holds(&world);
}

#[test]
fn a_port_that_leaves_the_file_leaves_the_host() {
    let mut world = World::prepare(POLICY);
    world.start(&[]);
    let device = world.device("b");
    let _server = Echo::serve(&world.port("a"), 80);
    world.stop();
    let text = world.policy_text();
    let kept = &text[..text.find("[ports.b]").expect("the port")];
    fs::write(world.policy_path(), kept).expect("remove the port");
    world.start(&[]);
    assert!(!world.host_exec(&["ip", "link", "show", "dev", &device]).success(), "its device is gone");
    assert!(!world.port("b").exists(), "so is the namespace that vnet made for it");
    assert_eq!(tcp("10.10.0.10:80").run(world.host(), ANSWER), Outcome::Answered);
}

#[test]
fn a_port_that_joins_the_file_is_added_beside_the_others() {
    let mut world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 80);
    let mut connection = Connection::from(&world.port("a"), "10.10.0.11:80");
    connection.echo(ANSWER).expect("an echo");
    let more = r#"
[ports.c]
network = "web"
addresses = ["10.10.0.12"]
attach = { netns = "@c", create = true }
"#;
    world.stop();
    let text = world.policy_text();
    world.write_policy(&(text + more));
    world.start(&[]);
    world.assert_reaches("c", tcp("10.10.0.11:80"));
    connection.echo(ANSWER).expect("the connection lives on");
}

#[test]
fn what_a_person_deleted_is_put_back_at_the_next_start() {
    let mut world = World::running(POLICY);
    let device = world.device("a");
    world.stop();
    let _ = world.host_exec(&["ip", "link", "delete", &device]).ok();
    world.start(&[]);
    assert_policy_holds(&world);
}
