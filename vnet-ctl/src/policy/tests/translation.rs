//! The way outside: uplinks, source addresses, forwards, elastic IPs, metadata.

use super::{BASE, mistakes, one_mistake, parse_text, valid};
use crate::policy::{DEFAULT_SNAT_PORTS, Mapping, OnChange, Policy, Protocol, Uplink, Xdp};

/// Two ports that everything outside may reach, one of them IPv4 only, and one of a private network.
const PORTS: &str = r#"
[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]
[ports.web-1]
network = "web"
security_groups = ["open"]
attach = { netns = "web-1" }
[ports.old]
network = "web"
addresses = ["10.10.0.7"]
security_groups = ["open"]
attach = { netns = "old" }
[ports.db-1]
network = "backend"
attach = { netns = "db-1" }
"#;

/// A network `x` of type nat with `lines`.
fn nat(lines: &str) -> String {
    format!("[networks.x]\ntype = \"nat\"\nsubnets = [\"10.40.0.0/24\"]\n{lines}\n")
}

fn forward(listen: &str, protocol: &str, to: &str) -> String {
    format!("[[forwards]]\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\nto = \"{to}\"\n")
}

fn metadata(network: &str, listen: &str, to: &str) -> String {
    format!("[[metadata]]\nnetwork = \"{network}\"\nlisten = \"{listen}\"\nto = \"{to}\"\n")
}

fn elastic_ips(lines: &str) -> String {
    format!("{PORTS}[elastic_ips]\n{lines}\n")
}

fn with_ports(more: &str) -> Policy {
    valid(&format!("{BASE}{PORTS}{more}"))
}

#[track_caller]
fn wrong_forward(listen: &str, protocol: &str, to: &str, words: &[&str], at: &str) {
    one_mistake(&format!("{PORTS}{}", forward(listen, protocol, to)), words, at);
}

#[test]
fn a_nat_network_says_how_it_leaves() {
    let lines = "uplink = \"eth0\"\nsnat = [\"198.51.100.9\", \"198.51.100.10\"]\nsnat_ports = \"20000-29999\"\n\
                 no_snat = [\"10.0.0.0/8\", \"192.0.2.7\"]\nmapping = \"endpoint-independent\"\nclamp_mss = true";
    let policy = valid(&format!("{BASE}{}[uplinks.eth1]\nxdp = \"native\"\n", nat(lines)));
    let network = &policy.networks["x"];
    assert_eq!((network.uplink.as_deref(), network.snat_ports), (Some("eth0"), (20000, 29999)));
    assert_eq!(
        (network.snat[1].to_string(), network.no_snat[1].to_string()),
        ("198.51.100.10".into(), "192.0.2.7/32".into())
    );
    let uplinks = [("eth0", Xdp::Auto), ("eth1", Xdp::Native)];
    assert_eq!(policy.uplinks, uplinks.map(|(name, xdp)| (name.to_owned(), Uplink { xdp })).into());
    assert_eq!((network.mapping, network.clamp_mss), (Mapping::EndpointIndependent, true));
    let json = serde_json::to_value(network).unwrap();
    assert_eq!((&json["mapping"], &json["clamp_mss"]), (&"endpoint-independent".into(), &true.into()));
    assert_eq!((&json["snat_ports"], &json["uplink"]), (&"20000-29999".into(), &"eth0".into()));
    let usual = &policy.networks["web"];
    assert_eq!((&usual.uplink, usual.snat.len(), usual.snat_ports), (&None, 0, DEFAULT_SNAT_PORTS));
    assert_eq!((usual.mapping, usual.clamp_mss), (Mapping::EndpointDependent, false));
    let one = valid(&format!("{BASE}{}", nat("snat = \"198.51.100.9\"\nsnat_ports = \"80\"")));
    assert_eq!((one.networks["x"].snat.len(), one.networks["x"].snat_ports), (1, (80, 80)));
}

