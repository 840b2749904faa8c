//! Groups come and go.

use super::{code, policy};
use crate::edit::{GroupEdit, Setting, create_group, delete_group, set_group};

const TEXT: &str = r#"version = 1

[networks.n]
type = "nat"
subnets = ["10.0.0.0/24"]

# ---- Groups ----

# the web tier
[security_groups.web]
ingress = [{ protocol = "tcp", from = ["sg:lb", "sg:web"] }]

# balancers
[security_groups.lb]

[security_groups.spare]

# ---- Ports ----

[ports.a]
network = "n"
security_groups = ["web"]
attach = { netns = "a" }
# the end
"#;

#[test]
fn a_new_group_stands_behind_the_others() {
    let after = create_group(TEXT, "db", &described("databases")).unwrap();
    let group = "[security_groups.spare]\n\n[security_groups.db]\ndescription = \"databases\"\n";
    assert_eq!(after, TEXT.replace("[security_groups.spare]\n", group));
    assert!(policy(&after).security_groups["db"].ingress.is_empty());
    assert_eq!(delete_group(&after, "db").unwrap(), TEXT);
}

#[test]
fn the_first_group_makes_the_section() {
    assert_eq!(
        create_group("version = 1\n", "web", &GroupEdit::default()).unwrap(),
        "version = 1\n\n[security_groups.web]\n"
    );
    let inline = "version = 1\nsecurity_groups = { web = {} }\n";
    let after = create_group(inline, "db", &GroupEdit::default()).unwrap();
    assert!(policy(&after).security_groups.contains_key("db") && after.lines().count() == 2, "{after}");
}

#[test]
fn a_group_that_is_there_or_cannot_be_is_refused() {
    assert_eq!(code(create_group(TEXT, "web", &GroupEdit::default())).0, 5);
    let (exit, words) = code(create_group(TEXT, "default", &GroupEdit::default()));
    assert!(exit == 5 && words.contains("built in"), "{words}");
    let (exit, words) = code(create_group(TEXT, "a b", &GroupEdit::default()));
    assert!(exit == 2 && words.contains("contains ` `"), "{words}");
    assert_eq!(code(create_group(TEXT, "", &GroupEdit::default())).0, 2);
}

#[test]
fn a_group_goes_with_its_own_comment_alone() {
    let unused = TEXT.replace("security_groups = [\"web\"]\n", "");
    let after = delete_group(&unused, "web").unwrap();
    let gone = "# the web tier\n[security_groups.web]\ningress = [{ protocol = \"tcp\", from = [\"sg:lb\", \"sg:web\"] }]\n";
    assert!(after.contains("# ---- Groups ----\n\n# balancers\n[security_groups.lb]"), "{after}");
    assert!(!after.contains(gone.lines().next().unwrap()), "{after}");
    let last = "version = 1\n\n# ---- Groups ----\n\n# mine\n[security_groups.web]\n# the end\n";
    assert_eq!(delete_group(last, "web").unwrap(), "version = 1\n\n# ---- Groups ----\n# the end\n");
}

#[test]
fn a_group_in_use_stays() {
    let (exit, words) = code(delete_group(TEXT, "web"));
    assert!(exit == 5 && words.contains("port `a`"), "{words}");
    let (exit, words) = code(delete_group(TEXT, "lb"));
    assert!(exit == 5 && words.contains("rules of group `web`"), "{words}");
    let (exit, words) = code(delete_group(TEXT, "spar"));
    assert!(exit == 4 && words.contains("did you mean `spare`?"), "{words}");
}

#[test]
fn the_default_group_goes_back_to_what_is_built_in() {
    let text = "version = 1\n[security_groups.default]\nfoo = 1\n".replace("foo = 1\n", "");
    assert!(policy(&text).security_groups["default"].ingress.is_empty());
    let after = delete_group(&text, "default").unwrap();
    assert_eq!(policy(&after).security_groups["default"].ingress.len(), 1);
    let (exit, words) = code(delete_group(&after, "default"));
    assert!(exit == 5 && words.contains("built in"), "{words}");
}

fn described(description: &str) -> GroupEdit {
    GroupEdit { description: Setting::Set(description.to_owned()), ..GroupEdit::default() }
}

#[test]
fn a_description_comes_changes_and_goes() {
    let first = set_group(TEXT, "spare", &described("not used")).unwrap();
    assert_eq!(first, TEXT.replace("groups.spare]\n", "groups.spare]\ndescription = \"not used\"\n"));
    let commented = first.replace("\"not used\"\n", "'not used'   # really\n");
    let second = set_group(&commented, "spare", &described("used")).unwrap();
    assert_eq!(second, commented.replace("'not used'", "\"used\""));
    let gone = GroupEdit { description: Setting::Unset, ..GroupEdit::default() };
    assert_eq!(set_group(&second, "spare", &gone).unwrap(), TEXT);
    assert_eq!(set_group(TEXT, "web", &GroupEdit::default()).unwrap(), TEXT);
    assert_eq!(code(set_group(TEXT, "wbe", &gone)).0, 4);
}

#[test]
fn the_default_group_is_written_down_to_be_described() {
    let after = set_group("version = 1\n", "default", &described("ours")).unwrap();
    let group = &policy(&after).security_groups["default"];
    assert_eq!((group.description.as_deref(), group.ingress.len()), (Some("ours"), 1));
}
