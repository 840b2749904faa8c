//! Who reaches whom when the groups are wide open, with real programs: hosts and their ports, two
//! ports of one network, and never two networks.
//!
//! ```text
//!            H (the host)
//!     vnet-web          vnet-back
//!     10.10.0.1         10.20.0.1
//!     a       b             c
//!    .10     .11           .10
//! ```

use std::{fs, io::Write as _, net::SocketAddr, thread, time::Duration};

use vnet_common::DropReason;
use vnet_tests::{
    Namespace, Running, World,
    traffic::{ANSWER, Connection, Echo, Outcome, SILENCE, http_server, iperf3_server, ping, tcp, udp},
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
mtu = 1400

[networks.back]
type = "private"
subnets = ["10.20.0.0/24", "fd00:20::/64"]

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[ports.a]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["open"]
attach = { netns = "@a", create = true }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
mac = "02:00:00:00:00:0b"
security_groups = ["open"]
attach = { netns = "@b", create = true, name = "lan0" }

[ports.c]
network = "back"
addresses = ["10.20.0.10", "fd00:20::a"]
security_groups = ["open"]
attach = { netns = "@c", create = true }
"#;

#[test]
fn the_host_pings_every_port() {
    let world = World::running(POLICY);
    for address in ["10.10.0.10", "10.10.0.11", "10.20.0.10", "fd00:10::a", "fd00:10::b", "fd00:20::a"] {
        assert_eq!(ping(address).run(world.host(), ANSWER), Outcome::Answered, "{address}");
    }
}

#[test]
fn ports_ping_their_gateway() {
    let world = World::running(POLICY);
    for gateway in ["10.10.0.1", "fd00:10::1"] {
        world.assert_reaches("a", ping(gateway));
        world.assert_reaches("b", ping(gateway));
    }
    for gateway in ["10.20.0.1", "fd00:20::1"] {
        world.assert_reaches("c", ping(gateway));
    }
}

#[test]
fn ports_ping_the_link_local_address_of_their_gateway_and_neighbour() {
    let world = World::running(POLICY);
    let link_local = |lines: &str| {
        let words: Vec<&str> = lines.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "inet6").expect("a link-local address");
        words[at + 1].split('/').next().expect("an address").to_owned()
    };
    let own = |argv: &[&str]| link_local(&world.host_exec(argv).ok().stdout);
    let gateway = own(&["ip", "-6", "-o", "addr", "show", "dev", "vnet-web", "scope", "link"]);
    let listed = ["ip", "-6", "-o", "addr", "show", "dev", "lan0", "scope", "link"];
    let neighbour = link_local(&world.exec("b", &listed).ok().stdout);
    for address in [gateway, neighbour] {
        let _ = world.exec("a", &["ping", "-n", "-c", "1", "-W", "8", &format!("{address}%eth0")]).ok();
    }
}

#[test]
fn two_ports_of_one_network_reach_each_other() {
    let world = World::running(POLICY);
    let _servers = [Echo::serve(&world.port("a"), 7000), Echo::serve(&world.port("b"), 7000)];
    for (from, to) in [("a", "10.10.0.11"), ("b", "10.10.0.10")] {
        world.assert_reaches(from, ping(to));
        world.assert_reaches(from, tcp(&format!("{to}:7000")));
        world.assert_reaches(from, udp(&format!("{to}:7000")));
    }
    for (from, to) in [("a", "fd00:10::b"), ("b", "fd00:10::a")] {
        world.assert_reaches(from, ping(to));
        world.assert_reaches(from, tcp(&format!("[{to}]:7000")));
        world.assert_reaches(from, udp(&format!("[{to}]:7000")));
    }
}

#[test]
fn large_pings_fill_the_mtu() {
    let world = World::running(POLICY);
    // The network's MTU of 1400 less the IP and ICMP headers.
    for (to, size) in [("10.10.0.11", "1372"), ("fd00:10::b", "1352"), ("10.10.0.1", "1372")] {
        let _ = world.exec("a", &["ping", "-n", "-c", "1", "-W", "8", "-M", "do", "-s", size, to]).ok();
    }
}

#[test]
fn a_port_finds_its_interface_ready_for_use() {
    let world = World::running(POLICY);
    let link = world.exec("b", &["ip", "-o", "link", "show", "dev", "lan0"]).ok().stdout;
    assert!(link.contains("mtu 1400") && link.contains("02:00:00:00:00:0b"), "{link}");
    assert!(link.contains("state UP"), "{link}");
    let addresses = world.exec("b", &["ip", "-o", "addr", "show", "dev", "lan0"]).ok().stdout;
    assert!(addresses.contains("10.10.0.11/24") && addresses.contains("fd00:10::b/64"), "{addresses}");
    let route4 = world.exec("b", &["ip", "-4", "route", "show", "default"]).ok().stdout;
    assert!(route4.contains("via 10.10.0.1 dev lan0"), "{route4}");
    let route6 = world.exec("b", &["ip", "-6", "route", "show", "default"]).ok().stdout;
    assert!(route6.contains("via fd00:10::1 dev lan0"), "{route6}");
}

