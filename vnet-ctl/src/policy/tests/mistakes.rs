//! What invalid files are answered.

use std::{fs, path::Path};

use super::{BASE, mistakes, one_mistake, parse_text};
use crate::policy::{Colour, ReadError, read};

/// A port of network `web` with `lines`.
fn port(name: &str, lines: &str) -> String {
    format!("[ports.{name}]\nnetwork = \"web\"\nattach = {{ netns = \"{name}\" }}\n{lines}\n")
}

/// A group with the one ingress rule.
fn ingress(rule: &str) -> String {
    format!("[security_groups.x]\ningress = [{{ {rule} }}]\n")
}

#[track_caller]
fn whole_file(text: &str, words: &[&str]) {
    let diagnostics = parse_text(text).expect_err("accepted");
    let shown = diagnostics.to_string();
    assert_eq!(diagnostics.len(), 1, "{shown}");
    for word in words {
        assert!(shown.contains(word), "no {word:?} in:\n{shown}");
    }
}

#[test]
fn a_file_that_is_no_policy_says_how_to_begin() {
    whole_file("", &["empty", "version = 1", "p.toml:1:1"]);
    whole_file(" \n\t\n", &["empty"]);
    whole_file("# nothing yet\n", &["no `version`", "version = 1"]);
    whole_file("\n[networks]\n", &["no `version`", "p.toml:2:1"]);
    whole_file("version = 2\nfuture = true\n", &["version 2", "p.toml:1:11", "newer vnet"]);
    whole_file("version = 0\n", &["version 0"]);
    whole_file("version = \"1\"\n", &["expected a number", "without quotes"]);
}

#[test]
fn syntax_errors_are_told_at_their_place() {
    whole_file("version = 1\n[networks.web\ntype = 1\n", &["not TOML", "p.toml:2:"]);
    whole_file("version = \n", &["not TOML", "p.toml:1:"]);
    whole_file("version = 1\nversion = 1\n", &["not TOML", "p.toml:2:1"]);
}

