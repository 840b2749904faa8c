//! Which entries of the policy table a change of the policy concerns.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ipnet::IpNet;
use vnet_common::GroupSet;

use super::{
    TooLarge,
    entries::{Claim, Entries},
    identity::{AtomId, Atoms, Identities},
    rules::{Compiled, Origin, RuleList},
    sets::Sets,
};
use crate::policy::Policy;

/// The rules in use, by where they come from.
pub(super) type Lists = BTreeMap<Origin, Arc<RuleList>>;

/// The rules in use, and what a change brought and took away.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The rules in use.
    pub(super) lists: Lists,
    added: BTreeMap<Origin, Vec<Arc<Compiled>>>,
    removed: BTreeMap<Origin, Vec<Arc<Compiled>>>,
}

impl Rules {
    /// The rules that `sets` of `policy` use. The atoms are those of these rules afterwards.
    pub(super) fn update(
        policy: &Policy,
        sets: &Sets,
        (old, prefix_lists): (&Lists, &BTreeMap<String, Vec<IpNet>>),
        atoms: &mut Atoms,
    ) -> Self {
        let mut rules = Self::default();
        for origin in sets.origins() {
            let known = old.get(origin);
            let list = match (
                RuleList::update(policy, origin, (known.map(Arc::as_ref), prefix_lists), atoms),
                known,
            ) {
                (None, Some(known)) => Arc::clone(known),
                (None, None) => continue,
                (Some(changed), _) => {
                    rules.added.insert(origin.clone(), changed.added);
                    rules.removed.insert(origin.clone(), changed.removed);
                    Arc::new(changed.list)
                }
            };
            rules.lists.insert(origin.clone(), list);
        }
        for (origin, list) in old.iter().filter(|(origin, _)| !rules.lists.contains_key(*origin)) {
            rules.removed.insert(origin.clone(), list.rules.clone());
        }
        let gone = rules.removed.values().flatten();
        gone.flat_map(|rule| rule.atoms()).for_each(|atom| atoms.release(*atom));
        rules
    }
}

/// What was, and what is to be.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    /// The group sets.
    pub(super) sets: (&'a Sets, &'a Sets),
    /// The rules.
    pub(super) lists: (&'a Lists, &'a Rules),
    /// The identities.
    pub(super) identities: (&'a Identities, &'a Identities),
}

/// A rule and identities of its peers.
type Peered<'a> = (&'a Compiled, Cow<'a, [u32]>);

/// By origin: rules with identities that they lost or gained while they stayed.
type Shifts<'a> = BTreeMap<&'a Origin, Vec<Peered<'a>>>;

/// A claim to be made or given up.
struct Task<'a> {
    set: GroupSet,
    rule: &'a Compiled,
    identities: Cow<'a, [u32]>,
}

impl Task<'_> {
    fn claim(&self) -> Claim<'_> {
        Claim { set: self.set, rule: self.rule, identities: &self.identities }
    }
}

/// Claims to be given up, and then claims to be made.
pub(super) struct Tasks<'a> {
    removed: Vec<Task<'a>>,
    added: Vec<Task<'a>>,
}

impl Tasks<'_> {
    /// Whether there is nothing to do.
    pub(super) const fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Brings the policy table from what was to what is to be.
    ///
    /// # Errors
    /// When it would have too many entries; it is then as it was.
    pub(super) fn carry_out(&self, entries: &mut Entries) -> Result<(), TooLarge> {
        let Self { removed, added } = self;
        removed.iter().for_each(|task| entries.remove(&task.claim()));
        for (index, task) in added.iter().enumerate() {
            if let Err(error) = entries.add(&task.claim()) {
                added.iter().take(index + 1).for_each(|task| entries.remove(&task.claim()));
                // It all fitted before.
                removed.iter().for_each(|task| _ = entries.add(&task.claim()));
                return Err(error);
            }
        }
        Ok(())
    }
}