#[test]
fn a_way_out_that_is_none_is_refused() {
    for (lines, words, at) in [
        ("snat = \"nonsense\"", "`nonsense` is not an address", "\"nonsense"),
        ("snat = \"198.51.100.9/24\"", "write \"198.51.100.9\"", "\"198"),
        ("snat = []", "take `snat` out", "[]"),
        ("snat = 1", "expected a list", "1"),
        ("snat = \"127.0.0.1\"", "a loopback address", "\"127"),
        ("snat = \"0.0.0.0\"", "stands for no address", "\"0"),
        ("snat = \"224.0.0.1\"", "a multicast address", "\"224"),
        ("snat = \"fe80::1\"", "link-local", "\"fe80"),
        ("snat = [\"198.51.100.9\", \"198.51.100.9\"]", "given twice", "\"198.51.100.9\"]"),
        ("snat = \"10.20.0.9\"", "in the subnet 10.20.0.0/24 of network `backend`", "\"10.20"),
        ("snat = \"10.40.0.1\"", "of network `x`", "\"10.40"),
        ("snat_ports = \"0-100\"", "0 is not a port", "\"0-100"),
        ("snat_ports = \"100-0\"", "0 is not a port", "\"100-0"),
        ("snat_ports = 0", "0 is not a port", "0"),
        ("snat_ports = \"2000-1000\"", "write \"1000-2000\"", "\"2000"),
        ("snat_ports = \"all\"", "neither a port nor a range", "\"all"),
        ("no_snat = [\"10.0.0.1/8\"]", "write \"10.0.0.0/8\"", "\"10.0.0.1"),
        ("no_snat = [\"sg:web\"]", "neither an address nor a prefix", "\"sg:web"),
        ("no_snat = \"10.0.0.0/8\"", "write [\"10.0.0.0/8\"]", "\"10"),
        ("mapping = \"endpoint-independant\"", "did you mean \"endpoint-independent\"?", "\"endpoint"),
        ("mapping = \"cone\"", "write \"endpoint-dependent\" or \"endpoint-independent\"", "\"cone"),
        ("mapping = true", "expected a string", "true"),
        ("clamp_mss = \"true\"", "expected", "\"true"),
        ("uplink = \"lo\"", "the loopback interface", "\"lo"),
        ("uplink = \"vnet-web\"", "is the bridge of a network", "\"vnet-web"),
        ("uplink = \"a b\"", "blanks are not allowed", "\"a b"),
        ("uplnk = \"eth0\"", "did you mean `uplink`?", "uplnk"),
    ] {
        one_mistake(&nat(lines), &[words], at);
    }
    let private = "[networks.x]\ntype = \"private\"\nsubnets = [\"10.40.0.0/24\"]\nuplink = \"eth0\"\nsnat_ports = \"1-2\"\n\
         mapping = \"endpoint-dependent\"\nclamp_mss = true\n";
    let found = mistakes(private);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].0.contains("`uplink` does not go with a private network")
            && found[0].1.starts_with("uplink")
    );
    one_mistake("[uplinks.lo]\n", &["the loopback interface"], "lo]");
    one_mistake("[uplinks.eth0]\nmtu = 1\n", &["unknown key `uplinks.eth0.mtu`", "known here: xdp"], "mtu");
}

#[test]
fn an_uplink_is_nobodys_network_card() {
    let port = "[ports.a]\nnetwork = \"web\"\nattach = { device = \"eth0\" }\n";
    let words = ["`eth0` is the uplink of network `x`, not a port's device"];
    one_mistake(&format!("{}{port}", nat("uplink = \"eth0\"")), &words, "\"eth0\" }");
    one_mistake(&format!("[uplinks.eth0]\n{port}"), &["the device of port `a`, not an uplink"], "eth0]");
}

#[test]
fn an_address_of_a_version_that_the_network_lacks_is_warned_of() {
    let (_, warnings) = parse_text(&format!("{BASE}{}", nat("snat = \"2001:db8::9\""))).unwrap();
    assert!(
        warnings[0].to_string().contains("`x` leaves with 2001:db8::9: it has no IPv6 subnet"),
        "{warnings:?}"
    );
}

