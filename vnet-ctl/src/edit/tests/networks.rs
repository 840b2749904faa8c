//! Networks come, change and go.

use super::{code, policy};
use crate::edit::{NetworkEdit, Setting, create_network, delete_network, set_network};

const TEXT: &str = r#"# mine
version = 1

# ---- Networks ----

# the first
[networks.web]
type = "nat"   # leads outside
subnets = ["10.10.0.0/24"] # one
mtu = 1400

[networks.spare]
type = "private"
subnets = [
  "10.30.0.0/24", # old
  "10.31.0.0/24",
]

[security_groups.web]
ingress = [{ protocol = "tcp", from = ["net:web"] }]

[ports.a]
network = "web"
attach = { netns = "a" }
"#;

fn list(items: &[&str]) -> Setting<Vec<String>> {
    Setting::Set(items.iter().map(ToString::to_string).collect())
}

fn private(subnet: &str) -> NetworkEdit {
    NetworkEdit {
        kind: Setting::Set("private".to_owned()),
        subnets: list(&[subnet]),
        ..NetworkEdit::default()
    }
}

#[test]
fn a_new_network_stands_behind_the_others() {
    let edit =
        NetworkEdit { mtu: Setting::Set(9000), gateways: list(&["10.20.0.254"]), ..private("10.20.0.0/24") };
    let after = create_network(TEXT, "back", &edit).unwrap();
    let network = "[networks.back]\ntype = \"private\"\nsubnets = [\"10.20.0.0/24\"]\ngateway = [\"10.20.0.254\"]\nmtu = 9000\n";
    assert_eq!(after, TEXT.replace("[security_groups.web]", &format!("{network}\n[security_groups.web]")));
    assert_eq!(policy(&after).networks["back"].mtu, 9000);
    assert_eq!(delete_network(&after, "back").unwrap(), TEXT);
}

#[test]
fn a_comment_at_the_end_of_a_network_stays_with_it() {
    let own = "mtu = 1400\n# gateway = [\"10.10.0.9\"]\n# mtu = 1500\n";
    let text = format!(
        "version = 1\n\n[networks.web]\ntype = \"nat\"\nsubnets = [\"10.10.0.0/24\"]\n{own}\n\
         # ---- More ----\n\n[security_groups.web]\n"
    );
    let after = create_network(&text, "back", &private("10.20.0.0/24")).unwrap();
    let network = "\n[networks.back]\ntype = \"private\"\nsubnets = [\"10.20.0.0/24\"]\n";
    assert_eq!(after, text.replace(own, &format!("{own}{network}")));
    assert_eq!(delete_network(&after, "back").unwrap(), text);
}

#[test]
fn the_first_network_makes_the_section() {
    let after = create_network("version = 1\n", "n", &private("10.0.0.0/24")).unwrap();
    assert_eq!(after, "version = 1\n\n[networks.n]\ntype = \"private\"\nsubnets = [\"10.0.0.0/24\"]\n");
    let inline = "version = 1\nnetworks = { m = { type = \"nat\", subnets = [\"10.1.0.0/24\"] } }\n";
    let after = create_network(inline, "n", &private("10.0.0.0/24")).unwrap();
    assert!(policy(&after).networks.len() == 2 && after.lines().count() == 2, "{after}");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let refused = |name: &str, subnet: &str| code(create_network(TEXT, name, &private(subnet)));
    for (name, subnet, exit, words) in [
        ("web", "10.20.0.0/24", 5, "vnet-ctl network set web"),
        ("b", "10.20.0.1/24", 2, "write \"10.20.0.0/24\""),
        ("b", "10.10.0.128/25", 2, "overlaps 10.10.0.0/24 of network `web`"),
        ("b", "nonsense", 2, "neither an address nor a prefix"),
        ("Far-Too-Long", "10.20.0.0/24", 2, "`F`"),
    ] {
        let (code, message) = refused(name, subnet);
        assert!(code == exit && message.contains(words), "{name} {subnet}: {code} {message}");
    }
    let (exit, words) = code(create_network(TEXT, "b", &NetworkEdit::default()));
    assert!(exit == 2 && words.contains("has no `type`"), "{words}");
}

#[test]
fn a_setting_changes_its_key_alone() {
    let set = |edit: &NetworkEdit, network: &str| set_network(TEXT, network, edit).unwrap();
    let edit = NetworkEdit { kind: Setting::Set("private".to_owned()), ..NetworkEdit::default() };
    assert_eq!(set(&edit, "web"), TEXT.replace("\"nat\"   #", "\"private\"   #"));
    let edit = NetworkEdit { mtu: Setting::Unset, ..NetworkEdit::default() };
    assert_eq!(set(&edit, "web"), TEXT.replace("mtu = 1400\n", ""));
    let edit = NetworkEdit { mtu: Setting::Set(1500), ..NetworkEdit::default() };
    assert_eq!(
        set(&edit, "spare"),
        TEXT.replace("  \"10.31.0.0/24\",\n]\n", "  \"10.31.0.0/24\",\n]\nmtu = 1500\n")
    );
    assert_eq!(set(&NetworkEdit::default(), "web"), TEXT);
}

