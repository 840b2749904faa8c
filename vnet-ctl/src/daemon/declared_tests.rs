use std::path::Path;

use super::*;
use crate::api::types::RuntimeAttach;

const FILE: &str = r#"
version = 1
[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]
[networks.db]
type = "private"
subnets = ["10.20.0.0/24"]
[security_groups.web]
ingress = []
[ports.p1]
network = "web"
addresses = ["10.10.0.10"]
mac = "02:00:00:00:00:0a"
attach = { netns = "p1" }
[ports.p2]
network = "web"
attach = { device = "tap0" }
"#;

fn file(text: &str) -> Arc<PolicyFile> {
    let (policy, _) = crate::policy::parse(text, Path::new("policy.toml")).unwrap();
    Arc::new(PolicyFile { text: text.into(), origin: "policy.toml".into(), policy: Arc::new(policy) })
}

fn declared(text: &str) -> Declared {
    Declared { file: file(text), ..Declared::default() }
}

fn netns(name: &str) -> RuntimeAttach {
    RuntimeAttach { netns: Some(name.to_owned()), ..RuntimeAttach::default() }
}

fn port(network: &str, address: Option<&str>, attach: RuntimeAttach) -> RuntimePort {
    RuntimePort {
        network: network.to_owned(),
        vlans: Vec::new(),
        addresses: address.into_iter().map(str::to_owned).collect(),
        mac: None,
        security_groups: Vec::new(),
        origin: "cni".to_owned(),
        attach,
    }
}

fn kept() -> Assigned {
    [("p2".to_owned(), vec!["10.10.0.2".parse().unwrap()])].into()
}

/// The conflicts of `port` as `c1` beside the file.
fn conflicts(port: RuntimePort) -> String {
    let mut declared = declared(FILE);
    declared.set_runtime("c1", Some(port));
    declared.join(&kept()).conflicts.to_string()
}

#[test]
fn ports_of_runtimes_join_those_of_the_file() {
    let mut declared = declared(FILE);
    declared.set_runtime("c1", Some(port("web", Some("10.10.0.11"), netns("c1"))));
    let joined = declared.join(&kept());
    assert!(joined.conflicts.0.is_empty(), "{}", joined.conflicts);
    assert_eq!(joined.policy.ports.keys().collect::<Vec<_>>(), ["c1", "p1", "p2"]);
    assert_eq!(declared.origins(), [("c1".to_owned(), "cni".to_owned())].into());
    let before = declared.set_runtime("c1", None);
    assert_eq!(before.unwrap().network, "web");
    assert_eq!(declared.join(&kept()).policy.ports.len(), 2);
}

#[test]
fn what_a_port_of_the_file_has_is_refused_by_its_name() {
    let cases = [
        (port("web", Some("10.10.0.10"), netns("c1")), "the address 10.10.0.10 belongs to port `p1`"),
        (port("web", Some("10.10.0.2"), netns("c1")), "the address 10.10.0.2 belongs to port `p2`"),
        (
            RuntimePort { mac: Some("02:00:00:00:00:0a".into()), ..port("web", None, netns("c1")) },
            "the MAC address 02:00:00:00:00:0a belongs to port `p1`",
        ),
        (port("db", None, netns("/run/netns/p1")), "the interface `eth0` in namespace `/run/netns/p1`"),
        (
            port("db", None, RuntimeAttach { device: Some("tap0".into()), ..RuntimeAttach::default() }),
            "the device tap0 belongs to port `p2`",
        ),
        (port("dbs", None, netns("c1")), "there is no network `dbs`; did you mean `db`?"),
        (port("db", Some("10.10.0.9"), netns("c1")), "10.10.0.9 is in no subnet of network `db`"),
    ];
    for (port, expected) in cases {
        let text = conflicts(port);
        assert!(text.contains(expected) && text.contains("port c1, created by cni"), "{text}");
    }
}

#[test]
fn an_edit_of_the_file_conflicts_with_each_port_that_it_takes_something_from() {
    let mut declared = declared(FILE);
    declared.set_runtime("c1", Some(port("db", None, netns("c1"))));
    let grouped = RuntimePort {
        security_groups: vec!["web".to_owned()],
        ..port("web", Some("10.10.0.7"), netns("c2"))
    };
    declared.set_runtime("c2", Some(grouped));
    declared.set_runtime("c3", Some(port("web", None, netns("c3"))));
    assert!(declared.join(&kept()).conflicts.0.is_empty());

    let edited = FILE.split("[networks.db]").next().unwrap().to_owned()
        + "[ports.c3]\nnetwork = \"web\"\naddresses = [\"10.10.0.7\"]\nattach = { netns = \"x\" }\n";
    declared.file = file(&edited);
    let joined = declared.join(&kept());

    let text = joined.conflicts.to_string();
    for expected in [
        "port c1, created by cni: there is no network `db`",
        "there is no security group `web`",
        "the policy file declares a port `c3` itself",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(joined.policy.ports.len(), 1, "the file's stay");
    let known = ["c1", "c2"].map(str::to_owned).into();
    assert_eq!(joined.conflicts.without(&known).0.len(), 1);
}

#[test]
fn a_newcomer_takes_nothing_from_a_port_that_is_in_force() {
    let mut declared = declared(FILE);
    declared.set_runtime("m", Some(port("web", Some("10.10.0.7"), netns("m"))));
    declared.settle(&BTreeSet::new());
    declared.set_runtime("a", Some(port("web", Some("10.10.0.7"), netns("a"))));

    let conflicts = declared.join(&kept()).conflicts;

    assert!(conflicts.of("m").is_none(), "{conflicts}");
    let text = conflicts.of("a").unwrap().to_string();
    assert!(text.contains("the address 10.10.0.7 belongs to port `m` already"), "{text}");
}

#[test]
fn a_port_that_had_to_wait_takes_nothing_from_one_in_force() {
    let mut declared = declared(FILE);
    declared.set_runtime("a", Some(port("web", Some("10.10.0.10"), netns("a"))));
    declared.settle(&["a".to_owned()].into());
    declared.set_runtime("m", Some(port("db", None, netns("a"))));
    declared.settle(&["a".to_owned()].into());

    declared.file = file(&FILE.replace("10.10.0.10", "10.10.0.11"));
    let conflicts = declared.join(&kept()).conflicts;

    assert!(conflicts.of("m").is_none() && conflicts.of("a").is_some(), "{conflicts}");
}

#[test]
fn an_edit_that_takes_an_assigned_address_conflicts() {
    let mut declared = declared(FILE);
    declared.set_runtime("c1", Some(port("web", None, netns("c1"))));
    let mut kept = kept();
    kept.insert("c1".to_owned(), vec!["10.10.0.3".parse().unwrap()]);
    let text = FILE.replace("10.10.0.10", "10.10.0.3");
    declared.file = file(&text);
    let text = declared.join(&kept).conflicts.to_string();
    assert!(text.contains("the address 10.10.0.3 belongs to port `p1` already"), "{text}");
}

#[test]
fn networks_that_overlap_have_the_same_address_each() {
    let text = FILE.replace("\"10.20.0.0/24\"]", "\"10.10.0.0/24\"]\nhost = false");
    let conflicts = |network: &str| {
        let mut declared = declared(&text);
        declared.set_runtime("c1", Some(port(network, Some("10.10.0.10"), netns("c1"))));
        declared.join(&kept()).conflicts.to_string()
    };
    assert_eq!(conflicts("db"), "");
    assert!(conflicts("web").contains("10.10.0.10 belongs to port `p1` already"));
}