#[test]
fn a_forward_leads_a_port_or_a_range_to_a_workload() {
    let policy = with_ports(
        &[
            forward("0.0.0.0:8080", "tcp", "web-1:80"),
            forward("[::]:8000-8010", "udp", "web-1:9000"),
            forward("10.10.0.1:53", "udp", "old"),
            forward("192.0.2.1:9999", "sctp", "old:9999"),
        ]
        .concat(),
    );
    let shown: Vec<_> = policy
        .forwards
        .iter()
        .map(|forward| {
            format!("{} {} {}", forward.name(), forward.targets(), forward.to_ports(&forward.to[0]))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "tcp/0.0.0.0:8080 web-1:80 80",
            "udp/[::]:8000-8010 web-1:9000 9000-9010",
            "udp/10.10.0.1:53 old:53 53",
            "sctp/192.0.2.1:9999 old:9999 9999",
        ]
    );
    assert_eq!(policy.forwards[3].protocol, Protocol::SCTP);
    let json = serde_json::to_value(&policy).unwrap();
    assert_eq!(
        json["forwards"][1],
        serde_json::json!({"listen": "[::]:8000-8010", "protocol": "udp", "to": "web-1:9000"})
    );
}

#[test]
fn a_forward_that_leads_nowhere_is_refused() {
    for (listen, protocol, to, words, at) in [
        ("8080", "tcp", "web-1:80", "write \"0.0.0.0:8080\"", "\"8080"),
        ("0.0.0.0:0", "tcp", "web-1:80", "0 is not a port", "\"0.0"),
        ("10.10.0.9:80", "tcp", "web-1:80", "the host has 10.10.0.1", "\"10.10"),
        ("0.0.0.0:80", "icmp", "web-1:80", "\"icmp\" is not a protocol with ports", "\"icmp"),
        ("0.0.0.0:80", "tpc", "web-1:80", "did you mean \"tcp\"?", "\"tpc"),
        ("0.0.0.0:80", "tcp", "wbe-1:80", "did you mean `web-1`?", "\"wbe"),
        ("0.0.0.0:80", "tcp", "nobody:80", "ports of runtimes cannot be named", "\"nobody"),
        ("0.0.0.0:80", "tcp", "host:80", "one of [ports]", "\"host"),
        ("0.0.0.0:80", "tcp", "web-1:0", "0 is not a port", "\"web-1"),
        ("0.0.0.0:80-81", "tcp", "web-1:80-81", "write \"web-1:80\"", "\"web-1"),
        ("0.0.0.0:80", "tcp", "db-1:80", "in the private network `backend`", "\"db-1"),
        ("[::]:80", "tcp", "old:80", "port `old` has no IPv6 address", "\"old"),
        ("0.0.0.0:1000-1999", "tcp", "web-1:65000", "64536 is the highest", "\"web-1"),
        ("0.0.0.0:80", "sctp", "web-1:81", "SCTP keeps its ports, so 80 cannot become 81", "\"web-1"),
    ] {
        wrong_forward(listen, protocol, to, &[words], at);
    }
    one_mistake(
        &format!("{PORTS}[[forwards]]\nprotocol = \"tcp\"\nto = \"old\"\n"),
        &["no `listen`"],
        "[[forwards]]",
    );
    one_mistake(
        &format!("{PORTS}[[forwards]]\nlisten = \"0.0.0.0:1\"\nto = \"old\"\n"),
        &["no `protocol`"],
        "[[",
    );
    one_mistake("[[forwards]]\nlisten = \"0.0.0.0:1\"\nprotocol = \"tcp\"\n", &["no `to`"], "[[forwards]]");
    one_mistake("[forwards]\n", &["write [[forwards]] above each entry"], "[forwards]");
    let key = format!("{PORTS}{}from = 1\n", forward("0.0.0.0:1", "tcp", "old"));
    one_mistake(&key, &["unknown key `forwards.from`", "known here: listen"], "from");
}

