//! What `sg test` answers.

use super::{World, addr};
use crate::{
    compile::{Decision, End, ExplainError, Party, Question, explain},
    policy::{AclAction, Protocol},
};

const TEXT: &str = r#"version = 1
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
[networks.backend]
type = "private"
subnets = ["10.20.0.0/24"]
[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "icmpv6", icmp_type = 128, from = ["any"] },
]
[security_groups.mute]
egress = []
[ports.a]
network = "web"
attach = { netns = "a" }
security_groups = ["web"]
[ports.b]
network = "web"
attach = { netns = "b" }
security_groups = ["web", "mute"]
[ports.mute]
network = "web"
attach = { netns = "m" }
security_groups = ["mute"]
[ports.db]
network = "backend"
attach = { netns = "db" }
"#;

fn question(from: &str, to: &str, protocol: &str, port: Option<u16>) -> Question {
    let party = |text: &str| text.parse::<Party>().unwrap();
    Question { from: party(from), to: party(to), protocol: protocol.parse().unwrap(), port, icmp: None }
}

fn ask(from: &str, to: &str, protocol: &str, port: Option<u16>) -> Result<Decision, ExplainError> {
    ask_of(TEXT, (from, to), protocol, port)
}

/// The same of another policy.
fn ask_of(
    text: &str,
    (from, to): (&str, &str),
    protocol: &str,
    port: Option<u16>,
) -> Result<Decision, ExplainError> {
    let world = World::new(text);
    explain(&world.policy, &world.assigned, &question(from, to, protocol, port))
}

fn allowed_by(end: &End) -> Option<&str> {
    match end {
        End::Allowed { group, .. } => Some(group),
        End::NotJudged { .. } | End::Acl { .. } | End::Denied { .. } => None,
    }
}

#[test]
fn both_ends_name_their_rule() {
    let decision = ask("a", "b", "tcp", Some(80)).unwrap();
    assert!(decision.allowed && decision.delivered);
    assert_eq!((allowed_by(&decision.egress), allowed_by(&decision.ingress)), (Some("web"), Some("web")));
    assert_eq!((decision.src, decision.dst), (addr("10.10.0.2"), addr("10.10.0.3")));
}

#[test]
fn the_end_that_denies_is_named() {
    let decision = ask("a", "b", "tcp", Some(81)).unwrap();
    assert!(!decision.allowed && matches!(&decision.ingress, End::Denied { port, .. } if port == "b"));
    let decision = ask("mute", "a", "tcp", Some(80)).unwrap();
    assert!(
        !decision.allowed && matches!(&decision.egress, End::Denied { groups, .. } if *groups == ["mute"])
    );
    assert_eq!(allowed_by(&decision.ingress), Some("web"));
}

#[test]
fn the_host_is_trusted_and_reached_by_egress_rules() {
    let decision = ask("host", "a", "tcp", Some(22)).unwrap();
    assert!(matches!(decision.egress, End::NotJudged { .. }));
    assert_eq!(decision.src, addr("10.10.0.1"));
    assert!(ask("a", "host", "tcp", Some(22)).unwrap().delivered);
    assert!(!ask("mute", "10.10.0.1", "tcp", Some(23)).unwrap().allowed);
}

#[test]
fn networks_are_apart_whatever_the_groups_say() {
    let reason = |from, to| {
        let decision = ask(from, to, "tcp", Some(80)).unwrap();
        assert!(!decision.delivered);
        decision.obstacle.unwrap().reason.label()
    };
    assert_eq!(reason("db", "a"), "no-route");
    assert_eq!(reason("a", "198.51.100.1"), "untranslated");
    assert_eq!(reason("198.51.100.1", "a"), "forwarded");
    assert!(ask("198.51.100.1", "a", "tcp", Some(80)).unwrap().allowed);
}

#[test]
fn networks_that_are_not_joined_say_how_to_join_them() {
    let help = |text: &str, from, to| {
        let decision = ask_of(text, (from, to), "tcp", Some(80)).unwrap();
        (decision.delivered, decision.obstacle.and_then(|obstacle| obstacle.help))
    };
    let (_, apart) = help(TEXT, "db", "a");
    assert_eq!(
        apart.unwrap(),
        "Networks `backend` and `web` are not joined: add connect = [\"web\"] to [networks.backend]."
    );
    assert_eq!(help(TEXT, "a", "198.51.100.1"), (false, None));
    let joined = TEXT.replace("type = \"nat\"\n", "type = \"nat\"\nconnect = [\"backend\"]\n");
    assert_eq!(help(&joined, "db", "a"), (true, None));
    // Groups hold between joined networks too.
    assert!(!ask_of(&joined, ("a", "db"), "tcp", Some(80)).unwrap().allowed);
}

