//! The life of the daemon and of what it made: nothing is left when all is taken down, and nothing
//! is disturbed when the daemon merely dies.

use std::{fs, process::ExitStatus};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vnet_common::DropReason;
use vnet_tests::{
    Running, World, eventually,
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
fn killing_the_daemon_disturbs_no_running_transfer() {
    let mut world = World::running(POLICY);
    let _server = iperf3_server(&world.port("b"));
    let mut client = world.port("a").command("iperf3");
    client.args(["-c", "10.10.0.11", "-t", "4", "-i", "0.5", "-f", "k", "--forceflush"]);
    let mut transfer = Running::start(client);
    transfer.line_with("0.50-1.00");
    world.kill();
    assert_policy_holds(&world);
    let lines = transfer.finished();
    let rates: Vec<f64> = lines.iter().filter_map(|line| interval_rate(line)).collect();
    assert!(rates.len() >= 8, "{}", lines.join("\n"));
    assert!(rates.iter().all(|rate| *rate > 0.0), "it stood still: {}", lines.join("\n"));
}

/// The rate of a line of iperf3's report, in kbit/s: `[  5]   0.00-0.50   sec … 123 Kbits/sec …`.
fn interval_rate(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Kbits/sec")?;
    words[unit - 1].parse().ok()
}

#[test]
fn a_restarted_daemon_adopts_everything_without_a_lost_packet() {
    let mut world = World::running(POLICY);
    let server = Echo::serve(&world.port("b"), 80);
    let mut connection = Connection::from(&world.port("a"), "10.10.0.11:80");
    connection.echo(ANSWER).expect("an echo");
    world.assert_counts(DropReason::IngressDenied, || world.assert_silent("a", tcp("10.10.0.11:81")));
    let (pins, denied) = (world.snapshot(), world.drops(DropReason::IngressDenied));
    let flood = |namespace: &vnet_tests::Namespace, to: &str| {
        let mut command = namespace.command("ping");
        command.args(["-n", "-i", "0.01", "-c", "400", to]);
        let mut running = Running::start(command);
        running.line_with("icmp_seq=1 ");
        running
    };
    let floods = [
        flood(&world.port("a"), "10.10.0.11"),
        flood(&world.port("b"), "fd00:10::a"),
        flood(world.host(), "10.10.0.10"),
        flood(&world.port("a"), "10.10.0.1"),
    ];
    world.kill();
    world.start(&[]);
    for flood in floods {
        let lines = flood.finished().join("\n");
        assert!(lines.contains("400 received") && lines.contains(" 0% packet loss"), "{lines}");
    }
    connection.echo(ANSWER).expect("the connection lives on");
    pins.assert_same(&world.snapshot());
    assert!(world.drops(DropReason::IngressDenied) >= denied, "counters are carried over");
    drop(server);
    assert_policy_holds(&world);
}

#[test]
fn an_orderly_restart_loses_no_packet_either() {
    let mut world = World::running(POLICY);
    let mut command = world.port("a").command("ping");
    command.args(["-n", "-i", "0.01", "-c", "300", "fd00:10::b"]);
    let mut flood = Running::start(command);
    flood.line_with("icmp_seq=1 ");
    world.stop();
    world.start(&[]);
    let lines = flood.finished().join("\n");
    assert!(lines.contains(" 0% packet loss"), "{lines}");
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
    let mut command = world.host().command(vnet_tests::binary::vnet_ctl());
    let other_socket = world.folder().join("second.sock");
    command.arg("--policy").arg(world.policy_path()).arg("--socket").arg(&other_socket).arg("run");
    world.add_folders(&mut command);
    let _ = vnet_tests::process::finish(command).refused().says(&[&world.daemon_pid().to_string()]);
    let _ = world.run_to_end(&["--ephemeral"]).refused();
    before.assert_same(&world.snapshot());
    let _ = world.ctl(&["status"]).ok();
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
