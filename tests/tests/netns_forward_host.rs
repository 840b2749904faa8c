//! Forwards and elastic IPs for the host's own processes: whom they ask for is translated before there is a
//! packet, so loopback leads to workloads as well, and for nobody else.
//!
//! ```text
//!     web-1 (198.51.100.20, 2001:db8:100::20)
//!       |
//!       `---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!            10.10.0.1      .1                         .254 .254                   .5
//! ```

use std::{
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use vnet_tests::{
    Namespace, World, eventually,
    process::finish,
    teller::{Line, Teller, address_seen, fetched_as, seen_as},
    traffic::{ANSWER, Echo, Outcome, Probe, tcp, udp},
};

/// The host is trusted: no group admits what it sends.
const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
attach = { netns = "@web-2", create = true }
"#;

const ELASTIC: &str = r#"
[elastic_ips]
"198.51.100.20" = { port = "web-1" }
"2001:db8:100::20" = { port = "web-1" }
"#;

/// The gateway that the workload sees, of the version of `to`.
fn gateway(to: &str) -> &'static str {
    if to.starts_with('[') { "fd00:10::1" } else { "10.10.0.1" }
}

/// Both protocols of port 8080 of `listens`, which lead to web-1's port 80.
fn forwards(listens: &[&str]) -> String {
    let each = |listen: &&str| {
        let of = |protocol| {
            format!(
                "\n[[forwards]]\nlisten = \"{listen}:8080\"\nprotocol = \"{protocol}\"\nto = \"web-1:80\"\n"
            )
        };
        of("tcp") + &of("udp")
    };
    listens.iter().map(each).collect()
}

/// [`POLICY`] with web-1's service published on port 8080 of all addresses, and its elastic IPs.
fn published() -> String {
    [POLICY, &forwards(&["0.0.0.0", "[::]"]), ELASTIC].concat()
}

/// Every way by which a process of the host asks for web-1's service.
const WAYS: [&str; 8] = [
    "127.0.0.1:8080",
    "198.51.100.1:8080",
    "10.10.0.1:8080",
    "198.51.100.20:80",
    "[::1]:8080",
    "[2001:db8:100::1]:8080",
    "[fd00:10::1]:8080",
    "[2001:db8:100::20]:80",
];

/// Asserts that `host` is refused at port 8080 of its loopback, as it is where nobody listens.
#[track_caller]
fn assert_refused(host: &Namespace) {
    for probe in [tcp("127.0.0.1:8080"), tcp("[::1]:8080"), udp("127.0.0.1:8080"), udp("[::1]:8080")] {
        assert_eq!(probe.run(host, ANSWER), Outcome::Refused, "{probe:?}");
    }
}

/// The pins of the links of sockets.
fn pins(world: &World) -> Vec<PathBuf> {
    let versions = fs::read_dir(world.bpffs().join("vnet")).into_iter().flatten().flatten();
    let links = versions.filter_map(|version| fs::read_dir(version.path().join("links")).ok()).flatten();
    let paths = links.filter_map(|entry| Some(entry.ok()?.path()));
    let is_of_sockets = |path: &PathBuf| path.to_string_lossy().contains("/cgroup-host_");
    let mut pins: Vec<_> = paths.filter(is_of_sockets).collect();
    pins.sort();
    pins
}

/// bpftool's description of a link.
fn link(words: &[&str]) -> Option<serde_json::Value> {
    let mut command = std::process::Command::new("bpftool");
    command.args(["--json", "link", "show"]).args(words);
    let shown = finish(command);
    shown.success().then(|| shown.json())
}

/// The kernel's numbers of the links that are attached.
fn links(world: &World) -> Vec<String> {
    let shown = pins(world).into_iter().map(|pin| link(&["pinned", pin.to_str().expect("UTF-8")]));
    shown.map(|link| link.expect("a link")["id"].to_string()).collect()
}

