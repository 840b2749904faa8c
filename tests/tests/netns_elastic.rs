//! Elastic IPs: an address of the outside that stands for a workload, both ways, for every protocol;
//! answered and announced by vnet on the wire, on no device of the host, and moved at run time.
//!
//! ```text
//!     web-1 (198.51.100.20, 2001:db8:100::20)
//!       |     web-2
//!       `------`---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//! ```

use std::net::IpAddr;

use vnet_common::DropReason;
use vnet_tests::{
    World, eventually,
    raw::{RawSocket, send_ip},
    teller::{Line, Teller, address_seen, fetched_as, seen_as},
    traffic::{self, ANSWER, Connection, Echo, Outcome, SILENCE, ping, tcp, udp},
    transfer::Pipe,
    watch::Packet,
    world::{rows, shell},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "udp", ports = [80], from = ["any"] },
  { protocol = "icmp", icmp_type = 8, from = ["any"] },
  { protocol = "icmpv6", icmp_type = 128, from = ["any"] },
]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["web"]
attach = { netns = "@web-2", create = true }
"#;

/// The elastic IP of web-1, in both versions, with the stranger's address.
const ELASTIC: [(&str, &str); 2] = [("198.51.100.20", "203.0.113.5"), ("2001:db8:100::20", "2001:db8:5::5")];
/// The outside, in both versions.
const OUTSIDE: [&str; 2] = ["203.0.113.5:80", "[2001:db8:5::5]:80"];

/// [`POLICY`] with both elastic IPs at `port`.
fn at(port: &str) -> String {
    at_with(port, "")
}

/// [`POLICY`] with both elastic IPs at `port`, and `keys` in each.
fn at_with(port: &str, keys: &str) -> String {
    let lines = ELASTIC.map(|(address, _)| format!("\"{address}\" = {{ port = \"{port}\"{keys} }}\n"));
    format!("{POLICY}\n[elastic_ips]\n{}", lines.concat())
}

/// `address` with port 80.
fn web(address: &str) -> String {
    traffic::at(address, 80)
}

#[test]
fn elastic_ip_brings_strangers_to_the_workload_which_sees_their_address() {
    let world = World::running_with_outside(&at("web-1"));
    let teller = Teller::serve(&world.port("web-1"), 80);
    let outside = world.outside();
    for (elastic, stranger) in ELASTIC {
        let to = web(elastic);
        assert_eq!(address_seen(&outside, tcp(&to)), stranger);
        assert_eq!(address_seen(&outside, udp(&to)), stranger);
        assert_eq!(fetched_as(&outside, &format!("http://{to}/")).ip().to_string(), stranger);
        assert_eq!(Line::open(&outside, 4567, tcp(&to)).ask(ANSWER).expect("an answer").port(), 4567);
        assert_eq!(ping(elastic).run(&outside, ANSWER), Outcome::Answered);
        assert_eq!(ping(elastic).run(&world.router(), ANSWER), Outcome::Answered);
    }
    assert_eq!(teller.asked_by().len(), 8);
    world.assert_forwards_nothing();
}

#[test]
fn elastic_ip_is_what_the_outside_sees_of_the_workload() {
    let world = World::running_with_outside(&at("web-1"));
    let _teller = Teller::serve(&world.outside(), 80);
    for (to, (elastic, _)) in OUTSIDE.iter().zip(ELASTIC) {
        // 1:1: the ports stay what they are.
        for (probe, port) in [(tcp(to), 40_001), (udp(to), 40_002), (tcp(to), 999)] {
            let seen = Line::open(&world.port("web-1"), port, probe).ask(ANSWER).expect("an answer");
            assert_eq!((seen.ip().to_string().as_str(), seen.port()), (elastic, port), "{probe:?}");
        }
    }
    world.assert_reaches("web-1", ping("203.0.113.5"));
    world.assert_reaches("web-1", ping("2001:db8:5::5"));
    // The others of its network leave as before.
    assert_eq!(address_seen(&world.port("web-2"), tcp(OUTSIDE[0])), "198.51.100.1");
    assert_eq!(address_seen(&world.port("web-2"), tcp(OUTSIDE[1])), "2001:db8:100::1");
}

