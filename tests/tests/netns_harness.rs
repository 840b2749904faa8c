//! The harness itself, on plain veths without vnet: what it calls an answer, a refusal and a
//! silence is one, and what it compares does change.

use std::net::Ipv4Addr;

use vnet_tests::{
    Namespace, World,
    frames::{Eth, MacAddr, udp4},
    raw::RawSocket,
    tap::Tap,
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, ping, tcp, udp},
};

/// Two namespaces on one wire: 10.99.0.1 and 10.99.0.2, fd00:99::1 and fd00:99::2.
fn wire(world: &World) -> [Namespace; 2] {
    for name in ["a", "b"] {
        world.create_namespace(name);
    }
    let (a, b) = (world.port("a"), world.port("b"));
    let other = world.netns_name("b");
    let _ = a.exec(&["ip", "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", &other]).ok();
    for (end, last) in [(&a, 1), (&b, 2)] {
        let _ = end.exec(&["ip", "addr", "add", &format!("10.99.0.{last}/24"), "dev", "eth0"]).ok();
        let _ = end.exec(&["ip", "addr", "add", &format!("fd00:99::{last}/64"), "dev", "eth0", "nodad"]).ok();
        let _ = end.exec(&["ip", "link", "set", "eth0", "up"]).ok();
    }
    [a, b]
}

#[test]
fn outcomes_are_told_apart() {
    let world = World::prepare("version = 1");
    let [a, b] = wire(&world);
    let server = Echo::serve(&b, 80);
    let probes = [
        tcp("10.99.0.2:80"),
        udp("10.99.0.2:80"),
        ping("10.99.0.2"),
        tcp("[fd00:99::2]:80"),
        udp("[fd00:99::2]:80"),
        ping("fd00:99::2"),
    ];
    for probe in probes {
        assert_eq!(probe.run(&a, ANSWER), Outcome::Answered, "{probe:?}");
    }
    for probe in [tcp("10.99.0.2:81"), udp("[fd00:99::2]:81"), ping("10.98.0.1")] {
        let outcome = probe.run(&a, ANSWER);
        assert!(matches!(outcome, Outcome::Refused | Outcome::Silence), "{probe:?}");
    }
    assert_eq!(tcp("10.99.0.2:81").run(&a, ANSWER), Outcome::Refused);
    assert_eq!(udp("10.99.0.2:81").run(&a, ANSWER), Outcome::Refused);
    let mut connection = Connection::from(&a, "10.99.0.2:80");
    for iptables in ["iptables", "ip6tables"] {
        let _ = b.exec(&[iptables, "-A", "INPUT", "-p", "all", "-j", "DROP"]).ok();
    }
    world.judge(&probes.map(|probe| ("a", probe, false)));
    assert_eq!(connection.outcome(SILENCE), Outcome::Silence);
    drop(server);
    let _again = Echo::serve(&b, 82);
}

#[test]
fn frames_arrive_as_they_were_sent() {
    let world = World::prepare("version = 1");
    let [a, b] = wire(&world);
    let (sender, receiver) = (RawSocket::open(&a, "eth0"), RawSocket::open(&b, "eth0"));
    let eth = Eth::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr::BROADCAST);
    let frame =
        udp4(eth, (Ipv4Addr::new(192, 0, 2, 1), 1), (Ipv4Addr::new(192, 0, 2, 2), 2), b"exactly this");
    sender.send(&frame);
    assert_eq!(receiver.receive("frame", |seen| seen.ends_with(b"exactly this")), frame);
    assert!(!receiver.pending().any(|seen| seen == frame), "once");
}

#[test]
fn a_tap_carries_frames_both_ways() {
    let world = World::prepare("version = 1");
    let tap = Tap::create(world.host(), "tap0");
    let socket = RawSocket::open(world.host(), "tap0");
    let eth = Eth::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr::BROADCAST);
    let frame = |text: &[u8]| udp4(eth, (Ipv4Addr::LOCALHOST, 1), (Ipv4Addr::LOCALHOST, 2), text);
    tap.send(&frame(b"from the machine"));
    socket.receive("frame from the machine", |seen| seen.ends_with(b"from the machine"));
    socket.send(&frame(b"to the machine"));
    tap.receive("frame to the machine", |seen| seen.ends_with(b"to the machine"));
}

#[test]
fn a_snapshot_sees_each_kind_of_leftover() {
    let world = World::prepare("version = 1");
    let changes: &[(&[&str], &[&str])] = &[
        (&["ip", "link", "add", "x", "type", "bridge"], &["ip", "link", "delete", "x"]),
        (
            &["ip", "addr", "add", "10.9.9.9/32", "dev", "lo"],
            &["ip", "addr", "del", "10.9.9.9/32", "dev", "lo"],
        ),
        (&["ip", "rule", "add", "priority", "7", "table", "7"], &["ip", "rule", "del", "priority", "7"]),
        (&["sysctl", "-q", "net.ipv4.ip_forward=1"], &["sysctl", "-q", "net.ipv4.ip_forward=0"]),
        (&["mkdir", "PINS/x"], &["rmdir", "PINS/x"]),
        (&["ip", "netns", "add", "PREFIXx"], &["ip", "netns", "delete", "PREFIXx"]),
    ];
    let before = world.snapshot();
    let prefix = world.netns_name("");
    let pins = world.bpffs().to_str().expect("a path in UTF-8");
    let run = |argv: &[&str]| {
        let argv: Vec<_> =
            argv.iter().map(|word| word.replace("PINS", pins).replace("PREFIX", &prefix)).collect();
        let _ = world.host_exec(&argv.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    };
    for (make, undo) in changes {
        run(make);
        assert_ne!(world.snapshot(), before, "{make:?}");
        run(undo);
        before.assert_same(&world.snapshot());
    }
}
