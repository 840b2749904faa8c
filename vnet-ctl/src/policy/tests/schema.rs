//! The published JSON Schema says what the parser accepts.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::Value;

use super::{BASE, parse_text};
use crate::policy::{self, JSON_SCHEMA, section::Schema};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(JSON_SCHEMA).expect("JSON"));

/// Where the schema describes each table that the parser reads.
const TABLES: [(&str, &Schema); 13] = [
    ("", &policy::parse::FILE),
    ("/properties/host", &policy::host::HOST),
    ("/$defs/network", &policy::networks::NETWORK),
    ("/$defs/acl_entry", &policy::acl::ACL),
    ("/$defs/security_group", &policy::groups::GROUP),
    ("/$defs/rule", &policy::rules::RULE),
    ("/$defs/port", &policy::ports::PORT),
    ("/$defs/attach", &policy::attach::ATTACH),
    ("/$defs/uplink", &policy::exits::UPLINK),
    ("/$defs/forward", &policy::forwards::FORWARD),
    ("/$defs/backend", &policy::forwards::BACKEND),
    ("/$defs/elastic_ip", &policy::elastic_ips::ELASTIC_IP),
    ("/$defs/metadata", &policy::metadata::METADATA),
];

fn at(pointer: &str) -> &'static Value {
    SCHEMA.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))
}

