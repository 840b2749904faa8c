//! Several workloads behind one forward: who gets a new connection, and what becomes of those that are there
//! when workloads come, drain and go.
//!
//! ```text
//!    client    web-1    web-2    web-3
//!      .9       .11      .12      .13
//!       `--------+--------+--------+---- vnet-web ---- H ---- 198.51.100.0/24 ---- R ---- 203.0.113.0/24 ---- O
//!                                       10.10.0.1      .1                         .254 .254                   .5
//! ```
//!
//! Who gets a connection depends on addresses and ports alone, which are the same in every run.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use vnet_tests::{
    Namespace, World,
    teller::{Line, Teller},
    traffic::{ANSWER, Outcome, Probe, SILENCE, tcp, udp},
    transfer::Pipe,
    world::rows,
};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80, 90], from = ["any"] },
  { protocol = "udp", ports = [80], from = ["any"] },
]

[ports.client]
network = "web"
addresses = ["10.10.0.9", "fd00:10::9"]
attach = { netns = "@client", create = true }

[ports.web-1]
network = "web"
addresses = ["10.10.0.11", "fd00:10::11"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[ports.web-2]
network = "web"
addresses = ["10.10.0.12", "fd00:10::12"]
security_groups = ["web"]
attach = { netns = "@web-2", create = true }

[ports.web-3]
network = "web"
addresses = ["10.10.0.13", "fd00:10::13"]
security_groups = ["web"]
attach = { netns = "@web-3", create = true }
"#;

const WEB: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Where the outside finds the list, in both versions.
const OUTSIDE: [&str; 2] = ["198.51.100.1:8080", "[2001:db8:100::1]:8080"];

/// A world in which port 8080 of all addresses leads to `to`, over TCP and UDP, with `more` keys.
fn world(to: &str, more: &str) -> World {
    let mut text = POLICY.to_owned();
    for (listen, protocol) in [("0.0.0.0", "tcp"), ("[::]", "tcp"), ("0.0.0.0", "udp"), ("[::]", "udp")] {
        let keys = format!("listen = \"{listen}:8080\"\nprotocol = \"{protocol}\"\nto = {to}\n{more}\n");
        text.push_str(&format!("\n[[forwards]]\n{keys}"));
    }
    World::running_with_outside(&text)
}

const ALL: &str = r#"["web-1:80", "web-2:80", "web-3:80"]"#;

/// The services of the three, who tell which connections they have had.
struct Services([Teller; 3]);

impl Services {
    fn start(world: &World) -> Self {
        Self(WEB.map(|name| Teller::serve(&world.port(name), 80)))
    }

    /// How often each was asked so far.
    fn asked(&self) -> [usize; 3] {
        self.0.each_ref().map(|teller| teller.asked_by().len())
    }

    /// Who answered last of all, of what `ask` asks.
    #[track_caller]
    fn who_answers(&self, ask: impl FnOnce()) -> usize {
        let before = self.asked();
        ask();
        let after = self.asked();
        let asked: Vec<usize> = (0..3).filter(|index| after[*index] > before[*index]).collect();
        let [one] = asked[..] else { panic!("asked {before:?}, then {after:?}") };
        one
    }

    /// Who has each of the connections from these ports of `from`, which stay open.
    #[track_caller]
    fn open(&self, from: &Namespace, probe: Probe, ports: impl Iterator<Item = u16>) -> Vec<(usize, Line)> {
        let open = |port| {
            let mut line = Line::open(from, port, probe);
            (self.who_answers(|| _ = line.ask(ANSWER).expect("an answer")), line)
        };
        ports.map(open).collect()
    }

    /// Asserts that who has each connection still has it.
    #[track_caller]
    fn assert_stay<'l>(&self, lines: impl Iterator<Item = &'l mut (usize, Line)>) {
        for (who, line) in lines {
            assert_eq!(self.who_answers(|| _ = line.ask(ANSWER).expect("an answer")), *who);
        }
    }
}

/// How many connections each of the three has.
fn parts(lines: &[(usize, Line)]) -> [usize; 3] {
    [0, 1, 2].map(|index| lines.iter().filter(|(who, _)| *who == index).count())
}

/// Changes whom TCP of both versions is led to.
#[track_caller]
fn set(world: &World, to: &[&str]) {
    for listen in ["0.0.0.0:8080", "[::]:8080"] {
        let mut words = vec!["forward", "set", "--listen", listen, "-p", "tcp"];
        to.iter().for_each(|backend| words.extend(["--to", backend]));
        let _ = world.ctl(&words).ok();
    }
}

