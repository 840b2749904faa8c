//! The three namespaces of a peer and the wires between them, the same for each.

use std::net::Ipv4Addr;

use anyhow::Result;
use vnet_tests::{Namespace, World};

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
}

impl Place {
    /// A and B with a wire each to S, which does nothing yet and has `policy` for a vnet to come.
    pub(crate) fn new(policy: &str) -> Result<Self> {
        let place = Self::without_wires(policy)?;
        let (a, b) = (place.world.netns_name("a"), place.world.netns_name("b"));
        let script = format!(
            "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
             echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
             ip link add va type veth peer name eth0 address {MAC_A} netns {a}
             ip link add vb type veth peer name eth0 address {MAC_B} netns {b}
             ip link set va up
             ip link set vb up"
        );
        sh(place.switch(), &script)?;
        Ok(place)
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
        Ok(Self { world })
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

    /// The small host that S is.
    pub(crate) fn world(&mut self) -> &mut World {
        &mut self.world
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