#[test]
fn forwards_that_want_the_same_packets_name_each_other() {
    let first = forward("0.0.0.0:8000-8010", "tcp", "web-1");
    for (listen, words) in [
        ("0.0.0.0:8000-8010", "tcp/0.0.0.0:8000-8010 is forwarded to port `web-1` already"),
        ("0.0.0.0:8010-8020", "tcp/0.0.0.0:8010-8020 overlaps tcp/0.0.0.0:8000-8010"),
        ("192.0.2.1:8005", "overlaps tcp/0.0.0.0:8000-8010, which is forwarded to port `web-1`"),
        ("127.0.0.1:8000", "overlaps tcp/0.0.0.0:8000-8010"),
    ] {
        let text = format!("{PORTS}{first}{}", forward(listen, "tcp", "old"));
        one_mistake(&text, &[words], &format!("\"{listen}"));
        // Whichever comes first has it.
        let text = format!("{PORTS}{}{first}", forward(listen, "tcp", "old"));
        one_mistake(&text, &["port `old`"], "\"0.0.0.0:8000-8010");
    }
    let apart = [
        forward("0.0.0.0:8011", "tcp", "old"),
        forward("0.0.0.0:8000", "udp", "old"),
        forward("[::]:8000", "tcp", "web-1"),
        forward("192.0.2.1:53", "udp", "old"),
        forward("192.0.2.2:53", "udp", "old"),
    ];
    assert_eq!(with_ports(&format!("{first}{}", apart.concat())).forwards.len(), 6);
    let shown = parse_text(&format!("{BASE}{PORTS}{first}{first}")).unwrap_err().to_string();
    assert!(shown.contains("forwarded to port `web-1` here"), "{shown}");
}

#[test]
fn an_elastic_ip_stands_for_one_port() {
    let policy = with_ports(
        "[elastic_ips]\n\"198.51.100.20\" = { port = \"web-1\" }\n\"2001:db8::20\" = { port = \"web-1\", on_change = \"keep\" }\n",
    );
    let shown: Vec<_> =
        policy.elastic_ips.iter().map(|(addr, to)| (addr.to_string(), &*to.port, to.on_change)).collect();
    assert_eq!(
        shown,
        [
            ("198.51.100.20".to_owned(), "web-1", OnChange::Cut),
            ("2001:db8::20".to_owned(), "web-1", OnChange::Keep),
        ]
    );
    let apart = "[elastic_ips.\"198.51.100.20\"]\nport = \"web-1\"\n";
    assert_eq!(with_ports(apart).elastic_ips.len(), 1);
}

#[test]
fn an_elastic_ip_that_cannot_be_is_refused() {
    for (lines, words, at) in [
        ("\"public\" = { port = \"old\" }", "`public` is not an address", "\"public"),
        ("\"198.51.100.0/24\" = { port = \"old\" }", "each elastic IP is one address", "\"198"),
        ("\"224.0.0.1\" = { port = \"old\" }", "a multicast address", "\"224"),
        ("\"127.0.0.1\" = { port = \"old\" }", "a loopback address", "\"127"),
        ("\"169.254.0.1\" = { port = \"old\" }", "link-local", "\"169"),
        ("\"10.10.0.99\" = { port = \"old\" }", "in the subnet 10.10.0.0/24 of network `web`", "\"10.10"),
        ("\"10.20.0.1\" = { port = \"old\" }", "the gateway of network `backend`", "\"10.20"),
        ("\"198.51.100.20\" = { port = \"odl\" }", "did you mean `old`?", "\"odl"),
        ("\"198.51.100.20\" = { port = \"db-1\" }", "in the private network `backend`", "\"db-1"),
        ("\"2001:db8::20\" = { port = \"old\" }", "port `old` has no IPv6 address", "\"old"),
        ("\"198.51.100.20\" = \"old\"", "expected a table", "\"old"),
        ("\"198.51.100.20\" = {}", "no `port`", "\"198"),
        ("\"198.51.100.20\" = { port = \"old\", on_change = \"kepe\" }", "did you mean \"keep\"?", "\"kepe"),
        (
            "\"198.51.100.20\" = { port = \"old\", to = 1 }",
            "unknown key `elastic_ips.198.51.100.20.to`",
            "to",
        ),
        (
            "\"2001:db8::1\" = { port = \"web-1\" }\n\"2001:DB8:0::1\" = { port = \"web-1\" }",
            "2001:db8::1 is given twice",
            "\"2001:DB8",
        ),
        (
            "\"198.51.100.20\" = { port = \"old\" }\n\"198.51.100.21\" = { port = \"old\" }",
            "port `old` has the IPv4 elastic IP 198.51.100.20 already",
            "\"old",
        ),
    ] {
        one_mistake(&elastic_ips(lines), &[words], at);
    }
    let text = format!(
        "{}{}",
        nat("snat = \"198.51.100.20\""),
        elastic_ips("\"198.51.100.20\" = { port = \"old\" }")
    );
    one_mistake(&text, &["what network `x` leaves with"], "\"198.51.100.20");
}

