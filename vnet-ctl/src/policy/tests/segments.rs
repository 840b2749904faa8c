//! Networks beyond this host: VLANs, bridged and routed networks, overlays.

use super::{BASE, mistakes, one_mistake, parse_text, valid};
use crate::policy::{NetworkKind, Policy, Segment};

/// A network `x` of this type with `lines` and a subnet.
fn network(kind: &str, lines: &str) -> String {
    named("x", kind, "10.40.0.0/24", lines)
}

fn named(name: &str, kind: &str, subnet: &str, lines: &str) -> String {
    format!("[networks.{name}]\ntype = \"{kind}\"\nsubnets = [\"{subnet}\"]\n{lines}\n")
}

/// A network of the LAN of `uplink`, without subnets.
fn bridged(name: &str, lines: &str) -> String {
    format!("[networks.{name}]\ntype = \"bridged\"\n{lines}\n")
}

fn with(more: &str) -> Policy {
    valid(&format!("{BASE}{more}"))
}

fn lan(trunk: &str, vlan: &[u16], priority: Option<u8>) -> Option<Segment> {
    Some(Segment::Lan { trunk: trunk.to_owned(), vlan: vlan.to_vec(), priority })
}

#[test]
fn a_network_is_a_vlan_of_a_trunk() {
    for kind in ["nat", "private", "routed"] {
        let policy = with(&network(kind, "vlan = 10\ntrunk = \"eth1\"\npriority = 5"));
        assert_eq!(policy.networks["x"].segment, lan("eth1", &[10], Some(5)), "{kind}");
        assert_eq!((policy.networks["x"].mtu, policy.networks["x"].kind.to_string().as_str()), (1500, kind));
    }
    let policy = with(&network("private", "vlan = [100, 10]\ntrunk = \"eth1\""));
    assert_eq!(policy.networks["x"].segment, lan("eth1", &[100, 10], None));
    assert!(policy.uplinks.is_empty());
    // The way out of one network may be the trunk of another, or of the same.
    let policy = with(&network("nat", "uplink = \"eth0\"\nvlan = 4094\ntrunk = \"eth0\""));
    assert_eq!(policy.networks["x"].segment, lan("eth0", &[4094], None));
    assert_eq!(with("").networks["web"].segment, None);
}

#[test]
fn a_bridged_network_is_the_lan_of_its_uplink() {
    let policy = with(&bridged("lan", "uplink = \"eth0\""));
    let lan_network = &policy.networks["lan"];
    assert_eq!(
        (lan_network.kind, lan_network.segment.clone()),
        (NetworkKind::Bridged, lan("eth0", &[], None))
    );
    assert!(lan_network.subnets.is_empty() && lan_network.uplink.as_deref() == Some("eth0"));
    let lines = "uplink = \"eth0\"\nvlan = [100, 20]\npriority = 0\ngateway = [\"10.40.0.254\"]\nmtu = 9000\nhost = false";
    let policy = with(&network("bridged", lines));
    let tagged = &policy.networks["x"];
    assert_eq!(tagged.segment, lan("eth0", &[100, 20], Some(0)));
    assert_eq!((tagged.subnets[0].gateway.to_string(), tagged.mtu), ("10.40.0.254".to_owned(), 9000));
    // Tags tell several networks of one device apart, and from its own LAN.
    let several = [
        bridged("a", "uplink = \"eth0\""),
        bridged("b", "uplink = \"eth0\"\nvlan = 10"),
        bridged("c", "uplink = \"eth0\"\nvlan = [20, 10]"),
        bridged("d", "uplink = \"eth0\"\nvlan = [20, 11]"),
        bridged("e", "uplink = \"eth1\"\nvlan = 20"),
        network("private", "trunk = \"eth0\"\nvlan = 21"),
    ];
    assert_eq!(with(&several.concat()).networks.len(), 8);
}

#[test]
fn a_routed_network_leaves_with_its_own_addresses() {
    let policy = with(&network("routed", "uplink = \"eth0\"\nclamp_mss = true\nconnect = [\"web\"]"));
    let network_x = &policy.networks["x"];
    assert_eq!((network_x.kind, network_x.uplink.as_deref()), (NetworkKind::Routed, Some("eth0")));
    assert!(network_x.clamp_mss && network_x.segment.is_none());
    assert_eq!(with(&network("routed", "")).networks["x"].uplink, None);
    for key in
        ["snat = \"198.51.100.9\"", "snat_ports = 80", "no_snat = []", "mapping = \"endpoint-dependent\""]
    {
        let name = key.split(' ').next().unwrap();
        let words = [&format!("`{name}` does not go with a routed network")[..], "leave as they are"];
        one_mistake(&network("routed", key), &words, name);
    }
}

