//! Forwards and elastic IPs come, move and go.

use std::net::IpAddr;

use super::{code, policy};
use crate::{
    edit::{
        ForwardSpec, IfExists, NetworkEdit, Setting, add_forward, associate, delete_network, delete_port,
        disassociate, remove_forward, set_network,
    },
    policy::OnChange,
};

const TEXT: &str = r#"version = 1

[networks.n]
type = "nat"
subnets = ["10.0.0.0/24", "fd00::/64"]
snat = "198.51.100.9"  # ours

[security_groups.all]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.a]
network = "n"
security_groups = ["all"]
attach = { netns = "a" }

[ports.b]
network = "n"
security_groups = ["all"]
attach = { netns = "b" }
"#;

const FORWARDS: &str = r#"
# ---- Published ----

# the site
[[forwards]]
listen = "0.0.0.0:80" # for all
protocol = "tcp"
to = "a:8080"

# names
[[forwards]]
listen = "[::]:53"
protocol = "udp"
to = "b"
"#;

const ELASTIC: &str = r#"
[elastic_ips]
# ---- Ours ----

# the site
"198.51.100.20" = { port = "a" } # since May
# names
"2001:db8:0::20" = { port = "b", on_change = "keep" }

[uplinks.eth0]
"#;

fn forward(listen: &str, protocol: &str, to: &str) -> ForwardSpec {
    let to = to.split_whitespace().map(|backend| backend.parse().unwrap()).collect();
    let (listen, protocol) = (listen.parse().unwrap(), protocol.parse().unwrap());
    ForwardSpec { listen, protocol, to, affinity: None }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[track_caller]
fn added(text: &str, spec: &ForwardSpec) -> String {
    add_forward(text, spec, IfExists::Fail).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn associated(text: &str, addr_: &str, port: &str) -> String {
    associate(text, addr(addr_), port, Setting::Keep).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_forward_stands_behind_the_others_and_goes_without_a_trace() {
    let spec = forward("0.0.0.0:8000-8010", "tcp", "a:9000");
    let table = "\n[[forwards]]\nlisten = \"0.0.0.0:8000-8010\"\nprotocol = \"tcp\"\nto = \"a:9000\"\n";
    for before in [TEXT.to_owned(), format!("{TEXT}{FORWARDS}")] {
        let after = added(&before, &spec);
        assert_eq!(after, format!("{before}{table}"));
        let policy = policy(&after);
        let last = policy.forwards.last().unwrap();
        assert_eq!(last.to_ports(&last.to[0]).to_string(), "9000-9010");
        let (text, removed) = remove_forward(&after, &forward("0.0.0.0:8000-8010", "tcp", "")).unwrap();
        assert_eq!((text.as_str(), removed.name()), (before.as_str(), spec.name()));
    }
}

#[test]
fn forwards_in_a_list_stay_in_a_list() {
    let text = TEXT.replace(
        "version = 1\n",
        "version = 1\nforwards = [\n  # the site\n  { listen = \"0.0.0.0:80\", protocol = \"tcp\", to = \"a\" },\n]\n",
    );
    let after = added(&text, &forward("0.0.0.0:53", "udp", "b:53"));
    let line = "  { listen = \"0.0.0.0:53\", protocol = \"udp\", to = \"b:53\" },\n";
    assert_eq!(after, text.replace("to = \"a\" },\n", &format!("to = \"a\" }},\n{line}")));
    assert_eq!(remove_forward(&after, &forward("0.0.0.0:53", "udp", "b")).unwrap().0, text);
}

#[test]
fn a_forward_takes_its_comment_along_and_leaves_headings() {
    let text = format!("{TEXT}{FORWARDS}");
    let (after, _) = remove_forward(&text, &forward("0.0.0.0:80", "tcp", "a:8080")).unwrap();
    assert!(after.contains("# ---- Published ----\n\n# names\n[[forwards]]"), "{after}");
    assert!(!after.contains("the site"), "{after}");
}

#[test]
fn a_forward_is_there_once() {
    let text = format!("{TEXT}{FORWARDS}");
    let same = forward("0.0.0.0:80", "tcp", "a:8080");
    let (exit, words) = code(add_forward(&text, &same, IfExists::Fail));
    assert!(exit == 5 && words.contains("tcp/0.0.0.0:80 is forwarded to a:8080 already"), "{words}");
    assert_eq!(add_forward(&text, &same, IfExists::Keep).unwrap(), text);
    // `b` alone and `b:53` are the same.
    assert_eq!(add_forward(&text, &forward("[::]:53", "udp", "b:53"), IfExists::Keep).unwrap(), text);
    let (exit, words) = code(add_forward(&text, &forward("0.0.0.0:80", "tcp", "b:80"), IfExists::Keep));
    assert!(exit == 5 && words.contains("vnet-ctl forward remove"), "{words}");
    let (exit, words) = code(add_forward(&text, &forward("192.0.2.1:80", "tcp", "b:80"), IfExists::Keep));
    assert!(exit == 2 && words.contains("overlaps tcp/0.0.0.0:80"), "{words}");
    let (exit, words) = code(add_forward(&text, &forward("0.0.0.0:81", "tcp", "c:80"), IfExists::Keep));
    assert!(exit == 2 && words.contains("no port `c`"), "{words}");
    let (exit, words) = code(remove_forward(&text, &forward("0.0.0.0:80", "udp", "")));
    assert!(exit == 4 && words.contains("vnet-ctl forward list"), "{words}");
    let (exit, words) = code(remove_forward(&text, &forward("0.0.0.0:80", "tcp", "b")));
    assert!(exit == 4 && words.contains("it is forwarded to a:8080"), "{words}");
}

#[test]
fn the_first_elastic_ip_makes_the_section_and_the_last_takes_it_along() {
    for text in [TEXT.to_owned(), format!("{TEXT}{FORWARDS}"), format!("{TEXT}# the end\n")] {
        let after = associated(&text, "198.51.100.20", "a");
        assert!(after.contains("\n[elastic_ips]\n\"198.51.100.20\" = { port = \"a\" }\n"), "{after}");
        let (before, port) = disassociate(&after, addr("198.51.100.20")).unwrap();
        assert_eq!((before.as_str(), port.as_str()), (text.as_str(), "a"));
    }
}

#[test]
fn an_elastic_ip_moves_where_it_stands() {
    let text = format!("{TEXT}{ELASTIC}");
    let free = disassociate(&text, addr("2001:db8::20")).unwrap().0;
    assert_eq!(
        free,
        text.replace("# names\n\"2001:db8:0::20\" = { port = \"b\", on_change = \"keep\" }\n", "")
    );
    let after = associated(&text, "198.51.100.20", "b");
    assert_eq!(
        after,
        text.replace("\"198.51.100.20\" = { port = \"a\" }", "\"198.51.100.20\" = { port = \"b\" }")
    );
    // Known however it is written.
    let after = associate(&text, addr("2001:db8::20"), "a", Setting::Set(OnChange::Cut)).unwrap();
    assert_eq!(
        after,
        text.replace("{ port = \"b\", on_change = \"keep\" }", "{ port = \"a\", on_change = \"cut\" }")
    );
    let after = associate(&text, addr("198.51.100.20"), "a", Setting::Set(OnChange::Keep)).unwrap();
    assert_eq!(after, text.replace("{ port = \"a\" }", "{ port = \"a\", on_change = \"keep\" }"));
    assert_eq!(associated(&text, "198.51.100.20", "a"), text);
}

#[test]
fn an_elastic_ip_stands_behind_the_others_in_their_form() {
    let v6 = "\"2001:db8::21\" = { port = \"a\" }\n";
    let text = format!("{TEXT}{ELASTIC}");
    let after = associated(&text, "2001:db8::21", "a");
    assert_eq!(after, text.replace("\"keep\" }\n", &format!("\"keep\" }}\n{v6}")));
    assert_eq!(disassociate(&after, addr("2001:db8::21")).unwrap().0, text);
    let apart = format!("{TEXT}\n[elastic_ips.\"198.51.100.20\"]\nport = \"a\" # the site\n");
    let after = associated(&apart, "2001:db8::21", "a");
    assert_eq!(after, format!("{apart}\n[elastic_ips.\"2001:db8::21\"]\nport = \"a\"\n"));
    assert_eq!(disassociate(&after, addr("2001:db8::21")).unwrap().0, apart);
    let inline = TEXT
        .replace("version = 1\n", "version = 1\nelastic_ips = { \"198.51.100.20\" = { port = \"a\" } }\n");
    let after = associated(&inline, "2001:db8::21", "a");
    assert_eq!(
        after,
        inline.replace("{ port = \"a\" } }", "{ port = \"a\" }, \"2001:db8::21\" = { port = \"a\" } }")
    );
    assert_eq!(disassociate(&after, addr("2001:db8::21")).unwrap().0, inline);
}

#[test]
fn comments_about_other_elastic_ips_stay() {
    let text = format!("{TEXT}{ELASTIC}");
    let (after, _) = disassociate(&text, addr("198.51.100.20")).unwrap();
    assert!(after.contains("[elastic_ips]\n# ---- Ours ----\n\n# names\n\"2001"), "{after}");
    assert!(!after.contains("the site") && !after.contains("May"), "{after}");
    let (after, _) = disassociate(&after, addr("2001:db8::20")).unwrap();
    assert!(after.contains("# ---- Ours ----") && !after.contains("# names"), "{after}");
    assert!(policy(&after).elastic_ips.is_empty());
}

#[test]
fn an_elastic_ip_that_cannot_be_is_refused() {
    let text = format!("{TEXT}{ELASTIC}");
    let refused = |ip: &str, port: &str| code(associate(&text, addr(ip), port, Setting::Keep));
    for (ip, port, exit, words) in [
        ("198.51.100.21", "c", 4, "no port `c`"),
        ("198.51.100.21", "a", 2, "port `a` has the IPv4 elastic IP 198.51.100.20 already"),
        ("198.51.100.9", "b", 2, "what network `n` leaves with"),
        ("10.0.0.9", "b", 2, "in the subnet 10.0.0.0/24"),
        ("224.0.0.1", "b", 2, "a multicast address"),
    ] {
        let (code, message) = refused(ip, port);
        assert!(code == exit && message.contains(words), "{ip} {port}: {code} {message}");
    }
    let (exit, words) = code(disassociate(&text, addr("198.51.100.21")));
    assert!(exit == 4 && words.contains("vnet-ctl eip list"), "{words}");
}

#[test]
fn what_something_leads_to_stays() {
    let text = format!("{TEXT}{FORWARDS}{ELASTIC}");
    let (exit, words) = code(delete_port(&text, "a"));
    assert!(exit == 5 && words.contains("forward tcp/0.0.0.0:80, elastic IP 198.51.100.20"), "{words}");
    let metadata = "\n[[metadata]]\nnetwork = \"m\"\nlisten = \"169.254.169.254:80\"\nto = \"host:8775\"\n";
    let network = "\n[networks.m]\ntype = \"nat\"\nsubnets = [\"10.1.0.0/24\"]\n";
    let (exit, words) = code(delete_network(&format!("{TEXT}{network}{metadata}"), "m"));
    assert!(exit == 5 && words.contains("metadata 169.254.169.254:80"), "{words}");
}

#[test]
fn a_network_is_told_how_to_leave() {
    let list = |items: &[&str]| Setting::Set(items.iter().map(ToString::to_string).collect());
    let edit = NetworkEdit {
        uplink: Setting::Set("eth0".to_owned()),
        snat: list(&["198.51.100.10"]),
        snat_ports: Setting::Set("2000-2999".to_owned()),
        no_snat: list(&["10.0.0.0/8"]),
        mapping: Setting::Set("endpoint-independent".to_owned()),
        clamp_mss: Setting::Set(true),
        ..NetworkEdit::default()
    };
    let after = set_network(TEXT, "n", &edit).unwrap();
    let keys = "snat = \"198.51.100.10\"  # ours\nuplink = \"eth0\"\nsnat_ports = \"2000-2999\"\nno_snat = [\"10.0.0.0/8\"]\n\
                mapping = \"endpoint-independent\"\nclamp_mss = true\n";
    assert_eq!(after, TEXT.replace("snat = \"198.51.100.9\"  # ours\n", keys));
    let edit = NetworkEdit { snat: list(&["198.51.100.10", "2001:db8::9"]), ..NetworkEdit::default() };
    let after = set_network(&after, "n", &edit).unwrap();
    assert!(after.contains("snat = [\"198.51.100.10\", \"2001:db8::9\"]  # ours\n"), "{after}");
    let edit = NetworkEdit {
        uplink: Setting::Unset,
        snat: Setting::Unset,
        snat_ports: Setting::Unset,
        no_snat: Setting::Unset,
        mapping: Setting::Unset,
        clamp_mss: Setting::Unset,
        ..NetworkEdit::default()
    };
    let after = set_network(&after, "n", &edit).unwrap();
    assert_eq!(after, TEXT.replace("snat = \"198.51.100.9\"  # ours\n", ""));
}
