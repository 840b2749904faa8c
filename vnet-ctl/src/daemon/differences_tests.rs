use std::path::Path;

use super::*;
use crate::policy::parse;

const POLICY: &str = r#"
version = 1
[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]
[networks.db]
type = "private"
subnets = ["10.20.0.0/24"]
[prefix_lists]
office = ["192.0.2.0/24"]
[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]
[[acl]]
action = "deny"
direction = "ingress"
protocol = "tcp"
ports = [23]
from = ["any"]
[[acl]]
action = "allow"
direction = "egress"
protocol = "udp"
ports = [53]
to = ["list:office"]
[ports.a]
network = "web"
security_groups = ["web"]
attach = { device = "tap0" }
"#;

fn policy(text: &str) -> Policy {
    parse(text, Path::new("p.toml")).unwrap_or_else(|errors| panic!("{errors}")).0
}

/// What changing `from` to `to` in the text changes in the policy.
#[track_caller]
fn changed(changes: &[(&str, &str)]) -> Vec<String> {
    let text = changes.iter().fold(POLICY.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    differences(&policy(POLICY), &policy(&text))
}

#[test]
fn the_same_policy_has_no_difference() {
    assert!(changed(&[("\nversion", "\n# a comment\nversion")]).is_empty());
}

#[test]
fn each_change_is_told_in_the_words_of_the_file() {
    for (from, to, told) in [
        (
            "ports = [80]",
            "ports = [80, 443]",
            vec![
                "group web: rule removed: ingress tcp 80 from any",
                "group web: rule added: ingress tcp 80,443 from any",
            ],
        ),
        ("network = \"web\"", "network = \"db\"", vec!["port a: moved from network web to db"]),
        (
            "[networks.db]",
            "[networks.more]\ntype = \"nat\"\nsubnets = [\"10.30.0.0/24\"]\n[networks.db]",
            vec!["network more: created"],
        ),
        (
            "subnets = [\"10.20.0.0/24\"]",
            "subnets = [\"10.21.0.0/24\"]\nhost = false\nconnect = [\"web\"]",
            vec![
                "network db: subnet removed: 10.20.0.0/24 (gateway 10.20.0.1)",
                "network db: subnet added: 10.21.0.0/24 (gateway 10.21.0.1)",
                "network db: connected with web",
                "network db: closed to the host",
            ],
        ),
        (
            "192.0.2.0/24",
            "192.0.2.0/25",
            vec![
                "prefix list office: prefix removed: 192.0.2.0/24",
                "prefix list office: prefix added: 192.0.2.0/25",
            ],
        ),
        (
            "version = 1",
            "version = 1\nhost = { failsafe_ports = [\"tcp/22\", \"udp/68\"] }",
            vec!["host: failsafe port added: udp/68"],
        ),
        (
            "[security_groups.web]",
            "[security_groups.web]\non_change = \"keep\"\ndescription = \"x\"",
            vec![
                "group web: description changed from none to \"x\"",
                "group web: on_change changed from cut to keep",
            ],
        ),
        (
            "device = \"tap0\"",
            "device = \"tap1\"",
            vec!["port a: attach changed from device tap0 to device tap1"],
        ),
        (
            "ports = [23]",
            "ports = [24]",
            vec![
                "acl: entry removed: deny ingress tcp 23 from any",
                "acl: entry added as number 1: deny ingress tcp 24 from any",
            ],
        ),
    ] {
        assert_eq!(changed(&[(from, to)]), told, "{to}");
    }
}

/// What leads outside and in again, before and after.
const WAYS: [&str; 2] = [
    r#"
[uplinks.eth1]
[uplinks.eth7]
[networks.out]
type = "nat"
subnets = ["10.30.0.0/24"]
no_snat = ["10.0.0.0/8"]
[ports.b]
network = "out"
attach = { device = "tap1" }
[ports.c]
network = "out"
attach = { device = "tap2" }
[[forwards]]
listen = "0.0.0.0:80"
protocol = "tcp"
to = "b"
[[forwards]]
listen = "0.0.0.0:53"
protocol = "udp"
to = "b"
[[forwards]]
listen = "0.0.0.0:90"
protocol = "tcp"
to = "b"
[elastic_ips]
"198.51.100.20" = { port = "b" }
[[metadata]]
network = "out"
listen = "169.254.169.254:80"
to = "host:8775"
"#,
    r#"
[uplinks.eth7]
xdp = "native"
[networks.out]
type = "nat"
subnets = ["10.30.0.0/24"]
uplink = "eth0"
snat = ["198.51.100.9", "198.51.100.10"]
snat_ports = "2000-2999"
mapping = "endpoint-independent"
clamp_mss = true
no_snat = ["192.0.2.0/24"]
[ports.b]
network = "out"
attach = { device = "tap1" }
[ports.c]
network = "out"
attach = { device = "tap2" }
[[forwards]]
listen = "0.0.0.0:80"
protocol = "tcp"
to = "c:8080"
[[forwards]]
listen = "[::]:53"
protocol = "udp"
to = "b"
[[forwards]]
listen = "0.0.0.0:90"
protocol = "tcp"
to = [{ port = "b:91", weight = 3 }, "c"]
affinity = "client"
[elastic_ips]
"198.51.100.20" = { port = "c", on_change = "keep" }
[[metadata]]
network = "out"
listen = "169.254.169.254:80"
to = "host:8776"
"#,
];

#[test]
fn the_ways_outside_and_in_are_told() {
    let v6 = "[\"10.30.0.0/24\", \"fd00::/64\"]";
    let [before, after] =
        WAYS.map(|ways| policy(&format!("{POLICY}{ways}").replace("[\"10.30.0.0/24\"]", v6)));
    assert_eq!(
        differences(&before, &after),
        [
            "uplink removed: eth1",
            "uplink added: eth0",
            "uplink eth7: xdp changed from auto to native",
            "network out: clamp_mss changed from false to true",
            "network out: uplink changed from that of the default route to eth0",
            "network out: snat changed from the uplink's own address to 198.51.100.9,198.51.100.10",
            "network out: snat_ports changed from 1024-32767 to 2000-2999",
            "network out: mapping changed from endpoint-dependent to endpoint-independent",
            "network out: untranslated prefix removed: 10.0.0.0/8",
            "network out: untranslated prefix added: 192.0.2.0/24",
            "forward tcp/0.0.0.0:80: target changed from b:80 to c:8080",
            "forward tcp/0.0.0.0:90: backend b: target changed from b:90 to b:91",
            "forward tcp/0.0.0.0:90: backend b: weight changed from 1 to 3",
            "forward tcp/0.0.0.0:90: backend c: created",
            "forward tcp/0.0.0.0:90: affinity changed from flow to client",
            "forward udp/0.0.0.0:53: removed",
            "forward udp/[::]:53: created",
            "elastic IP 198.51.100.20: moved from port b to c",
            "elastic IP 198.51.100.20: on_change changed from cut to keep",
            "metadata 169.254.169.254:80 of network out: port of the host changed from 8775 to 8776",
        ]
    );
}

#[test]
fn an_acl_in_another_order_is_another() {
    let entries: Vec<&str> = POLICY.split("[[acl]]").collect();
    let tail = entries[2].split_once("[ports").unwrap();
    let swapped = format!("{}[[acl]]{}[[acl]]{}[ports{}", entries[0], tail.0, entries[1], tail.1);
    assert_eq!(differences(&policy(POLICY), &policy(&swapped)), ["acl: the order of the entries changed"]);
}

#[test]
fn what_is_gone_is_told() {
    let smaller = POLICY.split("[ports.a]").next().unwrap();
    assert_eq!(differences(&policy(POLICY), &policy(smaller)), ["port a: removed"]);
    assert_eq!(differences(&policy(smaller), &policy(POLICY)), ["port a: created"]);
}

#[test]
fn what_lies_beyond_the_host_is_told() {
    let networks = [
        "[networks.x]\ntype = \"private\"\nsubnets = [\"10.30.0.0/24\"]\n",
        "[networks.lan]\ntype = \"bridged\"\nuplink = \"eth3\"\n",
        "[networks.far]\ntype = \"private\"\nsubnets = [\"10.31.0.0/24\"]\nvni = 7\npeers = [\"192.0.2.12\"]\n",
        "[networks.red]\ntype = \"private\"\nsubnets = [\"10.32.0.0/24\"]\nvlan = 10\ntrunk = \"eth1\"\n",
        "[ports.b]\nnetwork = \"web\"\nvlans = [\"red\"]\nattach = { tap = \"tap1\", create = true, owner = 1000 }\n",
    ];
    let text = format!("{POLICY}{}", networks.concat());
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        differences(&policy(&text), &policy(&text.replacen(from, to, 1)))
    };
    let subnet = "subnets = [\"10.30.0.0/24\"]\n";
    for (from, to, told) in [
        (
            subnet,
            &*format!("{subnet}vlan = [100, 10]\ntrunk = \"eth9\"\npriority = 5\n"),
            vec![
                "network x: segment changed from none to vlan 10 in 100 on eth9",
                "network x: priority changed from none to 5",
            ],
        ),
        (
            "vlan = 10\ntrunk = \"eth1\"",
            "vlan = 11\ntrunk = \"eth1\"",
            vec!["network red: segment changed from vlan 10 on eth1 to vlan 11 on eth1"],
        ),
        (
            "\"eth3\"",
            "\"eth4\"\nvlan = 5",
            vec![
                "uplink removed: eth3",
                "uplink added: eth4",
                "network lan: segment changed from bridged to eth3 to vlan 5 on eth4",
            ],
        ),
        (
            "vni = 7\npeers = [\"192.0.2.12\"]",
            "vni = 8\nuplink = \"eth0\"\npeers = [\"192.0.2.13\"]",
            vec![
                "uplink added: eth0",
                "network far: uplink changed from that of the default route to eth0",
                "network far: segment changed from vni 7 to vni 8",
                "network far: peer removed: 192.0.2.12",
                "network far: peer added: 192.0.2.13",
            ],
        ),
        (
            "vlans = [\"red\"]\nattach = { tap = \"tap1\", create = true, owner = 1000 }",
            "attach = { tap = \"tap1\" }",
            vec![
                "port b: tagged network removed: red",
                "port b: attach changed from tap tap1 of user 1000, created to tap tap1",
            ],
        ),
    ] {
        assert_eq!(changed(from, to), told, "{to}");
    }
}