#[test]
fn an_overlay_has_a_number_and_peers() {
    let policy =
        with(&network("private", "vni = 5001\npeers = [\"192.0.2.12\", \"192.0.2.13\"]\nuplink = \"eth0\""));
    let peers = ["192.0.2.12", "192.0.2.13"].map(|addr| addr.parse().unwrap()).to_vec();
    let overlay = Segment::Overlay { vni: 5001, peers, uplink: Some("eth0".to_owned()) };
    assert_eq!((policy.networks["x"].segment.as_ref(), policy.networks["x"].mtu), (Some(&overlay), 1450));
    let lines = "vni = 16777215\npeers = [\"2001:db8::12\"]";
    let policy = with(&network("nat", lines));
    assert_eq!(policy.networks["x"].mtu, 1430);
    assert!(matches!(&policy.networks["x"].segment, Some(Segment::Overlay { uplink: None, .. })));
    let policy = with(&network("routed", &format!("{lines}\nmtu = 8950")));
    assert_eq!(policy.networks["x"].mtu, 8950);
}

#[test]
fn a_segment_that_makes_no_sense_is_refused() {
    let peers = "peers = [\"192.0.2.12\"]";
    for (lines, words, at) in [
        ("vlan = 0\ntrunk = \"eth1\"", "there is no VLAN 0; choose from 1 to 4094", "0"),
        ("vlan = 4095\ntrunk = \"eth1\"", "choose from 1 to 4094", "4095"),
        ("vlan = -1\ntrunk = \"eth1\"", "there is no VLAN -1", "-1"),
        ("vlan = 70000\ntrunk = \"eth1\"", "there is no VLAN 70000", "70000"),
        ("vlan = \"10\"\ntrunk = \"eth1\"", "write 10 without quotes", "\"10"),
        ("vlan = [100, 0]\ntrunk = \"eth1\"", "there is no VLAN 0", "0]"),
        ("vlan = [10]\ntrunk = \"eth1\"", "the outer and the inner one, not 1; write vlan = 10", "[10]"),
        ("vlan = []\ntrunk = \"eth1\"", "not 0", "[]"),
        ("vlan = [1, 2, 3]\ntrunk = \"eth1\"", "not 3", "[1"),
        ("vlan = 10", "network `x` has a `vlan`, and no `trunk`; write trunk = \"eth1\"", "vlan"),
        ("trunk = \"eth1\"", "network `x` has a `trunk`, and no `vlan`; write vlan = 10", "trunk"),
        ("vlan = 10\ntrunk = \"lo\"", "the loopback interface", "\"lo"),
        ("vlan = 10\ntrunk = \"a b\"", "blanks are not allowed", "\"a b"),
        (
            "vlan = 10\ntrunk = \"vnet-web\"",
            "`vnet-web` is the bridge of a network, not a trunk",
            "\"vnet-web",
        ),
        ("vlan = 10\ntrunk = \"vnet-vxlan\"", "vnet's own device for overlays", "\"vnet-vxlan"),
        (
            "vlan = 10\ntrunk = \"eth1\"\npriority = 8",
            "a priority of 8 is out of range; choose from 0 to 7",
            "8",
        ),
        ("vlan = 10\ntrunk = \"eth1\"\npriority = -1", "a priority of -1", "-1"),
        ("vni = 0\npeers = [\"192.0.2.12\"]", "there is no VNI 0; choose from 1 to 16777215", "0"),
        ("vni = 16777216\npeers = [\"192.0.2.12\"]", "there is no VNI 16777216", "16777216"),
        ("vni = 7", "has a `vni`, and no `peers`; write peers = [\"192.0.2.12\"]", "vni"),
        (peers, "has `peers`, and no `vni`; write vni = 5001", "peers"),
        ("vni = 7\npeers = []", "network `x` has no peer; name the other hosts", "[]"),
        ("vni = 7\npeers = \"192.0.2.12\"", "write [\"192.0.2.12\"]", "\"192"),
        ("vni = 7\npeers = [\"host-2\"]", "`host-2` is not an address", "\"host-2"),
        (
            "vni = 7\npeers = [\"239.1.1.1\"]",
            "239.1.1.1 cannot be a peer: it is a multicast address",
            "\"239",
        ),
        ("vni = 7\npeers = [\"127.0.0.1\"]", "a loopback address", "\"127"),
        ("vni = 7\npeers = [\"fe80::1\"]", "link-local", "\"fe80"),
        ("vni = 7\npeers = [\"192.0.2.12\", \"192.0.2.12\"]", "192.0.2.12 is given twice", "\"192.0.2.12\"]"),
        (
            "vni = 7\npeers = [\"192.0.2.12\", \"2001:db8::1\"]",
            "the peer 2001:db8::1 has an IPv6 address, and 192.0.2.12 an IPv4 one; an overlay runs over one",
            "\"2001",
        ),
        ("vni = 7\npeers = [\"10.10.0.9\"]", "in the subnet 10.10.0.0/24 of network `web`", "\"10.10"),
        ("vni = 7\npeers = [\"192.0.2.12\"]\nvlan = 10", "`vni` does not go with `vlan`; network `x`", "vni"),
        ("trunk = \"eth1\"\npeers = [\"192.0.2.12\"]", "`peers` does not go with `trunk`", "peers"),
    ] {
        one_mistake(&network("private", lines), &[words], at);
    }
    let lonely = mistakes(&network("private", "priority = 3"));
    assert!(lonely[0].0.contains("has a `priority`, and no `vlan`"), "{lonely:?}");
    assert_eq!((lonely.len(), &lonely[0].1[..8]), (1, "priority"));
    one_mistake(
        &named("vxlan", "nat", "10.40.0.0/24", ""),
        &["cannot be called `vxlan`", "vnet-vxlan"],
        "vxlan",
    );
    one_mistake(&network("natt", "vlan = 10"), &["did you mean \"nat\"?"], "\"natt");
    one_mistake(&network("overlay", ""), &["\"bridged\" (the LAN of its uplink)"], "\"overlay");
}

