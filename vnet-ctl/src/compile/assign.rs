//! Gives an address of each subnet to each port that names none.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::{Network, Policy, Port, Subnet};

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
    let declared =
        policy.ports.values().flat_map(|port| port.addresses.iter().map(|addr| (&*port.network, *addr)));
    let mut taken: Taken<'_> = declared.collect();
    let mut assigned = Assigned::new();
    let waiting = || {
        policy.ports.iter().filter_map(|(name, port)| Some((name, port, policy.networks.get(&port.network)?)))
    };
    // What ports had comes before what others may get.
    for (name, port, network) in waiting() {
        let addresses = if port.addresses.is_empty() {
            still_fitting((&port.network, network), kept.get(name), &mut taken)
        } else {
            port.addresses.clone()
        };
        assigned.insert(name.clone(), addresses);
    }
    let mut next = BTreeMap::new();
    for (name, port, network) in waiting() {
        let Some(addresses) = assigned.get_mut(name) else { continue };
        let place = &*port.network;
        for subnet in missing(port, network, addresses) {
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
                    network: port.network.clone(),
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

/// The subnets that the port still lacks an address of.
fn missing<'a>(port: &Port, network: &'a Network, addresses: &[IpAddr]) -> Vec<&'a Subnet> {
    let lacks = |subnet: &&Subnet| !addresses.iter().any(|addr| subnet.net.contains(addr));
    if port.addresses.is_empty() { network.subnets.iter().filter(lacks).collect() } else { Vec::new() }
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
