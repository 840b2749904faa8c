//! Where ports are: taps, other hosts, and several networks by tagged frames.

use super::{BASE, one_mistake, valid};
use crate::policy::{Attach, Policy};

fn with(more: &str) -> Policy {
    valid(&format!("{BASE}{more}"))
}

/// Networks that ports of the tests below are in.
const SEGMENTS: &str = r#"
[networks.red]
type = "private"
subnets = ["10.41.0.0/24"]
vlan = 10
trunk = "eth1"
[networks.blue]
type = "private"
subnets = ["10.42.0.0/24"]
vlan = 20
trunk = "eth1"
[networks.far]
type = "private"
subnets = ["10.43.0.0/24"]
vni = 7
peers = ["192.0.2.12", "192.0.2.13"]
[networks.lan]
type = "bridged"
uplink = "eth0"
[networks.lan2]
type = "bridged"
uplink = "eth2"
vlan = 20
[networks.qinq]
type = "bridged"
uplink = "eth0"
vlan = [100, 10]
"#;

/// A port `a` of `network` with `lines`.
fn port(network: &str, lines: &str) -> String {
    format!("{SEGMENTS}[ports.a]\nnetwork = \"{network}\"\n{lines}\n")
}

#[test]
fn a_trunk_port_takes_part_in_several_networks() {
    let lines = "vlans = [\"red\", \"lan2\"]\naddresses = [\"10.10.0.7\", \"10.41.0.7\", \"192.0.2.70\"]\n\
                 attach = { tap = \"tap0\" }";
    let policy = with(&port("web", lines));
    let a = &policy.ports["a"];
    assert_eq!((a.vlans.join(","), a.addresses.len()), ("red,lan2".to_owned(), 3));
    assert_eq!(a.attach, Attach::Tap { tap: "tap0".to_owned(), create: false, owner: None });
    assert!(with(&port("web", "vlans = []\nattach = { netns = \"a\" }")).ports["a"].vlans.is_empty());
    for (vlans, words, at) in [
        ("[\"red\", \"web\"]", "network `web` is that of port `a` itself", "\"web"),
        ("[\"red\", \"red\"]", "network `red` is given twice", "\"red\"]"),
        ("[\"rde\"]", "there is no network `rde`; did you mean `red`?", "\"rde"),
        ("[\"blue\", \"lan2\"]", "network `lan2` has VLAN 20, as network `blue` on this port", "\"lan2"),
        ("[\"backend\"]", "network `backend` has no `vlan`", "\"backend"),
        ("[\"far\"]", "network `far` has no `vlan`", "\"far"),
        ("[\"lan\"]", "network `lan` has no `vlan`", "\"lan"),
        ("[\"qinq\"]", "network `qinq` has two tags", "\"qinq"),
        ("\"red\"", "write [\"red\"]", "\"red"),
        ("[10]", "expected a string", "10"),
    ] {
        one_mistake(&port("web", &format!("vlans = {vlans}\nattach = {{ netns = \"a\" }}")), &[words], at);
    }
    let elsewhere = "vlans = [\"red\"]\naddresses = [\"10.42.0.7\"]\nattach = { netns = \"a\" }";
    let words =
        ["10.42.0.7 is in no subnet of the networks `web`, `red`", "10.10.0.0/24 or fd00:10::/64 or 10.41"];
    one_mistake(&port("web", elsewhere), &words, "\"10.42");
    let gateway = "vlans = [\"red\"]\naddresses = [\"10.41.0.1\"]\nattach = { netns = \"a\" }";
    one_mistake(&port("web", gateway), &["the gateway of network `red`"], "\"10.41");
}

#[test]
fn a_port_of_a_lan_without_subnets_may_have_any_address() {
    let at = |addr: &str| port("lan", &format!("addresses = [\"{addr}\"]\nattach = {{ netns = \"a\" }}"));
    assert_eq!(with(&at("192.0.2.70")).ports["a"].addresses.len(), 1);
    assert_eq!(with(&at("2001:db8::70")).ports["a"].addresses.len(), 1);
    assert!(with(&port("lan", "attach = { netns = \"a\" }")).ports["a"].addresses.is_empty());
    for (addr, words) in [
        ("224.0.0.9", "224.0.0.9 cannot be a port's address: it is a multicast address"),
        ("127.0.0.2", "a loopback address"),
        ("0.0.0.0", "stands for no address"),
        ("169.254.1.1", "link-local"),
    ] {
        one_mistake(&at(addr), &[words], &format!("\"{addr}"));
    }
}

