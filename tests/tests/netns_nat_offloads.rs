//! Every byte arrives through SNAT and through a forward, whatever the devices on the way do for their
//! stacks: checksums, segmentation, and their opposites.

use std::slice;

use vnet_tests::{Namespace, World, soak::size, transfer::Pipe};

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
uplink = "eth0"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]

[ports.web-1]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "@web-1", create = true }

[[forwards]]
listen = "0.0.0.0:8080"
protocol = "tcp"
to = "web-1:80"

[[forwards]]
listen = "[::]:8080"
protocol = "tcp"
to = "web-1:80"
"#;

/// What a device can do for the stack.
const OFFLOADS: [&str; 5] = ["tx", "rx", "tso", "gso", "gro"];

/// Every device on the way, with its namespace.
fn way(world: &World) -> Vec<(Namespace, String)> {
    let device = world.device("web-1");
    let (host, router) = (world.host(), world.router());
    vec![
        (world.port("web-1"), "eth0".to_owned()),
        (host.clone(), device),
        (host.clone(), "eth0".to_owned()),
        (router.clone(), "h0".to_owned()),
        (router, "o0".to_owned()),
        (world.outside(), "eth0".to_owned()),
    ]
}

/// Turns each offload on or off.
fn set(devices: &[(Namespace, String)], value: &str) {
    for (namespace, device) in devices {
        for offload in OFFLOADS {
            let _ = namespace.exec(&["ethtool", "-K", device, offload, value]).ok();
        }
    }
}

/// 100 MiB each way through SNAT, and through a forward; IPv6 a part of it.
fn carries(world: &World) {
    let (web, outside) = (&world.port("web-1"), &world.outside());
    for (out, back, blocks) in [
        ("203.0.113.5:7002", "198.51.100.1:8080", 100),
        ("[2001:db8:5::5]:7002", "[2001:db8:100::1]:8080", size(10, 100)),
    ] {
        let mut pipe = Pipe::open(web, out, (outside, 7002));
        pipe.assert_carries_there(blocks);
        pipe.assert_carries_back(blocks);
        let mut pipe = Pipe::open(outside, back, (web, 80));
        pipe.assert_carries_there(blocks);
        pipe.assert_carries_back(blocks);
    }
}

#[test]
fn offloads_all_on_spoil_no_byte() {
    let world = World::running_with_outside(POLICY);
    set(&way(&world), "on");
    carries(&world);
}

#[test]
fn offloads_all_off_spoil_no_byte() {
    let world = World::running_with_outside(POLICY);
    set(&way(&world), "off");
    carries(&world);
}

#[test]
fn offloads_of_some_devices_only_spoil_no_byte() {
    // What one end leaves to be done, the other has to do: a veth hands on what its peer left undone.
    for count in [1, 2, 3] {
        let world = World::running_with_outside(POLICY);
        let way = way(&world);
        set(&way, "on");
        way[..count].iter().for_each(|one| set(slice::from_ref(one), "off"));
        carries(&world);
    }
}
