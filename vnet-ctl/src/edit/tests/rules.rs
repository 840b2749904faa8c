//! Rules come and go; what a person wrote around them stays.

use vnet_common::Direction;

use super::{added, code, policy, round_trip, spec, tcp_443};
use crate::edit::{IfExists, Selector, add_rule, remove_rule};

const RULE: &str = r#"{ protocol = "tcp", ports = [443], from = ["any"] }"#;

#[test]
fn a_list_with_a_rule_per_line_stays_one() {
    let before = r#"# mine
version = 1 # one

[security_groups.web]   # the tier
description = 'public'
ingress = [
    # everybody
    { protocol = "tcp", ports = [80], from = ["any"] }, # http
    {protocol="udp",ports=[53],from=["any"]}, # dns
] # end

# the rest
[ports]
"#;
    round_trip(before, &before.replace(" # dns\n]", &format!(" # dns\n    {RULE},\n]")));
}

#[test]
fn the_style_of_the_last_comma_stays() {
    let before = "version = 1\n[security_groups.web]\ningress = [\n\t{ protocol = \"tcp\", from = [\"any\"] } # all\n]\n";
    let (after, id) = added(before);
    let expected = before.replace(" } # all\n]", &format!(" }}, # all\n\t{RULE}\n]"));
    assert_eq!(after, expected);
    let (restored, _) = remove_rule(&after, "web", &Selector::Id(id)).unwrap();
    assert_eq!(policy(&restored), policy(before));
    assert!(restored.contains("# all\n]"), "{restored}");
}

#[test]
fn comments_at_the_end_of_a_list_stay_above_the_new_rule() {
    let before = "version = 1\n[security_groups.web]\ningress = [\n  { protocol = \"udp\", from = [\"any\"] },\n  # later:\n  # { protocol = \"tcp\" },\n]\n";
    round_trip(before, &before.replace("\n]", &format!("\n  {RULE},\n]")));
}

#[test]
fn a_list_in_one_line_stays_one() {
    let one = "version = 1\nsecurity_groups.web.ingress = [{ protocol = \"udp\", from = [\"any\"] }] # one\n";
    round_trip(one, &one.replace("}] #", &format!("}}, {RULE}] #")));
    let spaced =
        "version = 1\n[security_groups.web]\ningress = [ { protocol = \"udp\", from = [\"any\"] } ]\n";
    let (after, _) = added(spaced);
    assert_eq!(after, spaced.replace("} ]", &format!("}}, {RULE} ]")));
}

#[test]
fn an_empty_list_gets_a_line_per_rule() {
    let before = "version = 1\n[security_groups.web]\ningress = []\n";
    round_trip(before, &before.replace("[]", &format!("[\n  {RULE},\n]")));
    let commented = "version = 1\n[security_groups.web]\ningress = [\n    # none yet\n]\n";
    round_trip(commented, &commented.replace("\n]", &format!("\n  {RULE},\n]")));
}

#[test]
fn a_group_without_the_key_gets_it() {
    let before = "version = 1\n[security_groups.web] # tier\ndescription = \"x\"\n\n[security_groups.db]\n";
    let (after, _) = added(before);
    assert_eq!(after, before.replace("\"x\"\n", &format!("\"x\"\ningress = [\n  {RULE},\n]\n")));
    let inline = "version = 1\n[security_groups]\nweb = { description = \"x\" }\n";
    let (after, _) = added(inline);
    assert_eq!(policy(&after).security_groups["web"].ingress.len(), 1);
    assert_eq!(after, inline.replace("\"x\" }", &format!("\"x\", ingress = [{RULE}] }}")));
    let empty = "version = 1\nsecurity_groups = { web = {} }\n";
    assert_eq!(added(empty).0, empty.replace("{} }", &format!("{{ ingress = [{RULE}] }} }}")));
}

#[test]
fn tables_of_rules_stay_tables() {
    let before = "version = 1\n[security_groups.web]\n\n# first\n[[security_groups.web.ingress]]\nprotocol = \"udp\"\nfrom = [\"any\"]\n\n[ports]\n";
    let table = "\n[[security_groups.web.ingress]]\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"any\"]\n";
    round_trip(before, &before.replace("\n[ports]", &format!("{table}\n[ports]")));
    let text = "version = 1\n[[security_groups.web.egress]]\nprotocol = \"udp\"\nto = [\"any\"]\n";
    let id = policy(text).security_groups["web"].egress[0].id;
    let (after, _) = remove_rule(text, "web", &Selector::Id(id)).unwrap();
    assert!(policy(&after).security_groups["web"].egress.is_empty(), "{after}");
}