#[test]
fn the_host_reaches_what_it_publishes_by_each_of_its_addresses() {
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    for to in WAYS {
        assert_eq!(address_seen(world.host(), tcp(to)), gateway(to), "{to}");
        assert_eq!(address_seen(world.host(), udp(to)), gateway(to), "{to}");
        let fetched = fetched_as(world.host(), &format!("http://{to}/"));
        assert_eq!(fetched.ip().to_string(), gateway(to), "{to}");
    }
    let fetched = fetched_as(world.host(), "http://localhost:8080/");
    assert!(["10.10.0.1", "fd00:10::1"].contains(&fetched.ip().to_string().as_str()), "{fetched}");
    // The same forwards serve strangers as before.
    assert_eq!(tcp("198.51.100.1:8081").run(world.host(), ANSWER), Outcome::Refused);
    world.assert_forwards_nothing();
}

#[test]
fn a_process_of_the_host_is_told_whom_it_asked_for() {
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    for to in WAYS {
        let asked: SocketAddr = to.parse().expect("ADDRESS:PORT");
        match Line::open(world.host(), 0, tcp(to)) {
            Line::Tcp(stream) => assert_eq!(stream.peer_addr().expect("a peer"), asked),
            Line::Udp(_) => unreachable!("TCP was asked for"),
        }
        match Line::open(world.host(), 0, udp(to)) {
            Line::Udp(socket) => assert_eq!(socket.peer_addr().expect("a peer"), asked),
            Line::Tcp(_) => unreachable!("UDP was asked for"),
        }
    }
}

#[test]
fn an_answer_to_a_socket_of_the_host_is_its_own_though_its_port_is_forwarded() {
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.outside(), 53);
    for (to, seen) in
        [("203.0.113.5:53", "198.51.100.1:8080"), ("[2001:db8:5::5]:53", "[2001:db8:100::1]:8080")]
    {
        let mut line = Line::open(world.host(), 8080, udp(to));
        for _ in 0..3 {
            assert_eq!(line.ask(ANSWER).expect("an answer").to_string(), seen);
        }
    }
}

#[test]
fn an_answer_to_a_datagram_comes_from_whom_was_asked() {
    let world = World::running_with_outside(&published());
    let _echo = Echo::serve(&world.port("web-1"), 80);
    let [v4, v6] = world.host().enter(|| {
        ["0.0.0.0:0", "[::]:0"].map(|any| {
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.set_read_timeout(Some(ANSWER)).expect("a limit");
            socket
        })
    });
    for to in WAYS {
        let asked: SocketAddr = to.parse().expect("ADDRESS:PORT");
        let socket = if asked.is_ipv4() { &v4 } else { &v6 };
        let mut answer = [0; 16];
        for _ in 0..3 {
            socket.send_to(b"marco", asked).expect("a way");
            let (len, from) = socket.recv_from(&mut answer).unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!((&answer[..len], from), (&b"marco"[..], asked));
        }
    }
    // A socket of both versions, as many programs use.
    let asked = "[::ffff:127.0.0.1]:8080".parse::<SocketAddr>().expect("ADDRESS:PORT");
    v6.send_to(b"polo", asked).expect("a way");
    let mut answer = [0; 16];
    let (len, from) = v6.recv_from(&mut answer).expect("an answer");
    assert_eq!((&answer[..len], from), (&b"polo"[..], asked));
    let stream = world.host().enter(|| TcpStream::connect_timeout(&asked, ANSWER)).expect("a connection");
    assert_eq!(stream.peer_addr().expect("a peer"), asked);
}

#[test]
fn what_listens_on_loopback_is_for_the_host_alone() {
    let world = World::running_with_outside(&[POLICY, &forwards(&["127.0.0.1", "[::1]"])].concat());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let applied = world.ctl(&["apply"]).ok();
    assert!(!applied.stderr.contains("warning"), "{applied}");
    let kinds: [fn(&str) -> Probe; 2] = [tcp, udp];
    for (from, to) in [
        (world.outside(), "198.51.100.1:8080"),
        (world.outside(), "[2001:db8:100::1]:8080"),
        (world.port("web-2"), "10.10.0.1:8080"),
        (world.port("web-2"), "[fd00:10::1]:8080"),
    ] {
        for kind in kinds {
            assert_eq!(kind(to).run(&from, ANSWER), Outcome::Refused, "{to}");
            assert_eq!(kind(to).run(world.host(), ANSWER), Outcome::Refused, "{to}");
        }
    }
    for to in ["127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(address_seen(world.host(), tcp(to)), gateway(to), "{to}");
        assert_eq!(address_seen(world.host(), udp(to)), gateway(to), "{to}");
    }
}

