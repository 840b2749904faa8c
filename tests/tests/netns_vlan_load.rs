//! Much data and long packets across a trunk: no byte is spoiled, whatever the devices do for their stacks.

use std::collections::BTreeSet;

use vnet_common::DropReason;
use vnet_tests::{Namespace, Pair, World, soak::size, transfer::Pipe, watch::Watch, world::shell};

const POLICY: &str = r#"
version = 1

[networks.red]
type = "private"
subnets = ["10.41.0.0/24", "fd00:41::/64"]
gateway = ["10.41.0.<1|2>", "fd00:41::<1|2>"]
vlan = [100, 10]
trunk = "eth1"
mtu = 1500

[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]

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
"#;

/// What a device can do for the stack.
const OFFLOADS: [&str; 5] = ["tx", "rx", "tso", "gso", "gro"];
/// Sends a datagram that may not be fragmented, and prints what the kernel says to it.
const DATAGRAM: &str = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
    s.setsockopt(0, 10, 2); s.sendto(bytes(int(sys.argv[2])), (sys.argv[1], 7))";

/// Every device on the way, with its namespace.
fn way(pair: &Pair) -> Vec<(Namespace, String)> {
    let of = |world: &World, port: &str| {
        let host = world.host().clone();
        [(world.port(port), "eth0".to_owned()), (host.clone(), world.device(port)), (host, "eth1".to_owned())]
    };
    [of(&pair.near, "a"), of(&pair.far, "b")].concat()
}

/// Turns each offload of each device on or off.
fn set(devices: &[(Namespace, String)], value: &str) {
    for (namespace, device) in devices {
        for offload in OFFLOADS {
            let _ = namespace.exec(&["ethtool", "-K", device, offload, value]).ok();
        }
    }
}

/// `blocks` MiB each way, IPv4 and IPv6.
fn carries(pair: &Pair, blocks: u64) {
    let (a, b) = (&pair.near.port("a"), &pair.far.port("b"));
    for address in ["10.41.0.11:7002", "[fd00:41::b]:7002"] {
        let mut pipe = Pipe::open(a, address, (b, 7002));
        pipe.assert_carries_there(blocks);
        pipe.assert_carries_back(blocks);
    }
}

/// The lengths of the IP packets with a's data that come by the trunk in 4 MiB of it.
fn lengths_on_trunk(pair: &Pair) -> BTreeSet<usize> {
    let watch = Watch::start(pair.far.host(), "eth1", |packet| packet.protocol == 6);
    let mut pipe = Pipe::open(&pair.near.port("a"), "10.41.0.11:7003", (&pair.far.port("b"), 7003));
    pipe.assert_carries_there(4);
    let seen = watch.finish().picked;
    // Two tags.
    seen.iter().map(|packet| packet.frame.len() - 14 - 8).collect()
}

#[test]
fn offloads_spoil_no_byte_and_segments_stay_whole() {
    let pair = Pair::on_a_trunk(POLICY).started();
    let way = way(&pair);
    set(&way, "on");
    carries(&pair, size(256, 1024));
    let longest = lengths_on_trunk(&pair).pop_last();
    assert!(longest > Some(9000), "{longest:?}: they are cut by the last device only");
    // What one end leaves to be done, the other has to do: a veth hands on what its peer left undone.
    for count in 1..=way.len() {
        set(&way[..count], "off");
        carries(&pair, size(16, 256));
    }
    assert_eq!(lengths_on_trunk(&pair).pop_last(), Some(1500));
}

#[test]
fn jumbo_frames_cross_the_trunk() {
    let pair = Pair::on_a_trunk(&POLICY.replace("mtu = 1500", "mtu = 9000"));
    for world in [&pair.near, &pair.far] {
        shell(world.host(), "ip link set eth1 mtu 9000");
    }
    let pair = pair.started();
    set(&way(&pair), "off");
    carries(&pair, size(64, 1024));
    assert_eq!(lengths_on_trunk(&pair).pop_last(), Some(9000));
    let _ = pair.near.exec("a", &["ping", "-c", "1", "-M", "do", "-s", "8972", "10.41.0.11"]).ok();
    let refused = pair.near.exec("a", &["python3", "-c", DATAGRAM, "10.41.0.11", "8973"]).refused();
    let _ = refused.says(&["Message too long"]);
    assert_eq!(pair.near.drops(DropReason::TooBig) + pair.far.drops(DropReason::TooBig), 0);
}
