//! The namespaces of a peer and the wires between them, the same for each: A, B, and S between them, or two hosts.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use vnet_tests::{Namespace, World, pair::choose};

use crate::shell::sh;

/// Below everything: no router advertisements, no duplicate address detection, no multicast in between; ports
/// for 64,000 connections, and none that stays in TIME-WAIT at the client.
const ENDS: &str = "
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
echo '1024 65535' > /proc/sys/net/ipv4/ip_local_port_range
echo '7000-7099' > /proc/sys/net/ipv4/ip_local_reserved_ports
echo 0 > /proc/sys/net/ipv4/tcp_max_tw_buckets";

/// MACs of A's and B's ends, and of the switch's towards them.
pub(crate) const MAC_A: &str = "02:00:00:00:0a:00";
pub(crate) const MAC_B: &str = "02:00:00:00:0b:00";
/// The addresses of two hosts on the wire between them.
pub(crate) const UNDERLAY: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// Who is client, who is server, and which address leads there.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Where the client runs.
    pub(crate) client: Namespace,
    /// Where the server runs.
    pub(crate) server: Namespace,
    /// Whom the client asks.
    pub(crate) target: Ipv4Addr,
}

/// A, S and B. They go away with this.
pub(crate) struct Place {
    world: World,
    /// The other one of two hosts.
    other: Option<World>,
}

impl Place {
    /// A and B with a wire each to S, which does nothing yet and has `policy` for a vnet to come.
    pub(crate) fn new(policy: &str) -> Result<Self> {
        let place = Self::without_wires(policy)?;
        place.plug_in(&place.world, ("a", "va", MAC_A))?;
        place.plug_in(&place.world, ("b", "vb", MAC_B))?;
        Ok(place)
    }

    /// A with a wire to S, B with one to the other host, and a wire `under` between the hosts, which do nothing
    /// yet. Each has its part of `policy` (see [`choose`]) for a vnet to come.
    pub(crate) fn two_hosts(policy: &str) -> Result<Self> {
        let other = World::prepare(&choose(policy, 1));
        let place = Self::without_wires(&choose(policy, 0))?;
        place.plug_in(&place.world, ("a", "va", MAC_A))?;
        place.plug_in(&other, ("b", "vb", MAC_B))?;
        let there = other.netns_name("host");
        let wire = format!("ip link add under mtu 1550 type veth peer name under mtu 1550 netns {there}");
        sh(place.switch(), &wire)?;
        for (host, address) in [place.switch(), other.host()].into_iter().zip(UNDERLAY) {
            sh(host, &format!("ip link set under up; ip addr add {address}/24 dev under"))?;
        }
        Ok(Self { other: Some(other), ..place })
    }

    /// A and B with a wire from one to the other.
    pub(crate) fn direct() -> Result<Self> {
        let place = Self::without_wires("version = 1\n")?;
        let b = place.world.netns_name("b");
        let wire =
            format!("ip link add eth0 address {MAC_A} type veth peer name eth0 address {MAC_B} netns {b}");
        sh(&place.a(), &wire)?;
        Ok(place)
    }

    fn without_wires(policy: &str) -> Result<Self> {
        let world = World::prepare(policy);
        for name in ["a", "b"] {
            world.create_namespace(name);
            sh(&world.port(name), ENDS)?;
        }
        Ok(Self { world, other: None })
    }

    /// A wire from one end to a device of `host`.
    fn plug_in(&self, host: &World, (end, device, mac): (&str, &str, &str)) -> Result<()> {
        let end = self.world.netns_name(end);
        let script = format!(
            "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
             echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
             ip link add {device} type veth peer name eth0 address {mac} netns {end}
             ip link set {device} up"
        );
        sh(host.host(), &script).map(drop)
    }

    /// The client's namespace.
    pub(crate) fn a(&self) -> Namespace {
        self.world.port("a")
    }

    /// The server's namespace.
    pub(crate) fn b(&self) -> Namespace {
        self.world.port("b")
    }

    /// What is measured is in here.
    pub(crate) fn switch(&self) -> &Namespace {
        self.world.host()
    }

    /// The same of the other one of two hosts.
    pub(crate) fn other_switch(&self) -> Result<&Namespace> {
        Ok(self.other.as_ref().context("there is one host")?.host())
    }

    /// The small host that S is.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The same, for what changes it.
    pub(crate) fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// All hosts.
    pub(crate) fn hosts(&mut self) -> impl Iterator<Item = &mut World> {
        [&mut self.world].into_iter().chain(&mut self.other)
    }

    /// Gives A and B an address in one subnet.
    pub(crate) fn one_subnet(&self) -> Result<Ends> {
        sh(&self.a(), "ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0")?;
        sh(&self.b(), "ip link set eth0 up; ip addr add 10.1.0.3/24 dev eth0")?;
        Ok(self.ends([10, 1, 0, 3]))
    }

    /// Gives A and B addresses in two subnets, and each a gateway with the address .1 of its own.
    pub(crate) fn two_subnets(&self) -> Result<Ends> {
        let script = |subnet: &str, host: &str| {
            format!(
                "ip link set eth0 up; ip addr add {subnet}.{host}/24 dev eth0; ip route add default via {subnet}.1"
            )
        };
        sh(&self.a(), &script("10.1.0", "2"))?;
        sh(&self.b(), &script("10.2.0", "3"))?;
        Ok(self.ends([10, 2, 0, 3]))
    }

    /// A asks B.
    fn ends(&self, target: [u8; 4]) -> Ends {
        Ends { client: self.a(), server: self.b(), target: target.into() }
    }
}
