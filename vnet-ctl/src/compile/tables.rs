//! The tables of one generation, and whether they fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use thiserror::Error;
use vnet_common::{
    Delivery, ElasticIp, Endpoint, Exit, Forward, ForwardKey, Link, LinkFlags, LinkKey, MacAddr,
    NetworkRecord, PolicyEntry, PolicyKey, PortRecord, Station, UplinkRecord, limits,
};

use super::{Assigned, Compiler};
use crate::policy::Policy;

/// The devices that a policy's networks and ports have on this host; what is absent is not there (yet).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The bridge of each network.
    pub bridges: BTreeMap<String, Bridge>,
    /// The host-side device of each port.
    pub ports: BTreeMap<String, PortDevice>,
    /// The device that each network leaves by.
    pub uplinks: BTreeMap<String, UplinkDevice>,
    /// The device by which each network goes beyond this host.
    pub segments: BTreeMap<String, SegmentDevice>,
    /// How the host speaks to the other hosts of each network's overlay, as far as the programs may encapsulate.
    pub sources: BTreeMap<(String, IpAddr), Source>,
    /// The host's own addresses, those of its loopback and of vnet's bridges aside: what listening on all of them
    /// means.
    pub addresses: BTreeSet<IpAddr>,
    /// The next hops of the host's default routes, where it matters who they are.
    pub routers: BTreeSet<IpAddr>,
}

/// The device by which a network goes beyond this host: its trunk, the uplink that is bridged, or vnet's VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentDevice {
    /// Its interface index.
    pub ifindex: u32,
    /// The MAC that the host has there, if it takes part.
    pub mac: MacAddr,
    /// The longest IP packet in bytes that passes, encapsulation taken off.
    pub mtu: u32,
}

/// How the host speaks to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The interface index of the device that leads there.
    pub ifindex: u32,
    /// The address that it has there.
    pub address: Ipv4Addr,
}

/// The device that a network leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkDevice {
    /// Its interface index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its own global addresses, in the order in which the kernel has them.
    pub addresses: Vec<IpAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// To whom packets go that leave by it, one of each IP version at most.
    pub gateways: Vec<IpAddr>,
    /// The prefixes that those do not lead to.
    pub aside: Vec<IpNet>,
}

impl UplinkDevice {
    /// A device of which nobody knows where it leads.
    #[must_use]
    pub const fn new(ifindex: u32, mac: MacAddr, addresses: Vec<IpAddr>, mtu: u32) -> Self {
        Self { ifindex, mac, addresses, mtu, gateways: Vec::new(), aside: Vec::new() }
    }
}

/// Which of a network's addresses for one IP version: see [`vnet_common::ExitKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitPlace {
    /// The network's bridge.
    pub network: u32,
    /// 4 or 6.
    pub version: u16,
    /// Counted from 0.
    pub slot: u16,
}

/// A network's bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its interface index.
    pub ifindex: u32,
    /// Its MAC: the gateway's.
    pub mac: MacAddr,
}

/// A port's device on the host side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortDevice {
    /// Its interface index.
    pub ifindex: u32,
    /// How packets get through it to the workload.
    pub delivery: Delivery,
}

/// All that the datapath reads of one generation, as yet on no side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Ports by their device.
    pub ports: BTreeMap<u32, PortRecord>,
    /// Networks by their bridge.
    pub networks: BTreeMap<u32, NetworkRecord>,
    /// Who has an address in the network of a bridge.
    pub endpoints: BTreeMap<(u32, IpAddr), Endpoint>,
    /// Identities of the prefixes that rules name.
    pub peers: BTreeMap<IpNet, u32>,
    /// Heads and blocks of the rules, with keys of side 0.
    pub policy: BTreeMap<PolicyKey, PolicyEntry>,
    /// Prefixes that the network of a bridge reaches in another that is joined to it, and that one's bridge.
    pub joins: BTreeMap<(u32, IpNet), u32>,
    /// Uplinks by their device.
    pub uplinks: BTreeMap<u32, UplinkRecord>,
    /// The addresses that networks leave with.
    pub exits: BTreeMap<ExitPlace, Exit>,
    /// Elastic IPs by private address in the network of a bridge.
    pub elastic_ips: BTreeMap<(u32, IpAddr), ElasticIp>,
    /// Heads and blocks of forwards, with keys of side 0.
    pub forwards: BTreeMap<ForwardKey, Forward>,
    /// By which links networks go beyond this host, with keys of side 0.
    pub links: BTreeMap<LinkKey, Link>,
    /// Who has a MAC in the network of a bridge.
    pub stations: BTreeMap<(u32, MacAddr), Station>,
    /// The number of each peer of an overlay, by its network identifier and address.
    pub vteps: BTreeMap<(u32, IpAddr), u32>,
}

