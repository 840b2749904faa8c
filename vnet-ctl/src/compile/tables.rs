//! The tables of one generation, made from a policy.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;
use vnet_common::{
    Delivery, Endpoint, Identity, MacAddr, NetworkFlags, NetworkRecord, PolicyEntry, PolicyKey, PortRecord,
    limits,
};

use super::{
    Assigned,
    identity::{Identities, Named},
    rules::{GroupSets, expand},
};
use crate::policy::{Network, NetworkKind, Policy, Port};

/// The devices that a policy's networks and ports have on this host; what is absent is not there (yet).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The bridge of each network.
    pub bridges: BTreeMap<String, Bridge>,
    /// The host-side device of each port.
    pub ports: BTreeMap<String, PortDevice>,
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

/// The tables of `policy`, whose ports have the addresses `assigned`.
///
/// Ports and networks without a device are left out: their traffic is dropped, and nobody reaches them.
///
/// # Errors
/// When it is larger than the datapath's maps.
pub fn compile(policy: &Policy, assigned: &Assigned, devices: &Devices) -> Result<Tables, TooLarge> {
    let sets = GroupSets::of(policy);
    let named = Named::by(policy, sets.rules(policy).map(|(_, rule)| rule));
    let owners = owners(policy, assigned, devices);
    let atoms = owners.iter().map(|owner| named.atoms_of_endpoint(owner.groups, owner.network, owner.addr));
    let atoms: Vec<_> = atoms.collect();
    let prefixes = named.prefixes().iter().map(|net| named.atoms_of_prefix(*net));
    let identities = Identities::number(atoms.iter().cloned().chain(prefixes));
    let endpoint = |(owner, atoms): (&Owner<'_>, &Vec<_>)| {
        ((owner.bridge.ifindex, owner.addr), owner.endpoint(identities.of(atoms), &sets))
    };
    let tables = Tables {
        ports: ports(policy, devices, &sets),
        networks: networks(policy, devices),
        endpoints: owners.iter().zip(&atoms).map(endpoint).collect(),
        peers: peers(&named, &identities),
        policy: expand(policy, &sets, &identities)?,
        joins: BTreeMap::new(),
    };
    check_sizes(&tables)?;
    Ok(tables)
}

fn ports(policy: &Policy, devices: &Devices, sets: &GroupSets<'_>) -> BTreeMap<u32, PortRecord> {
    let record = |(name, port): (&String, &Port)| {
        let bridge = devices.bridges.get(&port.network)?;
        let record = PortRecord {
            network: bridge.ifindex,
            group_set: sets.number(&port.security_groups),
            mac: port.mac,
            gateway_mac: bridge.mac,
        };
        Some((devices.ports.get(name)?.ifindex, record))
    };
    policy.ports.iter().filter_map(record).collect()
}

fn networks(policy: &Policy, devices: &Devices) -> BTreeMap<u32, NetworkRecord> {
    let record = |(name, network): (&String, &Network)| {
        let bridge = devices.bridges.get(name)?;
        let flags = match network.kind {
            NetworkKind::Nat => NetworkFlags::LEADS_OUTSIDE,
            _ => NetworkFlags::NONE,
        };
        Some((bridge.ifindex, NetworkRecord::new(bridge.mac, flags)))
    };
    policy.networks.iter().filter_map(record).collect()
}

/// An address and who has it.
struct Owner<'a> {
    addr: IpAddr,
    network: &'a str,
    bridge: Bridge,
    /// The port's groups; the gateway has none.
    groups: &'a [String],
    /// The port's device and MAC; `None` is the gateway.
    port: Option<(PortDevice, MacAddr)>,
}

impl Owner<'_> {
    fn endpoint(&self, identity: u32, sets: &GroupSets<'_>) -> Endpoint {
        match self.port {
            Some((device, mac)) => {
                Endpoint::port(device.ifindex, device.delivery, mac, identity, sets.number(self.groups))
            }
            None => Endpoint::gateway(self.bridge.ifindex, self.bridge.mac, identity),
        }
    }
}

/// All addresses of ports and gateways that have devices, link-local ones included.
fn owners<'a>(policy: &'a Policy, assigned: &Assigned, devices: &Devices) -> Vec<Owner<'a>> {
    let of_port = |(name, port): (&'a String, &'a Port)| {
        let (bridge, device) = (*devices.bridges.get(&port.network)?, *devices.ports.get(name)?);
        let own = assigned.get(name).into_iter().flatten().copied();
        let owner = move |addr| Owner {
            addr,
            network: &port.network,
            bridge,
            groups: &port.security_groups,
            port: Some((device, port.mac)),
        };
        Some(own.chain([port.mac.link_local().to_std()]).map(owner).collect::<Vec<_>>())
    };
    let of_gateway = |(name, network): (&'a String, &'a Network)| {
        let bridge = *devices.bridges.get(name)?;
        let own = network.subnets.iter().map(|subnet| subnet.gateway);
        let owner = move |addr| Owner { addr, network: name, bridge, groups: &[], port: None };
        Some(own.chain([bridge.mac.link_local().to_std()]).map(owner).collect::<Vec<_>>())
    };
    let ports = policy.ports.iter().filter_map(of_port);
    ports.chain(policy.networks.iter().filter_map(of_gateway)).flatten().collect()
}

fn peers(named: &Named<'_>, identities: &Identities<'_>) -> BTreeMap<IpNet, u32> {
    let identity = |net: &IpNet| (*net, identities.of(&named.atoms_of_prefix(*net)));
    let mut peers: BTreeMap<_, _> = named.prefixes().iter().map(identity).collect();
    // The map holds IPv4 as ::ffff:0:0/96. An IPv6 prefix around that range must not take IPv4 addresses in.
    let mapped = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    if peers.keys().any(|net| net.contains(&mapped)) {
        peers.insert(IpNet::V4(Ipv4Net::default()), Identity::UNKNOWN.0);
    }
    peers
}

/// Whether each table fits one of the two sides of its map.
fn check_sizes(tables: &Tables) -> Result<(), TooLarge> {
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
    ];
    for (what, needed, both_sides, help) in sizes {
        let limit = both_sides as usize / 2;
        if needed > limit {
            return Err(TooLarge { what, needed, limit, help });
        }
    }
    Ok(())
}
