//! What is dropped before there is a socket buffer: XDP on uplinks.
//!
//! ```text
//!     web
//!      .10
//!       `---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!             10.10.0.1      .1                         .254 .254                   .5
//! ```

use vnet_common::DropReason;
use vnet_tests::{
    World,
    traffic::{Echo, tcp},
    wait::eventually,
    watch::Watch,
};

/// A forward that no group admits, but for 8080; and how the uplink runs XDP.
fn policy(xdp: &str) -> String {
    format!(
        r#"
version = 1

[uplinks.eth0]
xdp = "{xdp}"

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [{{ protocol = "tcp", ports = [80], from = ["any"] }}]

[ports.web]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = {{ netns = "@web", create = true }}

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "web:80"

[[forwards]]
listen = "0.0.0.0:8081"
protocol = "tcp"
to = "web:81"

[[forwards]]
listen = "[::]:8081"
protocol = "tcp"
to = "web:81"
"#
    )
}

/// The number of the XDP program that the uplink runs, if it runs one.
fn program(world: &World) -> Option<u64> {
    let links = world.host().exec(&["ip", "-j", "link", "show", "eth0"]).ok().json();
    links[0]["xdp"]["prog"]["id"].as_u64()
}

/// How `status` tells that the uplink runs XDP, and why not.
fn told(world: &World) -> (String, String) {
    let status = world.json(&["status"]);
    let uplink = &status["uplinks"][0];
    assert_eq!(uplink["device"], "eth0", "{status}");
    let text = |key: &str| uplink[key].as_str().unwrap_or_default().to_owned();
    (text("xdp"), text("reason"))
}

#[test]
fn what_is_not_admitted_is_dropped_early_and_the_rest_gets_through() {
    let world = World::running_with_outside(&policy("generic"));
    let web = world.port("web");
    let _served = (Echo::serve(&web, 80), Echo::serve(&web, 81), Echo::serve(world.host(), 22));
    assert!(program(&world).is_some());
    assert_eq!(told(&world), ("generic".to_owned(), String::new()));
    assert!(world.ctl(&["status"]).ok().stdout.contains("eth0, XDP generic"));
    // Packet sockets see what has a socket buffer.
    let watch = Watch::start(world.host(), "eth0", |packet| packet.ports.is_some_and(|(_, to)| to == 8081));
    world.assert_counts(DropReason::IngressDenied, || {
        world.judge(&[
            ("outside", tcp("198.51.100.1:8080"), true),
            ("outside", tcp("198.51.100.1:22"), true),
            ("outside", tcp("198.51.100.1:8081"), false),
            ("outside", tcp("[2001:db8:100::1]:8081"), false),
        ]);
    });
    watch.assert_none();
    world.sg_add(&["web", "ingress", "-p", "tcp", "--port", "81", "--from", "any"]);
    world.judge(&[
        ("outside", tcp("198.51.100.1:8081"), true),
        ("outside", tcp("[2001:db8:100::1]:8081"), true),
    ]);
}

#[test]
fn an_uplink_runs_it_as_the_policy_says() {
    let world = World::running_with_outside(&policy("auto"));
    assert_eq!(told(&world), ("off".to_owned(), "it is no network card".to_owned()));
    assert!(world.ctl(&["status"]).ok().stdout.contains("eth0, XDP off (it is no network card)"));
    assert_eq!(program(&world), None);
    world.write_policy(&policy("generic"));
    let previewed = world.ctl(&["apply", "--dry-run"]).ok();
    assert!(previewed.stdout.contains("uplink eth0: xdp changed from auto to generic"), "{previewed}");
    assert_eq!(program(&world), None);
    let applied = world.ctl(&["apply"]).ok();
    assert!(applied.stdout.contains("XDP on eth0, generic"), "{applied}");
    assert!(program(&world).is_some());
    // A veth may lose what the program answers.
    world.write_policy(&policy("native"));
    let _ = world.ctl(&["apply"]).ok().says(&["warning", "eth0", "does without XDP"]);
    assert_eq!((program(&world), told(&world).0.as_str()), (None, "off"));
    assert!(world.json(&["status"])["problems"][0].as_str().is_some_and(|told| told.contains("eth0")));
    world.write_policy(&policy("off"));
    let done = world.ctl(&["apply"]).ok();
    assert!(!done.stderr.contains("XDP"), "{done}");
    assert_eq!(told(&world), ("off".to_owned(), "the policy says so".to_owned()));
}

#[test]
fn it_outlives_the_daemon_comes_back_and_goes_with_teardown() {
    let mut world = World::running_with_outside(&policy("generic"));
    let web = world.port("web");
    let _served = Echo::serve(&web, 80);
    let first = program(&world).expect("an XDP program");
    world.kill();
    assert_eq!(program(&world), Some(first));
    world.judge(&[("outside", tcp("198.51.100.1:8080"), true), ("outside", tcp("198.51.100.1:8081"), false)]);
    world.start(&[]);
    let second = program(&world).expect("an XDP program");
    assert_ne!(second, first, "the new daemon's program took its place");
    // Somebody detaches it.
    let before = world.last_event();
    let links = world.host().exec(&["bpftool", "-j", "link", "show"]).ok().json();
    let link = links.as_array().into_iter().flatten().find(|link| link["prog_id"] == second);
    let id = link.and_then(|link| link["id"].as_u64()).expect("its link").to_string();
    let _ = world.host().exec(&["bpftool", "link", "detach", "id", &id]).ok();
    let _ = world.event(before, "repaired", &["uplink_xdp of eth0", "attached again"]);
    eventually("the program", || program(&world));
    let _ = world.teardown().ok();
    assert_eq!(program(&world), None);
}