impl<'a> Work<'a> {
    /// The policy table from nothing.
    ///
    /// # Errors
    /// When it has too many entries.
    pub(super) fn build(&self) -> Result<Entries, TooLarge> {
        let peered = |list: &'a Arc<RuleList>| list.rules.iter().map(|rule| peered(rule, self.identities.1));
        let lists = self.lists.1.lists.iter();
        let peered: Shifts<'a> = lists.map(|(origin, list)| (origin, peered(list).collect())).collect();
        let mut claims = Vec::new();
        for (origins, set) in self.sets.1.iter() {
            let rules = origins.iter().filter_map(|origin| peered.get(origin)).flatten();
            claims.extend(rules.map(|(rule, identities)| Claim { set, rule, identities }));
        }
        claims.sort_by_key(|claim| claim.set);
        Entries::build(&claims)
    }

    /// Whether most rules are new, or have gone: then the table is made faster from nothing.
    pub(super) fn is_mostly_new(&self) -> bool {
        let rules = self.lists.1;
        let count = |lists: &BTreeMap<Origin, Vec<_>>| lists.values().map(Vec::len).sum::<usize>();
        let all: usize = rules.lists.values().map(|list| list.rules.len()).sum();
        2 * (count(&rules.added) + count(&rules.removed)) > all
    }

    /// What has to be done to the policy table.
    pub(super) fn tasks(&self) -> Tasks<'a> {
        let (lost, gained) = self.shifts();
        Tasks { removed: self.given_up(&lost), added: self.made(&gained) }
    }

    /// Claims that no longer hold.
    fn given_up(&self, lost: &Shifts<'a>) -> Vec<Task<'a>> {
        let (lists, rules) = self.lists;
        let mut tasks = Vec::new();
        for (origins, set) in self.sets.0.iter() {
            let stays = self.sets.1.has(origins, set);
            for origin in origins {
                let all = lists.get(origin).map(|list| &list.rules);
                let gone = if stays { rules.removed.get(origin) } else { all };
                let gone = gone.into_iter().flatten().map(|rule| peered(rule, self.identities.0));
                let shifted = lost.get(origin).filter(|_| stays).into_iter().flatten().cloned();
                tasks.extend(gone.chain(shifted).map(|(rule, identities)| Task { set, rule, identities }));
            }
        }
        tasks
    }

    /// Claims that hold anew.
    fn made(&self, gained: &Shifts<'a>) -> Vec<Task<'a>> {
        let (_, rules) = self.lists;
        let mut tasks = Vec::new();
        for (origins, set) in self.sets.1.iter() {
            let stays = self.sets.0.has(origins, set);
            for origin in origins {
                let all = rules.lists.get(origin).map(|list| &list.rules);
                let new = if stays { rules.added.get(origin) } else { all };
                let new = new.into_iter().flatten().map(|rule| peered(rule, self.identities.1));
                let shifted = gained.get(origin).filter(|_| stays).into_iter().flatten().cloned();
                tasks.extend(new.chain(shifted).map(|(rule, identities)| Task { set, rule, identities }));
            }
        }
        tasks
    }

    /// What rules that stay lost and gained because an atom that they name has other identities.
    fn shifts(&self) -> (Shifts<'a>, Shifts<'a>) {
        let (mut lost, mut gained) = (Shifts::new(), Shifts::new());
        let (old, new) = self.identities;
        if std::ptr::eq(old, new) {
            return (lost, gained);
        }
        let shifted = |atom: &AtomId| old.holders(*atom) != new.holders(*atom);
        let (lists, rules) = self.lists;
        for (origin, list) in &rules.lists {
            if !lists.contains_key(origin) {
                continue;
            }
            let added = rules.added.get(origin).into_iter().flatten();
            let added: HashSet<*const Compiled> = added.map(Arc::as_ptr).collect();
            let stays = |rule: &&Arc<Compiled>| !added.contains(&Arc::as_ptr(rule));
            for rule in list.rules.iter().filter(stays).filter(|rule| rule.atoms().iter().any(shifted)) {
                let (before, after) = (rule.identities(old), rule.identities(new));
                lost.entry(origin).or_default().push((rule, without(&before, &after)));
                gained.entry(origin).or_default().push((rule, without(&after, &before)));
            }
        }
        (lost, gained)
    }
}

fn peered<'a>(rule: &'a Compiled, identities: &'a Identities) -> Peered<'a> {
    (rule, rule.identities(identities))
}

/// Those of `all` that are not among `others`; both ascend.
fn without<'a>(all: &[u32], others: &[u32]) -> Cow<'a, [u32]> {
    all.iter().copied().filter(|number| others.binary_search(number).is_err()).collect()
}
