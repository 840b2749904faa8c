//! What the neighbours on the uplink's wire are told of addresses that no device of the host has: elastic IPs and
//! addresses of `snat`. They are answered for, announced twice, and the uplink takes the multicast by which neighbours
//! ask for them.
//!
//! ```text
//!     web-1, leaving with 198.51.100.9 and 2001:db8:100::9
//!       `------- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//! ```

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use vnet_tests::{
    World, eventually,
    raw::RawSocket,
    teller::{Teller, address_seen},
    traffic::{Outcome, SILENCE, at, ping, tcp, udp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
snat = ["198.51.100.9", "2001:db8:100::9"]

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = { netns = "@web-1", create = true }
"#;

/// What the network leaves with, and the stranger.
const SNAT: [(&str, &str); 2] =
    [("198.51.100.9", "203.0.113.5:80"), ("2001:db8:100::9", "[2001:db8:5::5]:80")];
const ELASTIC: [&str; 2] = ["198.51.100.20", "2001:db8:100::20"];
/// RFC 5227 section 1.1: `ANNOUNCE_INTERVAL`.
const INTERVAL: Duration = Duration::from_secs(2);

/// The multicast MACs that somebody has told the uplink to take.
fn groups(world: &World) -> Vec<String> {
    let shown = world.host_exec(&["ip", "maddress", "show", "dev", "eth0"]).ok().stdout;
    let told = shown.lines().filter(|line| line.contains("static"));
    told.filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect()
}

/// Where the router knows `address` to be.
fn learnt(world: &World, address: &str) -> String {
    world.router().exec(&["ip", "neigh", "show", address, "dev", "h0"]).ok().stdout
}

#[test]
fn an_address_of_snat_is_answered_for_on_the_wire() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.outside(), 80);
    let mac = world.mac(world.host(), "eth0");
    for (address, to) in SNAT {
        // The answers come back because the router learns where the address is.
        assert_eq!(address_seen(&world.port("web-1"), tcp(to)), address);
        assert_eq!(address_seen(&world.port("web-1"), udp(to)), address);
        assert!(learnt(&world, address).contains(&mac), "{}", learnt(&world, address));
    }
    let addresses = world.host_exec(&["ip", "-oneline", "address"]).ok().stdout;
    assert!(SNAT.iter().all(|(address, _)| !addresses.contains(&format!("{address}/"))), "{addresses}");
}

#[test]
fn nobody_is_reached_by_an_address_of_snat() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let at_workload = RawSocket::open(&world.port("web-1"), "eth0");
    for (address, _) in SNAT {
        let to = at(address, 80);
        for probe in [tcp(&to), udp(&to), ping(address)] {
            assert_ne!(probe.run(&world.outside(), SILENCE), Outcome::Answered, "{probe:?}");
        }
    }
    let asked = at_workload.pending().filter(|frame| {
        frame.windows(4).any(|bytes| bytes == [203, 0, 113, 5])
            || frame.windows(4).any(|bytes| bytes == [0x20, 0x01, 0x0d, 0xb8])
    });
    assert_eq!(asked.count(), 0, "something came through");
}

#[test]
fn an_address_of_snat_is_no_longer_answered_for_when_it_goes() {
    let world = World::running_with_outside(POLICY);
    for (address, _) in SNAT {
        // Nobody answers the ping itself, but the router learns whom to send it to.
        let _ = ping(address).run(&world.router(), SILENCE);
        assert!(learnt(&world, address).contains("lladdr"), "{}", learnt(&world, address));
    }
    world.write_policy(&POLICY.replace("snat = ", "# snat = "));
    let _ = world.ctl(&["apply"]).ok();
    for (address, _) in SNAT {
        let _ = world.router().exec(&["ip", "neigh", "flush", "to", address, "dev", "h0"]).ok();
        let _ = ping(address).run(&world.router(), SILENCE);
        assert!(!learnt(&world, address).contains("lladdr"), "{}", learnt(&world, address));
    }
}

/// Whether `frame` announces `address` to everybody, unasked: a gratuitous ARP (RFC 5227 section 3) or
/// an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
fn announces(frame: &[u8], address: IpAddr) -> bool {
    let field = |range: std::ops::Range<usize>| frame.get(range).unwrap_or_default();
    match address {
        IpAddr::V4(v4) => {
            field(12..14) == [8, 6] && field(28..32) == v4.octets() && field(38..42) == v4.octets()
        }
        IpAddr::V6(v6) => {
            let advertisement = field(12..14) == [0x86, 0xdd] && field(54..55) == [136];
            advertisement && field(38..39) == [0xff] && field(62..78) == v6.octets()
        }
    }
}

