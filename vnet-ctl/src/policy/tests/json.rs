//! The same schema in JSON.

use std::path::Path;

use super::parse_text;
use crate::policy::{Policy, parse};

const TOML: &str = r#"version = 1
[host]
failsafe_ports = ["udp/68"]
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24"]
mtu = 9000
host = false
uplink = "eth0"
snat = ["198.51.100.9", "198.51.100.10"]
snat_ports = "5000-5999"
no_snat = ["10.0.0.0/8"]
mapping = "endpoint-independent"
clamp_mss = true
[uplinks.eth1]
[[forwards]]
listen = "[::]:8000-8010"
protocol = "tcp"
to = "b:9100"
[elastic_ips]
"198.51.100.20" = { port = "b", on_change = "keep" }
[[metadata]]
network = "open"
listen = "169.254.169.254:80"
to = "host:8775"
[networks.red]
type = "routed"
subnets = ["10.30.0.0/24"]
vlan = [100, 10]
trunk = "eth2"
priority = 3
[networks.far]
type = "private"
subnets = ["10.31.0.0/24"]
vni = 5001
peers = ["192.0.2.12"]
[networks.lan]
type = "bridged"
uplink = "eth3"
vlan = 20
[ports.vm]
network = "red"
vlans = ["lan"]
attach = { tap = "tap9", create = true, owner = 1000 }
[ports.far]
network = "far"
addresses = ["10.31.0.9"]
attach = { remote = "192.0.2.12" }
[ports.far2]
network = "far"
addresses = ["10.31.0.10"]
attach = { remote = true }
[networks.open]
type = "nat"
subnets = ["10.20.0.0/24", "fd00::/64"]
[security_groups.all]
ingress = [{ protocol = "any", from = ["any"] }]
[ports.b]
network = "open"
security_groups = ["all"]
attach = { device = "tap0" }
[[acl]]
action = "deny"
direction = "ingress"
protocol = "tcp"
ports = [23, "100-200"]
from = ["any"]
[ports.a]
network = "web"
attach = { netns = "ä", create = true }
"#;

const JSON: &str = r#"{
  "version": 1,
  "host": { "failsafe_ports": ["udp/68"] },
  "networks": { "web": { "type": "nat", "subnets": ["10.10.0.0/24"], "mtu": 9000, "host": false,
      "uplink": "eth0", "snat": ["198.51.100.9", "198.51.100.10"], "snat_ports": "5000-5999",
      "no_snat": ["10.0.0.0/8"], "mapping": "endpoint-independent", "clamp_mss": true },
    "red": { "type": "routed", "subnets": ["10.30.0.0/24"], "vlan": [100, 10], "trunk": "eth2", "priority": 3 },
    "far": { "type": "private", "subnets": ["10.31.0.0/24"], "vni": 5001, "peers": ["192.0.2.12"] },
    "lan": { "type": "bridged", "uplink": "eth3", "vlan": 20 },
    "open": { "type": "nat", "subnets": ["10.20.0.0/24", "fd00::/64"] } },
  "security_groups": { "all": { "ingress": [{ "protocol": "any", "from": ["any"] }] } },
  "uplinks": { "eth1": {} },
  "forwards": [{ "listen": "[::]:8000-8010", "protocol": "tcp", "to": "b:9100" }],
  "elastic_ips": { "198.51.100.20": { "port": "b", "on_change": "keep" } },
  "metadata": [{ "network": "open", "listen": "169.254.169.254:80", "to": "host:8775" }],
  "acl": [{ "action": "deny", "direction": "ingress", "protocol": "tcp", "ports": [23, "100-200"], "from": ["any"] }],
  "ports": {
    "vm": { "network": "red", "vlans": ["lan"], "attach": { "tap": "tap9", "create": true, "owner": 1000 } },
    "far": { "network": "far", "addresses": ["10.31.0.9"], "attach": { "remote": "192.0.2.12" } },
    "far2": { "network": "far", "addresses": ["10.31.0.10"], "attach": { "remote": true } },
    "b": { "network": "open", "security_groups": ["all"], "attach": { "device": "tap0" } }, "a": { "network": "web", "attach": { "netns": "\u00e4", "create": true } } }
}
"#;

fn parsed(text: &str) -> Policy {
    parse_text(text).unwrap_or_else(|errors| panic!("{errors}")).0
}

/// The one mistake in `text`.
#[track_caller]
fn mistake(text: &str) -> String {
    let diagnostics = parse(text, Path::new("p.json")).expect_err("accepted");
    assert_eq!(diagnostics.len(), 1, "{diagnostics}");
    diagnostics.iter().map(|found| found.to_string()).collect()
}

#[test]
fn json_means_the_same_as_toml() {
    assert_eq!(parsed(TOML), parsed(JSON));
    assert_eq!(parsed(TOML), parsed(&format!("\n\n  {JSON}")));
}

#[test]
fn mistakes_in_json_are_told_at_their_places() {
    let wrong = JSON.replacen("\"nat\"", "\"natt\"", 1).replace("9000", "1.5").replace("[23,", "[0,");
    let diagnostics = parse(&wrong, Path::new("p.json")).expect_err("accepted");
    let places: Vec<_> = diagnostics.iter().map(|found| (found.line, found.column, found.message)).collect();
    assert_eq!(places.len(), 3, "{diagnostics}");
    assert_eq!((places[0].0, places[0].1), (4, 34));
    assert!(places[1].2.contains("expected a number, found a number with a fraction"));
    assert_eq!(places[2].0, 16);
    assert!(diagnostics.to_string().contains("--> p.json:4:34"), "{diagnostics}");
}

#[test]
fn what_is_not_json_is_told_where() {
    assert!(mistake("{ \"version\": 1, }").contains("p.json:1:15: this is not JSON: trailing commas"));
    assert!(mistake("{ \"version\": 1 // one\n }").contains("not JSON: comments"));
    assert!(mistake("{ version: 1 }").contains("not JSON"));
    assert!(mistake("{\n \"version\": 1\n").contains("p.json:1:1: this is not JSON: unterminated object"));
    assert!(mistake("[1]").contains("a policy is a table"));
    assert!(mistake("version = 1").contains("this is not JSON"));
    assert!(mistake(&"[".repeat(100_000)).contains("not JSON"));
}

#[test]
fn names_that_are_given_twice_are_refused() {
    let twice = mistake("{ \"version\": 1,\n \"version\": 1 }");
    assert!(twice.contains("p.json:2:2: the name `version` is given twice"), "{twice}");
    let deep = "{ \"version\": 1, \"networks\": { \"a\": {}, \"a\": {} } }";
    assert!(mistake(deep).contains("given twice"));
}

#[test]
fn null_and_wrong_types_are_refused() {
    let with = |value: &str| mistake(&JSON.replace("9000", value));
    assert!(with("null").contains("found null; leave the name out"));
    assert!(with("\"9000\"").contains("write 9000 without quotes"));
    assert!(with("99999999999999999999").contains("out of range"));
    assert!(mistake("{ \"version\": 2 }").contains("version 2"));
    assert!(mistake("{ \"networks\": {} }").contains("no `version`"));
}

#[test]
fn damaged_json_is_answered_with_places_inside_it() {
    for end in (0..JSON.len()).filter(|end| JSON.is_char_boundary(*end)) {
        if let Err(diagnostics) = parse(&JSON[..end], Path::new("p.json")) {
            let lines = JSON[..end].lines().count().max(1);
            assert!(diagnostics.iter().all(|found| (1..=lines + 1).contains(&found.line)), "{diagnostics}");
        }
    }
}
