//! Mistakes of NAT in a policy that only the host can tell: each is refused with the place and the
//! name of what it is about, and the policy in force stays in force.
//!
//! The world is that of `netns_nat`.

use std::fs;

use vnet_tests::{
    World,
    teller::{Teller, address_seen},
    traffic::{ANSWER, Outcome, tcp},
};

const POLICY: &str = r#"version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[[forwards]]
listen = "198.51.100.1:8080"
protocol = "tcp"
to = "web-1:80"
"#;

/// Has a running world refuse `policy`, saying each of `words`, and still do what it did.
#[track_caller]
fn refuses(world: &World, policy: &str, words: &[&str]) {
    let _tellers = [Teller::serve(&world.outside(), 80), Teller::serve(&world.port("web-1"), 80)];
    let (file, before) = (world.folder().join("new.toml"), world.policy_text());
    fs::write(&file, policy.replace('@', &world.netns_name(""))).expect("write another policy");
    let refused = world.ctl(&["apply", "-f", &file.to_string_lossy()]).refused().says(words);
    println!("{}", refused.stderr.trim());
    assert_eq!(world.policy_text(), before, "the file is as it was");
    assert_eq!(address_seen(&world.port("web-1"), tcp("203.0.113.5:80")), "198.51.100.1");
    assert_eq!(address_seen(&world.outside(), tcp("198.51.100.1:8080")), "203.0.113.5");
    fs::remove_file(file).expect("remove the other policy");
}

/// [`POLICY`] with a forward that listens on `listen`.
fn listening_on(listen: &str) -> String {
    format!("{POLICY}\n[[forwards]]\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nto = \"web-1:81\"\n")
}

/// [`POLICY`] with an elastic IP.
fn with_elastic_ip(address: &str) -> String {
    format!("{POLICY}\n[elastic_ips]\n\"{address}\" = {{ port = \"web-1\" }}\n")
}

#[test]
fn a_listen_address_that_the_host_does_not_have_is_refused() {
    let world = World::running_with_outside(POLICY);
    refuses(
        &world,
        &listening_on("198.51.100.77:8081"),
        &["forward tcp/198.51.100.77:8081", "198.51.100.1 (eth0)"],
    );
    refuses(&world, &listening_on("[2001:db8:100::77]:8081"), &["2001:db8:100::77"]);
    refuses(&world, &listening_on("203.0.113.5:8081"), &["203.0.113.5"]);
}

#[test]
fn a_listen_address_of_the_host_is_not() {
    let world = World::running_with_outside(POLICY);
    for listen in ["198.51.100.1:8081", "[2001:db8:100::1]:8081", "10.10.0.1:8081", "127.0.0.1:8081"] {
        let file = world.folder().join("new.toml");
        fs::write(&file, listening_on(listen).replace('@', &world.netns_name(""))).expect("write a policy");
        let _ = world.ctl(&["apply", "-f", &file.to_string_lossy()]).ok();
    }
}

#[test]
fn an_elastic_ip_that_is_the_own_address_of_the_uplink_is_refused() {
    let world = World::running_with_outside(POLICY);
    refuses(&world, &with_elastic_ip("198.51.100.1"), &["198.51.100.1", "eth0"]);
    refuses(&world, &with_elastic_ip("2001:db8:100::1"), &["2001:db8:100::1", "eth0"]);
}

#[test]
fn an_uplink_that_does_not_exist_is_refused() {
    let world = World::running_with_outside(POLICY);
    refuses(&world, &POLICY.replace("\"eth0\"", "\"eth9\""), &["eth9"]);
}

#[test]
fn commands_refuse_what_the_policy_must_not_say() {
    let world = World::running_with_outside(POLICY);
    let before = world.policy_text();
    for (args, words) in [
        (
            &["forward", "add", "--listen", "198.51.100.77:81", "-p", "tcp", "--to", "web-1:81"][..],
            &["198.51.100.77"][..],
        ),
        (&["forward", "add", "--listen", "198.51.100.1:8080", "-p", "tcp", "--to", "web-1:81"], &["8080"]),
        (&["forward", "add", "--listen", "0.0.0.0:81", "-p", "tcp", "--to", "nobody:81"], &["nobody"]),
        (&["eip", "associate", "198.51.100.1", "web-1"], &["198.51.100.1", "eth0"]),
        (&["eip", "associate", "198.51.100.20", "nobody"], &["nobody"]),
    ] {
        let _ = world.ctl(args).refused().says(words);
        assert_eq!(world.policy_text(), before, "{args:?}");
    }
    let missing = ["forward", "remove", "--listen", "0.0.0.0:99", "-p", "tcp"];
    let _ = world.ctl(&missing).fails_with(4);
    let _ = world.ctl(&["eip", "disassociate", "198.51.100.20"]).fails_with(4);
    assert_eq!(world.policy_text(), before);
    assert_eq!(tcp("198.51.100.1:99").run(&world.outside(), ANSWER), Outcome::Refused, "the host's own word");
}