#[test]
fn what_is_answered_for_is_announced_twice() {
    let world = World::running_with_outside(&POLICY.replace("snat = ", "# snat = "));
    let wire = RawSocket::open(&world.router(), "h0");
    let elastic = ELASTIC.map(|address| format!("\"{address}\" = {{ port = \"web-1\" }}\n")).concat();
    world.write_policy(&format!("{POLICY}\n[elastic_ips]\n{elastic}"));
    let _ = world.ctl(&["apply"]).ok();
    let mut missing: Vec<IpAddr> = SNAT
        .iter()
        .map(|(address, _)| *address)
        .chain(ELASTIC)
        .map(|address| address.parse().unwrap())
        .collect();
    let all = missing.clone();
    for _ in 0..2 {
        let begin = Instant::now();
        while !missing.is_empty() {
            let frame = wire.receive("announcement", |frame| all.iter().any(|it| announces(frame, *it)));
            missing.retain(|address| !announces(&frame, *address));
        }
        // The first ones are there already.
        assert!(begin.elapsed() < INTERVAL + Duration::from_secs(1), "{:?}", begin.elapsed());
        missing.clone_from(&all);
    }
}

#[test]
fn what_has_moved_on_is_not_announced_again() {
    let world = World::running_with_outside(POLICY);
    let wire = RawSocket::open(&world.router(), "h0");
    for elastic in ELASTIC {
        let _ = world.ctl(&["eip", "associate", elastic, "web-1"]).ok();
    }
    for elastic in ELASTIC {
        let _ = world.ctl(&["eip", "disassociate", elastic]).ok();
    }
    let all = ELASTIC.map(|address| address.parse().unwrap());
    let count = || wire.pending().filter(|frame| all.iter().any(|it| announces(frame, *it))).count();
    assert_eq!(count(), 2, "once each");
    let end = Instant::now() + INTERVAL + Duration::from_secs(1);
    while wire.wait(end.saturating_duration_since(Instant::now())) {
        assert_eq!(count(), 0, "announced again though it is gone");
    }
}

#[test]
fn the_uplink_takes_the_multicast_that_asks_for_what_is_answered_for() {
    let mut world = World::running_with_outside(POLICY);
    assert_eq!(groups(&world), ["33:33:ff:00:00:09"]);
    let _ = world.ctl(&["eip", "associate", ELASTIC[1], "web-1"]).ok();
    assert_eq!(groups(&world).len(), 2);
    assert!(groups(&world).contains(&"33:33:ff:00:00:20".to_owned()), "{:?}", groups(&world));

    world.kill();
    assert_eq!(groups(&world).len(), 2, "nothing ends with the daemon");
    world.start(&[]);
    let _ = world.ctl(&["eip", "disassociate", ELASTIC[1]]).ok();
    assert_eq!(groups(&world), ["33:33:ff:00:00:09"], "what is adopted can be left");

    let _ = world.host_exec(&["ip", "maddress", "del", "33:33:ff:00:00:09", "dev", "eth0"]).ok();
    let _ = world.ctl(&["apply"]).ok();
    eventually("the group to be joined again", || (groups(&world).len() == 1).then_some(()));
    let _ = world.teardown().ok();
    assert!(groups(&world).is_empty(), "{:?}", groups(&world));
}

#[test]
fn a_group_of_somebody_else_stays() {
    let mut world = World::with_outside(POLICY);
    let _ = world.host_exec(&["ip", "maddress", "add", "33:33:ff:00:00:09", "dev", "eth0"]).ok();
    world.start(&[]);
    assert_eq!(groups(&world).len(), 1);
    let _ = world.teardown().ok();
    assert_eq!(groups(&world), ["33:33:ff:00:00:09"]);
}

#[test]
fn an_address_of_snat_that_the_host_gets_is_the_hosts() {
    let world = World::running_with_outside(POLICY);
    let _ = world.host_exec(&["ip", "address", "add", "198.51.100.9/24", "dev", "eth0"]).ok();
    let _teller = Teller::serve(&world.outside(), 80);
    eventually("the host to be let answer", || {
        (ping("198.51.100.9").run(&world.router(), SILENCE) == Outcome::Answered).then_some(())
    });
    assert_eq!(address_seen(&world.port("web-1"), tcp(SNAT[0].1)), "198.51.100.9");
}