#[test]
fn a_list_keeps_what_it_goes_on_holding() {
    let edit = |items: &[&str]| NetworkEdit { subnets: list(items), ..NetworkEdit::default() };
    let after = set_network(TEXT, "spare", &edit(&["10.32.0.0/24", "10.30.0.0/24"])).unwrap();
    assert_eq!(after, TEXT.replace("\"10.31.0.0/24\"", "\"10.32.0.0/24\""));
    let after = set_network(TEXT, "web", &edit(&["10.10.0.0/24", "fd00::/64"])).unwrap();
    assert_eq!(after, TEXT.replace("[\"10.10.0.0/24\"] # one", "[\"10.10.0.0/24\", \"fd00::/64\"] # one"));
    let (exit, words) = code(set_network(TEXT, "web", &edit(&[])));
    assert!(exit == 2 && words.contains("no subnet"), "{words}");
}

#[test]
fn an_inline_network_stays_in_its_line() {
    let text = "version = 1\n[networks]\nn = { type = \"nat\", subnets = [\"10.0.0.0/24\"] } # n\n";
    let edit = NetworkEdit { mtu: Setting::Set(1400), ..NetworkEdit::default() };
    let after = set_network(text, "n", &edit).unwrap();
    assert_eq!(after, text.replace("] } #", "], mtu = 1400 } #"));
    let edit = NetworkEdit { mtu: Setting::Unset, ..NetworkEdit::default() };
    assert_eq!(set_network(&after, "n", &edit).unwrap(), text);
}

#[test]
fn a_network_in_use_stays_and_tells_who_uses_it() {
    let (exit, words) = code(delete_network(TEXT, "web"));
    assert!(exit == 5 && words.contains("port `a`") && words.contains("rules of group `web`"), "{words}");
    assert_eq!(code(delete_network(TEXT, "wbe")).0, 4);
    let after = delete_network(TEXT, "spare").unwrap();
    assert!(!after.contains("10.30") && after.contains("# ---- Networks ----"), "{after}");
}

#[test]
fn what_lies_beyond_the_host_is_written_and_taken_out() {
    let vlan = NetworkEdit {
        vlan: Setting::Set(vec![10]),
        trunk: Setting::Set("eth1".to_owned()),
        priority: Setting::Set(5),
        ..NetworkEdit::default()
    };
    let after = set_network(TEXT, "spare", &vlan).unwrap();
    let keys = "vlan = 10\ntrunk = \"eth1\"\npriority = 5\n";
    assert_eq!(after, TEXT.replace("\"10.31.0.0/24\",\n]\n", &format!("\"10.31.0.0/24\",\n]\n{keys}")));
    let commented = after.replace("vlan = 10\n", "vlan = 10 # the lab\n");
    let two = NetworkEdit { vlan: Setting::Set(vec![100, 10]), ..NetworkEdit::default() };
    let doubled = set_network(&commented, "spare", &two).unwrap();
    assert_eq!(doubled, commented.replace("vlan = 10 # the lab", "vlan = [100, 10] # the lab"));
    let none = NetworkEdit {
        vlan: Setting::Unset,
        trunk: Setting::Unset,
        priority: Setting::Unset,
        ..NetworkEdit::default()
    };
    assert_eq!(set_network(&doubled, "spare", &none).unwrap(), TEXT);
    let overlay =
        NetworkEdit { vni: Setting::Set(7), peers: list(&["192.0.2.12"]), ..private("10.20.0.0/24") };
    let after = create_network(TEXT, "far", &overlay).unwrap();
    assert!(after.contains("vni = 7\npeers = [\"192.0.2.12\"]\n"), "{after}");
    let more = NetworkEdit { peers: list(&["192.0.2.12", "192.0.2.13"]), ..NetworkEdit::default() };
    let after = set_network(&after, "far", &more).unwrap();
    assert!(after.contains("peers = [\"192.0.2.12\", \"192.0.2.13\"]\n"), "{after}");
    let (exit, words) = code(set_network(TEXT, "spare", &two));
    assert!(exit == 2 && words.contains("has a `vlan`, and no `trunk`"), "{words}");
    let lan = NetworkEdit {
        kind: Setting::Set("bridged".to_owned()),
        uplink: Setting::Set("eth0".to_owned()),
        ..NetworkEdit::default()
    };
    let after = create_network(TEXT, "lan", &lan).unwrap();
    assert!(after.contains("[networks.lan]\ntype = \"bridged\"\nuplink = \"eth0\"\n"), "{after}");
}

#[test]
fn a_network_of_a_trunk_port_is_in_use() {
    let text = TEXT.replace("]\n\n[security", "]\nvlan = 10\ntrunk = \"eth1\"\n\n[security");
    let text = text.replace("network = \"web\"\n", "network = \"web\"\nvlans = [\"spare\"]\n");
    let (exit, words) = code(delete_network(&text, "spare"));
    assert!(exit == 5 && words.contains("port `a`"), "{words}");
}