#[test]
fn a_private_network_has_an_uplink_to_its_peers_alone() {
    let words = ["`uplink` does not go with a private network"];
    one_mistake(&network("private", "uplink = \"eth0\""), &words, "uplink");
    one_mistake(&network("private", "uplink = \"eth0\"\nvlan = 10\ntrunk = \"eth0\""), &words, "uplink");
}

#[test]
fn what_does_not_go_with_a_bridged_network_is_refused() {
    for (line, words) in [
        ("connect = [\"web\"]", "neither routes nor translates"),
        ("snat = \"198.51.100.9\"", "neither routes nor translates"),
        ("snat_ports = 80", "neither routes nor translates"),
        ("no_snat = []", "neither routes nor translates"),
        ("mapping = \"endpoint-dependent\"", "neither routes nor translates"),
        ("clamp_mss = true", "neither routes nor translates"),
        ("trunk = \"eth1\"", "`uplink` names the device"),
        ("vni = 7", "write type = \"private\""),
        ("peers = [\"192.0.2.12\"]", "write type = \"private\""),
    ] {
        let key = line.split(' ').next().unwrap();
        let text = bridged("lan", &format!("uplink = \"eth0\"\n{line}"));
        one_mistake(&text, &[&format!("`{key}` does not go with a bridged network"), words], key);
    }
    one_mistake(&bridged("lan", ""), &["network `lan` has no `uplink`", "write uplink = \"eth0\""], "lan]");
    one_mistake(&bridged("lan", "uplink = \"lo\""), &["the loopback interface"], "\"lo");
    one_mistake(&bridged("lan", "uplink = \"eth0\"\nvlan = 4095"), &["no VLAN 4095"], "4095");
    let priority = bridged("lan", "uplink = \"eth0\"\npriority = 1");
    one_mistake(&priority, &["has a `priority`, and no `vlan`"], "priority");
    let gateway = bridged("lan", "uplink = \"eth0\"\ngateway = [\"10.40.0.1\"]");
    one_mistake(&gateway, &["has a `gateway`, and no `subnets`", "add the subnets"], "gateway");
    let connected =
        format!("{}{}", bridged("lan", "uplink = \"eth0\""), network("nat", "connect = [\"lan\"]"));
    one_mistake(&connected, &["network `x` cannot be connected with `lan`, which is bridged"], "\"lan\"]");
    let metadata = format!(
        "{}[[metadata]]\nnetwork = \"lan\"\nlisten = \"169.254.169.254:80\"\nto = \"host:80\"\n",
        bridged("lan", "uplink = \"eth0\"")
    );
    one_mistake(&metadata, &["network `lan` is bridged, so the host is no gateway in it"], "\"lan");
}

