//! Gives an address of each subnet to each port that names none there.
//!
//! Not in a bridged network, where a port has the addresses that it is heard with, nor to a port that another host
//! looks after.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::seats::{is_declared, is_remote, network_of, networks_of};
use crate::policy::{Network, NetworkKind, Policy, Port, Subnet};

/// The addresses of each port, by its name.
pub type Assigned = BTreeMap<String, Vec<IpAddr>>;

/// A port that no address is left for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no address is left for port `{port}` in {subnet} of network `{network}`; \
     give the network a larger subnet or remove ports"
)]
pub struct AssignError {
    /// Which port.
    pub port: String,
    /// In which network.
    pub network: String,
    /// Which of its subnets is full.
    pub subnet: IpNet,
}

/// The addresses of all ports: as given, else as `kept` from before where that still fits, else the lowest
/// that is free in each subnet.
///
/// # Errors
/// When a subnet is full.
pub fn assign(policy: &Policy, kept: &Assigned) -> Result<Assigned, AssignError> {
    assign_rested(policy, kept, &[])
}

/// An address that a port had, and has no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: String,
    /// The network in which it had it; older files do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

impl Released {
    /// Whether it was, or may have been, an address of `network`.
    #[must_use]
    pub fn was_in(&self, network: &str) -> bool {
        self.network.as_deref().is_none_or(|own| own == network)
    }
}

/// The same, but addresses that others had come last, those first that were released first: whoever still
/// remembers the last owner should not meet a stranger. A port that comes back gets its own again. `released`
/// is in the order of release.
///
/// # Errors
/// When a subnet is full.
pub fn assign_rested(
    policy: &Policy,
    kept: &Assigned,
    released: &[Released],
) -> Result<Assigned, AssignError> {
    let resting: BTreeSet<(Option<&str>, IpAddr)> =
        released.iter().map(|released| (released.network.as_deref(), released.address)).collect();
    let declared = policy
        .ports
        .values()
        .flat_map(|port| port.addresses.iter().map(|addr| (network_of(policy, port, *addr), *addr)));
    let mut taken: Taken<'_> = declared.collect();
    let mut assigned = Assigned::new();
    // What ports had comes before what others may get.
    for (name, port) in &policy.ports {
        let mut addresses = port.addresses.clone();
        for place in waiting(policy, port) {
            addresses.extend(still_fitting(place, kept.get(name), &mut taken));
        }
        assigned.insert(name.clone(), addresses);
    }
    let mut next = BTreeMap::new();
    for ((name, port), addresses) in policy.ports.iter().zip(assigned.values_mut()) {
        let missing: Vec<_> = waiting(policy, port)
            .flat_map(|(place, network)| missing(network, addresses).map(move |subnet| (place, subnet)))
            .collect();
        for (place, subnet) in missing {
            let cursor = next.entry((place, subnet.net)).or_insert_with(|| subnet.net.network());
            let is_free = |addr: &IpAddr| subnet.has_room_for(*addr) && !taken.contains(&(place, *addr));
            let rests =
                |addr: &IpAddr| resting.contains(&(Some(place), *addr)) || resting.contains(&(None, *addr));
            let mut old =
                released.iter().filter(|released| released.was_in(place) && is_free(&released.address));
            let own = old.clone().find(|released| released.port == *name);
            let addr = own
                .map(|released| released.address)
                .or_else(|| lowest_free(subnet, |addr| is_free(addr) && !rests(addr), cursor))
                .or_else(|| old.next().map(|released| released.address))
                .ok_or_else(|| AssignError {
                    port: name.clone(),
                    network: place.to_owned(),
                    subnet: subnet.net,
                })?;
            taken.insert((place, addr));
            addresses.push(addr);
        }
    }
    Ok(assigned)
}

/// The addresses that somebody has in each network.
type Taken<'a> = BTreeSet<(&'a str, IpAddr)>;

/// The networks in which `port` gets addresses.
fn waiting<'a>(policy: &'a Policy, port: &'a Port) -> impl Iterator<Item = (&'a str, &'a Network)> {
    let networks = networks_of(port).filter_map(|name| Some((name, policy.networks.get(name)?)));
    networks.filter(|(name, network)| {
        network.kind != NetworkKind::Bridged && !is_remote(port) && !is_declared(policy, port, name)
    })
}

/// The addresses of `kept` that the network still has room for, one of each subnet.
fn still_fitting<'a>(
    (name, network): (&'a str, &Network),
    kept: Option<&Vec<IpAddr>>,
    taken: &mut Taken<'a>,
) -> Vec<IpAddr> {
    let of_subnet = |subnet: &Subnet| {
        let mut candidates = kept.into_iter().flatten().copied();
        candidates.find(|addr| subnet.has_room_for(*addr) && !taken.contains(&(name, *addr)))
    };
    let addresses: Vec<_> = network.subnets.iter().filter_map(of_subnet).collect();
    taken.extend(addresses.iter().map(|addr| (name, *addr)));
    addresses
}

/// The subnets of a network that a port with `addresses` lacks an address of.
fn missing<'a>(network: &'a Network, addresses: &[IpAddr]) -> impl Iterator<Item = &'a Subnet> {
    network.subnets.iter().filter(|subnet| !addresses.iter().any(|addr| subnet.net.contains(addr)))
}

/// The lowest address from `cursor` on that a port may have; the cursor then stands there.
fn lowest_free(subnet: &Subnet, is_free: impl Fn(&IpAddr) -> bool, cursor: &mut IpAddr) -> Option<IpAddr> {
    while subnet.net.contains(&*cursor) {
        if is_free(cursor) {
            return Some(*cursor);
        }
        *cursor = successor(*cursor)?;
    }
    None
}

fn successor(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}