#[test]
fn connections_of_a_stranger_are_spread_by_weight() {
    let world = world(r#"["web-1:80", { port = "web-2:80", weight = 2 }, "web-3:80"]"#, "");
    let services = Services::start(&world);
    let outside = world.outside();
    for to in OUTSIDE {
        for probe in [tcp(to), udp(to)] {
            let lines = services.open(&outside, probe, 7000..7200);
            let [one, two, three] = parts(&lines);
            // A fourth, a half, a fourth; the stranger's ports are always the same.
            let is_near = |count: usize, expected: usize| count.abs_diff(expected) <= expected / 3;
            assert!(
                is_near(one, 50) && is_near(two, 100) && is_near(three, 50),
                "{probe:?}: {one}, {two}, {three}"
            );
        }
    }
    // The workload sees the stranger itself.
    let by = services.0[0].asked_by();
    assert!(
        by.iter().all(|who| ["203.0.113.5", "2001:db8:5::5"].contains(&&*who.ip().to_string())),
        "{by:?}"
    );
    world.assert_forwards_nothing();
}

#[test]
fn all_connections_of_a_client_go_to_one_workload() {
    let world = world(ALL, "affinity = \"client\"");
    let services = Services::start(&world);
    for to in OUTSIDE {
        let lines = services.open(&world.outside(), tcp(to), 7000..7020);
        assert!(parts(&lines).contains(&20), "{to}: {:?}", parts(&lines));
        // The router is another client, and the host itself.
        for from in [&world.router(), world.host()] {
            let lines = services.open(from, tcp(to), std::iter::repeat_n(0, 10));
            assert!(parts(&lines).contains(&10), "{to}: {:?}", parts(&lines));
        }
    }
    let shown = world.json(&["forward", "list"]);
    assert_eq!(rows(&shown, "forwards")[0]["affinity"], "client", "{shown}");
}

#[test]
fn other_ports_and_the_host_itself_are_spread_too() {
    let world = world(ALL, "");
    let services = Services::start(&world);
    for to in ["198.51.100.1:8080", "10.10.0.1:8080", "[2001:db8:100::1]:8080", "[fd00:10::1]:8080"] {
        let lines = services.open(&world.port("client"), tcp(to), 7000..7040);
        assert!(parts(&lines).iter().all(|part| *part >= 5), "{to}: {:?}", parts(&lines));
    }
    // One of the three meets itself, too.
    let lines = services.open(&world.port("web-1"), tcp("198.51.100.1:8080"), 7000..7040);
    assert!(parts(&lines).iter().all(|part| *part >= 5), "{:?}", parts(&lines));
    // Sockets of the host differ in each run: that none of 100 meets one of three happens in 1 of 10^17.
    for to in ["127.0.0.1:8080", "198.51.100.1:8080", "[::1]:8080", "[fd00:10::1]:8080"] {
        for probe in [tcp(to), udp(to)] {
            let lines = services.open(world.host(), probe, std::iter::repeat_n(0, 100));
            assert!(parts(&lines).iter().all(|part| *part > 0), "{probe:?}: {:?}", parts(&lines));
        }
    }
    // Datagrams of one socket go to one workload.
    let socket = world.host().enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    socket.set_read_timeout(Some(ANSWER)).expect("a limit");
    let who = services.who_answers(|| {
        for _ in 0..20 {
            socket.send_to(b"marco", "127.0.0.1:8080").expect("a way");
            let (_, from) = socket.recv_from(&mut [0; 16]).expect("an answer");
            assert_eq!(from.to_string(), "127.0.0.1:8080");
        }
    });
    assert!(who < 3);
}

#[test]
fn a_workload_that_is_added_takes_no_connection_from_another() {
    let world = world("[\"web-1:80\"]", "");
    let services = Services::start(&world);
    let outside = world.outside();
    let add = ["forward", "add", "--listen", "198.51.100.1:9090", "-p", "tcp", "--to", "web-1:90"];
    let _ = world.ctl(&add).ok();
    let mut pipe = Pipe::open(&outside, "198.51.100.1:9090", (&world.port("web-1"), 90));
    let mut lines: BTreeMap<&str, Vec<(usize, Line)>> = BTreeMap::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop, pipe) = (&stop, &mut pipe);
        let transfer = scope.spawn(move || {
            let mut blocks = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                pipe.assert_carries_there(16);
                pipe.assert_carries_back(16);
                blocks += 32;
            }
            blocks
        });
        for (round, to) in [
            &["web-1"][..],
            &["web-1", "web-2"],
            &["web-1", "web-2", "web-3"],
            &["web-3=9", "web-2", "web-1"],
        ]
        .into_iter()
        .enumerate()
        {
            let targets: Vec<String> = to.iter().map(|name| name.replace("=9", ":90=9")).collect();
            let targets: Vec<String> = targets
                .into_iter()
                .map(|name| if name.contains(':') { name } else { format!("{name}:90") })
                .collect();
            let mut words = vec!["forward", "set", "--listen", "198.51.100.1:9090", "-p", "tcp"];
            targets.iter().for_each(|target| words.extend(["--to", target]));
            let _ = world.ctl(&words).ok();
            let eighty: Vec<String> = targets.iter().map(|target| target.replace(":90", ":80")).collect();
            set(&world, &eighty.iter().map(String::as_str).collect::<Vec<_>>());
            for at in OUTSIDE {
                let first = 7000 + 100 * round as u16;
                let new = services.open(&outside, tcp(at), first..first + 30);
                assert_eq!(parts(&new).iter().filter(|part| **part > 0).count(), to.len(), "{to:?}");
                let all = lines.entry(at).or_default();
                all.extend(new);
                services.assert_stay(all.iter_mut());
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(transfer.join().expect("the transfer") > 0);
    });
}

