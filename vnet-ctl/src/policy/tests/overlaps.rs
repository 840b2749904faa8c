//! Networks whose subnets overlap: which may, and what does not go with that.

use super::{mistakes, one_mistake, parse_text, valid};
use crate::policy::Overlaps;

/// A network `name` of this type with these subnets, which keeps the host out, and `more` keys.
fn closed(name: &str, kind: &str, subnets: &str, more: &str) -> String {
    format!("[networks.{name}]\ntype = \"{kind}\"\nsubnets = [{subnets}]\nhost = false\n{more}\n")
}

/// A port in a namespace of its own name.
fn port(name: &str, network: &str, more: &str) -> String {
    format!(
        "[ports.{name}]\nnetwork = \"{network}\"\nattach = {{ netns = \"{name}\" }}\nsecurity_groups = [\"web\"]\n{more}\n"
    )
}

#[test]
fn networks_may_overlap_if_one_keeps_the_host_out() {
    let text = [
        super::BASE,
        &closed("same", "nat", "\"10.10.0.0/24\", \"fd00:10::/64\"", ""),
        &closed("wide", "private", "\"10.0.0.0/8\"", ""),
        &closed("apart", "private", "\"192.168.0.0/24\"", ""),
        &port("a", "web", "addresses = [\"10.10.0.5\"]"),
        &port("b", "same", "addresses = [\"10.10.0.5\"]"),
    ]
    .concat();
    let policy = valid(&text);
    let overlaps = Overlaps::of(&policy.networks);
    let concerned: Vec<_> = policy.networks.keys().filter(|name| overlaps.concern(name)).collect();
    assert_eq!(concerned, ["backend", "same", "web", "wide"]);
    for (name, network) in &policy.networks {
        for subnet in &network.subnets {
            let is_in = ["web", "backend", "apart"].contains(&name.as_str());
            assert_eq!(overlaps.host_is_in(name, subnet), is_in, "{name}: {}", subnet.net);
        }
    }
}

#[test]
fn what_the_host_is_in_must_not_overlap() {
    let open = "[networks.x]\ntype = \"nat\"\nsubnets = [\"10.10.0.0/16\"]\n";
    one_mistake(
        open,
        &[
            "10.10.0.0/16 overlaps 10.10.0.0/24 of network `web`",
            "host = false under [networks.x] or [networks.web]",
        ],
        "\"10.10.0.0/16",
    );
    // One that may be there does not hide one that may not.
    let between = [closed("wide", "private", "\"10.0.0.0/8\"", "").as_str(), open].concat();
    one_mistake(&between, &["10.10.0.0/16 overlaps 10.10.0.0/24 of network `web`"], "\"10.10.0.0/16");
}

#[test]
fn the_subnets_of_one_network_must_not_overlap() {
    let (message, _) = mistakes(&closed("x", "nat", "\"10.1.0.0/16\", \"10.1.2.0/24\"", "")).remove(0);
    assert!(message.contains("10.1.2.0/24 overlaps 10.1.0.0/16 of network `x`"), "{message}");
    assert!(!message.contains("host = false"), "{message}");
}

#[test]
fn an_address_is_one_ports_in_each_network() {
    let twice = [
        closed("same", "nat", "\"10.10.0.0/24\"", ""),
        port("a", "same", "addresses = [\"10.10.0.5\"]"),
        port("b", "same", "addresses = [\"10.10.0.5\"]"),
    ];
    one_mistake(&twice.concat(), &["the address 10.10.0.5 belongs to port `a` already"], "\"10.10.0.5\"]");
}

#[test]
fn networks_that_overlap_cannot_be_joined() {
    one_mistake(
        &closed("same", "nat", "\"10.10.0.0/24\"", "connect = [\"web\"]"),
        &[
            "network `same` cannot be connected with `web`: 10.10.0.0/24 overlaps 10.10.0.0/24 there",
            "give one of them other subnets",
        ],
        "\"web\"]",
    );
    let both = "connect = [\"web\", \"same\"]";
    let third = |more: &str| format!("[networks.x]\ntype = \"nat\"\nsubnets = [\"10.1.0.0/24\"]\n{more}\n");
    let words = [
        "network `x` cannot be connected with both `web` and `same`: 10.10.0.0/24 and 10.10.0.0/24 overlap",
        "take one of the connections out",
    ];
    let same = |more: &str| closed("same", "nat", "\"10.10.0.0/24\"", more);
    one_mistake(&[same("").as_str(), &third(both)].concat(), &words, "\"same\"]");
    // Whoever of them says so.
    one_mistake(
        &[third("connect = [\"web\"]").as_str(), &same("connect = [\"x\"]")].concat(),
        &words,
        "\"x\"]",
    );
    valid(&[super::BASE, &same(""), &third("connect = [\"web\"]")].concat());
    valid(&[super::BASE, &same("connect = [\"x\"]"), &third("connect = [\"same\"]")].concat());
}

