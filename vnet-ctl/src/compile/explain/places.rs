//! Who is meant by the ends of a question: addresses, and who has them.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    super::{
        Assigned, records,
        seats::{network_of, networks_of},
    },
    ExplainError, Party, Question,
};
use crate::policy::{HostAccess, Mistake, Network, NetworkKind, Overlaps, Policy, Port, closest};

/// An address and who has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) addr: IpAddr,
    /// The network, unless outside of all.
    pub(super) network: Option<&'a str>,
    /// The port; in a network, none is the gateway.
    pub(super) port: Option<&'a str>,
    /// The network beyond whose segment it is, if the policy does not know who has it.
    pub(super) beyond: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// Whether it is a gateway.
    pub(super) const fn is_host(&self) -> bool {
        self.network.is_some() && self.port.is_none()
    }

    /// Whether it is in no network, as far as vnet knows.
    pub(super) const fn is_outside(&self) -> bool {
        self.network.is_none() && self.beyond.is_none()
    }

    /// Whether the host would look elsewhere for who has the address. Of whom the policy does not know, the datapath does
    /// not know it by the subnet.
    pub(super) fn is_apart_from_host(&self, policy: &Policy, overlaps: &Overlaps<'_>) -> bool {
        let keeps_host_out = |name: &str| {
            policy.networks.get(name).is_some_and(|network| network.host == HostAccess::Excluded)
        };
        match (self.network, self.beyond) {
            (Some(name), _) => overlaps.host_is_apart(name, self.addr),
            (None, Some(name)) => overlaps.concern(name) && keeps_host_out(name),
            (None, None) => false,
        }
    }

    pub(super) fn groups(&self, policy: &'a Policy) -> &'a [String] {
        self.port.and_then(|name| policy.ports.get(name)).map_or(&[], |port| &port.security_groups)
    }
}

/// Both ends of the packet: the first addresses of the same version that they have, in networks that are as near to one
/// another as any of theirs.
pub(super) fn ends<'a>(
    policy: &'a Policy,
    assigned: &Assigned,
    question: &Question,
) -> Result<(Place<'a>, Place<'a>), ExplainError> {
    let from = places(policy, assigned, &question.from, &question.to)?;
    let to = places(policy, assigned, &question.to, &question.from)?;
    let (from, to) = match (from, to) {
        (None, None) => {
            return Err(Mistake::new("both ends are the host").help("name a port for one of them").into());
        }
        (Some(from), None) => {
            let to = gateways(policy, &from)?;
            (from, to)
        }
        (None, Some(to)) => (gateways(policy, &to)?, to),
        (Some(from), Some(to)) => (from, to),
    };
    let fits = |place: &&Place<'_>| question.protocol.fits(place.addr.is_ipv4());
    let pairs = from.iter().filter(fits).flat_map(|from| {
        let same_version = to.iter().filter(|to| to.addr.is_ipv4() == from.addr.is_ipv4());
        same_version.map(|to| (*from, *to))
    });
    pairs.min_by_key(|(from, to)| distance(policy, from, to)).ok_or_else(|| {
        Mistake::new("the two ends have no addresses of the same IP version that fit the protocol")
            .help("icmp is for IPv4, icmpv6 for IPv6; `vnet-ctl port list` shows the addresses")
            .into()
    })
}

/// How far apart the networks of two ends are: one network, joined ones, or neither.
fn distance(policy: &Policy, from: &Place<'_>, to: &Place<'_>) -> u8 {
    match (from.network.or(from.beyond), to.network.or(to.beyond)) {
        (Some(from), Some(to)) if from == to => 0,
        (Some(from), Some(to)) if policy.joined(from).contains(to) => 1,
        _ => 2,
    }
}