#[test]
fn lines_of_windows_stay_so() {
    let before = "version = 1\r\n[security_groups.web]\r\ningress = [\r\n  { protocol = \"udp\", from = [\"any\"] },\r\n]\r\n";
    round_trip(before, &before.replace("\r\n]", &format!("\r\n  {RULE},\r\n]")));
    let marked = format!("\u{feff}{before}");
    assert!(added(&marked).0.starts_with("\u{feff}version"));
}

#[test]
fn everything_about_a_rule_is_written() {
    let text =
        "version = 1\n[networks]\n[prefix_lists]\noffice = [\"192.0.2.0/24\"]\n[security_groups.web]\n";
    let mut full = spec("sctp", &["80", "8000-8010"], &["10.0.0.0/8", "sg:web", "list:office"]);
    full.description = Some("a \"quoted\" word".to_owned());
    let (text, _) = add_rule(text, "web", Direction::Ingress, &full, IfExists::Fail).unwrap();
    let mut icmp = spec("icmp", &[], &["any"]);
    icmp.icmp = Some((3, Some(4)));
    let (text, _) = add_rule(&text, "web", Direction::Ingress, &icmp, IfExists::Fail).unwrap();
    let (text, _) =
        add_rule(&text, "web", Direction::Ingress, &spec("47", &[], &["any"]), IfExists::Fail).unwrap();
    for line in [
        r#"{ protocol = "sctp", ports = [80, "8000-8010"], from = ["10.0.0.0/8", "sg:web", "list:office"], description = 'a "quoted" word' },"#,
        r#"{ protocol = "icmp", icmp_type = 3, icmp_code = 4, from = ["any"] },"#,
        r#"{ protocol = 47, from = ["any"] },"#,
    ] {
        assert!(text.contains(line), "no {line} in:\n{text}");
    }
    let rules = &policy(&text).security_groups["web"].ingress;
    assert_eq!(
        rules.iter().map(|rule| rule.spec()).collect::<Vec<_>>(),
        [full, icmp, spec("47", &[], &["any"])]
    );
}

#[test]
fn the_id_is_the_one_that_the_policy_gives() {
    let text = "version = 1\n[security_groups.web]\n";
    let (text, first) = added(text);
    let (text, second) = add_rule(&text, "web", Direction::Egress, &tcp_443(), IfExists::Fail).unwrap();
    let group = &policy(&text).security_groups["web"];
    assert_eq!(group.ingress[0].id, first);
    assert_eq!(group.egress.last().map(|rule| rule.id), Some(second));
    assert_eq!(tcp_443().id_in("web", Direction::Ingress), first);
}