#[test]
fn metadata_is_a_service_of_the_host_for_one_network() {
    let policy = with_ports(
        &[
            metadata("web", "169.254.169.254:80", "host:8775"),
            metadata("web", "[fd00:ec2::254]:80", "host:8775"),
            metadata("web", "169.254.169.254:8080", "host:8776"),
        ]
        .concat(),
    );
    let shown: Vec<_> =
        policy.metadata.iter().map(|service| format!("{} {}", service.listen, service.to_port)).collect();
    assert_eq!(shown, ["169.254.169.254:80 8775", "[fd00:ec2::254]:80 8775", "169.254.169.254:8080 8776"]);
    let json = serde_json::to_value(&policy.metadata[0]).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"network": "web", "listen": "169.254.169.254:80", "to": "host:8775"})
    );
}

#[test]
fn metadata_that_nobody_could_ask_is_refused() {
    for (network, listen, to, words, at) in [
        ("wbe", "169.254.169.254:80", "host:80", "did you mean `web`?", "\"wbe"),
        ("web", "10.10.0.9:80", "host:80", "in the subnet 10.10.0.0/24", "\"10.10"),
        ("web", "10.20.0.1:80", "host:80", "the gateway of network `backend`", "\"10.20"),
        ("web", "0.0.0.0:80", "host:80", "stands for no address", "\"0.0"),
        ("web", "127.0.0.1:80", "host:80", "a loopback address", "\"127"),
        ("web", "169.254.169.254:80-81", "host:80", "has one port", "\"169"),
        ("web", "169.254.169.254", "host:80", "has no port", "\"169"),
        ("web", "169.254.169.254:80", "web-1:80", "write \"host:8775\"", "\"web-1"),
        ("web", "169.254.169.254:80", "host:0", "0 is not a port", "\"host"),
        ("web", "169.254.169.254:80", "host", "write \"host:8775\"", "\"host"),
    ] {
        one_mistake(&metadata(network, listen, to), &[words], at);
    }
    let v4_only = format!("{}{}", nat(""), metadata("x", "[fd00:ec2::254]:80", "host:80"));
    one_mistake(&v4_only, &["network `x` has no IPv6 subnet"], "\"[fd00");
    let twice = metadata("web", "169.254.169.254:80", "host:80").repeat(2);
    one_mistake(&twice, &["network `web` has 169.254.169.254:80 already"], "\"169");
    for network in [nat("host = false"), nat("").replace("\"nat\"", "\"private\"")] {
        let text = format!("{BASE}{network}{}", metadata("x", "169.254.169.254:80", "host:80"));
        assert_eq!(parse_text(&text).unwrap().1, []);
    }
}

#[test]
fn many_forwards_are_read_in_no_time() {
    let forwards: String =
        (1..=20_000).map(|port| forward(&format!("0.0.0.0:{port}"), "tcp", "web-1:80")).collect();
    assert_eq!(with_ports(&forwards).forwards.len(), 20_000);
}