#[test]
fn a_service_of_the_host_needs_a_way_there() {
    let service = |network: &str, listen: &str| {
        format!("[[metadata]]\nnetwork = \"{network}\"\nlisten = \"{listen}:80\"\nto = \"host:80\"\n")
    };
    let networks = closed("same", "nat", "\"10.10.0.0/24\", \"10.99.0.0/24\", \"fd00:99::/64\"", "");
    one_mistake(
        &[networks.as_str(), &service("same", "169.254.169.254")].concat(),
        &[
            "network `same` cannot have a service of the host",
            "10.10.0.0/24 overlaps a subnet of network `web`",
        ],
        "\"169.254.169.254",
    );
    let services = [service("same", "[fd00:ec2::254]"), service("web", "169.254.169.254")].concat();
    valid(&[super::BASE, &networks, &services].concat());
}

#[test]
fn only_addresses_that_the_host_has_are_listened_on() {
    let networks = [
        closed("same", "nat", "\"10.10.0.0/24\"", "gateway = [\"10.10.0.254\"]"),
        closed("one", "nat", "\"10.66.0.0/24\"", ""),
        closed("two", "nat", "\"10.66.0.0/24\"", ""),
        port("b", "same", ""),
    ]
    .concat();
    let forward = |listen: &str| {
        format!("{networks}[[forwards]]\nlisten = \"{listen}:80\"\nprotocol = \"tcp\"\nto = \"b\"\n")
    };
    one_mistake(
        &forward("10.10.0.254"),
        &["10.10.0.254 is no address of the host", "in the subnet 10.10.0.0/24 the host has 10.10.0.1"],
        "\"10.10.0.254:80",
    );
    one_mistake(
        &forward("10.66.0.1"),
        &["10.66.0.1 is no address of the host", "kept out of network `one`"],
        "\"10.66.0.1:80",
    );
    for listen in ["10.10.0.1", "192.0.2.1", "0.0.0.0"] {
        valid(&[super::BASE, &forward(listen)].concat());
    }
    let (_, warnings) = parse_text(&[super::BASE, &forward("127.0.0.1")].concat()).unwrap();
    assert!(warnings[0].message.contains("it is for the host alone, which network `same` keeps out"));
}

#[test]
fn a_forward_does_not_spread_over_networks_that_overlap() {
    let to = |networks: &str| {
        format!(
            "{networks}{}{}[[forwards]]\nlisten = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = [\"a\", \"b\"]\n",
            port("a", "web", ""),
            port("b", "other", ""),
        )
    };
    one_mistake(
        &to(&closed("other", "nat", "\"10.10.0.0/16\"", "")),
        &["ports `a` and `b` cannot be backends of one forward", "a forward of its own"],
        "\"b\"]",
    );
    valid(&[super::BASE, &to(&closed("other", "nat", "\"10.30.0.0/16\"", ""))].concat());
}

#[test]
fn two_of_the_same_addresses_do_not_leave_for_the_same_place() {
    let networks = |one: &str, two: &str| {
        let no_snat = |net: &str| format!("no_snat = [\"{net}\"]");
        [
            closed("one", "nat", "\"10.66.0.0/24\", \"fd66::/64\"", &no_snat(one)),
            closed("two", "nat", "\"10.66.0.0/24\"", &no_snat(two)),
        ]
        .concat()
    };
    one_mistake(
        &networks("192.168.0.0/16", "192.168.7.0/24"),
        &["to 192.168.7.0/24 networks `two` and `one` would both leave with their own addresses"],
        "\"192.168.7.0",
    );
    for (one, two) in [("192.168.0.0/24", "192.168.7.0/24"), ("fd77::/16", "fd77::/64")] {
        valid(&[super::BASE, &networks(one, two)].concat());
    }
}

