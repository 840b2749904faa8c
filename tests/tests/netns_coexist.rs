//! Beside what else rules a host: a firewall that forwards nothing, bridges that ask it, and rule
//! sets that belong to others.

use std::fs;

use vnet_tests::{
    Namespace, World,
    netns::OwnedNamespace,
    traffic::{ANSWER, Echo, Outcome, SILENCE, ping, tcp, udp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["open"]
attach = { netns = "@b", create = true }
"#;

/// Forwards nothing, and asks the firewall about bridged frames too.
fn harden(host: &Namespace) {
    for iptables in ["iptables", "ip6tables"] {
        let _ = host.exec(&[iptables, "-P", "FORWARD", "DROP"]).ok();
    }
    host.enter(|| {
        for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"] {
            let path = format!("/proc/sys/net/bridge/{name}");
            // Absent where the kernel has no br_netfilter: bridges then never ask.
            if fs::exists(&path).expect("look for the setting") {
                fs::write(&path, "1").expect("have bridges ask the firewall");
            }
        }
    });
}

/// Whether bridges of this kernel can ask the firewall.
fn has_br_netfilter(host: &Namespace) -> bool {
    host.enter(|| fs::exists("/proc/sys/net/bridge/bridge-nf-call-iptables").expect("look for the setting"))
}

/// All rules of the host, without counters and times.
fn rules(host: &Namespace) -> String {
    let mut text = String::new();
    for argv in [&["iptables-save"][..], &["ip6tables-save"], &["nft", "list", "ruleset"]] {
        for line in host.exec(argv).ok().stdout.lines().filter(|line| !line.starts_with('#')) {
            text.push_str(line.split(" [").next().unwrap_or_default());
            text.push('\n');
        }
    }
    text
}

#[test]
fn a_plain_bridge_would_be_cut_by_this_firewall() {
    // The control: without vnet, the same host really does cut two neighbours of one bridge.
    let host = OwnedNamespace::create(format!("vt{}x900-host", std::process::id()));
    let ends = ["a", "b"].map(|name| OwnedNamespace::create(format!("vt{}x900-{name}", std::process::id())));
    let _ = host.exec(&["ip", "link", "add", "br0", "up", "type", "bridge"]).ok();
    for (end, address) in ends.iter().zip(["10.99.0.1/24", "10.99.0.2/24"]) {
        let device = format!("v{address}").replace(['.', '/'], "");
        let _ = host
            .exec(&[
                "ip",
                "link",
                "add",
                &device,
                "master",
                "br0",
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                end.name(),
            ])
            .ok();
        let _ = host.exec(&["ip", "link", "set", &device, "up"]).ok();
        let _ = end.exec(&["ip", "addr", "add", address, "dev", "eth0"]).ok();
        let _ = end.exec(&["ip", "link", "set", "eth0", "up"]).ok();
    }
    assert_eq!(ping("10.99.0.2").run(&ends[0], ANSWER), Outcome::Answered, "before");
    harden(&host);
    let expected = if has_br_netfilter(&host) { Outcome::Silence } else { Outcome::Answered };
    assert_eq!(ping("10.99.0.2").run(&ends[0], SILENCE), expected, "after");
}

#[test]
fn ports_reach_each_other_whatever_the_firewall_forwards() {
    let world = World::prepare(POLICY);
    harden(world.host());
    let mut world = world;
    world.start(&[]);
    reaches(&world);
}

#[test]
fn a_firewall_that_closes_later_changes_nothing() {
    let world = World::running(POLICY);
    reaches(&world);
    harden(world.host());
    reaches(&world);
}

fn reaches(world: &World) {
    let _servers = ["a", "b"].map(|port| Echo::serve(&world.port(port), 80));
    for probe in [
        ping("10.10.0.11"),
        ping("fd00:10::b"),
        tcp("10.10.0.11:80"),
        tcp("[fd00:10::b]:80"),
        udp("10.10.0.11:80"),
        udp("[fd00:10::b]:80"),
        ping("10.10.0.1"),
        ping("fd00:10::1"),
    ] {
        world.assert_reaches("a", probe);
    }
    for probe in [ping("10.10.0.10"), ping("fd00:10::a"), tcp("10.10.0.10:80"), tcp("[fd00:10::a]:80")] {
        assert_eq!(probe.run(world.host(), ANSWER), Outcome::Answered, "{probe:?} from the host");
    }
}

#[test]
fn no_rule_of_a_firewall_comes_or_goes() {
    let world = World::prepare(POLICY);
    for (table, rule) in [("inet mine", "ip saddr 192.0.2.1 drop"), ("ip other", "tcp dport 23 accept")] {
        let chain = format!("add chain {table} x {{ type filter hook forward priority 5; policy accept; }}");
        let commands = format!("add table {table}; {chain}; add rule {table} x {rule}");
        let _ = world.host_exec(&["nft", &commands]).ok();
    }
    harden(world.host());
    let before = rules(world.host());
    assert!(before.contains("192.0.2.1"), "{before}");
    let mut world = world;
    world.start(&[]);
    world.assert_reaches("a", ping("10.10.0.11"));
    assert_eq!(rules(world.host()), before, "while vnet runs");
    world.stop();
    let _ = world.teardown().ok();
    assert_eq!(rules(world.host()), before, "after it was torn down");
}

#[test]
fn settings_of_the_host_stay_as_they_are() {
    let mut world = World::prepare(POLICY);
    let before = settings(world.host());
    world.start(&[]);
    assert_eq!(settings(world.host()), before);
}

/// What others rely on, and tools of this kind like to change.
fn settings(host: &Namespace) -> Vec<(&'static str, String)> {
    const PATHS: [&str; 8] = [
        "ipv4/ip_forward",
        "ipv4/conf/all/forwarding",
        "ipv4/conf/default/forwarding",
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/all/arp_ignore",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/default/forwarding",
        "ipv6/conf/default/accept_ra",
    ];
    let read = |name| fs::read_to_string(format!("/proc/sys/net/{name}")).expect("a setting of every kernel");
    host.enter(|| PATHS.map(|name| (name, read(name))).to_vec())
}
