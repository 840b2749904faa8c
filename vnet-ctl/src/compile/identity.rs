//! Who an address is to the rules: one number for each distinct combination of what rules can name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use vnet_common::Identity;

use crate::policy::{Peer, Policy, Rule};

/// Something that a rule names, and an address may be part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Atom<'p> {
    /// Ports of a security group.
    Group(&'p str),
    /// Ports and gateways of a network.
    Network(&'p str),
    /// Addresses of a prefix, which is never all addresses.
    Prefix(IpNet),
}

/// All atoms that the rules in use name. Others make no difference, so they make no identities.
#[derive(Debug, Default)]
pub(super) struct Named<'p> {
    groups: BTreeSet<&'p str>,
    networks: BTreeSet<&'p str>,
    prefixes: BTreeSet<IpNet>,
    /// The distinct lengths of the prefixes, ascending.
    v4_lengths: BTreeSet<u8>,
    v6_lengths: BTreeSet<u8>,
}

impl<'p> Named<'p> {
    /// What `rules` of `policy` name.
    pub(super) fn by(policy: &'p Policy, rules: impl Iterator<Item = &'p Rule>) -> Self {
        let mut named = Self::default();
        for peer in rules.flat_map(|rule| &rule.peers) {
            match peer {
                Peer::Any => {}
                Peer::Group(name) => _ = named.groups.insert(name),
                Peer::Network(name) => _ = named.networks.insert(name),
                Peer::Cidr(_) | Peer::List(_) => {
                    let partial = policy.prefixes(peer).iter().filter(|net| net.prefix_len() > 0);
                    named.prefixes.extend(partial);
                }
            }
        }
        for net in &named.prefixes {
            let lengths = if net.addr().is_ipv4() { &mut named.v4_lengths } else { &mut named.v6_lengths };
            lengths.insert(net.prefix_len());
        }
        named
    }

    /// The prefixes, each of which needs an identity for addresses that no endpoint has.
    pub(super) const fn prefixes(&self) -> &BTreeSet<IpNet> {
        &self.prefixes
    }

    /// What a port or gateway with `addr` is part of, in order.
    pub(super) fn atoms_of_endpoint(
        &self,
        groups: &'p [String],
        network: &'p str,
        addr: IpAddr,
    ) -> Vec<Atom<'p>> {
        let mut atoms: Vec<_> = groups
            .iter()
            .filter_map(|group| self.groups.get(group.as_str()))
            .map(|group| Atom::Group(group))
            .collect();
        atoms.extend(self.networks.get(network).map(|network| Atom::Network(network)));
        atoms.extend(self.containing(IpNet::from(addr)).map(Atom::Prefix));
        atoms.sort_unstable();
        atoms.dedup();
        atoms
    }

    /// What an address of `prefix`, and of no longer one, is part of, in order.
    pub(super) fn atoms_of_prefix(&self, prefix: IpNet) -> Vec<Atom<'p>> {
        let mut atoms: Vec<_> = self.containing(prefix).map(Atom::Prefix).collect();
        atoms.sort_unstable();
        atoms
    }

    /// The prefixes that contain `inner`, itself included.
    fn containing(&self, inner: IpNet) -> impl Iterator<Item = IpNet> + '_ {
        let lengths = if inner.addr().is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths.range(..=inner.prefix_len()).filter_map(move |&length| {
            let outer = IpNet::new(inner.addr(), length).ok()?.trunc();
            self.prefixes.contains(&outer).then_some(outer)
        })
    }
}

/// The numbers of all combinations that occur.
#[derive(Debug, Default)]
pub(super) struct Identities<'p> {
    numbers: BTreeMap<Vec<Atom<'p>>, u32>,
    holders: BTreeMap<Atom<'p>, Vec<u32>>,
}

impl<'p> Identities<'p> {
    /// Numbers the distinct `combinations`, in an order that depends on nothing else.
    pub(super) fn number(combinations: impl Iterator<Item = Vec<Atom<'p>>>) -> Self {
        let distinct: BTreeSet<_> = combinations.filter(|atoms| !atoms.is_empty()).collect();
        let mut identities = Self::default();
        for (number, atoms) in (Identity::FIRST.0..).zip(distinct) {
            for &atom in &atoms {
                identities.holders.entry(atom).or_default().push(number);
            }
            identities.numbers.insert(atoms, number);
        }
        identities
    }

    /// The identity of a combination; [`Identity::UNKNOWN`] when it is empty.
    pub(super) fn of(&self, atoms: &[Atom<'p>]) -> u32 {
        self.numbers.get(atoms).copied().unwrap_or(Identity::UNKNOWN.0)
    }

    /// All identities that are part of `atom`.
    pub(super) fn holders(&self, atom: &Atom<'p>) -> &[u32] {
        self.holders.get(atom).map_or(&[], Vec::as_slice)
    }
}
