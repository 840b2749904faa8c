//! The entries of the policy table, and which rules claim each of them.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt as _};
use vnet_common::{GROUP_SET_ACL, GroupSet, Identity, OnChange, PolicyEntry, PolicyKey, limits};

use super::{TooLarge, difference::Before, rules::Compiled};

/// Entries that fit one of the two sides.
const MAX_ENTRIES: usize = limits::POLICY as usize / 2;

/// One rule's claim to the entries of a set that are about some identities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    /// The set.
    pub(super) set: GroupSet,
    /// The rule.
    pub(super) rule: &'a Compiled,
    /// The identities, each once.
    pub(super) identities: &'a [u32],
}

impl Claim<'_> {
    /// How many entries it is about, their heads apart.
    fn size(&self) -> usize {
        self.identities.len() * self.rule.blocks.len()
    }

    fn heads(&self) -> impl Iterator<Item = PolicyKey> + '_ {
        let head =
            |id: &u32| PolicyKey::head(0, self.set, self.rule.direction, Identity(*id), self.rule.protocol);
        self.identities.iter().map(head)
    }

    fn blocks(&self) -> impl Iterator<Item = PolicyKey> + '_ {
        let blocks = &self.rule.blocks;
        self.heads().flat_map(move |head| blocks.iter().map(move |block| head.block(block.base, block.len)))
    }
}

/// Of each entry that several rules claim, what each of them would have it be.
pub(super) type Contested = HashMap<PolicyKey, Vec<PolicyEntry>>;

/// The policy table.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The table.
    pub(super) table: BTreeMap<PolicyKey, PolicyEntry>,
    /// Entries that several rules claim.
    pub(super) contested: Contested,
    /// What entries that have changed were before.
    pub(super) before: Before<PolicyKey, PolicyEntry>,
}

