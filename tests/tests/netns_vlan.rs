//! Networks that are VLANs of a trunk, on two hosts: who reaches whom, and what is on the wire.
//!
//! ```text
//!     a, c, s ---- near ==== eth1, VLAN 10, 20, 100:10 ==== far ---- b, d, t
//! ```
//!
//! a and b are in `red`, c and d in `blue`, s and t in `carrier`.

use std::{collections::BTreeSet, time::Duration};

use vnet_common::DropReason;
use vnet_tests::{
    Pair, World,
    crowd::Crowd,
    eventually,
    frames::{CUSTOMER_TAG, SERVICE_TAG, Tags, parse_mac, tagged, tags_of},
    pair,
    raw::RawSocket,
    teller::{Teller, address_seen},
    traffic::{ANSWER, Echo, Outcome, SILENCE, assert_reach_each_other, at, ping, tcp, udp},
    world::shell,
};

const POLICY: &str = r#"
version = 1

[networks.red]
type = "private"
subnets = ["10.41.0.0/24", "fd00:41::/64"]
gateway = ["10.41.0.<1|2>", "fd00:41::<1|2>"]
vlan = 10
trunk = "eth1"

[networks.blue]
type = "private"
subnets = ["10.42.0.0/24", "fd00:42::/64"]
gateway = ["10.42.0.<1|2>", "fd00:42::<1|2>"]
vlan = 20
trunk = "eth1"
priority = 5

[networks.carrier]
type = "private"
subnets = ["10.43.0.0/24", "fd00:43::/64"]
gateway = ["10.43.0.<1|2>", "fd00:43::<1|2>"]
vlan = [100, 10]
trunk = "eth1"

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]

[security_groups.db]
ingress = [{ protocol = "tcp", ports = [5432], from = ["sg:web"] }]

[ports.a]
network = "red"
addresses = ["10.41.0.10", "fd00:41::a"]
security_groups = ["open"]
attach = <{ netns = "@a", create = true }|{ remote = true }>

[ports.b]
network = "red"
addresses = ["10.41.0.11", "fd00:41::b"]
security_groups = ["open"]
attach = <{ remote = true }|{ netns = "@b", create = true }>

[ports.web]
network = "red"
addresses = ["10.41.0.12", "fd00:41::c"]
security_groups = ["web"]
attach = <{ netns = "@web", create = true }|{ remote = true }>

[ports.db]
network = "red"
addresses = ["10.41.0.13", "fd00:41::d"]
security_groups = ["db"]
attach = <{ remote = true }|{ netns = "@db", create = true }>

[ports.c]
network = "blue"
addresses = ["10.42.0.10", "fd00:42::a"]
security_groups = ["open"]
attach = <{ netns = "@c", create = true }|{ remote = true }>

[ports.d]
network = "blue"
addresses = ["10.42.0.11", "fd00:42::b"]
security_groups = ["open"]
attach = <{ remote = true }|{ netns = "@d", create = true }>

[ports.s]
network = "carrier"
addresses = ["10.43.0.10", "fd00:43::a"]
security_groups = ["open"]
attach = <{ netns = "@s", create = true }|{ remote = true }>

[ports.t]
network = "carrier"
addresses = ["10.43.0.11", "fd00:43::b"]
security_groups = ["open"]
attach = <{ remote = true }|{ netns = "@t", create = true }>
"#;