#[test]
fn curl_fetches_from_a_real_web_server() {
    let world = World::running(POLICY);
    let folder = world.folder().join("www");
    fs::create_dir(&folder).expect("a folder to serve");
    // More than one congestion window, so that several segments cross.
    let page = "vnet ".repeat(200_000);
    fs::write(folder.join("page"), &page).expect("a page");
    let _server = http_server(&world.port("b"), 80, &folder.to_string_lossy());
    for url in ["http://10.10.0.11/page", "http://[fd00:10::b]/page"] {
        let fetched =
            world.exec("a", &["curl", "--silent", "--show-error", "--fail", "--max-time", "20", url]);
        assert!(fetched.ok().stdout == page, "{url} from a");
        let fetched =
            world.host_exec(&["curl", "--silent", "--show-error", "--fail", "--max-time", "20", url]);
        assert!(fetched.ok().stdout == page, "{url} from the host");
    }
}

#[test]
fn iperf3_runs_over_tcp_and_udp() {
    let world = World::running(POLICY);
    let _server = iperf3_server(&world.port("b"));
    for to in ["10.10.0.11", "fd00:10::b"] {
        let measured = world.exec("a", &["iperf3", "-c", to, "-t", "1", "-J"]).ok().json();
        let rate = measured["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate");
        assert!(rate > 100e6, "TCP to {to}: {rate} bit/s");
        let before = refused_by_full_sockets(&world.port("b"));
        let measured = world.exec("a", &["iperf3", "-c", to, "-u", "-b", "20M", "-t", "1", "-J"]).ok().json();
        let count = |what: &str| measured["end"]["sum"][what].as_u64().expect("a count");
        let refused = refused_by_full_sockets(&world.port("b")) - before;
        assert!(count("packets") > 1000, "UDP to {to}: {measured}");
        assert!(
            count("lost_packets") <= refused,
            "lost on the way to {to}, {refused} by the receiver: {measured}"
        );
    }
}

/// How many datagrams reached `namespace` whose receiver was too slow: the machine's affair, not vnet's.
fn refused_by_full_sockets(namespace: &Namespace) -> u64 {
    let counters = namespace.exec(&["nstat", "-aszj"]).ok().json();
    let counter = |name: &str| counters["kernel"][name].as_u64().expect("a counter of every kernel");
    counter("UdpRcvbufErrors") + counter("Udp6RcvbufErrors")
}

#[test]
fn iperf3_runs_in_reverse_and_from_the_host() {
    let world = World::running(POLICY);
    let _server = iperf3_server(&world.port("b"));
    let reverse = world.exec("a", &["iperf3", "-c", "10.10.0.11", "-R", "-t", "1", "-J"]).ok().json();
    let from_host = world.host_exec(&["iperf3", "-c", "10.10.0.11", "-t", "1", "-J"]).ok().json();
    for measured in [reverse, from_host] {
        let rate = measured["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate");
        assert!(rate > 100e6, "{rate} bit/s");
    }
}

#[test]
fn a_thousand_connections_live_in_parallel() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 7000);
    let open =
        |count: usize| (0..count).map(|_| Connection::from(&world.port("a"), "10.10.0.11:7000")).collect();
    let mut all: Vec<Connection> = thread::scope(|scope| {
        let workers: Vec<_> = (0..10).map(|_| scope.spawn(|| -> Vec<Connection> { open(100) })).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("every connection opens")).collect()
    });
    assert_eq!(all.len(), 1000);
    for connection in &mut all {
        connection.echo(ANSWER).expect("each connection still echoes");
    }
    let flows = world.json(&["status"]);
    let v4 = flows["flows"]["v4"].as_u64().expect("a number of flows");
    assert!(v4 >= 1000, "{flows}");
}

#[test]
fn segments_cross_whole() {
    let world = World::running(POLICY);
    let _server = iperf3_server(&world.port("b"));
    let device = world.device("a");
    let mut command = world.host().command("tcpdump");
    // Only frames that no wire of MTU 1400 could carry.
    command.args(["-i", &device, "-n", "-l", "-c", "20", "tcp and greater 2000"]);
    let mut capture = Running::start(command);
    capture.line_with("listening on");
    let _ = world.exec("a", &["iperf3", "-c", "10.10.0.11", "-t", "2"]).ok();
    let seen = capture.finished();
    assert!(seen.iter().any(|line| line.contains("20 packets captured")), "{}", seen.join("\n"));
}

#[test]
fn networks_are_isolated_from_each_other() {
    let world = World::running(POLICY);
    isolated(&world);
}

