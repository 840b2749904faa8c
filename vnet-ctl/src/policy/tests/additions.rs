//! The acl, failsafe ports, joined networks, a host that is kept out, and flows that are kept.

use super::{BASE, one_mistake, parse_text, valid};
use crate::policy::{AclAction, HostAccess, OnChange, Policy, Protocol};

/// An entry of the acl with more lines after its action and direction.
fn entry(lines: &str) -> String {
    format!("[[acl]]\naction = \"deny\"\ndirection = \"ingress\"\n{lines}\n")
}

/// What is warned of in `BASE` and `more` after it.
#[track_caller]
fn warnings(more: &str) -> Vec<String> {
    let (_, warnings) = parse_text(&format!("{BASE}{more}")).unwrap();
    warnings.iter().map(ToString::to_string).collect()
}

/// A third network with `lines`.
fn third(lines: &str) -> String {
    format!("[networks.third]\ntype = \"private\"\nsubnets = [\"10.30.0.0/24\"]\n{lines}\n")
}

#[test]
fn an_acl_keeps_its_order_and_what_it_matches() {
    let policy = valid(&format!(
        "{BASE}{}{}",
        entry(
            "protocol = \"tcp\"\nports = [23, \"100-200\"]\nfrom = [\"list:office\"]\ndescription = \"telnet\""
        ),
        "[[acl]]\naction = \"allow\"\ndirection = \"egress\"\nprotocol = \"icmp\"\nicmp_type = 8\nto = [\"net:backend\"]\n"
    ));
    let [telnet, ping] = policy.acl.as_slice() else { panic!("{:?}", policy.acl) };
    assert_eq!((telnet.action, ping.action), (AclAction::Deny, AclAction::Allow));
    assert_eq!(telnet.rule.description.as_deref(), Some("telnet"));
    assert_eq!((telnet.rule.ports.len(), ping.rule.icmp), (2, Some((8, None))));
    assert_eq!(policy.rule_count(), 6);
    let json = serde_json::to_value(&policy).unwrap();
    assert_eq!((&json["acl"][0]["action"], &json["acl"][0]["protocol"]), (&"deny".into(), &"tcp".into()));
}

#[test]
fn entries_of_the_acl_have_ids_by_their_contents() {
    let ids = |text: &str| -> Vec<u32> {
        let (policy, _) = parse_text(&format!("{BASE}{text}")).unwrap();
        policy.acl.iter().map(|entry| entry.rule.id).collect()
    };
    let tcp = entry("protocol = \"tcp\"\nfrom = [\"any\"]");
    let udp = entry("protocol = \"udp\"\nfrom = [\"any\"]");
    let (first, turned) = (ids(&format!("{tcp}{udp}")), ids(&format!("{udp}{tcp}")));
    assert_eq!(first, [turned[1], turned[0]]);
    assert_ne!(ids(&tcp), ids(&tcp.replace("deny", "allow")));
    let twice = ids(&format!("{tcp}{tcp}"));
    assert_eq!(twice[1], twice[0].wrapping_add(1));
}

#[test]
fn entries_of_the_acl_must_be_complete() {
    let rest = "protocol = \"tcp\"\nfrom = [\"any\"]\n";
    one_mistake(&format!("[[acl]]\ndirection = \"ingress\"\n{rest}"), &["no `action`", "deny"], "[[acl]]");
    one_mistake(&format!("[[acl]]\naction = \"deny\"\n{rest}"), &["no `direction`", "ingress"], "[[acl]]");
    one_mistake(
        &format!("[[acl]]\naction = \"drop\"\ndirection = \"ingress\"\n{rest}"),
        &["\"drop\" is not an action", "\"deny\" or \"allow\""],
        "\"drop\"",
    );
    one_mistake(
        &format!("[[acl]]\naction = \"deny\"\ndirection = \"ingres\"\n{rest}"),
        &["did you mean \"ingress\"?"],
        "\"ingres\"",
    );
    one_mistake(&entry("from = [\"any\"]"), &["this entry of the acl has no `protocol`"], "[[acl]]");
    one_mistake(&entry("protocol = \"tcp\"\nto = [\"any\"]"), &["`to` does not go with an ingress"], "to");
    one_mistake(&entry("protocol = \"tcp\"\nfrom = [\"sg:wbe\"]"), &["did you mean `web`?"], "\"sg:wbe");
    one_mistake(&entry(&format!("port = 23\n{rest}")), &["unknown key `acl.port`", "`ports`"], "port ");
    one_mistake("[acl]\naction = \"deny\"\n", &["a list of entries", "[[acl]]"], "[acl]");
}

