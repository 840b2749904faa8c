//! Ports that take part in several networks by tagged frames: who reaches them, and what is on the wire.
//!
//! ```text
//!     router ---- tap0 --- own, untagged ---- o
//!                      |-- red, VLAN 10 ----- a, db, shut ==== eth1 ==== far ---- b
//!                      '-- blue, VLAN 20 ---- c ============== eth1 ==== far ---- d
//! ```
//!
//! The router is a machine with a device for each network, or the test itself. shut is a port of the same kind in a
//! namespace, whose group admits nobody. In `green`, VLAN 30, is e alone.

mod many;
mod reach;
mod refusals;

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_tests::{
    Pair, eventually,
    frames::{CUSTOMER_TAG, MacAddr},
    machine::{Device, Machine},
    raw::RawSocket,
    tap::Tap,
};

const POLICY: &str = r#"
version = 1

[networks.own]
type = "private"
subnets = ["10.40.0.0/24", "fd00:40::/64"]

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

[networks.green]
type = "private"
subnets = ["10.43.0.0/24", "fd00:43::/64"]
vlan = 30
trunk = "eth1"

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

[security_groups.router]
ingress = [
  { protocol = "tcp", ports = [7000], from = ["any"] },
  { protocol = "udp", ports = [5353, 7000], from = ["any"] },
  { protocol = "icmp", icmp_type = 8, from = ["any"] },
  { protocol = "icmpv6", icmp_type = 128, from = ["any"] },
]

[security_groups.db]
ingress = [{ protocol = "tcp", ports = [5432], from = ["sg:router"] }]

[security_groups.closed]

<[ports.router]
network = "own"
vlans = ["red", "blue"]
addresses = ["10.40.0.9", "fd00:40::9", "10.41.0.9", "fd00:41::9", "10.42.0.9", "fd00:42::9"]
mac = "02:00:00:00:00:09"
security_groups = ["router"]
attach = { device = "tap0" }

[ports.shut]
network = "own"
vlans = ["red"]
addresses = ["10.40.0.8", "10.41.0.8", "fd00:41::8"]
mac = "02:00:00:00:00:08"
security_groups = ["closed"]
attach = { netns = "@shut", create = true }

[ports.o]
network = "own"
addresses = ["10.40.0.10", "fd00:40::a"]
security_groups = ["open"]
attach = { netns = "@o", create = true }

[ports.db]
network = "red"
addresses = ["10.41.0.13", "fd00:41::d"]
security_groups = ["db"]
attach = { netns = "@db", create = true }

[ports.e]
network = "green"
addresses = ["10.43.0.10", "fd00:43::a"]
security_groups = ["open"]
attach = { netns = "@e", create = true }
|>
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
"#;

const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SHUT: MacAddr = MacAddr([2, 0, 0, 0, 0, 8]);
const NO_MAC: MacAddr = MacAddr([0; 6]);

/// The router in one of its networks.
#[derive(Clone, Copy)]
struct Seat {
    network: &'static str,
    tags: &'static [(u16, u16)],
    own: [&'static str; 2],
    gateway: [&'static str; 2],
    /// An access port there, on the same host.
    port: &'static str,
    addresses: [&'static str; 2],
}

const OWN: Seat = Seat {
    network: "own",
    tags: &[],
    own: ["10.40.0.9", "fd00:40::9"],
    gateway: ["10.40.0.1", "fd00:40::1"],
    port: "o",
    addresses: ["10.40.0.10", "fd00:40::a"],
};
const RED: Seat = Seat {
    network: "red",
    tags: &[(CUSTOMER_TAG, 10)],
    own: ["10.41.0.9", "fd00:41::9"],
    gateway: ["10.41.0.1", "fd00:41::1"],
    port: "a",
    addresses: ["10.41.0.10", "fd00:41::a"],
};
const BLUE: Seat = Seat {
    network: "blue",
    tags: &[(CUSTOMER_TAG, 20)],
    own: ["10.42.0.9", "fd00:42::9"],
    gateway: ["10.42.0.1", "fd00:42::1"],
    port: "c",
    addresses: ["10.42.0.10", "fd00:42::a"],
};
const SEATS: [Seat; 3] = [OWN, RED, BLUE];

/// The router behind the tap `card`, a port of the near host.
fn boot(pair: &Pair, card: Tap) -> Machine {
    pair.near.create_namespace("router");
    let devices = SEATS.map(|Seat { network, tags, own, .. }| Device {
        name: network,
        vlan: tags.first().map(|(_, vlan)| *vlan),
        addresses: own,
    });
    Machine::boot(&pair.near.port("router"), card, ROUTER, &devices)
}

/// The near host with its daemon and the router, and nothing running on the far one.
fn on_one_host() -> (Pair, Machine) {
    let mut pair = Pair::on_a_trunk(POLICY);
    let card = Tap::create(pair.near.host(), "tap0");
    pair.near.start(&[]);
    let machine = boot(&pair, card);
    (pair, machine)
}

/// Both hosts with their daemons, and the router.
fn on_two_hosts() -> (Pair, Machine) {
    let pair = Pair::on_a_trunk(POLICY);
    let card = Tap::create(pair.near.host(), "tap0");
    let pair = pair.started();
    let machine = boot(&pair, card);
    (pair, machine)
}

fn parsed([v4, v6]: [&str; 2]) -> (Ipv4Addr, Ipv6Addr) {
    (v4.parse().expect("an IPv4 address"), v6.parse().expect("an IPv6 address"))
}

/// All that `wire` has seen until `last`.
fn heard_until(wire: &RawSocket, last: &[u8]) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    eventually("the last frame", || {
        heard.extend(wire.pending());
        heard.iter().any(|frame| frame == last).then_some(())
    });
    heard
}