#[test]
fn other_namespaces_keep_their_own_loopback() {
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    for name in ["web-1", "web-2", "outside"] {
        assert_refused(&world.port(name));
    }
    let _own = Teller::serve(&world.port("web-2"), 8080);
    for (to, own) in [("127.0.0.1:8080", "127.0.0.1"), ("[::1]:8080", "::1")] {
        assert_eq!(address_seen(&world.port("web-2"), tcp(to)), own);
    }
    // Two daemons on one machine: each minds its own host.
    let other = World::running_with_outside(POLICY);
    assert_refused(other.host());
    assert_eq!(address_seen(world.host(), tcp("127.0.0.1:8080")), "10.10.0.1");
}

#[test]
fn connections_of_the_host_outlive_the_daemon() {
    let mut world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let mut lines: Vec<_> = WAYS.iter().map(|to| (to, Line::open(world.host(), 0, tcp(to)))).collect();
    let before = links(&world);
    world.kill();
    let ask_all = |lines: &mut Vec<(&&str, Line)>| {
        for (to, line) in lines {
            assert_eq!(line.ask(ANSWER).expect("an answer").ip().to_string(), gateway(to), "{to}");
        }
    };
    ask_all(&mut lines);
    assert_eq!(address_seen(world.host(), tcp("127.0.0.1:8080")), "10.10.0.1");
    world.start(&[]);
    ask_all(&mut lines);
    for (to, line) in &lines {
        let Line::Tcp(stream) = line else { unreachable!("TCP was asked for") };
        assert_eq!(stream.peer_addr().expect("a peer").to_string(), **to);
        assert_eq!(seen_as(world.host(), udp(to)).ip().to_string(), gateway(to));
    }
    assert_eq!(links(&world), before, "the same links, with other programs");
}

#[test]
fn the_programs_are_attached_while_they_are_needed() {
    let mut world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    assert!(pins(&world).is_empty(), "nothing leads anywhere");
    assert_refused(world.host());
    for with in [forwards(&["127.0.0.1"]), ELASTIC.to_owned()] {
        world.write_policy(&[POLICY, &with].concat());
        let _ = world.ctl(&["apply"]).ok();
        assert_eq!(pins(&world).len(), 8);
        let attached = links(&world);
        world.write_policy(POLICY);
        let _ = world.ctl(&["apply"]).ok();
        assert!(pins(&world).is_empty());
        for id in &attached {
            assert_eq!(link(&["id", id]), None, "it is gone");
        }
        assert_refused(world.host());
    }
    world.write_policy(&published());
    let _ = world.ctl(&["apply"]).ok();
    let attached = links(&world);
    assert_eq!(attached.len(), 8);
    world.stop();
    assert_eq!(address_seen(world.host(), tcp("127.0.0.1:8080")), "10.10.0.1");
    let _ = world.teardown().ok();
    for id in &attached {
        assert_eq!(link(&["id", id]), None, "it is gone");
    }
    assert_refused(world.host());
}

#[test]
fn a_forward_that_is_removed_leads_nowhere_from_the_host() {
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    assert_eq!(address_seen(world.host(), tcp("127.0.0.1:8080")), "10.10.0.1");
    world.write_policy(&[POLICY, ELASTIC].concat());
    let _ = world.ctl(&["apply"]).ok();
    assert_refused(world.host());
    assert_eq!(address_seen(world.host(), tcp("198.51.100.20:80")), "10.10.0.1");
    let add = ["forward", "add", "--listen", "127.0.0.1:8080", "-p", "tcp", "--to", "web-1:80"];
    let _ = world.ctl(&add).ok();
    assert_eq!(address_seen(world.host(), tcp("127.0.0.1:8080")), "10.10.0.1");
}

