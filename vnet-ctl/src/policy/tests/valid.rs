//! What valid files mean.

use std::path::PathBuf;

use vnet_common::Direction;

use super::{BASE, parse_text, valid};
use crate::policy::{
    Attach, NetnsRef, NetworkKind, Peer, PortRange, Protocol, format_rule_id, parse_mac, parse_rule_id,
    port_mac,
};

#[test]
fn the_quickstart_is_valid() {
    let policy = valid(include_str!("../../../../examples/quickstart.toml"));
    assert_eq!(policy.networks.keys().collect::<Vec<_>>(), ["backend", "web"]);
    assert_eq!(policy.ports.keys().collect::<Vec<_>>(), ["db-1", "web-1", "web-2"]);
    assert!(policy.security_groups["web"].ingress.iter().all(|rule| rule.protocol.is_icmp()));
}

#[test]
fn a_version_alone_is_a_policy() {
    let policy = valid("version = 1");
    assert!(policy.networks.is_empty() && policy.ports.is_empty());
    assert_eq!(policy.security_groups.keys().collect::<Vec<_>>(), ["default"]);
}

#[test]
fn networks_have_a_gateway_in_each_subnet() {
    let policy = valid(&format!(
        "{BASE}[networks.third]\ntype = \"private\"\nsubnets = [\"10.30.0.0/24\", \"fd00:30::/64\"]\n\
         gateway = [\"10.30.0.254\"]\nmtu = 9000\n"
    ));
    let gateways = |name: &str| -> Vec<String> {
        policy.networks[name].subnets.iter().map(|subnet| subnet.gateway.to_string()).collect()
    };
    assert_eq!(gateways("web"), ["10.10.0.1", "fd00:10::1"]);
    assert_eq!(gateways("third"), ["10.30.0.254", "fd00:30::1"]);
    assert_eq!((policy.networks["web"].mtu, policy.networks["third"].mtu), (1500, 9000));
    assert_eq!(policy.networks["web"].kind, NetworkKind::Nat);
}

#[test]
fn ports_take_what_the_file_says_and_defaults_for_the_rest() {
    let policy = valid(&format!(
        r#"{BASE}
        [ports.a]
        network = "web"
        attach = {{ netns = "a", create = true }}
        [ports.b]
        network = "web"
        addresses = ["10.10.0.7"]
        mac = "02-00-00-00-00-0A"
        security_groups = ["web", "default", "web"]
        attach = {{ netns = "/proc/1/ns/net", name = "lan0" }}
        [ports.c]
        network = "backend"
        security_groups = []
        attach = {{ device = "tap0" }}"#
    ));
    let (a, b, c) = (&policy.ports["a"], &policy.ports["b"], &policy.ports["c"]);
    assert_eq!(a.security_groups, ["default"]);
    assert_eq!(a.mac, port_mac("a"));
    assert_eq!(
        a.attach,
        Attach::Netns { netns: NetnsRef::Name("a".into()), create: true, name: "eth0".into() }
    );
    assert_eq!(b.addresses, ["10.10.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(b.mac.to_string(), "02:00:00:00:00:0a");
    assert_eq!(b.security_groups, ["web", "default"]);
    let netns = NetnsRef::Path(PathBuf::from("/proc/1/ns/net"));
    assert_eq!(b.attach, Attach::Netns { netns, create: false, name: "lan0".into() });
    assert_eq!(c.security_groups, ["default"]);
    assert_eq!(c.attach, Attach::Device { device: "tap0".into() });
}

#[test]
fn derived_macs_are_stable_local_and_unicast() {
    assert_eq!(port_mac("web-1"), port_mac("web-1"));
    assert_ne!(port_mac("web-1"), port_mac("web-2"));
    assert_eq!(port_mac("web-1").0[0], 0x02);
    assert!(parse_mac(&port_mac("web-1").to_string()).is_ok());
}

#[test]
fn rules_keep_what_they_match() {
    let policy = valid(&format!(
        r#"{BASE}
        [security_groups.x]
        description = "everything once"
        ingress = [
          {{ protocol = "tcp", ports = [443, "8000-8010", "22"], from = ["192.0.2.1", "sg:web", "net:web", "list:office"] }},
          {{ protocol = "icmp", icmp_type = 3, icmp_code = 4, from = ["any"] }},
          {{ protocol = 47, from = ["2001:db8::/32"], description = "GRE" }},
        ]
        egress = [{{ protocol = "any", to = ["0.0.0.0/0"] }}]"#
    ));
    let group = &policy.security_groups["x"];
    let [tcp, icmp, gre] = group.ingress.as_slice() else { panic!("{group:?}") };
    let ranges: Vec<_> = tcp.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["443", "8000-8010", "22"]);
    let peers: Vec<_> = tcp.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["192.0.2.1/32", "sg:web", "net:web", "list:office"]);
    assert_eq!((icmp.protocol, icmp.icmp), (Protocol::ICMP, Some((3, Some(4)))));
    assert_eq!((gre.protocol, gre.description.as_deref()), (Protocol(47), Some("GRE")));
    assert_eq!(group.egress[0].direction, Direction::Egress);
}

