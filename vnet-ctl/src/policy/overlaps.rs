//! Which subnets of different networks overlap, and what does not go with that.
//!
//! The datapath tells networks apart by their bridges, so the same addresses may be in several of them. The host
//! cannot: it has one route for each prefix. So of two networks whose subnets overlap one at least keeps the host out,
//! and the host has no address in the subnets of that one; nor has it in a bridged network, whose addresses are its LAN's.
//! Nor can whoever is outside know two of them: those of a routed network are no other's, LANs apart. Nor can a
//! workload: what it reaches by an address must be one thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
};

use ipnet::IpNet;

use super::{HostAccess, Mistake, Network, NetworkKind, Subnet, diagnostic::Finding, section::Report};

/// The subnets that overlap those of other networks.
#[derive(Debug)]
pub struct Overlaps<'p> {
    networks: &'p BTreeMap<String, Network>,
    shared: BTreeSet<(&'p str, IpNet)>,
}

impl<'p> Overlaps<'p> {
    /// Those of `networks`.
    #[must_use]
    pub fn of(networks: &'p BTreeMap<String, Network>) -> Self {
        let subnets = networks.iter().flat_map(|(name, network)| {
            network.subnets.iter().map(move |subnet| (subnet.net, name.as_str()))
        });
        let mut subnets: Vec<_> = subnets.collect();
        let mut shared = BTreeSet::new();
        each_overlap(&mut subnets, |&(net, name), around| {
            let others = around.iter().filter(|(_, other)| *other != name);
            shared.extend(others.flat_map(|&&(outer, other)| [(name, net), (other, outer)]));
        });
        Self { networks, shared }
    }

    /// Whether any subnet of the network overlaps one of another.
    #[must_use]
    pub fn concern(&self, network: &str) -> bool {
        self.networks
            .get(network)
            .is_some_and(|own| own.subnets.iter().any(|subnet| self.shared.contains(&(network, subnet.net))))
    }

    /// Whether the host has the gateway's address in a subnet of the network, and a route there.
    #[must_use]
    pub fn host_is_in(&self, network: &str, subnet: &Subnet) -> bool {
        match self.networks.get(network).map(KnownTo::of_network) {
            Some(KnownTo::Lan) | None => false,
            Some(KnownTo::Ports) => !self.shared.contains(&(network, subnet.net)),
            Some(KnownTo::Host | KnownTo::Outside) => true,
        }
    }

    /// Whether the host would look elsewhere for who has `addr` in the network. On a LAN it may be itself.
    #[must_use]
    pub fn host_is_apart(&self, network: &str, addr: IpAddr) -> bool {
        let own = self.networks.get(network).filter(|own| own.is_routed_here());
        let subnet = own.and_then(|own| own.subnet_of(addr));
        subnet.is_some_and(|subnet| !self.host_is_in(network, subnet))
    }

    /// A network that has addresses of a subnet of `network`, too.
    pub(super) fn other(&self, network: &str, subnet: &Subnet) -> Option<&'p str> {
        let others = self.networks.iter().filter(|(name, _)| *name != network);
        let has = |other: &Network| other.subnets.iter().any(|other| overlap(other.net, subnet.net));
        others.filter(|(_, other)| has(other)).map(|(name, _)| name.as_str()).next()
    }
}

/// Tells `found` of each subnet that lies in others, and of those, the widest first. Of the same ones the later in the
/// file lies in the earlier.
fn each_overlap<T: Prefixed>(subnets: &mut [T], mut found: impl FnMut(&T, &[&T])) {
    subnets.sort_by_key(|subnet| (subnet.net().network(), subnet.net().prefix_len(), subnet.place()));
    // Prefixes either nest or are disjoint: those around one are a stack.
    let mut around: Vec<&T> = Vec::new();
    for subnet in &*subnets {
        around.retain(|outer| outer.net().contains(&subnet.net()));
        if !around.is_empty() {
            found(subnet, &around);
        }
        around.push(subnet);
    }
}

/// Something that has a prefix, and perhaps a place.
trait Prefixed {
    fn net(&self) -> IpNet;
    fn place(&self) -> usize {
        0
    }
}

impl Prefixed for (IpNet, &str) {
    fn net(&self) -> IpNet {
        self.0
    }
}

/// To whom, beside its ports, the addresses of a network are known by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownTo {
    /// To those on its LAN, which is none of vnet's.
    Lan,
    /// To nobody.
    Ports,
    /// To the host.
    Host,
    /// To whoever is outside, and perhaps to the host.
    Outside,
}

