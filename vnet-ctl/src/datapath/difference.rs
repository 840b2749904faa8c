//! What turns one table into another, found in one walk over both.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, btree_map::Iter},
    iter::Peekable,
};

/// The entries in which a new table differs from an old one.
#[derive(Debug)]
pub(super) struct Difference<'a, K, V> {
    /// Added, or given another value.
    pub(super) put: Vec<(&'a K, &'a V)>,
    /// Removed.
    pub(super) removed: Vec<&'a K>,
}

impl<'a, K: Ord, V: PartialEq> Difference<'a, K, V> {
    /// Between two tables.
    pub(super) fn between(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> Self {
        let mut difference = Self { put: Vec::new(), removed: Vec::new() };
        let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
        while difference.step(&mut olds, &mut news) {}
        difference
    }

    /// Takes the least key of both walks; false at the end of both.
    fn step(&mut self, olds: &mut Peekable<Iter<'a, K, V>>, news: &mut Peekable<Iter<'a, K, V>>) -> bool {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return false,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        match order {
            Ordering::Less => self.removed.extend(olds.next().map(|(key, _)| key)),
            Ordering::Greater => self.put.extend(news.next()),
            Ordering::Equal => {
                let (old, new) = (olds.next(), news.next());
                if old.map(|(_, value)| value) != new.map(|(_, value)| value) {
                    self.put.extend(new);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_in_it() {
        let old = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c'), (9, 'z')]);
        let new = BTreeMap::from([(0, 'n'), (2, 'b'), (3, 'd'), (4, 'e')]);
        let difference = Difference::between(&old, &new);
        assert_eq!(difference.put, [(&0, &'n'), (&3, &'d'), (&4, &'e')]);
        assert_eq!(difference.removed, [&1, &9]);
        let none = Difference::between(&new, &new);
        assert!(none.put.is_empty() && none.removed.is_empty());
    }
}
