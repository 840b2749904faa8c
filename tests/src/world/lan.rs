//! A LAN for the world's host: a switch, the LAN's router with an outside behind it, and one more station.
//!
//! ```text
//!                    the switch
//!     H (the host)      .---.         R (router)                O (outside)
//!     eth0 -------------|   |-------- eth0      o0 ------------ eth0
//!     198.51.100.1/24   |   |         198.51.100.254            203.0.113.5/24
//!     2001:db8:100::1   |   |         2001:db8:100::fe          2001:db8:5::5/64
//!                       |   |
//!     S (station)       |   |
//!     eth0 -------------'---'
//!     198.51.100.77/24
//!     2001:db8:100::77
//! ```
//!
//! The switch is a Linux bridge that passes tags. The host and the station leave by R; the host forwards nothing.

use super::{
    World,
    outside::{allow_forwarding, shell, wire},
};
use crate::Namespace;

impl World {
    /// A host on a LAN and the policy file `policy`, and nothing running.
    ///
    /// # Panics
    /// When a namespace, device or folder cannot be made.
    #[must_use]
    pub fn with_lan(policy: &str) -> Self {
        let world = Self::prepare(policy);
        for name in ["switch", "router", "station", "outside"] {
            world.create_namespace(name);
        }
        world.allow_forwarding(false);
        shell(&world.port("switch"), "ip link add lan type bridge; ip link set lan up");
        for (namespace, name) in
            [(world.host(), "host"), (&world.router(), "router"), (&world.station(), "station")]
        {
            world.plug(namespace, ("eth0", name));
        }
        wire(world.host(), "eth0", ["198.51.100.1/24", "2001:db8:100::1/64"]);
        wire(&world.router(), "eth0", ["198.51.100.254/24", "2001:db8:100::fe/64"]);
        wire(&world.station(), "eth0", ["198.51.100.77/24", "2001:db8:100::77/64"]);
        let outside = world.netns_name("outside");
        shell(&world.router(), &format!("ip link add o0 type veth peer name eth0 netns {outside}"));
        wire(&world.router(), "o0", ["203.0.113.254/24", "2001:db8:5::fe/64"]);
        wire(&world.outside(), "eth0", ["203.0.113.5/24", "2001:db8:5::5/64"]);
        allow_forwarding(&world.router(), true);
        for namespace in [world.host(), &world.station()] {
            shell(namespace, "ip route add default via 198.51.100.254");
            shell(namespace, "ip route add default via 2001:db8:100::fe");
        }
        shell(&world.outside(), "ip route add default via 203.0.113.254");
        shell(&world.outside(), "ip route add default via 2001:db8:5::fe");
        world
    }

    /// A host on a LAN, whose daemon has put `policy` into force.
    ///
    /// # Panics
    /// When the daemon does not come up.
    #[must_use]
    pub fn running_with_lan(policy: &str) -> Self {
        let mut world = Self::with_lan(policy);
        world.start(&[]);
        world
    }

    /// The one more station on the LAN.
    #[must_use]
    pub fn station(&self) -> Namespace {
        self.port("station")
    }

    /// Joins a new interface of `namespace` with a new port of the switch that is called `p-` and a name.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn plug(&self, namespace: &Namespace, (interface, port): (&str, &str)) {
        let switch = self.netns_name("switch");
        shell(namespace, &format!("ip link add {interface} type veth peer name p-{port} netns {switch}"));
        shell(&self.port("switch"), &format!("ip link set p-{port} master lan up"));
    }
}