#[test]
fn no_two_networks_take_the_same_frames() {
    let red = |lines: &str| named("red", "private", "10.41.0.0/24", lines);
    let blue = |lines: &str| named("blue", "nat", "10.42.0.0/24", lines);
    let lan = |lines: &str| bridged("lan", lines);
    for (first, second, words, at) in [
        (
            red("vlan = 10\ntrunk = \"eth1\""),
            blue("vlan = 10\ntrunk = \"eth1\""),
            "VLAN 10 on `eth1` is that of network `red` already; give each network its own",
            "10",
        ),
        (
            red("vlan = [100, 10]\ntrunk = \"eth1\""),
            blue("vlan = [100, 10]\ntrunk = \"eth1\""),
            "VLAN 10 in 100 on `eth1` is that of network `red` already",
            "[100, 10]",
        ),
        (
            red("vlan = [100, 10]\ntrunk = \"eth1\""),
            blue("vlan = 100\ntrunk = \"eth1\""),
            "VLAN 100 on `eth1` is the outer tag of network `red` already; choose a VLAN",
            "100",
        ),
        (
            red("vlan = 100\ntrunk = \"eth1\""),
            blue("vlan = [100, 10]\ntrunk = \"eth1\""),
            "the outer tag 100 on `eth1` is the VLAN of network `red` already; choose an outer tag",
            "[100, 10]",
        ),
        (
            red("vlan = 10\ntrunk = \"eth1\""),
            lan("uplink = \"eth1\"\nvlan = 10"),
            "VLAN 10 on `eth1` is that of network `red` already",
            "10",
        ),
        (
            bridged("red", "uplink = \"eth1\""),
            lan("uplink = \"eth1\""),
            "network `red` is bridged to `eth1` without a tag already; give one of them a `vlan`",
            "\"eth1",
        ),
        (
            red("vni = 7\npeers = [\"192.0.2.12\"]"),
            blue("peers = [\"192.0.2.13\"]\nvni = 7"),
            "VNI 7 is that of network `red` already; give each network its own",
            "7",
        ),
    ] {
        one_mistake(&format!("{first}{second}"), &[words], at);
        let shown = parse_text(&format!("{BASE}{first}{second}")).unwrap_err().to_string();
        assert!(shown.contains("network `red` has it"), "{shown}");
    }
    let many: String = (1..=4094)
        .map(|tag| format!("networks.n{tag} = {{ type = \"bridged\", uplink = \"eth1\", vlan = {tag} }}\n"))
        .collect();
    assert_eq!(valid(&format!("version = 1\n{many}")).networks.len(), 4094);
}

#[test]
fn a_lan_without_tags_is_no_other_networks_way_out() {
    for kind in ["nat", "routed"] {
        let text = format!("{}{}", network(kind, "uplink = \"eth0\""), bridged("lan", "uplink = \"eth0\""));
        let words = [
            "network `lan` is bridged to `eth0`, by which network `x` leaves",
            "give `lan` a `vlan` or another uplink, or make `x` bridged as well, with a `vlan` of `eth0`",
        ];
        one_mistake(&text, &words, "\"eth0");
        let shown = parse_text(&format!("{BASE}{text}")).unwrap_err().to_string();
        assert!(shown.contains("the uplink of network `x`"), "{shown}");
        with(&text.replacen("type = \"bridged\"", "type = \"bridged\"\nvlan = 10", 1));
    }
    // The peers of an overlay may be in that LAN.
    let overlay = network("private", "vni = 7\npeers = [\"192.0.2.12\"]\nuplink = \"eth0\"");
    with(&format!("{overlay}{}", bridged("lan", "uplink = \"eth0\"\nsubnets = [\"192.0.2.0/24\"]")));
}

#[test]
fn what_is_in_the_lan_of_a_bridged_network_is_outside() {
    let policy = with(&format!(
        "{}{}[security_groups.lan]\ningress = [{{ protocol = \"tcp\", from = [\"192.0.2.0/24\"] }}]\n\
         [ports.a]\nnetwork = \"x\"\nsecurity_groups = [\"lan\"]\nattach = {{ netns = \"a\" }}\n\
         [elastic_ips]\n\"192.0.2.20\" = {{ port = \"a\" }}\n\
         [[forwards]]\nlisten = \"192.0.2.9:80\"\nprotocol = \"tcp\"\nto = \"a\"\n",
        network("nat", "uplink = \"eth1\"\nsnat = \"192.0.2.19\""),
        bridged("lan", "uplink = \"eth0\"\nsubnets = [\"192.0.2.0/24\"]")
    ));
    assert_eq!((policy.forwards.len(), policy.elastic_ips.len()), (1, 1));
    for (network, words) in [
        (bridged("y", "uplink = \"eth0\""), "is in the bridged network `y`; the LAN reaches it"),
        (named("y", "routed", "10.41.0.0/24", ""), "is in the routed network `y`; it is reached at its own"),
    ] {
        let text = format!(
            "{network}[ports.a]\nnetwork = \"y\"\nattach = {{ netns = \"a\" }}\n\
             [elastic_ips]\n\"198.51.100.20\" = {{ port = \"a\" }}\n"
        );
        one_mistake(&text, &[words], "\"a\"");
    }
}

#[test]
fn the_example_of_segments_is_valid() {
    let policy = valid(include_str!("../../../../examples/vlan.toml"));
    let segments = policy.networks.values().filter(|network| network.segment.is_some());
    assert!(segments.count() >= 4);
}