#[test]
fn elastic_ip_opens_nothing_by_itself() {
    let closed =
        at("web-1").replace("ports = [80]", "ports = [81]").replace("icmp_type = 8,", "icmp_type = 13,");
    let world = World::running_with_outside(&closed);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    world.assert_counts(DropReason::IngressDenied, || {
        world.judge(&[
            ("outside", tcp("198.51.100.20:80"), false),
            ("outside", udp("198.51.100.20:80"), false),
            ("outside", ping("198.51.100.20"), false),
            ("outside", tcp("[2001:db8:100::20]:80"), false),
        ]);
    });
}

#[test]
fn elastic_ip_that_no_group_admits_is_warned_of_by_name() {
    let nobody = at("web-1").replace("from = [\"any\"]", "from = [\"sg:web\"]");
    let world = World::running_with_outside(&nobody);
    for verb in ["validate", "apply"] {
        let _ = world.ctl(&[verb]).ok().says(&["warning", "198.51.100.20", "web-1"]);
    }
}

#[test]
fn elastic_ip_is_answered_on_the_wire_and_on_no_device() {
    let world = World::running_with_outside(&at("web-1"));
    let mac = world.mac(world.host(), "eth0");
    for (elastic, _) in ELASTIC {
        assert_eq!(ping(elastic).run(&world.router(), ANSWER), Outcome::Answered);
        let learnt = world.router().exec(&["ip", "neigh", "show", elastic, "dev", "h0"]).ok().stdout;
        assert!(learnt.contains(&format!("lladdr {mac}")), "{elastic} is at {mac}: {learnt}");
    }
    let addresses = world.host_exec(&["ip", "-oneline", "address"]).ok().stdout;
    for (elastic, _) in ELASTIC {
        assert!(!addresses.contains(&format!("{elastic}/")), "{addresses}");
    }
    // Who has an address that is nobody's? Nobody says.
    for unknown in ["198.51.100.29", "2001:db8:100::29"] {
        assert_ne!(ping(unknown).run(&world.router(), SILENCE), Outcome::Answered);
        let learnt = world.router().exec(&["ip", "neigh", "show", unknown, "dev", "h0"]).ok().stdout;
        assert!(!learnt.contains("lladdr"), "{learnt}");
    }
}

