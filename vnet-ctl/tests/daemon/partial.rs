//! Changes that fail in the middle, by a device that does not do as it is told.

use std::{fs, net::UdpSocket};

use vnet_ctl::api::types::{PortInfo, Status};

use crate::{
    support::{in_netns, ip, output},
    world::{World, links, policy},
};

/// A VXLAN device cannot be brought up while its UDP port is taken.
const UDP_PORT: u16 = 4790;

#[test]
fn a_device_that_does_not_come_up_takes_the_whole_change_back() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        ip(&format!("link add vx0 type vxlan id 5 dstport {UDP_PORT}"));
        let taken = UdpSocket::bind(("0.0.0.0", UDP_PORT)).unwrap();
        let state = || fs::read_to_string(scratch.dir().join("state/state.json")).unwrap();
        let pins = || fs::read_dir(scratch.pins().links()).unwrap().count();
        let look = |world: &World<'_>| (links(), state(), pins(), world.get::<Vec<PortInfo>>("/v1/ports"));
        let before = look(&world);
        // The group of the first port changes as well: a step before the one that fails.
        let changed = policy(&world.tag).replace("[80]", "[81]");
        let text = format!(
            "{changed}\n[networks.more]\ntype = \"private\"\nsubnets = [\"10.99.0.0/24\"]\nmtu = 1400\n\
             [ports.remote]\nnetwork = \"more\"\nattach = {{ device = \"vx0\" }}\n"
        );

        let (status, body) = world.apply(&text);

        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 500, "{body}");
        assert!(body.contains("bring vx0 up") && body.contains("the old policy is in force again"), "{body}");
        assert_eq!(look(&world), before);
        assert!(!output("ip link show vx0").contains("master"), "it is off the bridge again");
        let generation = world.get::<Status>("/v1/status").generation;

        drop(taken);
        assert!(world.applied(&text).generation > generation);
        assert!(output("ip link show vx0").contains("master vnet-more"));
    });
}
