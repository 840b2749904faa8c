//! Groups, the acl and the failsafe ports as lists of rules in one form: what claims which entries of the
//! datapath's policy table.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use foldhash::{HashMap, HashMapExt as _};
use ipnet::IpNet;
use vnet_common::{AclAction as Verdict, Direction, Identity, OnChange as Fate, PolicyEntry, RuleId};

use super::{
    identity::{AtomId, Atoms, Identities},
    ports::{Block, blocks_of},
};
use crate::policy::{
    AclAction, AclRule, Failsafe, OnChange, Peer, Policy, Protocol, Rule, SecurityGroup, failsafe_id,
};

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The host's failsafe ports.
    Host,
    /// The acl.
    Acl,
    /// A security group.
    Group(String),
}

/// A rule in the form that the policy table is made from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compiled {
    /// What stands in the entries that it claims.
    pub(super) entry: PolicyEntry,
    /// Which way.
    pub(super) direction: Direction,
    /// Which protocol; 0 is any.
    pub(super) protocol: u8,
    /// Its ports or ICMP messages, each block once.
    pub(super) blocks: Vec<Block>,
    /// Whether its peers are all IPv4 addresses, all IPv6 addresses.
    everybody: [bool; 2],
    atoms: Vec<AtomId>,
}

impl Compiled {
    /// All identities that are one of its peers, ascending.
    pub(super) fn identities<'i>(&self, identities: &'i Identities) -> Cow<'i, [u32]> {
        // Most rules name one group or prefix.
        if let ([atom], [false, false]) = (&self.atoms[..], self.everybody) {
            return identities.holders(*atom).into();
        }
        let everybody = [(self.everybody[0], Identity::ANY_V4), (self.everybody[1], Identity::ANY_V6)];
        let everybody = everybody.into_iter().filter(|(is_peer, _)| *is_peer).map(|(_, any)| any.0);
        let named = self.atoms.iter().flat_map(|atom| identities.holders(*atom)).copied();
        let mut all: Vec<_> = everybody.chain(named).collect();
        if self.atoms.len() > 1 {
            all.sort_unstable();
            all.dedup();
        }
        all.into()
    }

    /// What it names.
    pub(super) fn atoms(&self) -> &[AtomId] {
        &self.atoms
    }

    fn of(policy: &Policy, rule: &Rule, entry: PolicyEntry, atoms: &mut Atoms) -> Self {
        let mut compiled = Self {
            entry,
            direction: rule.direction,
            protocol: rule.protocol.0,
            blocks: blocks_of(rule),
            everybody: [false; 2],
            atoms: Vec::new(),
        };
        for peer in &rule.peers {
            match peer {
                Peer::Any => compiled.everybody = [true, false].map(|is_ipv4| rule.protocol.fits(is_ipv4)),
                Peer::Group(name) => compiled.atoms.push(atoms.group(name)),
                Peer::Network(name) => compiled.atoms.push(atoms.network(name)),
                Peer::Cidr(_) | Peer::List(_) => {
                    policy
                        .prefixes(peer)
                        .iter()
                        .for_each(|net| compiled.add_prefix(*net, rule.protocol, atoms));
                }
            }
        }
        compiled.forget_repeated(atoms);
        compiled
    }

    fn add_prefix(&mut self, net: IpNet, protocol: Protocol, atoms: &mut Atoms) {
        let is_ipv4 = net.addr().is_ipv4();
        if !protocol.fits(is_ipv4) {
            return;
        }
        if net.prefix_len() > 0 {
            self.atoms.push(atoms.prefix(net));
        } else {
            self.everybody[usize::from(!is_ipv4)] = true;
        }
    }

    fn forget_repeated(&mut self, atoms: &mut Atoms) {
        if self.atoms.len() > 1 {
            let mut seen = BTreeSet::new();
            self.atoms.retain(|atom| {
                let is_first = seen.insert(*atom);
                if !is_first {
                    atoms.release(*atom);
                }
                is_first
            });
            self.atoms.sort_unstable();
        }
    }

    fn failsafe(failsafe: Failsafe) -> Self {
        Self {
            entry: PolicyEntry::group(failsafe_id(failsafe), Fate::Cut),
            direction: Direction::Ingress,
            protocol: failsafe.protocol.0,
            blocks: vec![Block { base: failsafe.port, len: 16 }],
            everybody: [true; 2],
            atoms: Vec::new(),
        }
    }
}

/// What a list of rules was compiled from.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Host(Vec<Failsafe>),
    Acl(Vec<AclRule>),
    Group(Arc<SecurityGroup>),
}