#[test]
fn omitted_egress_allows_all_and_an_empty_one_nothing() {
    let policy = valid(&format!("{BASE}[security_groups.closed]\negress = []\n[security_groups.open]\n"));
    assert!(policy.security_groups["closed"].egress.is_empty());
    let [rule] = policy.security_groups["open"].egress.as_slice() else { panic!("not one rule") };
    assert_eq!((rule.protocol, rule.peers.as_slice()), (Protocol::ANY, &[Peer::Any][..]));
}

#[test]
fn the_default_group_is_there_until_the_file_defines_it() {
    let built_in = valid(BASE);
    let ingress = &built_in.security_groups["default"].ingress;
    assert_eq!(ingress[0].peers, [Peer::Group("default".into())]);
    let redefined = valid(&format!("{BASE}[security_groups.default]\n"));
    assert!(redefined.security_groups["default"].ingress.is_empty());
}

#[test]
fn rule_ids_depend_on_the_match_alone() {
    let ids = |rule: &str| -> Vec<u32> {
        let (policy, _) = parse_text(&format!("{BASE}[security_groups.x]\ningress = [{rule}]\n")).unwrap();
        policy.security_groups["x"].ingress.iter().map(|rule| rule.id).collect()
    };
    let one = ids(r#"{ protocol = "tcp", ports = [80, 443], from = ["sg:web", "any"] }"#);
    let same = ids(
        r#"{ description = "other words", from = ["any", "sg:web"], ports = ["443", 80], protocol = 6 }"#,
    );
    assert_eq!(one, same);
    assert_ne!(one, ids(r#"{ protocol = "udp", ports = [80, 443], from = ["sg:web", "any"] }"#));
    // Once printed, an id must not change with versions of vnet: people keep them.
    assert_eq!(format_rule_id(one[0]), "224b0387");
}

#[test]
fn a_rule_given_twice_is_warned_about_and_has_an_id_of_its_own() {
    let rule = r#"{ protocol = "tcp", ports = [80], from = ["any"] }"#;
    let (policy, warnings) =
        parse_text(&format!("version = 1\n[security_groups.x]\ningress = [\n{rule},\n{rule}]\n")).unwrap();
    let [first, second] = policy.security_groups["x"].ingress.as_slice() else { panic!("not two rules") };
    assert_eq!(second.id, first.id.wrapping_add(1));
    assert_eq!((warnings.len(), warnings[0].line), (1, 5));
}

#[test]
fn icmp_of_the_other_ip_version_is_warned_about() {
    let text =
        "version = 1\n[security_groups.x]\ningress = [{ protocol = \"icmp\", from = [\"fd00::/8\"] }]\n";
    let (_, warnings) = parse_text(text).unwrap();
    assert!(warnings[0].to_string().contains("never matches"), "{warnings:?}");
}

#[test]
fn words_survive_printing_and_reading() {
    for word in ["tcp", "udp", "sctp", "icmp", "icmpv6", "any", "47"] {
        assert_eq!(word.parse::<Protocol>().unwrap().to_string(), word);
    }
    for word in ["any", "sg:a", "net:b", "list:c", "10.0.0.0/8", "fd00::/8"] {
        assert_eq!(word.parse::<Peer>().unwrap().to_string(), word);
    }
    assert_eq!("80-80".parse::<PortRange>().unwrap().to_string(), "80");
    assert!(
        parse_rule_id("0").is_err() && parse_rule_id("+1").is_err() && parse_rule_id("123456789").is_err()
    );
}

#[test]
fn the_policy_is_readable_as_json() {
    let json = serde_json::to_value(valid(BASE)).unwrap();
    assert_eq!(json["networks"]["web"]["type"], "nat");
    let rule = &json["security_groups"]["web"]["ingress"][0];
    assert_eq!((rule["protocol"].as_str(), rule["ports"][0].as_str()), (Some("tcp"), Some("80")));
    assert_eq!(rule["id"].as_str().map(str::len), Some(8));
}

#[test]
fn a_group_of_many_rules_is_read_in_no_time() {
    let rules: Vec<_> = (0..20_000)
        .map(|rule| {
            format!(
                "{{ protocol = \"tcp\", ports = [{}], from = [\"10.{}.{}.0/24\"] }}",
                rule + 1,
                rule / 256,
                rule % 256
            )
        })
        .collect();
    let policy = valid(&format!("version = 1\n[security_groups.x]\ningress = [\n{}\n]\n", rules.join(",\n")));
    assert_eq!(policy.security_groups["x"].ingress.len(), 20_000);
}

#[test]
fn many_warnings_and_errors_are_told_in_no_time() {
    let rule = "{ protocol = \"tcp\", ports = [80], from = [\"any\"] },\n";
    let text = format!("version = 1\n[security_groups.x]\ningress = [\n{}]\n", rule.repeat(10_000));
    assert_eq!(parse_text(&text).unwrap().1.len(), 9_999);
    let errors = parse_text(&text.replace("80", "0")).unwrap_err();
    assert_eq!(errors.iter().count(), 10_000);
    assert!(errors.to_string().contains("p.toml:10003:"));
}