#[test]
fn a_port_of_several_networks_is_asked_for_where_the_other_end_is() {
    let more = "[networks.red]\ntype = \"private\"\nsubnets = [\"10.30.0.0/24\"]\nvlan = 10\ntrunk = \"eth1\"\n\
                connect = [\"web\"]\n[ports.trunk]\nnetwork = \"backend\"\nvlans = [\"red\"]\nattach = { tap = \"t\" }\n\
                [ports.r]\nnetwork = \"red\"\nattach = { netns = \"r\" }\n";
    let text = [TEXT, more].concat();
    let ends = |from, to| {
        let decision = ask_of(&text, (from, to), "tcp", Some(80)).unwrap();
        (decision.src.to_string(), decision.dst.to_string(), decision.obstacle)
    };
    for (from, to, src, dst) in [
        ("r", "trunk", "10.30.0.2", "10.30.0.3"),
        ("trunk", "r", "10.30.0.3", "10.30.0.2"),
        ("db", "trunk", "10.20.0.2", "10.20.0.3"),
        ("trunk", "host", "10.20.0.3", "10.20.0.1"),
        // By the network that is joined with its own.
        ("a", "trunk", "10.10.0.2", "10.30.0.3"),
    ] {
        assert_eq!(ends(from, to), (src.to_owned(), dst.to_owned(), None), "{from} to {to}");
    }
}

#[test]
fn the_entry_of_the_acl_that_decides_is_named() {
    let acl = "[[acl]]\naction = \"allow\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = [81]\nfrom = [\"any\"]\n\
               [[acl]]\naction = \"deny\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nfrom = [\"sg:web\"]\n\
               [[acl]]\naction = \"deny\"\ndirection = \"egress\"\nprotocol = \"udp\"\nto = [\"any\"]\n";
    let text = format!("{TEXT}{acl}");
    let ask = |from, to, protocol, port| ask_of(&text, (from, to), protocol, Some(port)).unwrap();
    let entry = |end: &End| match end {
        End::Acl { action, entry, .. } => Some((*action, *entry)),
        _ => None,
    };
    // What no group allows, and what a group allows.
    let allowed = ask("a", "mute", "tcp", 81);
    assert_eq!((entry(&allowed.ingress), allowed.delivered), (Some((AclAction::Allow, 1)), true));
    let denied = ask("a", "b", "tcp", 80);
    assert_eq!((entry(&denied.ingress), denied.allowed), (Some((AclAction::Deny, 2)), false));
    let leaving = ask("a", "host", "udp", 53);
    assert_eq!((entry(&leaving.egress), leaving.allowed), (Some((AclAction::Deny, 3)), false));
    // The host is trusted.
    assert!(ask("host", "a", "tcp", 80).delivered);
    let json = serde_json::to_value(&denied).unwrap();
    assert_eq!((&json["ingress"]["verdict"], &json["ingress"]["action"]), (&"acl".into(), &"deny".into()));
}

#[test]
fn failsafe_ports_are_never_cut_off() {
    let acl = "[[acl]]\naction = \"deny\"\ndirection = \"egress\"\nprotocol = \"any\"\nto = [\"any\"]\n";
    let text = format!("{}{acl}", TEXT.replace("type = \"nat\"\n", "type = \"nat\"\nhost = false\n"));
    for from in ["a", "mute"] {
        assert!(ask_of(&text, (from, "host"), "tcp", Some(22)).unwrap().delivered);
        assert!(!ask_of(&text, (from, "host"), "tcp", Some(23)).unwrap().delivered);
        assert!(!ask_of(&text, (from, "b"), "tcp", Some(22)).unwrap().delivered);
    }
    let none = text.replace("version = 1\n", "version = 1\n[host]\nfailsafe_ports = []\n");
    assert!(!ask_of(&none, ("a", "host"), "tcp", Some(22)).unwrap().delivered);
}

#[test]
fn a_host_that_is_kept_out_is_told() {
    let text = TEXT.replace("type = \"nat\"\n", "type = \"nat\"\nhost = false\n");
    let reason = |from, to| {
        let decision = ask_of(&text, (from, to), "tcp", Some(80)).unwrap();
        decision.obstacle.map(|obstacle| obstacle.reason.label())
    };
    assert_eq!(reason("a", "host"), Some("host-excluded"));
    assert_eq!(reason("host", "a"), Some("host-excluded"));
    assert_eq!(reason("host", "db"), None);
    assert_eq!(reason("a", "b"), None);
}

#[test]
fn the_protocol_chooses_the_ip_version() {
    let decision = ask("a", "b", "icmpv6", None).unwrap();
    assert!(decision.allowed && decision.dst.is_ipv6());
    assert!(ask("db", "db", "icmpv6", None).is_err());
    assert!(ask("a", "b", "icmp", None).unwrap().dst.is_ipv4());
}

#[test]
fn senseless_questions_are_answered_with_what_to_ask() {
    let words = |from, to, protocol, port| ask(from, to, protocol, port).unwrap_err().to_string();
    assert!(words("aa", "b", "tcp", Some(80)).contains("did you mean"));
    assert!(words("a", "b", "tcp", None).contains("which tcp port"));
    assert!(words("a", "b", "tcp", Some(0)).contains("0 is not a port"));
    assert!(words("a", "b", "any", None).contains("one protocol"));
    assert!(words("a", "b", "icmp", Some(80)).contains("no ports"));
    assert!(words("host", "host", "tcp", Some(80)).contains("both ends"));
    let mut question = question("a", "b", "tcp", Some(80));
    question.icmp = Some((8, None));
    let world = World::new(TEXT);
    assert!(explain(&world.policy, &world.assigned, &question).is_err());
    assert_eq!(question.protocol, Protocol::TCP);
}

#[test]
fn a_decision_is_readable_as_json() {
    let json = serde_json::to_value(ask("a", "b", "tcp", Some(80)).unwrap()).unwrap();
    assert_eq!(json["ingress"]["verdict"], "allowed");
    assert_eq!(json["ingress"]["rule"]["protocol"], "tcp");
}