#[test]
fn to_add_an_egress_rule_takes_nothing_away() {
    let (text, _) = add_rule(
        "version = 1\n[security_groups.web]\n",
        "web",
        Direction::Egress,
        &tcp_443(),
        IfExists::Fail,
    )
    .unwrap();
    let egress = &policy(&text).security_groups["web"].egress;
    assert_eq!(egress.len(), 2, "{text}");
    assert_eq!(egress[0].peers, [crate::policy::Peer::Any]);
    assert!(text.contains(r#"to = ["any"]"#) && !text.contains("from"), "{text}");
}

#[test]
fn the_implied_egress_rule_can_be_removed() {
    let text = "version = 1\n[security_groups.web]\n";
    let id = policy(text).security_groups["web"].egress[0].id;
    let (after, removed) = remove_rule(text, "web", &Selector::Id(id)).unwrap();
    assert_eq!((after.as_str(), removed), ("version = 1\n[security_groups.web]\negress = []\n", id));
    let all = Selector::Spec(Direction::Egress, spec("any", &[], &["any"]));
    assert_eq!(remove_rule(text, "web", &all).unwrap().0, after);
}

#[test]
fn the_built_in_group_is_written_down_when_it_changes() {
    let before = policy("version = 1\n").security_groups["default"].clone();
    let (text, _) =
        add_rule("version = 1\n", "default", Direction::Ingress, &tcp_443(), IfExists::Fail).unwrap();
    let group = &policy(&text).security_groups["default"];
    assert_eq!(group.ingress[0], before.ingress[0], "{text}");
    assert_eq!((group.ingress.len(), &group.egress), (2, &before.egress));
    let own = Selector::Id(before.ingress[0].id);
    let (text, _) = remove_rule("version = 1\n", "default", &own).unwrap();
    assert!(policy(&text).security_groups["default"].ingress.is_empty(), "{text}");
}

#[test]
fn a_rule_is_added_once() {
    let (text, id) = added("version = 1\n[security_groups.web]\n");
    let mut same = tcp_443();
    same.description = Some("in other words".to_owned());
    let (unchanged, same_id) = add_rule(&text, "web", Direction::Ingress, &same, IfExists::Keep).unwrap();
    assert_eq!((unchanged.as_str(), same_id), (text.as_str(), id));
    let (exit, words) = code(add_rule(&text, "web", Direction::Ingress, &same, IfExists::Fail));
    assert!(exit == 5 && words.contains(&format!("{id:08x}")), "{words}");
}

#[test]
fn any_rule_of_a_list_can_be_removed() {
    let text = "version = 1\n[security_groups.web]\ningress = [\n  # section one\n  { protocol = \"tcp\", ports = [1], from = [\"any\"] }, # one\n  { protocol = \"tcp\", ports = [2], from = [\"any\"] }, # two\n  # section two\n  { protocol = \"tcp\", ports = [3], from = [\"any\"] }, # three\n]\n";
    let without = |port: &str| {
        let selector = Selector::Spec(Direction::Ingress, spec("tcp", &[port], &["any"]));
        remove_rule(text, "web", &selector).unwrap().0
    };
    let line = |port: &str, comment: &str| {
        format!("  {{ protocol = \"tcp\", ports = [{port}], from = [\"any\"] }}, # {comment}\n")
    };
    assert_eq!(without("1"), text.replace(&line("1", "one"), ""));
    assert_eq!(without("2"), text.replace(&line("2", "two"), ""));
    assert_eq!(without("3"), text.replace(&line("3", "three"), ""));
}

#[test]
fn a_rule_in_one_line_can_be_removed() {
    let rule = |port: u16| format!("{{ protocol = \"tcp\", ports = [{port}], from = [\"any\"] }}");
    let list = |ports: &[u16]| {
        let rules: Vec<_> = ports.iter().map(|port| rule(*port)).collect();
        format!("version = 1\n[security_groups.web]\ningress = [{}]\n", rules.join(", "))
    };
    for (removed, left) in [("1", [2, 3]), ("2", [1, 3]), ("3", [1, 2])] {
        let selector = Selector::Spec(Direction::Ingress, spec("tcp", &[removed], &["any"]));
        assert_eq!(remove_rule(&list(&[1, 2, 3]), "web", &selector).unwrap().0, list(&left));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let text = "version = 1\n[security_groups.web]\n";
    let (exit, words) = code(add_rule(text, "wbe", Direction::Ingress, &tcp_443(), IfExists::Fail));
    assert!(exit == 4 && words.contains("did you mean `web`?"), "{words}");
    let (exit, words) = code(remove_rule(text, "web", &Selector::Id(7)));
    assert!(exit == 4 && words.contains("sg show web"), "{words}");
    let selector = Selector::Spec(Direction::Ingress, tcp_443());
    assert_eq!(code(remove_rule(text, "web", &selector)).0, 4);
}

#[test]
fn senseless_rules_are_refused() {
    let text = "version = 1\n[security_groups.web]\n";
    let refuse = |spec| code(add_rule(text, "web", Direction::Ingress, &spec, IfExists::Fail));
    let (exit, words) = refuse(spec("icmp", &["80"], &["any"]));
    assert!(exit == 2 && words.contains("icmp has no ports"), "{words}");
    let (exit, words) = refuse(spec("tcp", &["80"], &["sg:wbe"]));
    assert!(exit == 2 && words.contains("did you mean `web`?"), "{words}");
    assert_eq!(refuse(spec("tcp", &["80"], &[])).0, 2);
}

#[test]
fn a_broken_file_is_not_edited() {
    let (exit, words) =
        code(add_rule("version = 3\n", "web", Direction::Ingress, &tcp_443(), IfExists::Fail));
    assert!(exit == 2 && words.contains("correct it first") && words.contains("version 3"), "{words}");
}

#[test]
fn the_quickstart_takes_the_readers_first_rule() {
    let before = include_str!("../../../../examples/quickstart.toml");
    let (after, id) =
        add_rule(before, "web", Direction::Ingress, &spec("tcp", &["80"], &["any"]), IfExists::Fail).unwrap();
    let line = "  { protocol = \"tcp\", ports = [80], from = [\"any\"] },\n";
    assert_eq!(after.replacen(line, "", 1), before);
    let (restored, _) = remove_rule(&after, "web", &Selector::Id(id)).unwrap();
    assert_eq!(restored, before);
}