#[test]
fn only_the_connections_of_a_workload_that_is_removed_end() {
    let world = world(ALL, "");
    let services = Services::start(&world);
    let outside = world.outside();
    for to in OUTSIDE {
        set(&world, &["web-1:80", "web-2:80", "web-3:80"]);
        let mut lines = services.open(&outside, tcp(to), 7000..7060);
        set(&world, &["web-1:80", "web-2:80"]);
        for (who, line) in &mut lines {
            match who {
                2 => assert!(line.ask(SILENCE).is_err(), "{to}: it has ended"),
                _ => assert!(line.ask(ANSWER).is_ok(), "{to}: it goes on"),
            }
        }
        services.assert_stay(lines.iter_mut().filter(|(who, _)| *who != 2));
        let new = services.open(&outside, tcp(to), 7100..7140);
        assert_eq!(parts(&new).map(|part| part > 0), [true, true, false], "{to}");
    }
}

#[test]
fn a_workload_that_drains_keeps_its_connections_and_gets_no_others() {
    let world = world(ALL, "");
    let services = Services::start(&world);
    let outside = world.outside();
    for to in OUTSIDE {
        set(&world, &["web-1:80=1", "web-2:80=1", "web-3:80=1"]);
        let mut lines = services.open(&outside, tcp(to), 7000..7030);
        set(&world, &["web-1=0", "web-2", "web-3"]);
        assert!(parts(&lines)[0] > 0, "{:?}", parts(&lines));
        services.assert_stay(lines.iter_mut());
        let new = services.open(&outside, tcp(to), 7100..7140);
        assert_eq!(parts(&new).map(|part| part > 0), [false, true, true], "{to}");
        let own = services.open(world.host(), tcp(to), std::iter::repeat_n(0, 40));
        assert_eq!(parts(&own)[0], 0, "{to}: {:?}", parts(&own));
        // With all of them drained nobody gets in, and nobody is thrown out.
        set(&world, &["web-1=0", "web-2=0", "web-3=0"]);
        services.assert_stay(lines.iter_mut());
        assert_eq!(tcp(to).run(&outside, ANSWER), Outcome::Refused, "{to}");
        // One alone that drains.
        set(&world, &["web-1=0"]);
        services.assert_stay(lines.iter_mut().filter(|(who, _)| *who == 0));
    }
}

#[test]
fn connections_outlive_the_daemon_and_the_commands_tell_the_list() {
    let mut world = world(r#"["web-1:80", { port = "web-2:80", weight = 3 }]"#, "");
    let services = Services::start(&world);
    let outside = world.outside();
    let mut lines = services.open(&outside, tcp(OUTSIDE[0]), 7000..7020);
    let before = parts(&lines);
    world.kill();
    services.assert_stay(lines.iter_mut());
    world.start(&[]);
    services.assert_stay(lines.iter_mut());
    assert_eq!(parts(&services.open(&outside, tcp(OUTSIDE[0]), 7100..7120)).iter().sum::<usize>(), 20);
    assert!(before[2] == 0 && before[1] > before[0], "{before:?}");
    let generation = world.json(&["status"])["generation"].clone();
    let _ = world.ctl(&["apply"]).ok();
    assert_eq!(world.json(&["status"])["generation"], generation, "nothing has changed");
    let shown = world.ctl(&["forward", "list"]).ok();
    for words in ["web-1:80  1", "web-2:80  3"] {
        let told = shown.stdout.split_whitespace().collect::<Vec<_>>().join("  ");
        assert!(told.contains(words), "{shown}");
    }
    let listed = world.json(&["forward", "list"]);
    let backends = &rows(&listed, "forwards")[0]["backends"];
    assert_eq!(
        (&backends[1]["weight"], &backends[1]["address"]),
        (&3.into(), &"10.10.0.12".into()),
        "{listed}"
    );
    let text = world.policy_text();
    world.write_policy(&text.replace("weight = 3", "weight = 4"));
    let told = world.ctl(&["diff"]).fails_with(1);
    assert!(told.stdout.contains("backend web-2: weight changed from 3 to 4"), "{told}");
}