impl Tables {
    /// The links by which ports take part in further networks, where frames arrive at them.
    pub(crate) fn member_links(&self) -> impl Iterator<Item = (&LinkKey, &Link)> {
        self.links.iter().filter(|(key, link)| link.flags.has(LinkFlags::PORT) && key.place == link.device)
    }

    /// Whether both have the same entries, those of the rules aside.
    pub(super) fn has_records_of(&self, other: &Self) -> bool {
        self.ports == other.ports
            && self.networks == other.networks
            && self.endpoints == other.endpoints
            && self.peers == other.peers
            && self.joins == other.joins
            && self.uplinks == other.uplinks
            && self.exits == other.exits
            && self.elastic_ips == other.elastic_ips
            && self.forwards == other.forwards
            && self.links == other.links
            && self.stations == other.stations
            && self.vteps == other.vteps
    }
}

/// A policy that the datapath's tables have no room for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the policy needs {needed} {what}, and the datapath has room for {limit}; {help}")]
pub struct TooLarge {
    /// What there is too much of.
    pub what: &'static str,
    /// How many the policy needs; counting stops soon after the limit.
    pub needed: usize,
    /// How many fit.
    pub limit: usize,
    /// What makes it smaller.
    pub help: &'static str,
}

/// The tables of `policy`, whose ports have the addresses `assigned`. [`Compiler`] does the same over and
/// over, and faster.
///
/// Ports and networks without a device are left out: their traffic is dropped, and nobody reaches them.
///
/// # Errors
/// When it is larger than the datapath's maps.
pub fn compile(policy: &Policy, assigned: &Assigned, devices: &Devices) -> Result<Tables, TooLarge> {
    let mut compiler = Compiler::default();
    compiler.update(policy, assigned, devices)?;
    Ok(compiler.into_tables())
}

/// Whether each table fits one of the two sides of its map.
pub(super) fn check_sizes(tables: &Tables) -> Result<(), TooLarge> {
    let sizes = [
        ("ports", tables.ports.len(), limits::PORTS, "remove ports"),
        ("networks", tables.networks.len(), limits::NETWORKS, "remove networks"),
        (
            "addresses of ports and gateways",
            tables.endpoints.len(),
            limits::ENDPOINTS,
            "remove ports or addresses",
        ),
        ("prefixes of rules", tables.peers.len(), limits::PEERS, "merge neighbouring prefixes"),
        ("prefixes of joined networks", tables.joins.len(), limits::JOINS, "connect fewer networks"),
        ("uplinks", tables.uplinks.len(), limits::UPLINKS, "let networks share uplinks"),
        ("addresses of networks outside", tables.exits.len(), limits::EXITS, "give networks fewer addresses"),
        ("elastic IPs", tables.elastic_ips.len(), limits::ELASTIC_IPS, "remove elastic IPs"),
        (
            "blocks of forwarded ports and slots of backends",
            tables.forwards.len(),
            limits::FORWARDS,
            "remove forwards, above all those to several backends",
        ),
        (
            "links of networks beyond this host",
            tables.links.len(),
            limits::LINKS,
            "give fewer networks a VLAN or an overlay, or overlays fewer peers",
        ),
        ("MACs of ports and gateways", tables.stations.len(), limits::STATIONS, "remove ports or networks"),
        ("peers of overlays", tables.vteps.len(), limits::VTEPS, "give overlays fewer peers"),
    ];
    let sizes = sizes.map(|(what, needed, both_sides, help)| (what, needed, both_sides as usize / 2, help));
    let help =
        "divide the network: a Linux bridge holds no more, and networks that `connect` reach one another";
    let of_network = ("ports in one network", most_in_a_network(tables), limits::PORTS_OF_NETWORK, help);
    for (what, needed, limit, help) in sizes.into_iter().chain([of_network]) {
        if needed > limit {
            return Err(TooLarge { what, needed, limit, help });
        }
    }
    Ok(())
}

/// The ports of the network that has most.
fn most_in_a_network(tables: &Tables) -> usize {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for record in tables.ports.values() {
        *counts.entry(record.network).or_default() += 1;
    }
    counts.into_values().max().unwrap_or_default()
}