/// A network `name` that is VLAN `vlan` of a LAN with these subnets.
fn bridged(name: &str, vlan: u16, subnets: &str) -> String {
    format!(
        "[networks.{name}]\ntype = \"bridged\"\nuplink = \"eth1\"\nvlan = {vlan}\nsubnets = [{subnets}]\n"
    )
}

#[test]
fn a_lan_may_have_the_addresses_of_any_network() {
    let routed = "[networks.routed]\ntype = \"routed\"\nsubnets = [\"10.77.0.0/24\"]\n";
    let text = [
        super::BASE,
        routed,
        &closed("shut", "nat", "\"10.78.0.0/24\"", ""),
        &bridged("one", 10, "\"10.0.0.0/8\""),
        &bridged("two", 20, "\"10.10.0.0/24\""),
        &port("a", "web", "addresses = [\"10.10.0.5\"]"),
        &port("b", "two", "addresses = [\"10.10.0.5\"]"),
    ]
    .concat();
    let policy = valid(&text);
    let overlaps = Overlaps::of(&policy.networks);
    for (name, is_in) in [("web", true), ("routed", true), ("shut", false), ("one", false), ("two", false)] {
        let subnet = policy.networks[name].subnets[0];
        assert_eq!(overlaps.host_is_in(name, &subnet), is_in, "{name}");
        assert!(overlaps.concern(name), "{name}");
        // Of a LAN the policy does not know whether the host is on it.
        assert_eq!(overlaps.host_is_apart(name, subnet.gateway), name == "shut", "{name}");
    }
}

#[test]
fn a_routed_network_has_its_addresses_for_itself() {
    let routed =
        |more: &str| format!("[networks.routed]\ntype = \"routed\"\nsubnets = [\"10.10.0.0/16\"]\n{more}");
    for more in ["", "host = false\n"] {
        let (message, _) = mistakes(&routed(more)).remove(0);
        for words in [
            "10.10.0.0/16 overlaps 10.10.0.0/24 of network `web`",
            "those of network `routed` are known outside",
        ] {
            assert!(message.contains(words), "{message}");
        }
        assert!(!message.contains("host = false under"), "{message}");
    }
    let text = closed("shut", "nat", "\"10.10.7.0/24\"", "");
    let (message, place) = mistakes(&[text.as_str(), &routed("host = false\n")].concat()).remove(0);
    assert!(message.contains("are known outside"), "{message}");
    assert!(place.starts_with("\"10.10."), "{place}");
}

#[test]
fn a_port_does_not_take_part_in_two_networks_that_overlap() {
    let trunk = |vlans: &str, addresses: &str| {
        port("t", "one", &format!("vlans = [{vlans}]\naddresses = [{addresses}]"))
    };
    let vlan = |name: &str, vlan: u16, subnet: &str| {
        closed(name, "nat", subnet, &format!("vlan = {vlan}\ntrunk = \"eth1\""))
    };
    let networks = [
        vlan("one", 10, "\"10.66.0.0/24\""),
        vlan("two", 20, "\"10.66.0.0/16\""),
        vlan("three", 30, "\"10.67.0.0/24\""),
        vlan("four", 40, "\"10.67.0.0/24\""),
    ]
    .concat();
    one_mistake(
        &[networks.as_str(), &trunk("\"three\", \"two\"", "\"10.66.0.5\"")].concat(),
        &[
            "port `t` cannot take part in both `one` and `two`: 10.66.0.0/24 and 10.66.0.0/16 overlap",
            "or a port of its own",
        ],
        "\"two\"",
    );
    // An address is somebody's in the network that it is of, and not in another.
    let others =
        [port("a", "three", "addresses = [\"10.67.0.5\"]"), port("b", "four", "addresses = [\"10.67.0.6\"]")];
    let with = |address: &str| {
        [networks.as_str(), &others.concat(), &trunk("\"three\"", &format!("\"{address}\""))].concat()
    };
    valid(&[super::BASE, &with("10.67.0.6")].concat());
    one_mistake(&with("10.67.0.5"), &["the address 10.67.0.5 belongs to port `a` already"], "\"10.67.0.5\"]");
}
