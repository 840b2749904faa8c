//! The daemon killed, stopped and started again under translated traffic, and what `teardown` leaves of
//! the uplink.
//!
//! The world is that of `netns_nat`; web-1 has a forward and web-2 an elastic IP besides.

use aya::programs::{SchedClassifier, TcAttachType};
use vnet_tests::{
    World,
    crowd::{Crowd, CrowdReport},
    teller::{Line, Teller, address_seen},
    traffic::{ANSWER, Echo, Outcome, ping, tcp, udp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [{ protocol = "tcp", ports = ["80-99"], from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["web"]
attach = { netns = "@web-2", create = true }

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "web-1:80"

[[forwards]]
listen = "[::]:8081"
protocol = "tcp"
to = "web-1:81"

[elastic_ips]
"198.51.100.20" = { port = "web-2" }

[[metadata]]
network = "web"
listen = "169.254.169.254:80"
to = "host:8775"
"#;

/// Connections of each kind.
const CONNECTIONS: usize = 50;

/// Connections out by SNAT, in by a forward, and in by an elastic IP.
fn crowds(world: &World) -> [Crowd; 5] {
    let (one, two, outside) = (&world.port("web-1"), &world.port("web-2"), &world.outside());
    let open = |from, address: &str, to| {
        Crowd::open_by(from, address.parse().expect("ADDRESS:PORT"), to, CONNECTIONS)
    };
    [
        open(one, "203.0.113.5:7000", (outside, 7000)),
        open(one, "[2001:db8:5::5]:7001", (outside, 7001)),
        open(outside, "198.51.100.1:8080", (one, 80)),
        open(outside, "[2001:db8:100::1]:8081", (one, 81)),
        open(outside, "198.51.100.20:82", (two, 82)),
    ]
}

fn assert_none_lost(crowds: [Crowd; 5]) {
    for CrowdReport { connections, lost, longest_gap, .. } in crowds.map(Crowd::finish) {
        println!("{connections} connections, longest gap {longest_gap:.1?}");
        assert!(lost.is_empty(), "{} of {connections} lost:\n{}", lost.len(), lost.join("\n"));
    }
}

#[test]
fn restart_after_a_kill_loses_no_translated_connection() {
    let mut world = World::running_with_outside(POLICY);
    let crowds = crowds(&world);
    world.kill();
    // New connections are translated while nobody is there.
    let _teller = Teller::serve(&world.outside(), 7100);
    assert_eq!(address_seen(&world.port("web-1"), tcp("203.0.113.5:7100")), "198.51.100.1");
    world.start(&[]);
    assert_eq!(address_seen(&world.port("web-1"), tcp("203.0.113.5:7100")), "198.51.100.1");
    assert_eq!(address_seen(&world.port("web-2"), udp("203.0.113.5:7100")), "198.51.100.20");
    assert_none_lost(crowds);
}

#[test]
fn restart_in_good_order_loses_no_translated_connection() {
    let mut world = World::running_with_outside(POLICY);
    let crowds = crowds(&world);
    for _ in 0..3 {
        world.stop();
        world.start(&[]);
    }
    assert_none_lost(crowds);
}

#[test]
fn restart_keeps_the_mapping_of_a_flow() {
    let mut world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 7100);
    let mut lines = [tcp("203.0.113.5:7100"), udp("203.0.113.5:7100"), udp("[2001:db8:5::5]:7100")]
        .map(|probe| Line::open(&world.port("web-1"), 0, probe));
    let mut ask = || lines.each_mut().map(|line| line.ask(ANSWER).expect("an answer"));
    let before = ask();
    world.kill();
    let meanwhile = ask();
    world.start(&[]);
    assert_eq!([meanwhile, ask()], [before, before]);
}

#[test]
fn restart_while_policies_change_loses_no_translated_connection() {
    let mut world = World::running_with_outside(POLICY);
    let crowds = crowds(&world);
    for port in 20_000..20_005 {
        world.kill();
        let more =
            format!("\n[[forwards]]\nlisten = \"0.0.0.0:{port}\"\nprotocol = \"udp\"\nto = \"web-1:53\"\n");
        let text = world.policy_text();
        world.write_policy(&(text + &more));
        world.start(&[]);
    }
    assert_none_lost(crowds);
}

/// The programs on the way in by the uplink. (bpftool shows those of tcx from its version 7.3 on.)
fn attached(world: &World) -> Vec<String> {
    let query = || SchedClassifier::query_tcx("eth0", TcAttachType::Ingress).expect("ask for programs").1;
    world.host().enter(|| {
        query().iter().map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
    })
}

fn use_it(world: &World) {
    let _servers = [Echo::serve(&world.outside(), 7000), Echo::serve(&world.port("web-1"), 80)];
    world.assert_reaches("web-1", tcp("203.0.113.5:7000"));
    world.assert_reaches("web-2", ping("203.0.113.5"));
    assert_eq!(tcp("198.51.100.1:8080").run(&world.outside(), ANSWER), Outcome::Answered);
    assert_eq!(attached(world), ["from_uplink"]);
}

/// The host's own traffic, without vnet.
fn assert_host_is_well(world: &World) {
    assert_eq!(attached(world), [""; 0]);
    assert_eq!(ping("203.0.113.5").run(world.host(), ANSWER), Outcome::Answered);
    let _echo = Echo::serve(world.host(), 8080);
    assert_eq!(tcp("198.51.100.1:8080").run(&world.outside(), ANSWER), Outcome::Answered, "its own port");
}

#[test]
fn teardown_leaves_nothing_of_nat_behind() {
    let mut world = World::with_outside(POLICY);
    let before = world.snapshot();
    world.start(&[]);
    use_it(&world);
    let objects = world.kernel_objects();
    assert!(world.stop().success());
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
    objects.assert_gone();
    assert_host_is_well(&world);
}

#[test]
fn teardown_after_a_kill_leaves_nothing_of_nat_behind() {
    let mut world = World::with_outside(POLICY);
    let before = world.snapshot();
    world.start(&[]);
    use_it(&world);
    let objects = world.kernel_objects();
    world.kill();
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
    objects.assert_gone();
    assert_host_is_well(&world);
}

#[test]
fn an_ephemeral_daemon_takes_the_program_off_the_uplink() {
    let mut world = World::with_outside(POLICY);
    let before = world.snapshot();
    world.start(&["--ephemeral"]);
    use_it(&world);
    assert!(world.stop().success());
    before.assert_same(&world.snapshot());
    assert_host_is_well(&world);
}

#[test]
fn an_uplink_that_no_network_uses_any_more_has_no_program_left() {
    let world = World::running_with_outside(POLICY);
    use_it(&world);
    world.write_policy(
        "version = 1\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.10.0.0/24\", \"fd00:10::/64\"]\n",
    );
    let _ = world.ctl(&["apply"]).ok();
    assert_host_is_well(&world);
}
