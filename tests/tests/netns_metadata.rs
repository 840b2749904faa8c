//! The metadata service: a server of the host under 169.254.169.254 and fd00:ec2::254, which sees each
//! workload's own address; nothing at all where the policy has none.
//!
//! ```text
//!     web-1, web-2 ---- vnet-web ---.
//!                       10.10.0.1   H :8775 ---- R ---- O
//!     app-1 ----------- vnet-app ---'
//!                       10.20.0.1
//! ```

use vnet_tests::{
    World,
    teller::{Teller, address_seen, fetched_as, try_seen_as},
    traffic::{SILENCE, ping, tcp, udp},
    watch::{Packet, Watch},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[networks.app]
type = "nat"
uplink = "eth0"
subnets = ["10.20.0.0/24", "fd00:20::/64"]

[security_groups.web]

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

[ports.app-1]
network = "app"
addresses = ["10.20.0.10", "fd00:20::a"]
security_groups = ["web"]
attach = { netns = "@app-1", create = true }
"#;

const METADATA: &str = r#"
[[metadata]]
network = "web"
listen = "169.254.169.254:80"
to = "host:8775"

[[metadata]]
network = "web"
listen = "[fd00:ec2::254]:80"
to = "host:8775"
"#;

/// Where it is found.
const SERVICE: [&str; 2] = ["169.254.169.254:80", "[fd00:ec2::254]:80"];

/// Each workload of the network is told its own address.
fn tells_each_workload_itself(world: &World) {
    let _teller = Teller::serve(world.host(), 8775);
    for (port, own) in [("web-1", ["10.10.0.10", "fd00:10::a"]), ("web-2", ["10.10.0.11", "fd00:10::b"])] {
        for (to, own) in SERVICE.iter().zip(own) {
            assert_eq!(
                fetched_as(&world.port(port), &format!("http://{to}/")).ip().to_string(),
                own,
                "{port}"
            );
            assert_eq!(address_seen(&world.port(port), tcp(to)), own, "{port}");
        }
    }
}

#[test]
fn metadata_service_sees_the_address_of_each_workload() {
    let world = World::running_with_outside(&[POLICY, METADATA].concat());
    tells_each_workload_itself(&world);
}

#[test]
fn metadata_service_is_reached_whatever_egress_says() {
    let closed = POLICY.replace("[security_groups.web]", "[security_groups.web]\negress = []");
    let world = World::running_with_outside(&[&closed, METADATA].concat());
    tells_each_workload_itself(&world);
    let _tellers = [Teller::serve(world.host(), 8775), Teller::serve(&world.outside(), 80)];
    // Its own address of the host is not opened by it.
    world.judge(&[
        ("web-1", tcp("10.10.0.1:8775"), false),
        ("web-1", tcp("198.51.100.1:8775"), false),
        ("web-1", tcp("203.0.113.5:80"), false),
    ]);
}

#[test]
fn metadata_service_of_one_network_is_none_of_another() {
    let world = World::running_with_outside(&[POLICY, METADATA].concat());
    let teller = Teller::serve(world.host(), 8775);
    let watch = Watch::start(&world.router(), "h0", is_metadata);
    world.judge(&SERVICE.map(|to| ("app-1", tcp(to), false)));
    watch.finish().assert_none();
    assert!(teller.asked_by().is_empty(), "{:?}", teller.asked_by());
}

fn is_metadata(packet: &Packet) -> bool {
    ["169.254.169.254", "fd00:ec2::254"].contains(&&*packet.dst.to_string())
}

#[test]
fn metadata_address_is_dropped_where_there_is_no_service() {
    let world = World::running_with_outside(POLICY);
    let _tellers = [80, 8775].map(|port| Teller::serve(world.host(), port));
    let watch = Watch::start(&world.router(), "h0", is_metadata);
    let dropped = || world.json(&["drops"])["total"].to_string();
    let before = dropped();
    world.judge(&[
        ("web-1", tcp(SERVICE[0]), false),
        ("web-1", tcp(SERVICE[1]), false),
        ("web-1", udp(SERVICE[0]), false),
        ("web-1", ping("169.254.169.254"), false),
        ("web-1", ping("fd00:ec2::254"), false),
    ]);
    assert_ne!(dropped(), before, "it is counted");
    watch.finish().assert_none();
}

#[test]
fn metadata_address_has_that_one_service_and_no_other() {
    let world = World::running_with_outside(&[POLICY, METADATA].concat());
    let _tellers = [81, 8775].map(|port| Teller::serve(world.host(), port));
    let watch = Watch::start(&world.router(), "h0", is_metadata);
    world.judge(&[
        ("web-1", tcp("169.254.169.254:81"), false),
        ("web-1", tcp("169.254.169.254:8775"), false),
        ("web-1", udp(SERVICE[0]), false),
        ("web-1", tcp("[fd00:ec2::254]:81"), false),
        ("web-1", tcp(SERVICE[0]), true),
    ]);
    watch.finish().assert_none();
}

#[test]
fn metadata_service_is_out_of_reach_from_outside() {
    let world = World::running_with_outside(&[POLICY, METADATA].concat());
    for prefix in ["169.254.169.254/32", "fd00:ec2::254/128"] {
        world.lead_to_host(prefix);
    }
    let teller = Teller::serve(world.host(), 8775);
    for to in SERVICE {
        assert!(try_seen_as(&world.outside(), tcp(to), SILENCE).is_err(), "{to}");
    }
    assert!(teller.asked_by().is_empty(), "{:?}", teller.asked_by());
}

#[test]
fn metadata_service_comes_and_goes_with_the_policy() {
    let world = World::running_with_outside(POLICY);
    world.judge(&SERVICE.map(|to| ("web-1", tcp(to), false)));
    world.write_policy(&[POLICY, METADATA].concat());
    let _ = world.ctl(&["apply"]).ok();
    tells_each_workload_itself(&world);
    world.write_policy(POLICY);
    let _ = world.ctl(&["apply"]).ok();
    world.judge(&SERVICE.map(|to| ("web-1", tcp(to), false)));
}

#[test]
fn metadata_service_of_a_private_network_works_too() {
    let private = POLICY.replace(
        "type = \"nat\"\nuplink = \"eth0\"\nsubnets = [\"10.10",
        "type = \"private\"\nsubnets = [\"10.10",
    );
    assert_ne!(private, POLICY);
    let world = World::running_with_outside(&[&private, METADATA].concat());
    tells_each_workload_itself(&world);
}