/// Whether `frame` announces `address` to everybody, unasked: a gratuitous ARP (RFC 5227 section 3) or
/// an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
fn announces(frame: &[u8], address: IpAddr) -> bool {
    let field = |range: std::ops::Range<usize>| frame.get(range).unwrap_or_default();
    match address {
        // Sender and target are the same.
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
fn elastic_ip_is_announced_when_it_is_associated() {
    let world = World::running_with_outside(POLICY);
    let wire = RawSocket::open(&world.router(), "h0");
    for (elastic, _) in ELASTIC {
        let address = elastic.parse().expect("an address");
        let _ = world.ctl(&["eip", "associate", elastic, "web-1"]).ok();
        wire.receive(&format!("announcement of {elastic}"), |frame| announces(frame, address));
    }
}

#[test]
fn elastic_ip_takes_over_from_a_neighbour_that_the_router_remembers() {
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    shell(&world.router(), "echo 0 > /proc/sys/net/ipv4/neigh/h0/locktime");
    for (elastic, stranger) in ELASTIC {
        shell(
            &world.router(),
            &format!("ip neigh replace {elastic} lladdr 02:00:00:00:00:99 dev h0 nud stale"),
        );
        let _ = world.ctl(&["eip", "associate", elastic, "web-1"]).ok();
        let mac = world.mac(world.host(), "eth0");
        eventually(&format!("the router to know where {elastic} is"), || {
            let learnt = world.router().exec(&["ip", "neigh", "show", elastic, "dev", "h0"]).ok().stdout;
            learnt.contains(&mac).then_some(())
        });
        assert_eq!(address_seen(&world.outside(), tcp(&web(elastic))), stranger);
    }
}

/// Which of web-1 and web-2 a stranger gets to by the elastic IP.
fn who_answers(world: &World, tellers: &[Teller; 2], to: &str) -> &'static str {
    let from = seen_as(&world.outside(), tcp(to));
    let asked = |teller: &Teller| teller.asked_by().contains(&from);
    match tellers.each_ref().map(asked) {
        [true, false] => "web-1",
        [false, true] => "web-2",
        both => panic!("{from} asked {both:?}"),
    }
}

/// Moves the elastic IPs by `change` from web-1 to web-2, and looks at who is reached.
fn moves(change: impl Fn(&World)) {
    let world = World::running_with_outside(&at("web-1"));
    let tellers = ["web-1", "web-2"].map(|port| Teller::serve(&world.port(port), 80));
    let mut lines = ELASTIC.map(|(elastic, _)| Line::open(&world.outside(), 0, tcp(&web(elastic))));
    for (line, (elastic, _)) in lines.iter_mut().zip(ELASTIC) {
        line.ask(ANSWER).expect("an answer before the move");
        assert_eq!(who_answers(&world, &tellers, &web(elastic)), "web-1");
    }
    change(&world);
    for (line, (elastic, _)) in lines.iter_mut().zip(ELASTIC) {
        assert!(line.ask(SILENCE).is_err(), "established connections by {elastic} are cut");
        assert_eq!(who_answers(&world, &tellers, &web(elastic)), "web-2");
    }
    // The way out follows.
    let _outside = Teller::serve(&world.outside(), 80);
    for (to, ((elastic, _), uplink)) in
        OUTSIDE.iter().zip(ELASTIC.iter().zip(["198.51.100.1", "2001:db8:100::1"]))
    {
        assert_eq!(address_seen(&world.port("web-2"), tcp(to)), *elastic);
        assert_eq!(address_seen(&world.port("web-1"), tcp(to)), uplink);
    }
}

#[test]
fn elastic_ip_moves_by_command() {
    moves(|world| {
        for (elastic, _) in ELASTIC {
            let _ = world.ctl(&["eip", "associate", elastic, "web-2"]).ok();
        }
        assert!(world.policy_text().contains("web-2"), "{}", world.policy_text());
    });
}

#[test]
fn elastic_ip_moves_by_the_policy() {
    moves(|world| {
        world.write_policy(&at("web-2"));
        let _ = world.ctl(&["apply"]).ok();
    });
}

#[test]
fn elastic_ip_keeps_established_connections_where_the_policy_says_so() {
    let keep = |port| at_with(port, ", on_change = \"keep\"");
    let world = World::running_with_outside(&keep("web-1"));
    let _echoes = ["web-1", "web-2"].map(|port| Echo::serve(&world.port(port), 80));
    let mut connections = ELASTIC.map(|(elastic, _)| Connection::from(&world.outside(), &web(elastic)));
    for connection in &mut connections {
        connection.echo(ANSWER).expect("an echo before the move");
    }
    world.write_policy(&keep("web-2"));
    let _ = world.ctl(&["apply"]).ok();
    for connection in &mut connections {
        connection.echo(ANSWER).expect("an echo after the move");
    }
}

#[test]
fn elastic_ip_that_is_disassociated_ends() {
    let world = World::running_with_outside(POLICY);
    let _echo = Echo::serve(&world.port("web-1"), 80);
    let _ = world.ctl(&["eip", "associate", "198.51.100.20", "web-1"]).ok();
    let mut connection = Connection::from(&world.outside(), "198.51.100.20:80");
    connection.echo(ANSWER).expect("an echo");
    let listed = world.json(&["eip", "list"]);
    let row = rows(&listed, "elastic_ips")[0].to_string();
    assert!(row.contains("198.51.100.20") && row.contains("web-1"), "{listed}");
    let _ = world.ctl(&["eip", "disassociate", "198.51.100.20"]).ok();
    assert_ne!(connection.outcome(SILENCE), Outcome::Answered, "cut");
    assert_ne!(tcp("198.51.100.20:80").run(&world.outside(), SILENCE), Outcome::Answered);
    assert!(!world.policy_text().contains("198.51.100.20"), "{}", world.policy_text());
    let _teller = Teller::serve(&world.outside(), 80);
    assert_eq!(address_seen(&world.port("web-1"), tcp(OUTSIDE[0])), "198.51.100.1");
}

#[test]
fn elastic_ip_gives_way_to_a_forward() {
    let forward = "\n[[forwards]]\nlisten = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = \"web-2:80\"\n";
    let world = World::running_with_outside(&(at("web-1") + forward));
    let tellers = ["web-1", "web-2"].map(|port| Teller::serve(&world.port(port), 80));
    // A wildcard holds for the addresses of the host, of which an elastic IP is none.
    assert_eq!(who_answers(&world, &tellers, "198.51.100.1:80"), "web-2");
    assert_eq!(who_answers(&world, &tellers, "198.51.100.20:80"), "web-1");
    assert_eq!(address_seen(&world.outside(), udp("198.51.100.20:80")), "203.0.113.5");
}

#[test]
fn elastic_ip_carries_every_protocol() {
    let open = at("web-1").replace("protocol = \"icmp\", icmp_type = 8", "protocol = \"any\"");
    let world = World::running_with_outside(&open);
    // As GRE, a header without options that announces IPv4 (RFC 2784 section 2.1).
    let payload = *b"\0\0\x08\0 neither TCP nor UDP, with 48 bytes in all";
    let (workload, outside) = (world.port("web-1"), world.outside());
    let [at_workload, at_outside] = [&workload, &outside].map(|at| RawSocket::open(at, "eth0"));
    // GRE, ESP, and one for experiments (RFC 3692).
    for protocol in [47, 50, 253] {
        let carries = |frame: &[u8], src: &str, dst: &str| {
            let Some(packet) = Packet::parse(frame) else { return false };
            let between = (packet.src.to_string(), packet.dst.to_string(), packet.protocol);
            between == (src.to_owned(), dst.to_owned(), protocol) && frame.ends_with(&payload)
        };
        send_ip(&outside, protocol, "198.51.100.20", &payload);
        at_workload.receive(&format!("protocol {protocol} at the workload"), |frame| {
            carries(frame, "203.0.113.5", "10.10.0.10")
        });
        send_ip(&workload, protocol, "203.0.113.5", &payload);
        at_outside.receive(&format!("protocol {protocol} outside"), |frame| {
            carries(frame, "198.51.100.20", "203.0.113.5")
        });
    }
}

#[test]
fn elastic_ip_carries_large_transfers() {
    let world = World::running_with_outside(&at("web-1"));
    for (elastic, _) in ELASTIC {
        let mut pipe = Pipe::open(&world.outside(), &web(elastic), (&world.port("web-1"), 80));
        pipe.assert_carries_there(20);
        pipe.assert_carries_back(20);
    }
}

#[test]
fn elastic_ip_shows_icmp_errors_of_the_workload_as_its_own() {
    let world = World::running_with_outside(&at("web-1"));
    // Nobody listens on UDP port 80 of web-1.
    for (elastic, _) in ELASTIC {
        let outcome = udp(&web(elastic)).run(&world.outside(), ANSWER);
        assert_eq!(outcome, Outcome::Refused, "the refusal by {elastic} is understood");
    }
}