impl Entries {
    /// The table that `claims`, in the order of their sets, make from nothing.
    ///
    /// # Errors
    /// When it has too many entries.
    pub(super) fn build(claims: &[Claim<'_>]) -> Result<Self, TooLarge> {
        let mut entries = Self::default();
        if claims.iter().map(Claim::size).sum::<usize>() > 4 * MAX_ENTRIES {
            // Far too many, unless most are the same: not to be listed before they are counted.
            claims.iter().try_for_each(|claim| entries.add(claim))?;
            return Ok(entries);
        }
        let mut table = Vec::new();
        for claims in claims.chunk_by(|a, b| a.set == b.set) {
            entries.list_set(claims, &mut table);
        }
        check_size(table.len())?;
        entries.table = table.into_iter().collect();
        Ok(entries)
    }

    /// Adds the entries of one set to `table`, in order.
    fn list_set(&mut self, claims: &[Claim<'_>], table: &mut Vec<(PolicyKey, PolicyEntry)>) {
        let Some(set) = claims.first().map(|claim| claim.set) else { return };
        let mut listed = Vec::with_capacity(claims.iter().map(Claim::size).sum());
        let mut heads: HashMap<PolicyKey, u32> = HashMap::new();
        for claim in claims {
            let sizes = sizes(claim.rule);
            claim.heads().for_each(|head| *heads.entry(head).or_default() |= sizes);
            listed.extend(claim.blocks().map(|key| (key, claim.rule.entry)));
        }
        listed.extend(heads.into_iter().map(|(head, sizes)| (head, PolicyEntry::head(sizes))));
        listed.sort_unstable();
        for same in listed.chunk_by(|(a, _), (b, _)| a == b) {
            let [(key, first), others @ ..] = same else { continue };
            let entries = || same.iter().map(|(_, entry)| *entry);
            let entry = if others.is_empty() {
                *first
            } else {
                self.contested.insert(*key, entries().collect());
                winner(set, entries())
            };
            table.push((*key, entry));
        }
    }

    /// Adds what `claim` is about.
    ///
    /// # Errors
    /// When there are too many entries then; all of it has been added.
    pub(super) fn add(&mut self, claim: &Claim<'_>) -> Result<(), TooLarge> {
        let sizes = sizes(claim.rule);
        for head in claim.heads() {
            let known = self.table.get(&head).map_or(0, |head| head.sizes());
            if known | sizes != known {
                self.set(head, Some(PolicyEntry::head(known | sizes)));
            }
            for block in &claim.rule.blocks {
                self.add_block(claim.set, head.block(block.base, block.len), claim.rule.entry);
            }
        }
        check_size(self.table.len())
    }

    fn add_block(&mut self, set: GroupSet, key: PolicyKey, entry: PolicyEntry) {
        let Some(known) = self.table.get(&key).copied() else {
            self.set(key, Some(entry));
            return;
        };
        let rivals = self.contested.entry(key).or_insert_with(|| vec![known]);
        rivals.push(entry);
        let winner = winner(set, rivals.iter().copied());
        self.set(key, Some(winner));
    }

    /// Takes away what `claim` is about, which has been added.
    pub(super) fn remove(&mut self, claim: &Claim<'_>) {
        for head in claim.heads() {
            let mut gone = 0;
            for block in &claim.rule.blocks {
                let key = head.block(block.base, block.len);
                if self.remove_block(claim.set, key, claim.rule.entry) {
                    gone |= 1 << block.len;
                }
            }
            self.shrink_head(head, gone);
        }
    }

    /// Whether the entry is gone altogether.
    fn remove_block(&mut self, set: GroupSet, key: PolicyKey, entry: PolicyEntry) -> bool {
        let Some(rivals) = self.contested.get_mut(&key) else {
            let is_own = self.table.get(&key) == Some(&entry);
            if is_own {
                self.set(key, None);
            }
            return is_own;
        };
        if let Some(index) = rivals.iter().position(|rival| *rival == entry) {
            rivals.swap_remove(index);
        }
        let winner = winner(set, rivals.iter().copied());
        if rivals.len() == 1 {
            self.contested.remove(&key);
        }
        self.set(key, Some(winner));
        false
    }

    /// Takes from a head those of `sizes` that no block has any more.
    fn shrink_head(&mut self, head: PolicyKey, sizes: u32) {
        let Some(known) = self.table.get(&head).map(|head| head.sizes()) else { return };
        let mut unseen = sizes & known;
        if unseen == 0 {
            return;
        }
        for (key, _) in
            self.table.range(head.first_of_identity()..).take_while(|(key, _)| key.is_about_same(head))
        {
            if !key.is_head() && key.kind() == head {
                unseen &= !(1 << key.prefix_len());
                if unseen == 0 {
                    return;
                }
            }
        }
        let left = known & !unseen;
        self.set(head, (left != 0).then(|| PolicyEntry::head(left)));
    }

    fn set(&mut self, key: PolicyKey, entry: Option<PolicyEntry>) {
        let before = match entry {
            Some(entry) => self.table.insert(key, entry),
            None => self.table.remove(&key),
        };
        if before != entry {
            self.before.entry(key).or_insert(before);
        }
    }
}

/// The sizes of a rule's blocks, as a head has them.
fn sizes(rule: &Compiled) -> u32 {
    rule.blocks.iter().fold(0, |sizes, block| sizes | 1 << block.len)
}

/// What stands in an entry that several rules claim. It does not depend on their order.
fn winner(set: GroupSet, rivals: impl Iterator<Item = PolicyEntry> + Clone) -> PolicyEntry {
    if set == GROUP_SET_ACL {
        return rivals.min_by_key(|entry| (entry.position(), *entry)).unwrap_or_default();
    }
    let keeps = rivals.clone().any(PolicyEntry::keeps);
    let rule = rivals.map(PolicyEntry::rule).min().unwrap_or_default();
    PolicyEntry::group(rule, if keeps { OnChange::Keep } else { OnChange::Cut })
}

fn check_size(needed: usize) -> Result<(), TooLarge> {
    if needed <= MAX_ENTRIES {
        return Ok(());
    }
    Err(TooLarge {
        what: "entries of compiled rules",
        needed,
        limit: MAX_ENTRIES,
        help: "use fewer port ranges, or peers that stand for fewer combinations of groups",
    })
}
