//! What holds on every kind of segment alike: a VLAN of a trunk, and an overlay between hosts that have only IP between
//! them.

use std::{fmt::Write as _, net::UdpSocket, thread};

use nix::sys::socket::{setsockopt, sockopt};
use vnet_tests::{
    Pair, World,
    frames::{Eth, MacAddr, parse_mac, udp4},
    pair::UNDERLAY,
    raw::RawSocket,
    soak::size,
    traffic::{ANSWER, Outcome, ping},
};

const POLICY: &str = r#"
version = 1

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]

[networks.red]
type = "private"
subnets = ["10.41.0.0/22"]
gateway = ["10.41.0.<1|2>"]
"#;

#[derive(Clone, Copy)]
enum Segment {
    Vlan,
    Overlay,
}

impl Segment {
    /// Two hosts with `ports` on it, whose daemons have put that into force.
    fn pair(self, ports: &str) -> Pair {
        match self {
            Self::Vlan => {
                let network = "vlan = [100, 10]\ntrunk = \"eth1\"\n";
                Pair::on_a_trunk(&[POLICY, network, ports].concat()).started()
            }
            Self::Overlay => {
                let [[near, _], [far, _], _] = UNDERLAY;
                let network = format!("vni = 5001\npeers = [\"<{far}|{near}>\"]\nuplink = \"eth0\"\n");
                Pair::across_a_router(&[POLICY, &network, ports].concat()).started()
            }
        }
    }
}

/// A port of the group `group`, with the address number `at`, on the near (0) or far (1) host.
fn port(name: &str, group: &str, at: usize, host: usize) -> String {
    let (here, there) = (format!("{{ netns = \"@{name}\", create = true }}"), "{ remote = true }");
    let attach = if host == 0 { format!("<{here}|{there}>") } else { format!("<{there}|{here}>") };
    let address = address(at);
    format!(
        "\n[ports.{name}]\nnetwork = \"red\"\naddresses = [\"{address}\"]\nsecurity_groups = [\"{group}\"]\n\
         attach = {attach}\n"
    )
}

/// The address number `at` of the network.
fn address(at: usize) -> String {
    format!("10.41.{}.{}", at / 256, at % 256)
}

/// A UDP socket of the host's own on the bridge of the network.
fn on_bridge(world: &World, port: u16) -> UdpSocket {
    world.host().enter(|| {
        let socket = UdpSocket::bind(("0.0.0.0", port)).expect("bind");
        setsockopt(&socket, sockopt::BindToDevice, &"vnet-red".into()).expect("bind to the bridge");
        socket.set_broadcast(true).expect("broadcast");
        socket.set_read_timeout(Some(ANSWER)).expect("a limit");
        socket
    })
}

/// A message of DHCP (RFC 2131 section 2) that is of the operation `operation` and the type `kind`.
fn dhcp(operation: u8, kind: u8, client: MacAddr) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[operation, 1, 6, 0]);
    // The client wants its answer to be broadcast.
    message[10] = 0x80;
    message[28..34].copy_from_slice(&client.0);
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(&[53, 1, kind, 255]);
    message
}

/// Asks from `name`, a workload of the near host, for an address, and is offered one by the far host.
fn leases(pair: &Pair, name: &str) {
    let client = pair.near.port(name);
    let mac = parse_mac(&pair.near.mac(&client, "eth0"));
    let (wire, server) = (RawSocket::open(&client, "eth0"), on_bridge(&pair.far, 67));
    let [any, all] = [[0; 4].into(), [255; 4].into()];
    wire.send(&udp4(Eth::broadcast(mac), (any, 68), (all, 67), &dhcp(1, 1, mac)));
    let mut asked = [0; 512];
    let (len, _) = server.recv_from(&mut asked).expect("a DISCOVER");
    assert_eq!(asked[..len], dhcp(1, 1, mac)[..]);
    let offer = dhcp(2, 2, mac);
    server.send_to(&offer, "255.255.255.255:68").expect("an OFFER");
    wire.receive("OFFER", |frame| frame.ends_with(&offer));
}

/// DHCP of the other host reaches workloads, whatever their groups say.
fn dhcp_crosses(segment: Segment) {
    let pair = segment.pair(&[port("a", "open", 10, 0), port("web", "web", 11, 0)].concat());
    leases(&pair, "a");
    leases(&pair, "web");
}

#[test]
fn dhcp_crosses_a_vlan() {
    dhcp_crosses(Segment::Vlan);
}

#[test]
fn dhcp_crosses_an_overlay() {
    dhcp_crosses(Segment::Overlay);
}

/// Each of many ports on one host reaches its counterpart on the other, all at once.
fn many_reach_their_counterparts(segment: Segment) {
    let count = size(50, 200);
    let ports = (0..count).fold(String::new(), |mut text, number| {
        let near = port(&format!("p{number}"), "open", 10 + number, 0);
        let far = port(&format!("q{number}"), "open", 510 + number, 1);
        let _ = write!(text, "{near}{far}");
        text
    });
    let pair = segment.pair(&ports);
    let failed: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = (0..count)
            .map(|number| {
                let (from, to) = (pair.near.port(&format!("p{number}")), address(510 + number));
                scope.spawn(move || (number, ping(&to).run(&from, ANSWER)))
            })
            .collect();
        let outcomes = started.into_iter().map(|thread| thread.join().expect("an outcome"));
        outcomes.filter(|(_, outcome)| *outcome != Outcome::Answered).collect()
    });
    assert!(failed.is_empty(), "{} of {count}: {failed:?}", failed.len());
}

#[test]
fn each_of_many_ports_reaches_its_counterpart_in_a_vlan() {
    many_reach_their_counterparts(Segment::Vlan);
}

#[test]
fn each_of_many_ports_reaches_its_counterpart_in_an_overlay() {
    many_reach_their_counterparts(Segment::Overlay);
}