/// Two who are in one network on the two hosts, their addresses, and the tags of their frames.
type Members = (&'static str, &'static str, [&'static str; 2], [&'static str; 2], &'static [(u16, u16)]);

const MEMBERS: [Members; 3] = [
    ("a", "b", ["10.41.0.10", "fd00:41::a"], ["10.41.0.11", "fd00:41::b"], &[(CUSTOMER_TAG, 10)]),
    ("c", "d", ["10.42.0.10", "fd00:42::a"], ["10.42.0.11", "fd00:42::b"], &[(CUSTOMER_TAG, 5 << 13 | 20)]),
    (
        "s",
        "t",
        ["10.43.0.10", "fd00:43::a"],
        ["10.43.0.11", "fd00:43::b"],
        &[(SERVICE_TAG, 100), (CUSTOMER_TAG, 10)],
    ),
];

#[test]
fn members_of_a_vlan_reach_each_other_across_hosts_and_nobody_else() {
    let pair = Pair::on_a_trunk(POLICY).started();
    for (one, other, ones, others, _) in MEMBERS {
        assert_reach_each_other((&pair.near.port(one), ones), (&pair.far.port(other), others));
    }
    for (one, _, _, others, _) in MEMBERS {
        for address in others {
            // In fragments.
            let _ = pair.near.exec(one, &["ping", "-c", "1", "-s", "4000", address]).ok();
        }
    }
    let _echoes = MEMBERS.map(|(_, other, ..)| Echo::serve(&pair.far.port(other), 7000));
    let strangers = MEMBERS.iter().flat_map(|(one, ..)| {
        let others = MEMBERS.iter().filter(move |(other, ..)| other != one);
        others.flat_map(move |(_, _, _, addresses, _)| addresses.map(|to| (*one, udp(&at(to, 7000)), false)))
    });
    pair.near.judge(&strangers.collect::<Vec<_>>());
}

#[test]
fn groups_hold_across_hosts() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let (near, far) = (&pair.near, &pair.far);
    let _web = [80, 81].map(|port| Echo::serve(&near.port("web"), port));
    let _db = [5432, 5433].map(|port| Echo::serve(&far.port("db"), port));
    far.judge(&[
        ("b", tcp("10.41.0.12:80"), true),
        ("b", tcp("[fd00:41::c]:80"), true),
        ("b", tcp("10.41.0.12:81"), false),
        ("b", udp("[fd00:41::c]:80"), false),
        ("b", ping("10.41.0.12"), false),
    ]);
    // The other host knows who is in the group, for its policy names the port.
    near.judge(&[
        ("web", tcp("10.41.0.13:5432"), true),
        ("web", tcp("[fd00:41::d]:5432"), true),
        ("web", tcp("10.41.0.13:5433"), false),
        ("a", tcp("10.41.0.13:5432"), false),
        ("a", tcp("[fd00:41::d]:5432"), false),
    ]);
}

/// The tags of the frames that `wire` has seen.
fn tags_seen(wire: &RawSocket) -> BTreeSet<Tags> {
    wire.pending().map(|frame| tags_of(&frame)).collect()
}

#[test]
fn frames_have_the_tags_of_their_network_on_the_trunk_and_none_at_the_port() {
    let pair = Pair::on_a_trunk(POLICY);
    let trunk = RawSocket::open(pair.far.host(), "eth1");
    trunk.make_room(1 << 22);
    // From the very beginning, so what hosts announce and ask is among it.
    let pair = pair.started();
    // A priority for the host's own queues.
    let _ = pair.near.host_exec(&["ping", "-c", "1", "-Q", "0x10", "10.41.0.11"]).ok();
    let mut known = tags_seen(&trunk);
    for (one, other, ones, others, tags) in MEMBERS {
        let (near, far) = (pair.near.port(one), pair.far.port(other));
        let ends = [&near, &far].map(|port| RawSocket::open(port, "eth0"));
        let macs = [&near, &far].map(|port| parse_mac(&pair.near.mac(port, "eth0")));
        assert_reach_each_other((&near, ones), (&far, others));
        let (of_these, rest): (Vec<_>, Vec<_>) =
            trunk.pending().partition(|frame| macs.iter().any(|mac| frame[6..12] == mac.0));
        assert!(of_these.len() > 20, "{} frames", of_these.len());
        let seen: BTreeSet<_> = of_these.iter().map(|frame| tags_of(frame)).collect();
        assert_eq!(seen, BTreeSet::from([tags.to_vec()]), "{one} and {other}");
        for end in ends {
            assert_eq!(tags_seen(&end), BTreeSet::from([vec![]]), "{one} and {other}");
        }
        known.extend(rest.iter().map(|frame| tags_of(frame)));
    }
    let expected: BTreeSet<_> = MEMBERS.iter().map(|(.., tags)| tags.to_vec()).collect();
    assert!(known.is_subset(&expected), "{known:x?}");
}

#[test]
fn hosts_reach_workloads_and_gateways_of_the_other_host() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let (near, far) = (&pair.near, &pair.far);
    let (a, b) = (near.port("a"), far.port("b"));
    let (near_gateway, far_gateway) = (["10.41.0.1", "fd00:41::1"], ["10.41.0.2", "fd00:41::2"]);
    assert_reach_each_other((near.host(), near_gateway), (&b, ["10.41.0.11", "fd00:41::b"]));
    assert_reach_each_other((far.host(), far_gateway), (&a, ["10.41.0.10", "fd00:41::a"]));
    assert_reach_each_other((near.host(), near_gateway), (far.host(), far_gateway));
    assert_reach_each_other((&a, ["10.41.0.10", "fd00:41::a"]), (far.host(), far_gateway));
    let _teller = Teller::serve(&b, 80);
    assert_eq!(address_seen(&a, tcp("10.41.0.11:80")), "10.41.0.10");
    assert_eq!(address_seen(&a, udp("[fd00:41::b]:80")), "fd00:41::a");
    assert_eq!(address_seen(near.host(), tcp("10.41.0.11:80")), "10.41.0.1");
}