#[test]
fn what_somebody_detaches_or_unpins_comes_back() {
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    for name in ["cgroup-host_connect4", "cgroup-host_peername6"] {
        let pin = pins(&world).into_iter().find(|pin| pin.ends_with(name)).expect("a pin");
        let path = pin.to_str().expect("UTF-8").to_owned();
        let program = name.trim_start_matches("cgroup-");
        let last = world.last_event();
        let _ = world.host_exec(&["bpftool", "link", "detach", "pinned", &path]).ok();
        let _ = world.event(last, "repaired", &[program, "detached"]);
        let last = world.last_event();
        fs::remove_file(&pin).expect("remove the pin");
        let _ = world.event(last, "repaired", &[program, "pin"]);
        eventually("the pin", || pin.exists().then_some(()));
    }
    for to in WAYS {
        assert_eq!(address_seen(world.host(), tcp(to)), gateway(to), "{to}");
    }
}

#[test]
fn a_host_without_cgroup2_mounted_is_served_as_well() {
    // This thread alone, and what it starts.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("keep what is mounted here");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("the mounts");
    for line in mounts.lines().filter(|line| line.contains(" - cgroup2 ")) {
        let path = line.split(' ').nth(4).expect("a path");
        umount2(path, MntFlags::MNT_DETACH).expect("unmount");
    }
    let world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    for to in WAYS {
        assert_eq!(address_seen(world.host(), tcp(to)), gateway(to), "{to}");
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", world.daemon_pid())).expect("its mounts");
    assert!(!mounts.contains(" - cgroup2 "), "{mounts}");
}

#[test]
fn a_host_that_refuses_the_programs_is_warned_and_serves_strangers() {
    let open =
        "[security_groups.default]\ningress = [{ protocol = \"tcp\", ports = [80], from = [\"any\"] }]\n";
    let world = World::running_with_outside(POLICY);
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let links = fs::read_dir(world.bpffs().join("vnet")).expect("pins").flatten().next().expect("a version");
    // Not what the kernel would refuse, but it is refused in the same way.
    let obstacle = links.path().join("links/cgroup-host_connect6");
    fs::create_dir(&obstacle).expect("something in the way");
    world.write_policy(&[&published(), open].concat());
    let words =
        ["the host's own processes do not reach its forwards and elastic IPs", "cgroup-host_connect6"];
    let _ = world.ctl(&["apply"]).ok().says(&words);
    let status = world.json(&["status"]);
    assert!(status["problems"][0].to_string().contains(words[0]), "{status}");
    assert_eq!(pins(&world), std::slice::from_ref(&obstacle), "all or none");
    assert_refused(world.host());
    assert_eq!(address_seen(&world.outside(), tcp("198.51.100.1:8080")), "203.0.113.5");
    fs::remove_dir(&obstacle).expect("out of the way");
    let applied = world.ctl(&["apply"]).ok();
    assert!(!applied.stderr.contains("own processes"), "{applied}");
    assert_eq!(world.json(&["status"])["problems"].as_array().map(Vec::len), Some(0));
    assert_eq!(address_seen(world.host(), tcp("127.0.0.1:8080")), "10.10.0.1");
}

#[test]
fn another_version_takes_the_host_over() {
    let mut world = World::running_with_outside(&published());
    let _teller = Teller::serve(&world.port("web-1"), 80);
    let mut line = Line::open(world.host(), 0, tcp("127.0.0.1:8080"));
    let before = links(&world);
    world.kill();
    let vnet = world.bpffs().join("vnet");
    let own = fs::read_dir(&vnet).expect("pins").flatten().next().expect("a version").path();
    // Versions differ in the name of their folder.
    fs::rename(&own, vnet.join("v1003")).expect("make it another version's");
    world.start(&[]);
    assert_eq!(line.ask(ANSWER).expect("an answer").ip().to_string(), "10.10.0.1");
    assert_eq!(pins(&world).iter().filter(|pin| pin.starts_with(&own)).count(), 8);
    assert_eq!(links(&world).len(), 8);
    for id in &before {
        assert_eq!(link(&["id", id]), None, "the other version's are gone");
    }
    for to in WAYS {
        assert_eq!(address_seen(world.host(), tcp(to)), gateway(to), "{to}");
    }
}