/// Whether the policy file `text` is valid by the schema.
fn is_valid(text: &str) -> Result<(), String> {
    let value: toml::Table = text.parse().expect("TOML");
    let value = serde_json::to_value(value).expect("JSON");
    let validator = jsonschema::validator_for(&SCHEMA).expect("a schema");
    let errors: Vec<_> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

#[test]
fn every_key_of_the_parser_is_in_the_schema_and_no_other() {
    for (pointer, schema) in TABLES {
        let properties = at(&format!("{pointer}/properties")).as_object().unwrap();
        let published: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(published, schema.keys.iter().copied().collect(), "{pointer:?}");
        assert_eq!(at(&format!("{pointer}/additionalProperties")), &Value::Bool(false), "{pointer:?}");
    }
}

#[test]
fn every_key_is_described() {
    for (pointer, schema) in TABLES {
        for key in schema.keys {
            let mut property = at(&format!("{pointer}/properties/{key}"));
            while let Some(reference) = property.get("$ref").filter(|_| property.get("description").is_none())
            {
                property = at(reference.as_str().unwrap().trim_start_matches('#'));
            }
            assert!(property.get("description").is_some(), "{pointer}/{key} has no description");
        }
    }
}

#[test]
fn defaults_are_those_of_the_parser() {
    let policy = super::valid(&format!(
        "{BASE}[ports.a]\nnetwork = \"web\"\nattach = {{ netns = \"a\" }}\nsecurity_groups = [\"web\"]\n\
         [ports.b]\nnetwork = \"web\"\nattach = {{ netns = \"b\" }}\n\
         [elastic_ips]\n\"198.51.100.20\" = {{ port = \"a\" }}\n"
    ));
    let parsed = serde_json::to_value(&policy).unwrap();
    let default = |pointer: &str| at(&format!("{pointer}/default"));
    assert_eq!(*default("/properties/host/properties/failsafe_ports"), parsed["host"]["failsafe_ports"]);
    for key in ["mtu", "connect", "host", "snat_ports", "no_snat", "mapping", "clamp_mss"] {
        assert_eq!(*default(&format!("/$defs/network/properties/{key}")), parsed["networks"]["web"][key]);
    }
    for key in ["create", "name"] {
        assert_eq!(*default(&format!("/$defs/attach/properties/{key}")), parsed["ports"]["a"]["attach"][key]);
    }
    assert_eq!(*default("/$defs/port/properties/security_groups"), parsed["ports"]["b"]["security_groups"]);
    assert_eq!(
        *default("/$defs/elastic_ip/properties/on_change"),
        parsed["elastic_ips"]["198.51.100.20"]["on_change"]
    );
    assert_eq!(
        *default("/$defs/security_group/properties/on_change"),
        parsed["security_groups"]["web"]["on_change"]
    );
}

#[test]
fn what_the_parser_accepts_is_valid() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut texts: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    assert!(!texts.is_empty());
    // Whole policies of other tests.
    let more = r#"
        [host]
        failsafe_ports = ["tcp/22", "udp/68", "sctp/1"]
        [networks.third]
        type = "private"
        subnets = ["10.30.0.0/24", "fd00:30::/64"]
        gateway = ["10.30.0.254"]
        mtu = 9000
        connect = ["web"]
        host = false
        [[acl]]
        action = "deny"
        direction = "ingress"
        protocol = "tcp"
        ports = [23, "100-200", " 5 - 6 "]
        from = ["any", "list:office"]
        description = "telnet"
        [[acl]]
        action = "allow"
        direction = "egress"
        protocol = "icmp"
        icmp_type = 8
        icmp_code = 0
        to = ["net:web", "::/0"]
        [security_groups.x]
        description = "everything once"
        on_change = "keep"
        ingress = [
          { protocol = "tcp", ports = [443, "8000-8010", "22"], from = ["192.0.2.1", "sg:web", "net:web", "list:office"] },
          { protocol = "icmp", icmp_type = 3, icmp_code = 4, from = ["any"] },
          { protocol = 47, from = ["2001:db8::/32"], description = "GRE" },
          { protocol = "47", from = ["10.0.0.0/8"] },
        ]
        egress = [{ protocol = "any", to = ["0.0.0.0/0"] }]
        [ports.a]
        network = "web"
        attach = { netns = "a", create = true }
        [ports.b]
        network = "web"
        addresses = ["10.10.0.7", "fd00:10::7"]
        mac = "02-00-00-00-00-0A"
        security_groups = ["web", "default", "web"]
        attach = { netns = "/proc/1/ns/net", name = "lan0" }
        [ports.c]
        network = "backend"
        security_groups = []
        attach = { device = "tap0" }
        [uplinks.eth0]
        [uplinks.eth1]
        [networks.fourth]
        type = "nat"
        subnets = ["10.40.0.0/24", "fd00:40::/64"]
        uplink = "eth0"
        snat = ["198.51.100.9", "2001:db8::9"]
        snat_ports = "20000-29999"
        no_snat = ["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]
        mapping = "endpoint-independent"
        clamp_mss = true
        [networks.fifth]
        type = "nat"
        subnets = ["10.50.0.0/24"]
        snat = "198.51.100.9"
        snat_ports = 5000
        [networks.red]
        type = "private"
        subnets = ["10.60.0.0/24"]
        vlan = 10
        trunk = "eth2"
        priority = 7
        [networks.blue]
        type = "routed"
        subnets = ["10.61.0.0/24"]
        vlan = [100, 4094]
        trunk = "eth2"
        uplink = "eth0"
        [networks.far]
        type = "private"
        subnets = ["10.62.0.0/24"]
        vni = 16777215
        peers = ["192.0.2.12", "192.0.2.13"]
        uplink = "eth0"
        [networks.lan]
        type = "bridged"
        uplink = "eth3"
        [networks.lan30]
        type = "bridged"
        uplink = "eth3"
        vlan = 30
        subnets = ["192.0.2.0/24"]
        gateway = ["192.0.2.254"]
        [ports.e]
        network = "lan"
        vlans = ["red", "lan30"]
        attach = { tap = "tap1", create = true, owner = 1000 }
        [ports.f]
        network = "lan"
        attach = { tap = "tap2" }
        [ports.g]
        network = "far"
        addresses = ["10.62.0.9"]
        attach = { remote = "192.0.2.13" }
        [ports.h]
        network = "far"
        addresses = ["10.62.0.10"]
        attach = { remote = true }
        [[forwards]]
        listen = "0.0.0.0:8080"
        protocol = "tcp"
        to = "b:80"
        [[forwards]]
        listen = "[::]:8000-8010"
        protocol = "udp"
        to = "b"
        [[forwards]]
        listen = "127.0.0.1:9999"
        protocol = "sctp"
        to = "a:9999"
        [[forwards]]
        listen = "0.0.0.0:443"
        protocol = "tcp"
        to = ["a:8443", { port = "b", weight = 100 }, { port = "d:1", weight = 0 }]
        affinity = "client"
        [[forwards]]
        listen = "0.0.0.0:444"
        protocol = "tcp"
        to = [{ port = "b" }]
        affinity = "flow"
        [ports.d]
        network = "web"
        attach = { netns = "d" }
        [elastic_ips]
        "198.51.100.20" = { port = "b", on_change = "keep" }
        "2001:db8::20" = { port = "b" }
        [[metadata]]
        network = "web"
        listen = "169.254.169.254:80"
        to = "host:8775"
        [[metadata]]
        network = "web"
        listen = "[fd00:ec2::254]:80"
        to = "host:8775"
    "#;
    texts.extend([BASE.to_owned(), format!("{BASE}{more}"), "version = 1".to_owned()]);
    for text in texts {
        assert!(parse_text(&text).is_ok(), "{text}");
        is_valid(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    }
}

#[test]
fn what_the_schema_can_see_is_invalid_for_both() {
    let group = |rule: &str| format!("{BASE}[security_groups.x]\ningress = [{{ {rule} }}]\n");
    let network = |lines: &str| format!("{BASE}[networks.x]\n{lines}\n");
    let segment = |lines: &str| network(&format!("type = \"private\"\nsubnets = [\"10.9.0.0/24\"]\n{lines}"));
    let port = |lines: &str| format!("{BASE}[ports.x]\n{lines}\n");
    let forward = |lines: &str| {
        format!("{}[[forwards]]\n{lines}\n", port("network = \"web\"\nattach = { netns = \"a\" }"))
    };
    let metadata = |lines: &str| format!("{BASE}[[metadata]]\n{lines}\n");
    for text in [
        "networks = {}".to_owned(),
        "version = 2".to_owned(),
        format!("{BASE}[network]\n"),
        format!("{BASE}[uplinks.eth0]\nxdp = \"fast\"\n"),
        format!("{BASE}[uplinks.\"a b\"]\n"),
        format!("{BASE}[host]\nfailsafe_ports = [\"icmp/1\"]\n"),
        group("protocol = \"TCP\", from = [\"any\"]"),
        group("protocol = \"tcp\", ports = [0], from = [\"any\"]"),
        group("protocol = \"tcp\", ports = [], from = [\"any\"]"),
        group("protocol = \"tcp\", to = [\"any\"]"),
        group("protocol = \"tcp\""),
        group("protocol = \"tcp\", from = [\"group:web\"]"),
        group("protocol = \"icmp\", icmp_code = 1, from = [\"any\"]"),
        network("type = \"bridged\"\nsubnets = [\"10.9.0.0/24\"]"),
        network("type = \"bridged\"\nuplink = \"eth0\"\nconnect = [\"web\"]"),
        network("type = \"bridged\"\nuplink = \"eth0\"\nclamp_mss = false"),
        network("type = \"bridged\"\nuplink = \"eth0\"\ntrunk = \"eth0\"\nvlan = 10"),
        network("type = \"bridged\"\nuplink = \"eth0\"\nvni = 7\npeers = [\"192.0.2.12\"]"),
        network("type = \"bridged\"\nuplink = \"eth0\"\ngateway = [\"10.9.0.1\"]"),
        network("type = \"bridged\"\nuplink = \"eth0\"\npriority = 1"),
        network("type = \"nat\""),
        segment("vlan = 0\ntrunk = \"eth1\""),
        segment("vlan = 4095\ntrunk = \"eth1\""),
        segment("vlan = [10]\ntrunk = \"eth1\""),
        segment("vlan = [1, 2, 3]\ntrunk = \"eth1\""),
        segment("vlan = \"10\"\ntrunk = \"eth1\""),
        segment("vlan = 10"),
        segment("trunk = \"eth1\""),
        segment("vlan = 10\ntrunk = \"a/b\""),
        segment("vlan = 10\ntrunk = \"eth1\"\npriority = 8"),
        segment("vni = 0\npeers = [\"192.0.2.12\"]"),
        segment("vni = 16777216\npeers = [\"192.0.2.12\"]"),
        segment("vni = 7"),
        segment("peers = [\"192.0.2.12\"]"),
        segment("vni = 7\npeers = []"),
        segment("vni = 7\npeers = [\"192.0.2.12\", \"192.0.2.12\"]"),
        segment("vni = 7\npeers = [\"192.0.2.12\"]\nvlan = 10\ntrunk = \"eth1\""),
        segment("uplink = \"eth0\""),
        network("type = \"routed\"\nsubnets = [\"10.9.0.0/24\"]\nsnat_ports = 80"),
        port("network = \"web\"\nvlans = [10]\nattach = { netns = \"a\" }"),
        port("network = \"web\"\nattach = { tap = \"tap0\", owner = 1000 }"),
        port("network = \"web\"\nattach = { tap = \"tap0\", create = true, owner = 4294967295 }"),
        port("network = \"web\"\nattach = { tap = \"tap0\", create = true, owner = \"qemu\" }"),
        port("network = \"web\"\nattach = { tap = \"tap0\", name = \"eth0\" }"),
        port("network = \"web\"\nattach = { tap = \"tap0\", device = \"tap0\" }"),
        port("network = \"web\"\nattach = { device = \"tap0\", create = true }"),
        port("network = \"web\"\naddresses = [\"10.10.0.9\"]\nattach = { remote = false }"),
        port("network = \"web\"\nattach = { remote = true }"),
        network("type = \"nat\"\nsubnets = []"),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nmtu = 100"),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nhost = \"false\""),
        format!("{BASE}[networks.Web]\ntype = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\n"),
        format!("{BASE}[security_groups.x]\non_change = \"drop\"\n"),
        format!(
            "{BASE}[[acl]]\naction = \"deny\"\ndirection = \"ingress\"\nprotocol = \"any\"\nto = [\"any\"]\n"
        ),
        format!("{BASE}[[acl]]\ndirection = \"ingress\"\nprotocol = \"any\"\nfrom = [\"any\"]\n"),
        port("network = \"web\""),
        port("network = \"web\"\nattach = { netns = \"a\", device = \"b\" }"),
        port("network = \"web\"\naddresses = []\nattach = { netns = \"a\" }"),
        network("type = \"private\"\nsubnets = [\"10.9.0.0/24\"]\nsnat = \"198.51.100.9\""),
        network("type = \"private\"\nsubnets = [\"10.9.0.0/24\"]\nno_snat = []"),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nsnat = []"),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nmapping = \"cone\""),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nclamp_mss = 1"),
        network("type = \"private\"\nsubnets = [\"10.9.0.0/24\"]\nmapping = \"endpoint-dependent\""),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nsnat_ports = 0"),
        network("type = \"nat\"\nsubnets = [\"10.9.0.0/24\"]\nuplink = \"a/b\""),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\""),
        forward("listen = \"0.0.0.0\"\nprotocol = \"tcp\"\nto = \"a:80\""),
        forward("listen = \"::1:80\"\nprotocol = \"tcp\"\nto = \"a:80\""),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"icmp\"\nto = \"a:80\""),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = \"a:80-90\""),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = []"),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = 80"),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = { port = \"x:80\" }"),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = [{ weight = 1 }]"),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = [{ port = \"x:80\", weight = 101 }]"),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = [{ port = \"x:80\", share = 1 }]"),
        forward("listen = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = \"x:80\"\naffinity = \"source\""),
        format!("{BASE}[forwards]\n"),
        format!("{BASE}[elastic_ips]\n\"198.51.100.20\" = \"a\"\n"),
        format!("{BASE}[elastic_ips]\n\"198.51.100.20\" = {{}}\n"),
        format!("{BASE}[elastic_ips]\n\"public\" = {{ port = \"a\" }}\n"),
        metadata("network = \"web\"\nlisten = \"169.254.169.254:80\""),
        metadata("network = \"web\"\nlisten = \"169.254.169.254\"\nto = \"host:80\""),
        metadata("network = \"web\"\nlisten = \"169.254.169.254:80\"\nto = \"a:80\""),
    ] {
        assert!(parse_text(&text).is_err(), "the parser accepts {text}");
        assert!(is_valid(&text).is_err(), "the schema accepts {text}");
    }
}
