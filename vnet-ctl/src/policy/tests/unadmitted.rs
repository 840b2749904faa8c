//! What forwards and elastic IPs bring and nothing admits is warned of, with what would open it.

use super::{BASE, parse_text};

/// A port in groups, to which a forward and an elastic IP lead; `more` besides.
fn text(groups: &str, more: &str) -> String {
    format!(
        "{BASE}[ports.web-1]\nnetwork = \"web\"\nsecurity_groups = {groups}\nattach = {{ netns = \"web-1\" }}\n\
         [[forwards]]\nlisten = \"0.0.0.0:8000-8001\"\nprotocol = \"tcp\"\nto = \"web-1:80\"\n\
         [elastic_ips]\n\"2001:db8::20\" = {{ port = \"web-1\" }}\n{more}"
    )
}

#[track_caller]
fn warnings(groups: &str, more: &str) -> Vec<String> {
    let (_, warnings) = parse_text(&text(groups, more)).unwrap_or_else(|errors| panic!("{errors}"));
    warnings.iter().map(ToString::to_string).collect()
}

fn group(rule: &str) -> String {
    format!("[security_groups.x]\ningress = [{{ {rule} }}]\n")
}

/// An entry of the acl about ingress.
fn entry(action: &str, lines: &str) -> String {
    format!("[[acl]]\naction = \"{action}\"\ndirection = \"ingress\"\n{lines}\n")
}

#[test]
fn what_no_rule_admits_is_warned_of_with_its_place_and_remedy() {
    let found = warnings("[]", "");
    let text = text("[]", "");
    let place = |word: &str| text.lines().position(|line| line.starts_with(word)).unwrap() + 1;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[0],
        format!(
            "p.toml:{}:6: nobody outside can use the forward tcp/0.0.0.0:8000-8001: no rule admits what it \
             brings to port `web-1`; `vnet-ctl sg add default ingress -p tcp --port 80-81 --from any` opens it",
            place("to =")
        )
    );
    assert_eq!(
        found[1],
        format!(
            "p.toml:{}:1: nobody outside can use the elastic IP 2001:db8::20: no rule admits what it brings to \
             port `web-1`; `vnet-ctl sg add default ingress -p tcp --port 443 --from any` opens it",
            place("\"2001")
        )
    );
}

#[test]
fn a_rule_that_admits_any_of_it_is_enough() {
    for rule in [
        "protocol = \"any\", from = [\"any\"]",
        "protocol = \"tcp\", ports = [\"81-90\"], from = [\"any\"]",
        "protocol = \"tcp\", from = [\"203.0.113.7\", \"2001:db8::/32\"]",
        "protocol = \"tcp\", ports = [80], from = [\"0.0.0.0/0\", \"::/0\"]",
    ] {
        assert_eq!(warnings("[\"default\", \"x\"]", &group(rule)), [""; 0], "{rule}");
    }
    for (rule, forward, elastic_ip) in [
        ("protocol = \"tcp\", ports = [8000], from = [\"any\"]", true, false),
        ("protocol = \"udp\", from = [\"any\"]", true, false),
        ("protocol = \"icmpv6\", from = [\"any\"]", true, false),
        ("protocol = \"icmp\", from = [\"any\"]", true, true),
        ("protocol = \"tcp\", from = [\"list:office\"]", false, true),
        ("protocol = \"tcp\", from = [\"2001:db8::/32\"]", true, false),
        ("protocol = \"any\", from = [\"sg:web\", \"net:backend\"]", true, true),
        ("protocol = \"any\", from = [\"10.20.0.0/25\", \"fd00:10::/64\"]", true, true),
    ] {
        let found = warnings("[\"x\"]", &group(rule)).join("\n");
        assert_eq!(
            (found.contains("forward"), found.contains("elastic")),
            (forward, elastic_ip),
            "{rule}: {found}"
        );
    }
}

#[test]
fn the_acl_comes_before_the_groups() {
    let all = "protocol = \"any\"\nfrom = [\"any\"]";
    assert_eq!(warnings("[]", &entry("allow", all)), [""; 0]);
    let found = warnings("[\"x\"]", &format!("{}{}", group(&all.replace('\n', ", ")), entry("deny", all)));
    assert!(found.len() == 2 && found[0].contains("an entry of the acl denies it"), "{found:?}");
    let open = group(&all.replace('\n', ", "));
    for (lines, count) in [
        ("protocol = \"tcp\"\nports = [80]\nfrom = [\"any\"]", 0),
        ("protocol = \"tcp\"\nports = [\"80-81\"]\nfrom = [\"any\"]", 1),
        ("protocol = \"tcp\"\nports = [80, 81]\nfrom = [\"203.0.113.0/24\"]", 0),
        ("protocol = \"udp\"\nfrom = [\"any\"]", 0),
        ("protocol = \"any\"\nfrom = [\"::/0\"]", 1),
    ] {
        let acl = entry("deny", lines);
        assert_eq!(warnings("[\"x\"]", &format!("{open}{acl}")).len(), count, "{lines}");
        // An earlier entry that admits it decides.
        let some = "protocol = \"any\"\nfrom = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
        let first = format!("{open}{}{acl}", entry("allow", some));
        assert_eq!(warnings("[\"x\"]", &first), [""; 0], "{lines}");
    }
}

#[test]
fn what_only_the_host_can_use_takes_no_rule() {
    let forward = text("[\"web\"]", "").replace("0.0.0.0", "127.0.0.1").replace(":80\"", ":90\"");
    let (_, warnings) = parse_text(&forward).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}