impl KnownTo {
    pub(super) const fn of(kind: NetworkKind, host: HostAccess) -> Self {
        match (kind, host) {
            (NetworkKind::Bridged, _) => Self::Lan,
            (NetworkKind::Routed, _) => Self::Outside,
            (NetworkKind::Nat | NetworkKind::Private, HostAccess::Excluded) => Self::Ports,
            (NetworkKind::Nat | NetworkKind::Private, HostAccess::Trusted) => Self::Host,
        }
    }

    const fn of_network(network: &Network) -> Self {
        Self::of(network.kind, network.host)
    }

    /// Whether two networks cannot have the same addresses.
    fn excludes(self, other: Self) -> bool {
        let is_either = |known_to| self == known_to || other == known_to;
        !is_either(Self::Lan) && (is_either(Self::Outside) || (self, other) == (Self::Host, Self::Host))
    }
}

/// A subnet as the file gives it.
pub(super) struct Claimed<'t> {
    pub(super) net: IpNet,
    pub(super) place: Range<usize>,
    /// The network that it is in.
    pub(super) network: &'t str,
    /// To whom it is known by that.
    pub(super) known_to: KnownTo,
}

impl Prefixed for Claimed<'_> {
    fn net(&self) -> IpNet {
        self.net
    }

    fn place(&self) -> usize {
        self.place.start
    }
}

impl Claimed<'_> {
    /// Whether both cannot be.
    fn excludes(&self, other: &Self) -> bool {
        self.network == other.network || self.known_to.excludes(other.known_to)
    }
}

/// Records each subnet that overlaps another of its network, or one of another network that cannot be where it is, too.
pub(super) fn report_overlaps(claimed: &mut [Claimed<'_>], report: &mut Report) {
    each_overlap(claimed, |inner, around| {
        let Some(outer) = around.iter().find(|outer| outer.excludes(inner)) else { return };
        let (first, second) =
            if outer.place.start < inner.place.start { (*outer, inner) } else { (inner, *outer) };
        let message = if first.net == second.net {
            format!("the subnet {} is given twice", second.net)
        } else {
            format!("the subnet {} overlaps {} of network `{}`", second.net, first.net, first.network)
        };
        let help = "choose subnets that have no address in common";
        let routed = [first, second].into_iter().find(|subnet| subnet.known_to == KnownTo::Outside);
        let help = match routed {
            _ if first.network == second.network => help.to_owned(),
            Some(routed) => {
                format!("{help}: those of network `{}` are known outside, for it is routed", routed.network)
            }
            None => format!(
                "{help}, or keep the host out of one of the networks: host = false under [networks.{}] or \
                 [networks.{}]",
                second.network, first.network
            ),
        };
        let finding = Finding::new(second.place.clone(), Mistake::new(message).help(help));
        report
            .errors
            .push(finding.related(first.place.clone(), format!("network `{}` has it", first.network)));
    });
}

/// Records prefixes to which two networks that overlap leave with their own addresses.
pub(super) fn check_no_snat(
    exempt: &[(IpNet, Range<usize>, &str)],
    networks: &BTreeMap<String, Network>,
    report: &mut Report,
) {
    for (index, (net, place, network)) in exempt.iter().enumerate() {
        let clash = exempt[..index].iter().find_map(|(before, there, other)| {
            let is_same_way = network != other && overlap(*before, *net);
            let (one, two) = is_same_way.then(|| clash(networks, network, other)).flatten()?;
            // Only what is of the same version can meet.
            (one.addr().is_ipv4() == net.addr().is_ipv4()).then_some((there, other, one, two))
        });
        let Some((there, other, one, two)) = clash else { continue };
        let message = format!(
            "to {net} networks `{network}` and `{other}` would both leave with their own addresses, and {one} overlaps \
             {two}"
        );
        let help = "nobody there could tell them apart: take one of the prefixes out";
        let finding = Finding::new(place.clone(), Mistake::new(message).help(help));
        report.errors.push(finding.related(there.clone(), format!("network `{other}` has it")));
    }
}

/// Subnets of two networks that overlap, if any do and are right to.
pub(super) fn clash(networks: &BTreeMap<String, Network>, one: &str, two: &str) -> Option<(IpNet, IpNet)> {
    let known_to = |name: &str| networks.get(name).map(KnownTo::of_network);
    let excludes = known_to(one)?.excludes(known_to(two)?);
    (!excludes).then(|| overlapping(networks, one, two)).flatten()
}

/// Subnets of the two networks that overlap, if any do.
pub(super) fn overlapping(
    networks: &BTreeMap<String, Network>,
    one: &str,
    two: &str,
) -> Option<(IpNet, IpNet)> {
    let (one, two) = (networks.get(one)?, networks.get(two)?);
    one.subnets.iter().find_map(|own| {
        let other = two.subnets.iter().find(|other| overlap(own.net, other.net))?;
        Some((own.net, other.net))
    })
}

/// Whether any address is in both.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