#[test]
fn a_tap_is_made_for_its_user() {
    let tap = |keys: &str| port("web", &format!("attach = {{ {keys} }}"));
    let policy = with(&tap("tap = \"tap0\", create = true, owner = 1000"));
    let attach = Attach::Tap { tap: "tap0".to_owned(), create: true, owner: Some(1000) };
    assert_eq!(policy.ports["a"].attach, attach);
    let root = with(&tap("tap = \"tap0\", create = true, owner = 0"));
    assert!(matches!(root.ports["a"].attach, Attach::Tap { owner: Some(0), .. }));
    with(&tap("tap = \"tap0\", create = true, owner = 4294967294"));
    for (keys, words, at) in [
        (
            "tap = \"tap0\", owner = 1000",
            "`owner` goes with a tap that vnet makes; add create = true",
            "owner",
        ),
        ("tap = \"tap0\", create = false, owner = 1", "`owner` goes with a tap that vnet makes", "owner"),
        ("tap = \"tap0\", create = true, owner = -1", "no user has the number -1", "-1"),
        (
            "tap = \"tap0\", create = true, owner = 4294967295",
            "no user has the number 4294967295",
            "4294967295",
        ),
        (
            "tap = \"tap0\", create = true, owner = \"qemu\"",
            "found \"qemu\"; write the user's number",
            "\"qemu",
        ),
        ("tap = \"tap0\", name = \"eth0\"", "`name` does not go with `tap`", "name"),
        ("netns = \"a\", owner = 1", "`owner` does not go with `netns`", "owner"),
        ("device = \"tap0\", owner = 1", "`owner` does not go with `device`", "owner"),
        ("device = \"tap0\", tap = \"tap0\"", "port `a` is attached to a device and to a tap", "tap"),
        ("tap = \"lo\"", "the loopback interface", "\"lo"),
        ("tap = \"vnet-web\"", "is the bridge of a network, not a port's device", "\"vnet-web"),
        ("tap = \"eth1\"", "`eth1` is the trunk of network", "\"eth1"),
        (
            "device = \"eth1\"",
            "is the trunk of network `blue`, not a port's device; name a veth or a tap",
            "\"eth1",
        ),
        ("tap = \"eth0\"", "`eth0` is the uplink of network `lan`", "\"eth0"),
        ("tap = \"sixteen-is-a-lot\"", "16 characters", "\"sixteen"),
    ] {
        one_mistake(&tap(keys), &[words], at);
    }
    let twice = format!(
        "{}[ports.b]\nnetwork = \"web\"\nattach = {{ device = \"tap0\" }}\n",
        tap("tap = \"tap0\", create = true")
    );
    one_mistake(&twice, &["the device tap0 belongs to port `a` already"], "\"tap0\"");
    one_mistake(&format!("[uplinks.tap9]\n{}", tap("tap = \"tap9\"")), &["the device of port `a`"], "tap9]");
}

#[test]
fn a_remote_port_is_on_another_host() {
    let far =
        |remote: &str| port("far", &format!("addresses = [\"10.43.0.7\"]\nattach = {{ remote = {remote} }}"));
    assert_eq!(with(&far("true")).ports["a"].attach, Attach::Remote { remote: None });
    let host = Some("192.0.2.13".parse().unwrap());
    assert_eq!(with(&far("\"192.0.2.13\"")).ports["a"].attach, Attach::Remote { remote: host });
    let red = "addresses = [\"10.41.0.7\"]\nattach = { remote = true }";
    assert_eq!(with(&port("red", red)).ports["a"].attach, Attach::Remote { remote: None });
    let lan = "addresses = [\"192.0.2.70\"]\nattach = { remote = true }";
    with(&port("lan", lan));
    for (network, lines, words, at) in [
        ("far", "attach = { remote = true }", "port `a` is on another host, and has no `addresses`", "true"),
        (
            "web",
            "addresses = [\"10.10.0.7\"]\nattach = { remote = true }",
            "network `web` is on this host alone; give it a `vlan` or a `vni`",
            "true",
        ),
        (
            "red",
            "addresses = [\"10.41.0.7\"]\nattach = { remote = \"192.0.2.12\" }",
            "network `red` is no overlay, so it has no peer 192.0.2.12; write remote = true",
            "\"192.0.2.12",
        ),
        (
            "far",
            "addresses = [\"10.43.0.7\"]\nattach = { remote = \"192.0.2.99\" }",
            "192.0.2.99 is no peer of network `far`; write remote = \"192.0.2.12\" or \"192.0.2.13\"",
            "\"192.0.2.99",
        ),
        (
            "far",
            "vlans = [\"red\"]\naddresses = [\"10.43.0.7\"]\nattach = { remote = true }",
            "`vlans` does not go with port `a`, which is on another host",
            "vlans",
        ),
        ("far", "addresses = [\"10.43.0.7\"]\nattach = { remote = false }", "write remote = true", "false"),
        (
            "far",
            "addresses = [\"10.43.0.7\"]\nattach = { remote = \"h2\" }",
            "`h2` is not an address",
            "\"h2",
        ),
        (
            "far",
            "addresses = [\"10.43.0.7\"]\nattach = { remote = true, create = true }",
            "`create` does not go with `remote`",
            "create",
        ),
        (
            "far",
            "addresses = [\"10.43.0.7\"]\nattach = { remote = true, netns = \"a\" }",
            "attached to a namespace and to another host",
            "remote",
        ),
    ] {
        one_mistake(&port(network, lines), &[words], at);
    }
}
