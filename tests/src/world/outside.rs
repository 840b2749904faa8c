//! An outside for the world's host: a router on the host's wire, and a stranger behind it.
//!
//! ```text
//!       H (the host)                  R (the router)                    O (outside)
//!     eth0 ------------------------ h0          o0 ------------------------ eth0
//!     198.51.100.1/24      198.51.100.254/24    203.0.113.254/24    203.0.113.5/24
//!     2001:db8:100::1/64   2001:db8:100::fe/64  2001:db8:5::fe/64   2001:db8:5::5/64
//! ```
//!
//! The host leaves by R; R and O know the way to public addresses only, so nobody there could answer
//! a private one. The host forwards nothing: vnet does not need it to.

use std::fs;

use super::World;
use crate::Namespace;

/// What the host itself would forward.
const FORWARDING: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

impl World {
    /// A host with an outside and the policy file `policy`, and nothing running.
    ///
    /// # Panics
    /// When a namespace, device or folder cannot be made.
    #[must_use]
    pub fn with_outside(policy: &str) -> Self {
        let world = Self::prepare(policy);
        for name in ["router", "outside"] {
            world.create_namespace(name);
        }
        let (router, outside) = (world.netns_name("router"), world.netns_name("outside"));
        world.allow_forwarding(false);
        shell(world.host(), &format!("ip link add eth0 type veth peer name h0 netns {router}"));
        shell(&world.router(), &format!("ip link add o0 type veth peer name eth0 netns {outside}"));
        wire(world.host(), "eth0", ["198.51.100.1/24", "2001:db8:100::1/64"]);
        wire(&world.router(), "h0", ["198.51.100.254/24", "2001:db8:100::fe/64"]);
        wire(&world.router(), "o0", ["203.0.113.254/24", "2001:db8:5::fe/64"]);
        wire(&world.outside(), "eth0", ["203.0.113.5/24", "2001:db8:5::5/64"]);
        allow_forwarding(&world.router(), true);
        shell(world.host(), "ip route add default via 198.51.100.254");
        shell(world.host(), "ip route add default via 2001:db8:100::fe");
        shell(&world.outside(), "ip route add 198.51.100.0/24 via 203.0.113.254");
        shell(&world.outside(), "ip route add 2001:db8:100::/64 via 2001:db8:5::fe");
        world
    }

    /// A host with an outside, whose daemon has put `policy` into force.
    ///
    /// # Panics
    /// When the daemon does not come up.
    #[must_use]
    pub fn running_with_outside(policy: &str) -> Self {
        let mut world = Self::with_outside(policy);
        world.start(&[]);
        world
    }

    /// The router: `h0` leads to the host, `o0` to the outside.
    #[must_use]
    pub fn router(&self) -> Namespace {
        self.port("router")
    }

    /// The stranger behind the router.
    #[must_use]
    pub fn outside(&self) -> Namespace {
        self.port("outside")
    }

    /// From now on the router takes `prefix` to be behind the host, and the stranger behind the router.
    ///
    /// # Panics
    /// When the kernel refuses the routes.
    pub fn lead_to_host(&self, prefix: &str) {
        let v6 = prefix.contains(':');
        let (host, router) =
            if v6 { ("2001:db8:100::1", "2001:db8:5::fe") } else { ("198.51.100.1", "203.0.113.254") };
        shell(&self.router(), &format!("ip route add {prefix} via {host}"));
        shell(&self.outside(), &format!("ip route add {prefix} via {router}"));
    }

    /// Whether the host's own stack forwards from now on.
    ///
    /// # Panics
    /// When the settings cannot be written.
    pub fn allow_forwarding(&self, allowed: bool) {
        allow_forwarding(self.host(), allowed);
    }

    /// Asserts that the host's own stack forwards nothing, as it did not before.
    ///
    /// # Panics
    /// When it does.
    #[track_caller]
    pub fn assert_forwards_nothing(&self) {
        let read = |path| fs::read_to_string(path).expect("read whether it forwards").trim().to_owned();
        let settings = self.host().enter(|| FORWARDING.map(read));
        assert_eq!(settings, ["0", "0"], "{FORWARDING:?}");
    }

    /// The MAC of `device` in `namespace`, as iproute2 writes it.
    ///
    /// # Panics
    /// When there is no such device.
    #[must_use]
    pub fn mac(&self, namespace: &Namespace, device: &str) -> String {
        let links = namespace.exec(&["ip", "-json", "link", "show", "dev", device]).ok().json();
        links[0]["address"].as_str().expect("a MAC").to_owned()
    }
}

/// Runs a line of shell in `namespace`.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn shell(namespace: &Namespace, line: &str) {
    let _ = namespace.exec(&["sh", "-ec", line]).ok();
}

/// Brings `device` up with `addresses`, which are of use at once: nobody else is on the wire.
pub(crate) fn wire(namespace: &Namespace, device: &str, addresses: [&str; 2]) {
    let mut script = format!("echo 0 > /proc/sys/net/ipv6/conf/{device}/accept_dad; ip link set {device} up");
    for address in addresses {
        script.push_str(&format!("; ip addr add {address} dev {device}"));
    }
    shell(namespace, &script);
}

pub(crate) fn allow_forwarding(namespace: &Namespace, allowed: bool) {
    let value = if allowed { "1" } else { "0" };
    namespace.enter(|| {
        for path in FORWARDING {
            fs::write(path, value).expect("say whether to forward");
        }
    });
}