#[test]
fn what_is_of_no_network_is_the_hosts_own() {
    /// For experiments (IEEE 802 section 9.2.3).
    const EXPERIMENT: u16 = 0x88b5;
    let pair = Pair::on_a_trunk(POLICY).started();
    let stack = RawSocket::in_place_of_stack(pair.near.host(), "eth1", EXPERIMENT);
    let trunk = RawSocket::open(pair.far.host(), "eth1");
    let plain = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 0x77], &EXPERIMENT.to_be_bytes(), &[0; 46]].concat();
    for (number, tag) in [(CUSTOMER_TAG, 0), (CUSTOMER_TAG, 99), (SERVICE_TAG, 10)].into_iter().enumerate() {
        let numbered = [&plain[..], &[number as u8]].concat();
        trunk.send(&tagged(numbered.clone(), &[tag]));
        // The kernel has taken the tag off, which it keeps for VLAN devices.
        stack.receive("frame of no network", |frame| *frame == numbered);
    }
    pair.near.assert_counts(DropReason::EtherType, || trunk.send(&tagged(plain, &[(CUSTOMER_TAG, 10)])));
    assert_eq!(stack.pending().count(), 0);
    for (world, address) in [(&pair.near, "198.51.100.1/24"), (&pair.far, "198.51.100.2/24")] {
        shell(world.host(), &format!("ip addr add {address} dev eth1"));
    }
    assert_eq!(ping("198.51.100.2").run(pair.near.host(), ANSWER), Outcome::Answered);
}

#[test]
fn a_trunk_that_goes_and_comes_back_is_a_trunk_again() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let (_, _, ones, others, _) = MEMBERS[0];
    shell(pair.near.host(), "ip link del eth1");
    for world in [&pair.near, &pair.far] {
        world.event(0, "problem", &["the rest of the segment by eth1 is gone", "blue, carrier, red"]);
    }
    pair.lay_trunk();
    eventually("the VLAN on the new trunk", || {
        (ping(others[0]).run(&pair.near.port("a"), SILENCE) == Outcome::Answered).then_some(())
    });
    assert_reach_each_other((&pair.near.port("a"), ones), (&pair.far.port("b"), others));
}

#[test]
fn killed_daemons_lose_no_connection_across_hosts() {
    let mut pair = Pair::on_a_trunk(POLICY).started();
    let (a, b) = (pair.near.port("a"), pair.far.port("b"));
    let addresses = ["10.41.0.11:7000", "[fd00:41::b]:7001"].map(|text| text.parse().expect("an address"));
    let crowds = addresses.map(|address| Crowd::open(&a, &b, address, 50));
    let to_host = Crowd::open(&b, pair.near.host(), "10.41.0.1:7002".parse().expect("an address"), 20);
    pair.near.kill();
    pair.far.kill();
    let (_, _, ones, others, _) = MEMBERS[2];
    assert_reach_each_other((&pair.near.port("s"), ones), (&pair.far.port("t"), others));
    pair::start([&mut pair.near, &mut pair.far]);
    for crowd in crowds.into_iter().chain([to_host]) {
        let report = crowd.finish();
        assert!(report.lost.is_empty(), "{}", report.lost.join("\n"));
        assert!(report.longest_gap < Duration::from_secs(2), "{:?}", report.longest_gap);
    }
}

#[test]
fn teardown_leaves_nothing_of_vlans_behind() {
    let mut pair = Pair::on_a_trunk(POLICY);
    let groups = |world: &World| world.host_exec(&["ip", "maddress", "show", "dev", "eth1"]).ok().stdout;
    let before = [&pair.near, &pair.far].map(|world| (world.snapshot(), groups(world)));
    pair = pair.started();
    for (one, other, ones, others, _) in MEMBERS {
        assert_reach_each_other((&pair.near.port(one), ones), (&pair.far.port(other), others));
    }
    let objects = [&pair.near, &pair.far].map(World::kernel_objects);
    assert!(pair.near.stop().success());
    pair.far.kill();
    for ((world, (snapshot, own)), objects) in [&pair.near, &pair.far].into_iter().zip(before).zip(objects) {
        let _ = world.teardown().ok();
        snapshot.assert_same(&world.snapshot());
        assert_eq!(groups(world), own);
        objects.assert_gone();
    }
}
