//! Entries of the acl come and go, in their order.

use vnet_common::{Direction, RuleId};

use super::{code, policy, spec};
use crate::{
    edit::{AclSelector, AclSpec, EditError, IfExists, Place, add_acl, delete_network, remove_acl},
    policy::AclAction,
};

const TABLES: &str = r#"version = 1

[networks.n]
type = "nat"
subnets = ["10.0.0.0/24"]

# ---- Before the groups ----

# no telnet
[[acl]]
action = "deny"
direction = "ingress"
protocol = "tcp"
ports = [23] # telnet
from = ["any"]

# no smtp
[[acl]]
action = "deny"
direction = "egress"
protocol = "tcp"
ports = [25]
to = ["net:n"]

[ports]
"#;

const ARRAY: &str = r#"version = 1
acl = [
  # no telnet
  { action = "deny", direction = "ingress", protocol = "tcp", ports = [23], from = ["any"] }, # telnet
  # no smtp
  { action = "deny", direction = "egress", protocol = "tcp", ports = [25], to = ["any"] },
]
"#;

fn ssh() -> AclSpec {
    AclSpec { action: AclAction::Allow, direction: Direction::Ingress, rule: spec("tcp", &["22"], &["any"]) }
}

fn add(text: &str, place: Place) -> Result<(String, RuleId), EditError> {
    add_acl(text, &ssh(), place, IfExists::Fail)
}

#[track_caller]
fn added(text: &str, place: Place) -> (String, RuleId) {
    add(text, place).unwrap_or_else(|error| panic!("{error}"))
}

/// The ports of the entries, in order.
fn order(text: &str) -> Vec<String> {
    policy(text).acl.iter().map(|entry| entry.rule.ports[0].to_string()).collect()
}

fn id_of(text: &str, index: usize) -> RuleId {
    policy(text).acl[index].rule.id
}

const TABLE: &str = "[[acl]]\naction = \"allow\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = [22]\nfrom = [\"any\"]\n";
const INLINE: &str =
    r#"{ action = "allow", direction = "ingress", protocol = "tcp", ports = [22], from = ["any"] }"#;

#[test]
fn an_entry_goes_where_it_is_told() {
    for text in [TABLES, ARRAY] {
        for (place, expected) in [
            (Place::Last, ["23", "25", "22"]),
            (Place::Position(1), ["22", "23", "25"]),
            (Place::Position(2), ["23", "22", "25"]),
            (Place::Position(3), ["23", "25", "22"]),
            (Place::Before(id_of(text, 1)), ["23", "22", "25"]),
            (Place::After(id_of(text, 1)), ["23", "25", "22"]),
            (Place::Before(id_of(text, 0)), ["22", "23", "25"]),
        ] {
            let (after, id) = added(text, place);
            assert_eq!(order(&after), expected, "{place:?}\n{after}");
            let (before, removed) = remove_acl(&after, &AclSelector::Id(id)).unwrap();
            assert_eq!((before.as_str(), removed), (text, id), "{place:?}");
        }
    }
}

#[test]
fn comments_stay_with_what_they_are_about() {
    let (first, _) = added(TABLES, Place::Position(1));
    assert_eq!(first, TABLES.replace("# no telnet\n", &format!("{TABLE}\n# no telnet\n")));
    let (middle, _) = added(TABLES, Place::Position(2));
    assert_eq!(
        middle,
        TABLES.replace("# no smtp\n", &format!("{TABLE}\n# no smtp\n")).replace("smtp\n\n", "smtp\n")
    );
    let (first, _) = added(ARRAY, Place::Position(1));
    assert_eq!(first, ARRAY.replace("  # no telnet\n", &format!("  {INLINE},\n  # no telnet\n")));
    let (middle, _) = added(ARRAY, Place::Position(2));
    assert_eq!(middle, ARRAY.replace("  # no smtp\n", &format!("  {INLINE},\n  # no smtp\n")));
}

#[test]
fn the_first_entry_makes_the_acl_and_the_last_takes_it_along() {
    let text = "version = 1\n\n[prefix_lists]\nl = []\n# the end\n";
    let (after, id) = added(text, Place::Last);
    assert_eq!(after, text.replace("# the end\n", &format!("\n{TABLE}# the end\n")));
    assert_eq!(remove_acl(&after, &AclSelector::Id(id)).unwrap().0, text);
    let inline = "version = 1\nacl = []\n";
    let (after, _) = added(inline, Place::Last);
    assert_eq!(after, format!("version = 1\nacl = [\n  {INLINE},\n]\n"));
}

#[test]
fn an_entry_is_removed_by_position_or_by_what_it_says() {
    assert_eq!(order(&remove_acl(TABLES, &AclSelector::Position(2)).unwrap().0), ["23"]);
    let telnet = AclSpec { action: AclAction::Deny, rule: spec("tcp", &["23"], &["any"]), ..ssh() };
    let (after, id) = remove_acl(TABLES, &AclSelector::Spec(telnet.clone())).unwrap();
    assert_eq!((order(&after), id), (vec!["25".to_owned()], id_of(TABLES, 0)));
    assert!(
        after.contains("# ---- Before the groups ----\n\n# no smtp") && !after.contains("telnet"),
        "{after}"
    );
    let allowed = AclSpec { action: AclAction::Allow, ..telnet };
    for selector in
        [AclSelector::Spec(allowed), AclSelector::Position(0), AclSelector::Position(3), AclSelector::Id(1)]
    {
        let (exit, words) = code(remove_acl(TABLES, &selector));
        assert!(exit == 4 && words.contains("it has 2 entries"), "{selector:?}: {words}");
    }
}

#[test]
fn an_entry_is_there_once() {
    let (after, id) = added(TABLES, Place::Last);
    let (exit, words) = code(add(&after, Place::Position(1)));
    assert!(exit == 5 && words.contains("at position 3"), "{words}");
    assert_eq!(add_acl(&after, &ssh(), Place::Position(1), IfExists::Keep).unwrap(), (after, id));
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_eq!(code(add(TABLES, Place::Position(4))).0, 4);
    assert_eq!(code(add(TABLES, Place::Position(0))).0, 4);
    assert_eq!(code(add(TABLES, Place::After(1))).0, 4);
    let unknown = AclSpec { rule: spec("tcp", &[], &["sg:none"]), ..ssh() };
    let (exit, words) = code(add_acl(TABLES, &unknown, Place::Last, IfExists::Fail));
    assert!(exit == 2 && words.contains("no security group `none`"), "{words}");
    let (exit, words) = code(delete_network(TABLES, "n"));
    assert!(exit == 5 && words.contains("the acl"), "{words}");
}

#[test]
fn json_is_left_to_its_author() {
    let (exit, words) = code(add("{\"version\": 1}", Place::Last));
    assert!(exit == 2 && words.contains("JSON"), "{words}");
}
