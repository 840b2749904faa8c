//! Two hosts, each a [`World`] with a daemon of its own, and what joins them: a trunk, or routers that know the hosts
//! alone.
//!
//! One policy is for all of them: of `<X|Y>` it says X on the near host and Y on the far one.
//!
//! ```text
//!       near                        far         near            R             far
//!     eth1 ------- the trunk ------ eth1      eth0 ------ h0         h1 ------ eth0
//!                                             198.51.100.1/24       203.0.113.1/24
//!                                             2001:db8:100::1/64    2001:db8:200::1/64
//! ```

use crate::{
    Namespace, World, eventually,
    world::{allow_forwarding, shell, wire},
};

/// Addresses of the hosts on their ways to the router.
pub const UNDERLAY: [[&str; 2]; 3] = [
    ["198.51.100.1", "2001:db8:100::1"],
    ["203.0.113.1", "2001:db8:200::1"],
    ["192.0.2.1", "2001:db8:300::1"],
];
/// The router's own on these ways.
const ROUTER: [[&str; 2]; 3] = [
    ["198.51.100.254", "2001:db8:100::fe"],
    ["203.0.113.254", "2001:db8:200::fe"],
    ["192.0.2.254", "2001:db8:300::fe"],
];

/// Two hosts.
#[derive(Debug)]
pub struct Pair {
    /// One of them.
    pub near: World,
    /// The other one.
    pub far: World,
}

impl Pair {
    /// Hosts with a trunk between them, and nothing running.
    ///
    /// # Panics
    /// When a namespace, device or folder cannot be made.
    #[must_use]
    pub fn on_a_trunk(policy: &str) -> Self {
        let [near, far] = [0, 1].map(|index| World::prepare(&choose(policy, index)));
        let pair = Self { near, far };
        pair.lay_trunk();
        for world in [&pair.near, &pair.far] {
            allow_forwarding(world.host(), false);
        }
        pair
    }

    /// Lays the trunk between the hosts anew.
    ///
    /// # Panics
    /// When there is one.
    pub fn lay_trunk(&self) {
        let there = self.far.netns_name("host");
        shell(self.near.host(), &format!("ip link add eth1 type veth peer name eth1 netns {there}"));
        for world in [&self.near, &self.far] {
            // The trunk itself says nothing: whatever is on the wire is vnet's.
            shell(world.host(), "echo 1 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6; ip link set eth1 up");
        }
        for world in [&self.near, &self.far] {
            eventually("the trunk to be up", || {
                let shown = world.host_exec(&["ip", "-oneline", "link", "show", "dev", "eth1"]).ok().stdout;
                shown.contains("state UP").then_some(())
            });
        }
    }

    /// Hosts that reach each other by a router, and nothing running.
    ///
    /// # Panics
    /// When a namespace, device or folder cannot be made.
    #[must_use]
    pub fn across_a_router(policy: &str) -> Self {
        let [near, far] = [0, 1].map(|index| World::prepare(&choose(policy, index)));
        join(&[&near, &far]);
        Self { near, far }
    }

    /// The hosts, once their daemons have put the policy into force.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    pub fn started(mut self) -> Self {
        start([&mut self.near, &mut self.far]);
        self
    }

    /// The router between the hosts.
    #[must_use]
    pub fn router(&self) -> Namespace {
        self.near.port("router")
    }
}

/// Starts the daemons of `hosts` beside each other, and waits until each answers and the addresses of its ports are usable.
///
/// # Panics
/// When one ends, or is not ready in time.
pub fn start<'a>(hosts: impl IntoIterator<Item = &'a mut World>) {
    let mut hosts: Vec<_> = hosts.into_iter().collect();
    hosts.iter_mut().for_each(|world| world.spawn(&[]));
    for world in hosts {
        world.wait_until_ready();
        world.wait_for_addresses();
    }
}

/// Joins `hosts` by a router, a namespace of the first one, that knows the way to [`UNDERLAY`] alone: to the host number
/// `n` by its device `hN`.
///
/// # Panics
/// When a namespace or device cannot be made.
pub fn join(hosts: &[&World]) {
    hosts[0].create_namespace("router");
    let (router, name) = (hosts[0].port("router"), hosts[0].netns_name("router"));
    let with_lengths = |[v4, v6]: [&str; 2]| [format!("{v4}/24"), format!("{v6}/64")];
    for (index, world) in hosts.iter().enumerate() {
        allow_forwarding(world.host(), false);
        shell(world.host(), &format!("ip link add eth0 type veth peer name h{index} netns {name}"));
        let [own, gateways] = [UNDERLAY[index], ROUTER[index]];
        wire(world.host(), "eth0", with_lengths(own).each_ref().map(String::as_str));
        wire(&router, &format!("h{index}"), with_lengths(gateways).each_ref().map(String::as_str));
        for gateway in gateways {
            shell(world.host(), &format!("ip route add default via {gateway}"));
        }
    }
    allow_forwarding(&router, true);
}

/// What `policy` says to the host number `index`: of each `<X|Y>` one part.
///
/// # Panics
/// When it has too few parts.
#[must_use]
pub fn choose(policy: &str, index: usize) -> String {
    let mut text = String::new();
    let mut rest = policy;
    while let Some((before, choice)) = rest.split_once('<') {
        let (parts, after) = choice.split_once('>').expect("a choice has an end");
        text.push_str(before);
        text.push_str(parts.split('|').nth(index).expect("a part for each host"));
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_gets_its_part() {
        let text = "gateway = [\"<10.0.0.1|10.0.0.2>\"]\nattach = <{ remote = true }|{ netns = \"@b\" }>\n";
        assert_eq!(choose(text, 0), "gateway = [\"10.0.0.1\"]\nattach = { remote = true }\n");
        assert_eq!(choose(text, 1), "gateway = [\"10.0.0.2\"]\nattach = { netns = \"@b\" }\n");
    }
}