#[test]
fn unknown_keys_are_told_with_a_suggestion() {
    one_mistake("[network.x]\n", &["unknown key `network`", "did you mean `networks`?"], "network.x");
    one_mistake(
        "[networks.x]\ntype = \"nat\"\nsubnets = [\"10.1.0.0/24\"]\nmtuu = 1500\n",
        &["networks.x.mtuu", "did you mean `mtu`?"],
        "mtuu",
    );
    one_mistake(&port("a", "zzz = 1"), &["ports.a.zzz", "known here: network, addresses"], "zzz");
    one_mistake(
        &ingress(r#"protocol = "tcp", port = [80], from = ["any"]"#),
        &["did you mean `ports`?"],
        "port ",
    );
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    let text = port("a", "allowed_addresses = []");
    one_mistake(&text, &["not supported yet: `ports.a.allowed_addresses`"], "allowed_addresses");
    let text = "[ports.a]\nnetwork = \"web\"\nattach = { container = \"x\" }\n";
    one_mistake(text, &["not supported yet: `ports.a.attach.container`"], "container");
}

#[test]
fn who_runs_xdp_is_one_of_four_words() {
    let uplink = |xdp: &str| format!("[uplinks.eth0]\nxdp = {xdp}\n");
    one_mistake(&uplink("\"nativ\""), &["did you mean \"native\"?"], "\"nativ\"");
    one_mistake(&uplink("\"driver\""), &["not a way to run XDP", "\"generic\" or \"off\""], "\"driver\"");
    one_mistake(&uplink("true"), &["expected a string"], "true");
}

#[test]
fn names_must_fit_the_kernel() {
    let network = |name: &str| format!("[networks.{name}]\ntype = \"nat\"\nsubnets = [\"10.1.0.0/24\"]\n");
    one_mistake(&network("elevenchars"), &["11 characters", "at most 10", "15 characters"], "elevenchars");
    one_mistake(&network("Web"), &["contains `W`", "lower-case letters"], "Web");
    one_mistake(&network("\"a b\""), &["contains ` `"], "\"a b\"");
    one_mistake(&network("\"\""), &["empty"], "\"\"");
    one_mistake(&format!("[security_groups.{}]\n", "g".repeat(64)), &["64 characters", "at most 63"], "ggg");
    one_mistake(
        "[ports.a]\nnetwork = \"web\"\nattach = { netns = \"a\", name = \"sixteen-is-a-lot\" }\n",
        &["16 characters", "at most 15"],
        "\"sixteen",
    );
    one_mistake(
        "[ports.a]\nnetwork = \"web\"\nattach = { device = \"a/b\" }\n",
        &["cannot name an interface"],
        "\"a/b",
    );
    one_mistake(&port("host", ""), &["cannot be called `host`"], "host");
}

#[test]
fn networks_must_make_sense() {
    let network = |lines: &str| format!("[networks.x]\n{lines}\n");
    let subnets = |list: &str| network(&format!("type = \"nat\"\nsubnets = [{list}]"));
    one_mistake(&network("subnets = [\"10.1.0.0/24\"]"), &["network `x` has no `type`", "nat"], "x]");
    one_mistake(&network("type = \"nat\""), &["no `subnets`"], "x]");
    one_mistake(
        &network("type = \"natt\"\nsubnets = [\"10.1.0.0/24\"]"),
        &["did you mean \"nat\"?"],
        "\"natt\"",
    );
    one_mistake(&subnets(""), &["no subnet"], "[]");
    one_mistake(
        &network("type = \"nat\"\nsubnets = \"10.1.0.0/24\""),
        &["expected a list", "[\"10.1.0.0/24\"]"],
        "\"10",
    );
    one_mistake(&subnets("\"10.1.0.7/24\""), &["beyond its prefix length", "10.1.0.0/24"], "\"10.1.0.7");
    one_mistake(&subnets("\"10.1.0.0\""), &["no prefix length"], "\"10.1");
    one_mistake(&subnets("\"10.1.0.0/33\""), &["neither an address nor a prefix"], "\"10.1");
    one_mistake(&subnets("\"10.1.0.0/31\""), &["no room"], "\"10.1");
    one_mistake(&subnets("\"224.1.0.0/16\""), &["overlaps 224.0.0.0/3"], "\"224");
    one_mistake(&subnets("\"fe80::/64\""), &["overlaps fe80::/10"], "\"fe80");
    one_mistake(&format!("{}mtu = 1279\n", subnets("\"10.1.0.0/24\"")), &["1279", "1280 to 65535"], "1279");
    one_mistake(
        &format!("{}mtu = 1500.5\n", subnets("\"10.1.0.0/24\"")),
        &["a number with a fraction"],
        "1500.5",
    );
}

#[test]
fn subnets_of_any_networks_must_not_overlap() {
    let network = |subnet: &str| format!("[networks.x]\ntype = \"nat\"\nsubnets = [\"{subnet}\"]\n");
    one_mistake(
        &network("10.10.0.0/16"),
        &["10.10.0.0/16 overlaps 10.10.0.0/24 of network `web`"],
        "\"10.10.0.0/16",
    );
    one_mistake(&network("10.20.0.128/25"), &["overlaps 10.20.0.0/24 of network `backend`"], "\"10.20");
    one_mistake(&network("fd00:10::/64"), &["given twice"], "\"fd00");
    let nested = "[networks.x]\ntype = \"nat\"\nsubnets = [\"10.0.0.0/8\"]\n";
    assert_eq!(mistakes(nested).len(), 2, "one for each subnet inside");
}

#[test]
fn gateways_must_be_host_addresses_of_the_network() {
    let gateway =
        |list: &str| format!("[networks.x]\ntype = \"nat\"\nsubnets = [\"10.1.0.0/24\"]\ngateway = {list}\n");
    one_mistake(&gateway("[\"10.2.0.1\"]"), &["in none of the network's subnets"], "\"10.2");
    one_mistake(&gateway("[\"10.1.0.255\"]"), &["network or broadcast address"], "\"10.1");
    one_mistake(&gateway("[\"10.1.0.1\", \"10.1.0.2\"]"), &["second gateway"], "\"10.1.0.2");
    one_mistake(&gateway("\"10.1.0.1\""), &["expected a list", "[\"10.1.0.1\"]"], "\"10.1");
    one_mistake(&gateway("[\"10.1.0.1/24\"]"), &["write \"10.1.0.1\""], "\"10.1");
}

#[test]
fn addresses_must_be_free_and_inside() {
    let addresses = |list: &str| port("a", &format!("addresses = [{list}]"));
    one_mistake(
        &addresses("\"10.20.0.5\""),
        &["in no subnet of network `web`", "10.10.0.0/24 or fd00:10::/64"],
        "\"10.20",
    );
    one_mistake(&addresses("\"10.10.0.1\""), &["gateway of network `web`"], "\"10.10");
    one_mistake(&addresses("\"10.10.0.0\""), &["network address"], "\"10.10");
    one_mistake(&addresses("\"10.10.0.255\""), &["broadcast address"], "\"10.10");
    one_mistake(&addresses("\"fd00:10::\""), &["network address"], "\"fd00");
    one_mistake(&addresses("\"10.10.0.7\", \"10.10.0.7\""), &["10.10.0.7 is given twice"], "\"10.10.0.7\"]");
    one_mistake(&addresses(""), &["empty list"], "[]");
    one_mistake(&addresses("\"10.10.0.7/24\""), &["write \"10.10.0.7\""], "\"10.10");
    let lines = "addresses = [\"10.10.0.7\"]";
    let twice = port("a", lines) + &port("b", lines);
    one_mistake(&twice, &["10.10.0.7 belongs to port `a` already"], "\"10.10.0.7");
}

#[test]
fn macs_must_be_distinct_and_unicast() {
    let twice = port("a", "mac = \"02:00:00:00:00:01\"") + &port("b", "mac = \"02-00-00-00-00-01\"");
    one_mistake(&twice, &["02:00:00:00:00:01 belongs to port `a` already"], "\"02-00");
    one_mistake(&port("a", "mac = \"01:00:00:00:00:01\""), &["no interface can have"], "\"01");
    one_mistake(&port("a", "mac = \"02:00:00:00:01\""), &["not a MAC address"], "\"02");
    one_mistake(&port("a", "mac = \"02:00:00:00:00:01:02\""), &["not a MAC address"], "\"02");
}

#[test]
fn references_must_lead_somewhere() {
    one_mistake(
        "[ports.a]\nnetwork = \"wen\"\nattach = { netns = \"a\" }\n",
        &["no network `wen`", "`web`?"],
        "\"wen",
    );
    one_mistake(&port("a", "security_groups = [\"wbe\"]"), &["no security group `wbe`", "`web`?"], "\"wbe");
    one_mistake(&port("a", "security_groups = [\"sg:web\"]"), &["write \"web\""], "\"sg:web");
    let peer = |peer: &str| ingress(&format!("protocol = \"any\", from = [\"{peer}\"]"));
    one_mistake(&peer("sg:nobody"), &["no security group `nobody`", "[security_groups.nobody]"], "\"sg:");
    one_mistake(&peer("net:backand"), &["no network `backand`", "`backend`?"], "\"net:");
    one_mistake(&peer("list:home"), &["no prefix list `home`", "[prefix_lists]"], "\"list:");
    one_mistake(&peer("group:web"), &["did you mean `sg:web`?"], "\"group:");
    one_mistake(&peer("everyone"), &["neither an address nor a prefix"], "\"everyone");
    one_mistake(&peer("10.0.0.1/8"), &["write \"10.0.0.0/8\""], "\"10.0");
    one_mistake(&peer("::ffff:10.0.0.0/104"), &["write \"10.0.0.0/8\""], "\"::ffff");
}

#[test]
fn rules_must_say_something_possible() {
    let tcp = |ports: &str| ingress(&format!("protocol = \"tcp\", ports = {ports}, from = [\"any\"]"));
    one_mistake(&tcp("[0]"), &["0 is not a port", "1 to 65535"], "0]");
    one_mistake(&tcp("[70000]"), &["70000 is not a port"], "70000");
    one_mistake(&tcp("[-1]"), &["-1 is not a port"], "-1");
    one_mistake(&tcp("[\"80-70000\"]"), &["70000 is not a port"], "\"80-");
    one_mistake(&tcp("[\"8010-8000\"]"), &["upside down", "8000-8010"], "\"8010");
    one_mistake(&tcp("[\"http\"]"), &["neither a port nor a range"], "\"http");
    one_mistake(&tcp("[]"), &["no port is named"], "[]");
    one_mistake(&tcp("80"), &["expected a list", "write [80]"], "80");
    one_mistake(&tcp("[99999999999999999999]"), &["out of range"], "9999");
    one_mistake(
        &ingress("protocol = \"icmp\", ports = [80], from = [\"any\"]"),
        &["icmp has no ports"],
        "ports",
    );
    one_mistake(
        &ingress("protocol = \"any\", ports = [80], from = [\"any\"]"),
        &["tcp, udp or sctp"],
        "ports",
    );
    one_mistake(
        &ingress("protocol = \"tcp\", icmp_type = 8, from = [\"any\"]"),
        &["tcp", "icmpv6"],
        "icmp_type",
    );
    one_mistake(&ingress("protocol = \"icmp\", icmp_type = 256, from = [\"any\"]"), &["0 to 255"], "256");
    one_mistake(
        &ingress("protocol = \"icmp\", icmp_code = 0, from = [\"any\"]"),
        &["needs an `icmp_type`"],
        "icmp_code",
    );
    one_mistake(&ingress("protocol = \"TCP\", from = [\"any\"]"), &["did you mean `tcp`?"], "\"TCP");
    one_mistake(&ingress("protocol = 256, from = [\"any\"]"), &["1 to 255"], "256");
    one_mistake(&ingress("from = [\"any\"]"), &["no `protocol`", "\"any\""], "{ from");
}

#[test]
fn peers_go_by_the_direction() {
    one_mistake(
        &ingress("protocol = \"any\", to = [\"any\"]"),
        &["`to` does not go with an ingress", "`from`"],
        "to",
    );
    let egress = "[security_groups.x]\negress = [{ protocol = \"any\", from = [\"any\"] }]\n";
    one_mistake(egress, &["`from` does not go with an egress", "`to`"], "from");
    one_mistake(&ingress("protocol = \"any\""), &["no `from`", "[\"any\"]"], "{ protocol");
    one_mistake(&ingress("protocol = \"any\", from = []"), &["nobody is named"], "[]");
    one_mistake(&ingress("protocol = \"any\", from = \"any\""), &["write [\"any\"]"], "\"any\"");
}

#[test]
fn attachments_must_be_possible_and_distinct() {
    let attach =
        |name: &str, attach: &str| format!("[ports.{name}]\nnetwork = \"web\"\nattach = {{ {attach} }}\n");
    one_mistake("[ports.a]\nnetwork = \"web\"\n", &["port `a` has no `attach`"], "a]");
    one_mistake(&attach("a", ""), &["says nothing"], "{");
    one_mistake(&attach("a", "netns = \"a\", device = \"b\""), &["choose one"], "device");
    one_mistake(&attach("a", "device = \"b\", create = true"), &["does not go with `device`"], "create");
    one_mistake(&attach("a", "device = \"vnet-web\""), &["is the bridge of a network"], "\"vnet-web");
    one_mistake(&attach("a", "device = \"lo\""), &["loopback"], "\"lo");
    one_mistake(&attach("a", "netns = \"/run/netns/a\", create = true"), &["by name, not by path"], "\"/run");
    one_mistake(&attach("a", "netns = \"a b\""), &["cannot name a namespace"], "\"a b");
    one_mistake(&attach("a", "netns = \"a\", create = \"true\""), &["without quotes"], "\"true");
    let device = attach("a", "device = \"tap0\"") + &attach("b", "device = \"tap0\"");
    one_mistake(&device, &["tap0 belongs to port `a` already"], "\"tap0");
    let netns = attach("a", "netns = \"x\"") + &attach("b", "netns = \"/var/run/netns/x\", name = \"eth0\"");
    one_mistake(&netns, &["`eth0` in namespace", "belongs to port `a` already"], "\"eth0");
    let both = attach("a", "netns = \"x\"") + &attach("b", "netns = \"x\", name = \"eth1\"");
    assert!(parse_text(&format!("{BASE}{both}")).is_ok());
}

#[test]
fn all_mistakes_are_told_at_once_in_their_order() {
    let text = "[networks.x]\ntype = \"ntt\"\nsubnets = [\"10.1.0.1/24\", 7]\nmtu = 1\nfoo = 1\n\
                [ports.a]\nnetwork = \"none\"\nmac = \"x\"\nattach = { netns = \"a\" }\n";
    let messages: Vec<_> = mistakes(text).into_iter().map(|(message, _)| message).collect();
    let words =
        ["\"ntt\"", "10.1.0.1/24", "expected a string", "MTU of 1", "foo", "`none`", "`x` is not a MAC"];
    assert_eq!(messages.len(), words.len(), "{messages:#?}");
    for (message, word) in messages.iter().zip(words) {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_mistake_does_not_make_others() {
    // The network is wrong, the port in it is not.
    one_mistake(
        "[networks.x]\ntype = \"nat\"\nsubnets = [\"10.1.0.1/24\"]\n\
         [ports.a]\nnetwork = \"x\"\naddresses = [\"10.1.0.5\"]\nattach = { netns = \"a\" }\n",
        &["10.1.0.1/24"],
        "\"10.1",
    );
}

#[test]
fn people_see_the_line_underlined() {
    let text =
        "version = 1\n[networks.\"wöb\"]\ntype = \"nat\"\nsubnets = [\"10.1.0.0/24\", \"10.1.0.128/25\"]\n";
    let diagnostics = parse_text(text).expect_err("accepted");
    let shown = diagnostics.to_string();
    for part in ["--> p.toml:2:11", "p.toml:4:27", "^^^^^^^^^^^^^^^", "help: choose subnets"] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colour unasked");
    assert!(diagnostics.clone().with_origin(Path::new("q.toml")).to_string().contains("--> q.toml:2:11"));
    assert!(diagnostics.render(Colour::Always).contains('\u{1b}'));
    let json = serde_json::to_value(&diagnostics).unwrap();
    assert_eq!(
        (json[1]["file"].as_str(), json[1]["line"].as_u64(), json[1]["column"].as_u64()),
        (Some("p.toml"), Some(4), Some(27))
    );
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    assert!(matches!(read(&missing), Err(ReadError::NotFound(_))));
    assert!(read(&missing).unwrap_err().to_string().contains("--policy"));
    assert!(matches!(read(dir.path()), Err(ReadError::Directory(_))));
    assert!(matches!(read(Path::new("/dev/null")), Err(ReadError::NotAFile(_))));
    let binary = dir.path().join("binary.toml");
    fs::write(&binary, b"version = 1\n# \xff\n").unwrap();
    assert!(matches!(read(&binary), Err(ReadError::NotUtf8 { line: 2, .. })));
    let good = dir.path().join("good.toml");
    fs::write(&good, BASE).unwrap();
    assert_eq!(read(&good).unwrap(), BASE);
}
