//! Ports come, change and go.

use super::{code, policy};
use crate::edit::{AttachEdit, PortEdit, Setting, create_port, delete_port, set_port};

const TEXT: &str = r#"version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24"]

[security_groups.db]

# ---- Ports ----

# the first
[ports.a]
network = "web" # in front
addresses = ["10.10.0.10"]
attach = { netns = "a", create = true } # made

[ports.b]
network = "web"
[ports.b.attach]
device = "tap0"
# the end
"#;

fn list(items: &[&str]) -> Setting<Vec<String>> {
    Setting::Set(items.iter().map(ToString::to_string).collect())
}

fn netns(name: &str) -> AttachEdit {
    AttachEdit::Netns { netns: name.to_owned(), create: true, interface: None }
}

fn port(attach: AttachEdit) -> PortEdit {
    PortEdit { network: Setting::Set("web".to_owned()), attach: Some(attach), ..PortEdit::default() }
}

#[test]
fn a_new_port_stands_behind_the_others() {
    let attach =
        AttachEdit::Netns { netns: "/run/x".to_owned(), create: false, interface: Some("net0".to_owned()) };
    let edit = PortEdit {
        addresses: list(&["10.10.0.20"]),
        mac: Setting::Set("02:00:00:00:00:0a".to_owned()),
        security_groups: list(&["db", "default"]),
        ..port(attach)
    };
    let after = create_port(TEXT, "c", &edit).unwrap();
    let added = r#"
[ports.c]
network = "web"
addresses = ["10.10.0.20"]
mac = "02:00:00:00:00:0a"
security_groups = ["db", "default"]
attach = { netns = "/run/x", name = "net0" }
"#;
    assert_eq!(after, TEXT.replace("\"tap0\"\n", &format!("\"tap0\"\n{added}")));
    assert_eq!(policy(&after).ports["c"].security_groups, ["db", "default"]);
    assert_eq!(delete_port(&after, "c").unwrap(), TEXT);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let in_network = |name: &str| PortEdit { network: Setting::Set(name.to_owned()), ..port(netns("c")) };
    let at = |addr: &str| PortEdit { addresses: list(&[addr]), ..port(netns("c")) };
    for (name, edit, exit, words) in [
        ("a", port(netns("c")), 5, "vnet-ctl port set a"),
        ("c", in_network("wbe"), 2, "did you mean `web`?"),
        ("c", at("10.10.0.10"), 2, "belongs to port `a` already"),
        ("c", at("10.99.0.1"), 2, "in no subnet of network `web`"),
        ("c", port(AttachEdit::Device("tap0".to_owned())), 2, "belongs to port `b` already"),
        ("10.0.0.1", port(netns("c")), 2, "cannot be called"),
        ("c", PortEdit { security_groups: list(&["bd"]), ..port(netns("c")) }, 2, "did you mean `db`?"),
        ("c", PortEdit { mac: Setting::Set("1".to_owned()), ..port(netns("c")) }, 2, "not a MAC"),
    ] {
        let (code, message) = code(create_port(TEXT, name, &edit));
        assert!(code == exit && message.contains(words), "{name}: {code} {message}");
    }
}

#[test]
fn a_setting_changes_its_key_alone() {
    let set = |name: &str, edit: &PortEdit| set_port(TEXT, name, edit).unwrap();
    let edit = PortEdit { security_groups: list(&["db"]), ..PortEdit::default() };
    assert_eq!(set("a", &edit), TEXT.replace("} # made\n", "} # made\nsecurity_groups = [\"db\"]\n"));
    let edit = PortEdit { addresses: Setting::Unset, ..PortEdit::default() };
    assert_eq!(set("a", &edit), TEXT.replace("addresses = [\"10.10.0.10\"]\n", ""));
    let edit = PortEdit { attach: Some(AttachEdit::Device("tap1".to_owned())), ..PortEdit::default() };
    assert_eq!(
        set("a", &edit),
        TEXT.replace("{ netns = \"a\", create = true } #", "{ device = \"tap1\" } #")
    );
    assert_eq!(policy(&set("b", &edit)).ports["b"], policy(&TEXT.replace("tap0", "tap1")).ports["b"]);
    assert_eq!(code(set_port(TEXT, "aa", &edit)).0, 4);
}

#[test]
fn a_port_goes_with_its_own_comment_alone() {
    let after = delete_port(TEXT, "a").unwrap();
    assert!(after.contains("# ---- Ports ----\n\n[ports.b]") && !after.contains("# the first"), "{after}");
    let after = delete_port(&after, "b").unwrap();
    assert!(policy(&after).ports.is_empty() && after.ends_with("# the end\n"), "{after}");
    assert_eq!(code(delete_port(&after, "b")).0, 4);
}

#[test]
fn a_tap_and_tagged_networks_are_written() {
    let text = TEXT.replace(
        "\n[security_groups.db]",
        "\n[networks.red]\ntype = \"private\"\nsubnets = [\"10.20.0.0/24\"]\nvlan = 10\ntrunk = \"eth1\"\n\n[security_groups.db]",
    );
    let tap = |owner| AttachEdit::Tap { tap: "tap1".to_owned(), create: true, owner };
    let edit = PortEdit { vlans: list(&["red"]), ..port(tap(Some(1000))) };
    let after = create_port(&text, "vm", &edit).unwrap();
    let added = "[ports.vm]\nnetwork = \"web\"\nvlans = [\"red\"]\n\
                 attach = { tap = \"tap1\", create = true, owner = 1000 }\n";
    assert!(after.contains(added), "{after}");
    let edit = PortEdit { vlans: Setting::Unset, attach: Some(tap(None)), ..PortEdit::default() };
    let plain = set_port(&after, "vm", &edit).unwrap();
    assert!(plain.contains("network = \"web\"\nattach = { tap = \"tap1\", create = true }\n"), "{plain}");
    let (exit, words) = code(set_port(TEXT, "a", &PortEdit { vlans: list(&["web"]), ..PortEdit::default() }));
    assert!(exit == 2 && words.contains("is that of port `a` itself"), "{words}");
}