#[test]
fn entries_that_no_packet_reaches_are_warned_of() {
    let tcp = |more: &str| entry(&format!("protocol = \"tcp\"\n{more}"));
    let all = entry("protocol = \"any\"\nfrom = [\"any\"]");
    let [warning] =
        warnings(&format!("{all}{}", tcp("ports = [23]\nfrom = [\"sg:web\"]"))).try_into().unwrap();
    assert!(warning.contains("no packet reaches this entry") && warning.contains("p.toml:17:"), "{warning}");
    let broad = tcp("from = [\"any\", \"sg:web\"]");
    assert_eq!(warnings(&format!("{broad}{}", tcp("ports = [23]\nfrom = [\"any\"]"))).len(), 1);
    // Another direction, another protocol, and the other order are fine.
    assert!(warnings(&format!("{}{all}", tcp("ports = [23]\nfrom = [\"any\"]"))).is_empty());
    assert!(warnings(&format!("{broad}{}", entry("protocol = \"udp\"\nfrom = [\"any\"]"))).is_empty());
    let egress = "[[acl]]\naction = \"deny\"\ndirection = \"egress\"\nprotocol = \"tcp\"\nto = [\"any\"]\n";
    assert!(warnings(&format!("{all}{egress}")).is_empty());
}

#[test]
fn ssh_is_failsafe_unless_the_file_says_otherwise() {
    let failsafe = |text: &str| -> Vec<String> {
        valid(&format!("{BASE}{text}")).host.failsafe.iter().map(ToString::to_string).collect()
    };
    assert_eq!(failsafe(""), ["tcp/22"]);
    assert_eq!(failsafe("[host]\n"), ["tcp/22"]);
    assert_eq!(failsafe("[host]\nfailsafe_ports = [\"tcp/2222\", \"udp/68\"]\n"), ["tcp/2222", "udp/68"]);
    assert!(failsafe("[host]\nfailsafe_ports = []\n").is_empty());
    assert_eq!(Policy::default().host.failsafe[0].protocol, Protocol::TCP);
}

#[test]
fn failsafe_ports_must_be_ports() {
    let host = |ports: &str| format!("[host]\nfailsafe_ports = {ports}\n");
    one_mistake(&host("\"tcp/22\""), &["write [\"tcp/22\"]"], "\"tcp");
    one_mistake(&host("[22]"), &["expected a string", "\"22\""], "22");
    one_mistake(&host("[\"22\"]"), &["not a failsafe port", "\"tcp/22\""], "\"22");
    one_mistake(&host("[\"tpc/22\"]"), &["did you mean \"tcp/22\"?"], "\"tpc");
    one_mistake(&host("[\"icmp/8\"]"), &["`icmp` cannot be failsafe", "tcp, udp and sctp"], "\"icmp");
    one_mistake(&host("[\"tcp/0\"]"), &["0 is not a port"], "\"tcp");
    one_mistake(&host("[\"tcp/22-23\"]"), &["a range of ports", "single"], "\"tcp");
    one_mistake(&host("[\"tcp/22\", \"tcp/22\"]"), &["given twice"], "\"tcp/22\"]");
    one_mistake(
        "[host]\nfailsafe_port = []\n",
        &["`host.failsafe_port`", "`failsafe_ports`"],
        "failsafe_port ",
    );
}

#[test]
fn joined_networks_are_joined_both_ways() {
    let policy = valid(&format!("{BASE}{}", third("connect = [\"web\"]")));
    assert_eq!(policy.joined("web"), ["third"].into());
    assert_eq!(policy.joined("third"), ["web"].into());
    assert!(policy.joined("backend").is_empty() && policy.joined("none").is_empty());
    let both = BASE.replace("type = \"nat\"\n", "type = \"nat\"\nconnect = [\"third\"]\n");
    let policy = valid(&format!("{both}{}", third("connect = [\"web\", \"backend\"]")));
    assert_eq!(policy.joined("web"), ["third"].into());
    assert_eq!(policy.joined("third"), ["backend", "web"].into());
}

#[test]
fn networks_can_be_joined_with_others_once() {
    one_mistake(&third("connect = [\"wbe\"]"), &["no network `wbe`", "did you mean `web`?"], "\"wbe");
    one_mistake(&third("connect = [\"net:web\"]"), &["write \"web\""], "\"net:web");
    one_mistake(&third("connect = [\"third\"]"), &["connected with itself"], "\"third");
    one_mistake(&third("connect = [\"web\", \"web\"]"), &["with `web` twice"], "\"web\"]");
    one_mistake(&third("connect = \"web\""), &["write [\"web\"]"], "\"web");
}

#[test]
fn the_host_can_be_kept_out_of_a_network() {
    let policy = valid(&format!("{BASE}{}", third("host = false")));
    assert_eq!(policy.networks["third"].host, HostAccess::Excluded);
    assert_eq!(policy.networks["web"].host, HostAccess::Trusted);
    assert_eq!(serde_json::to_value(&policy).unwrap()["networks"]["third"]["host"], false);
    one_mistake(&third("host = \"false\""), &["write false without quotes"], "\"false");
}

#[test]
fn groups_say_what_becomes_of_flows() {
    let policy = valid(&format!("{BASE}[security_groups.x]\non_change = \"keep\"\n"));
    assert_eq!(policy.security_groups["x"].on_change, OnChange::Keep);
    assert_eq!(policy.security_groups["web"].on_change, OnChange::Cut);
    one_mistake(
        "[security_groups.x]\non_change = \"kepe\"\n",
        &["what can become of established flows", "did you mean \"keep\"?"],
        "\"kepe\"",
    );
}
