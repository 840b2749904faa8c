//! What nobody asked for and what nobody can take: SYNs to an address that a network leaves with, and data outside the
//! window of a connection (RFC 5382 REQ-2 and REQ-4).
//!
//! The world is that of `netns_nat`; the network leaves with an address that no device of the host has.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use vnet_tests::{
    World,
    cases::frame::packet,
    raw::{RawSocket, send_ip},
    teller::{Line, Teller},
    traffic::{ANSWER, Outcome, tcp},
    watch::{Packet, Watch},
};

/// A policy whose network leaves with `snat`.
fn policy(snat: &str) -> String {
    format!(
        r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
{snat}

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = {{ netns = "@web-1", create = true }}
"#
    )
}

fn with_address_of_its_own() -> World {
    let world = World::running_with_outside(&policy("snat = [\"192.0.2.9\", \"2001:db8:9::9\"]"));
    for prefix in ["192.0.2.0/28", "2001:db8:9::/64"] {
        world.lead_to_host(prefix);
    }
    world
}

/// RFC 5382 REQ-4.
const PATIENCE: Duration = Duration::from_millis(6500);
/// Where nobody listens, behind the network's addresses.
const MAPPED: [&str; 2] = ["192.0.2.9:5000", "[2001:db8:9::9]:5000"];

#[test]
fn uninvited_syns_are_answered_by_nobody() {
    let world = with_address_of_its_own();
    let answers = Watch::start(&world.router(), "h0", |packet| {
        ["192.0.2.9", "2001:db8:9::9", "198.51.100.1", "2001:db8:100::1"].contains(&&*packet.src.to_string())
            && packet.protocol != 58
    });
    thread::scope(|scope| {
        for to in MAPPED {
            let from = world.outside();
            scope.spawn(move || {
                let opened = Line::try_open(&from, 7001, tcp(to), PATIENCE);
                let kind = opened.map_err(|error| error.kind()).expect_err("nobody is there");
                assert_eq!(kind, io::ErrorKind::TimedOut, "{to}");
            });
        }
    });
    answers.assert_none();
}

/// Each end has sent a SYN before it sees the other's.
#[test]
fn uninvited_syns_give_way_to_a_workload_that_asks_in_turn() {
    let world = with_address_of_its_own();
    for (mapped, stranger) in MAPPED.iter().zip(["203.0.113.5:7001", "[2001:db8:5::5]:7001"]) {
        let wire = RawSocket::open(&world.router(), "h0");
        let (inside, outside) = thread::scope(|scope| {
            let outside = scope.spawn(|| Line::open(&world.outside(), 7001, tcp(mapped)));
            let is_syn = |frame: &[u8]| frame.windows(4).any(|ports| ports == [0x1b, 0x59, 0x13, 0x88]);
            let _ = wire.receive("SYN of the stranger", is_syn);
            let inside = Line::open(&world.port("web-1"), 5000, tcp(stranger));
            (inside, outside.join().expect("the stranger's connection"))
        });
        let ends = [&inside, &outside].map(stream);
        for (from, to) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            assert_eq!(carried(from, to).expect("bytes arrive"), b"hello");
        }
    }
}

fn stream(line: &Line) -> &TcpStream {
    let Line::Tcp(stream) = line else { panic!("a connection") };
    stream
}

/// What `to` receives of what `from` says.
fn carried(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<Vec<u8>> {
    to.set_read_timeout(Some(ANSWER))?;
    from.write_all(b"hello")?;
    let mut received = vec![0; 5];
    to.read_exact(&mut received)?;
    Ok(received)
}

#[test]
fn uninvited_syns_to_the_hosts_own_address_are_the_hosts_to_answer() {
    let world = World::running_with_outside(&policy(""));
    for to in ["198.51.100.1:5000", "[2001:db8:100::1]:5000"] {
        assert_eq!(tcp(to).run(&world.outside(), ANSWER), Outcome::Refused, "{to}");
    }
}

/// The end of a connection throws away what it has no window for; vnet translates it, and nothing else comes of it.
#[test]
fn data_outside_the_window_is_for_the_workload_to_refuse() {
    const MARKER: &[u8] = b"far outside the window";
    let world = World::running_with_outside(&policy(""));
    let _teller = Teller::serve(&world.outside(), 80);
    let mut line = Line::open(&world.port("web-1"), 0, tcp("203.0.113.5:80"));
    let wire = RawSocket::open(&world.router(), "h0");
    let mapped = line.ask(ANSWER).expect("an answer");
    let told = wire.receive("segment with the answer", |frame| {
        Packet::parse(frame).is_some_and(|packet| packet.ports == Some((80, mapped.port())))
    });
    let seq = u32::from_be_bytes(told[38..42].try_into().expect("a sequence number"));
    let arrived = RawSocket::open(&world.port("web-1"), "eth0");
    let segment = [
        &80_u16.to_be_bytes()[..],
        &mapped.port().to_be_bytes(),
        &seq.wrapping_add(1 << 30).to_be_bytes(),
        &told[42..46],
        &[5 << 4, 0x10, 1, 0, 0, 0, 0, 0],
        MARKER,
    ];
    let whole = packet("203.0.113.5".parse().expect("an address"), mapped.ip(), 6, &segment.concat());
    send_ip(&world.outside(), 6, &mapped.ip().to_string(), &whole[20..]);
    let marked = |frame: &[u8]| frame.windows(MARKER.len()).any(|bytes| bytes == MARKER);
    let arrived = Packet::parse(&arrived.receive("segment outside the window", marked));
    assert_eq!(arrived.expect("a packet").dst.to_string(), "10.10.0.10", "never untranslated");
    // Had a byte of it reached the stream, this would be no answer.
    assert_eq!(line.ask(ANSWER).expect("the connection is as it was"), mapped);
}