#[test]
fn networks_stay_isolated_on_a_host_that_forwards() {
    let world = World::prepare(POLICY);
    world.host().enter(|| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("turn forwarding on");
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("turn forwarding on");
    });
    let mut world = world;
    world.start(&[]);
    isolated(&world);
}

fn isolated(world: &World) {
    let _servers = ["a", "c"].map(|port| Echo::serve(&world.port(port), 7000));
    let _on_host = Echo::serve(world.host(), 7001);
    // The other network's port, and the other network's gateway: the host has both addresses.
    let v4 = [("a", "10.20.0.10"), ("c", "10.10.0.10"), ("a", "10.20.0.1"), ("c", "10.10.0.1")];
    let v6 = [("a", "fd00:20::a"), ("c", "fd00:10::a"), ("a", "fd00:20::1"), ("c", "fd00:10::1")];
    let cases = v4.into_iter().chain(v6).map(|(from, address)| {
        let to = |port| SocketAddr::new(address.parse().expect("an address"), port).to_string();
        // Services of the other network's ports, and of the host.
        [ping(address), tcp(&to(7000)), udp(&to(7000)), tcp(&to(7001)), udp(&to(7001))]
            .map(|probe| (from, probe, false))
    });
    world.judge(cases.collect::<Vec<_>>().as_flattened());
    assert!(world.port_drops("a", DropReason::NoRoute) > 0, "the other network is not looked for outside");
    assert!(world.port_drops("c", DropReason::NoRoute) > 0, "a private network leads nowhere");
}

#[test]
fn an_open_connection_is_listed_as_a_flow() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 7000);
    let mut connection = Connection::from(&world.port("a"), "[fd00:10::b]:7000");
    connection.echo(ANSWER).expect("an echo");
    let flows = world.json(&["flows", "list"]).to_string();
    assert!(flows.contains("fd00:10::b") && flows.contains("7000"), "{flows}");
    let others = world.json(&["flows", "list", "--filter", "port=c"]).to_string();
    assert!(!others.contains("7000"), "{others}");
}

#[test]
fn a_flushed_flow_is_forgotten() {
    let world = World::running(POLICY);
    let _server = Echo::serve(&world.port("b"), 7000);
    let mut connection = Connection::from(&world.port("a"), "10.10.0.11:7000");
    connection.echo(ANSWER).expect("an echo");
    let _ = world.ctl(&["flows", "flush"]).ok();
    let flows = world.json(&["flows", "list"]).to_string();
    assert!(!flows.contains("7000"), "{flows}");
    world.assert_counts(DropReason::NoFlow, || assert_eq!(connection.outcome(SILENCE), Outcome::Silence));
    world.assert_reaches("a", tcp("10.10.0.11:7000"));
}

#[test]
fn the_host_reaches_services_of_ports_and_ports_those_of_the_host() {
    let world = World::running(POLICY);
    let _on_port = Echo::serve(&world.port("a"), 7000);
    let _on_host = Echo::serve(world.host(), 7001);
    for probe in
        [tcp("10.10.0.10:7000"), udp("10.10.0.10:7000"), tcp("[fd00:10::a]:7000"), udp("[fd00:10::a]:7000")]
    {
        assert_eq!(probe.run(world.host(), ANSWER), Outcome::Answered, "{probe:?} from the host");
    }
    for probe in
        [tcp("10.10.0.1:7001"), udp("10.10.0.1:7001"), tcp("[fd00:10::1]:7001"), udp("[fd00:10::1]:7001")]
    {
        world.assert_reaches("a", probe);
    }
}

#[test]
fn a_closed_port_of_an_open_group_answers_with_a_reset() {
    let world = World::running(POLICY);
    let refused = tcp("10.10.0.11:7999").run(&world.port("a"), ANSWER);
    assert_eq!(refused, Outcome::Refused, "the workload's own refusal comes through");
    let unreachable = udp("10.10.0.11:7999").run(&world.port("a"), ANSWER);
    assert_eq!(unreachable, Outcome::Refused, "the ICMP error about the datagram comes through");
}

#[test]
fn a_large_transfer_arrives_byte_for_byte() {
    let world = World::running(POLICY);
    let listener = world.port("b").enter(|| std::net::TcpListener::bind("[::]:7002").expect("listen"));
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let to: SocketAddr = "[fd00:10::b]:7002".parse().expect("an address");
    let received = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut bytes).expect("the whole transfer");
            bytes
        });
        let mut stream =
            world.port("a").enter(|| std::net::TcpStream::connect_timeout(&to, ANSWER).expect("connect"));
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a limit");
        stream.write_all(&sent).expect("the whole transfer");
        drop(stream);
        receiver.join().expect("the receiver")
    });
    assert!(received == sent, "{} of {} bytes, or others", received.len(), sent.len());
}