/// Every address of `party`, as `other` means it; `None` for the host, which has one in each network.
fn places<'a>(
    policy: &'a Policy,
    assigned: &Assigned,
    party: &Party,
    other: &Party,
) -> Result<Option<Vec<Place<'a>>>, ExplainError> {
    match party {
        Party::Host => Ok(None),
        Party::Addr(addr) => Ok(Some(vec![whose(policy, assigned, addr.to_canonical(), other)?])),
        Party::Port(name) => {
            let Some((name, port)) = policy.ports.get_key_value(name) else {
                let similar = closest(name, policy.ports.keys().map(String::as_str)).map(str::to_owned);
                return Err(ExplainError::NoSuchPort { name: name.clone(), similar });
            };
            let addresses = assigned.get(name).map_or(&[][..], Vec::as_slice);
            if addresses.is_empty() {
                let message = format!("port `{name}` has no address yet, and vnet has heard of none");
                return Err(Mistake::new(message)
                    .help("give it `addresses`, or ask again when it has some")
                    .into());
            }
            let place = |addr: &IpAddr| {
                let network = Some(network_of(policy, port, *addr));
                Place { addr: *addr, network, port: Some(name), beyond: None }
            };
            Ok(Some(addresses.iter().map(place).collect()))
        }
    }
}

/// Who has `addr`: a port, a gateway, or nobody here. Of several networks that have it, it is the one of `other`, or one
/// that is joined to that; the host means the one that it has a route to.
fn whose<'a>(
    policy: &'a Policy,
    assigned: &Assigned,
    addr: IpAddr,
    other: &Party,
) -> Result<Place<'a>, Mistake> {
    let has =
        |(name, _): &(&String, &Port)| assigned.get(*name).is_some_and(|addresses| addresses.contains(&addr));
    let ports = policy.ports.iter().filter(has);
    let port = |(name, port): (&'a String, &'a Port)| {
        let network = Some(network_of(policy, port, addr));
        Place { addr, network, port: Some(name), beyond: None }
    };
    let mut places: Vec<_> = ports.map(port).collect();
    let is_gateway = |network: &Network| records::gateways(network).any(|gateway| gateway == addr);
    for (name, network) in &policy.networks {
        let is_here = places.iter().any(|place| place.network == Some(name));
        let nobody = Place { addr, network: None, port: None, beyond: None };
        if is_gateway(network) {
            places.push(Place { network: Some(name), ..nobody });
        } else if network.segment.is_some() && network.subnet_of(addr).is_some() && !is_here {
            places.push(Place { beyond: Some(name), ..nobody });
        }
    }
    let overlaps = Overlaps::of(&policy.networks);
    let near: BTreeSet<_> = match other {
        Party::Port(name) => {
            let own = policy.ports.get(name).into_iter().flat_map(networks_of);
            own.clone().chain(own.flat_map(|own| policy.joined(own))).collect()
        }
        Party::Addr(_) | Party::Host => BTreeSet::new(),
    };
    let is_meant = |place: &&Place<'_>| match other {
        Party::Port(_) => place.network.or(place.beyond).is_some_and(|network| near.contains(network)),
        Party::Host => !place.is_apart_from_host(policy, &overlaps),
        Party::Addr(_) => false,
    };
    if let Some(meant) = places.iter().find(is_meant) {
        return Ok(*meant);
    }
    match &places[..] {
        [] => Ok(Place { addr, network: None, port: None, beyond: None }),
        [one] => Ok(*one),
        several => {
            let networks = several.iter().filter_map(|place| place.network.or(place.beyond));
            let networks: Vec<_> = networks.map(|network| format!("`{network}`")).collect();
            let message = format!("the networks {} all have {addr}", networks.join(", "));
            Err(Mistake::new(message).help("name the port that is meant"))
        }
    }
}

/// The host's addresses in the network of the other end.
fn gateways<'a>(policy: &'a Policy, other: &[Place<'a>]) -> Result<Vec<Place<'a>>, Mistake> {
    let network = other.iter().find_map(|place| place.network.or(place.beyond));
    let Some((name, network)) = network.and_then(|name| policy.networks.get_key_value(name)) else {
        return Ok(Vec::new());
    };
    if network.kind == NetworkKind::Bridged {
        let message = format!("the host is nobody in network `{name}`, which is bridged");
        return Err(Mistake::new(message).help("name the address that it has on that LAN, if it has one"));
    }
    let place = |addr| Place { addr, network: Some(name), port: None, beyond: None };
    Ok(records::gateways(network).map(place).collect())
}