impl Source {
    fn of(policy: &Policy, origin: &Origin) -> Self {
        match origin {
            Origin::Host => Self::Host(policy.host.failsafe.clone()),
            Origin::Acl => Self::Acl(policy.acl.clone()),
            Origin::Group(name) => Self::Group(policy.security_groups.get(name).cloned().unwrap_or_default()),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Group(group), Self::Group(other)) => Arc::ptr_eq(group, other) || group == other,
            _ => self == other,
        }
    }

    fn rules(&self) -> Box<dyn Iterator<Item = &Rule> + '_> {
        match self {
            Self::Host(_) => Box::new(std::iter::empty()),
            Self::Acl(acl) => Box::new(acl.iter().map(|entry| &entry.rule)),
            Self::Group(group) => Box::new(group.ingress.iter().chain(&group.egress)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Host(failsafe) => failsafe.len(),
            Self::Acl(acl) => acl.len(),
            Self::Group(group) => group.ingress.len() + group.egress.len(),
        }
    }

    /// How many rules at the beginning and at the end become the same as those of `old`, if lists hold the same.
    fn common(&self, old: &Self) -> (usize, usize) {
        let (Self::Group(new), Self::Group(old)) = (self, old) else { return (0, 0) };
        if new.on_change != old.on_change {
            return (0, 0);
        }
        let rules = || new.ingress.iter().chain(&new.egress).zip(old.ingress.iter().chain(&old.egress));
        let first = rules().take_while(|(new, old)| new == old).count();
        let most = self.len().min(old.ingress.len() + old.egress.len()) - first;
        let ends = new.egress.iter().rev().chain(new.ingress.iter().rev());
        let ends = ends.zip(old.egress.iter().rev().chain(old.ingress.iter().rev()));
        (first, ends.take(most).take_while(|(new, old)| new == old).count())
    }

    /// The rules at `range`, compiled.
    fn compile(&self, policy: &Policy, range: Range<usize>, atoms: &mut Atoms) -> Vec<Compiled> {
        match self {
            Self::Host(failsafe) => failsafe[range].iter().copied().map(Compiled::failsafe).collect(),
            Self::Acl(acl) => acl
                .iter()
                .zip(0..)
                .skip(range.start)
                .take(range.len())
                .map(|(AclRule { action, rule }, position)| {
                    let verdict = match action {
                        AclAction::Deny => Verdict::Deny,
                        AclAction::Allow => Verdict::Allow,
                    };
                    Compiled::of(policy, rule, PolicyEntry::acl(rule.id, position, verdict), atoms)
                })
                .collect(),
            Self::Group(group) => {
                let fate = match group.on_change {
                    OnChange::Cut => Fate::Cut,
                    OnChange::Keep => Fate::Keep,
                };
                let compile =
                    |rule: &Rule| Compiled::of(policy, rule, PolicyEntry::group(rule.id, fate), atoms);
                self.rules().skip(range.start).take(range.len()).map(compile).collect()
            }
        }
    }
}

/// A list of rules, compiled. Rules that stay the same over a change stay the same `Arc`.
#[derive(Debug)]
pub(super) struct RuleList {
    source: Source,
    names_lists: bool,
    /// The rules in their order.
    pub(super) rules: Vec<Arc<Compiled>>,
}

/// A list of rules that differs from what it was before.
pub(super) struct Changed {
    /// The list as it is now.
    pub(super) list: RuleList,
    /// The rules that it had not before. What they name is retained.
    pub(super) added: Vec<Arc<Compiled>>,
    /// The rules that it has no more. What they name is not released yet.
    pub(super) removed: Vec<Arc<Compiled>>,
}

impl RuleList {
    /// The rules of `origin` in `policy`, unless they are as in `old`, whose prefix lists were `lists`.
    pub(super) fn update(
        policy: &Policy,
        origin: &Origin,
        (old, lists): (Option<&Self>, &BTreeMap<String, Vec<IpNet>>),
        atoms: &mut Atoms,
    ) -> Option<Changed> {
        let source = Source::of(policy, origin);
        let old = old.map(|old| (old, !old.names_lists || *lists == policy.prefix_lists));
        if old.is_some_and(|(old, means_same)| means_same && old.source.is(&source)) {
            return None;
        }
        let (first, last) = match old {
            Some((old, true)) => source.common(&old.source),
            _ => (0, 0),
        };
        let old = old.map_or(&[][..], |(old, _)| &old.rules);
        let compiled = source.compile(policy, first..source.len() - last, atoms);
        let mut known: HashMap<RuleId, Vec<&Arc<Compiled>>> = HashMap::new();
        for rule in &old[first..old.len() - last] {
            known.entry(rule.entry.rule()).or_default().push(rule);
        }
        let mut added = Vec::new();
        let reuse = |compiled: Compiled| {
            let same = known.get_mut(&compiled.entry.rule()).and_then(|known| {
                let index = known.iter().position(|rule| ***rule == compiled)?;
                Some(Arc::clone(known.swap_remove(index)))
            });
            if let Some(same) = same {
                compiled.atoms.iter().for_each(|atom| atoms.release(*atom));
                return same;
            }
            let rule = Arc::new(compiled);
            added.push(Arc::clone(&rule));
            rule
        };
        let between: Vec<_> = compiled.into_iter().map(reuse).collect();
        let (begin, end) = (&old[..first], &old[old.len() - last..]);
        let rules = begin.iter().cloned().chain(between).chain(end.iter().cloned()).collect();
        let removed = known.into_values().flatten().cloned().collect();
        let names_lists =
            source.rules().flat_map(|rule| &rule.peers).any(|peer| matches!(peer, Peer::List(_)));
        Some(Changed { list: Self { source, names_lists, rules }, added, removed })
    }
}
