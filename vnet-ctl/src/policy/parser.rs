//! Parses texts in parts, one after the other, and does again only what a change concerns.
//!
//! The parts are chunks: each `[security_groups.NAME]` table is one, everything else is the rest. The last text
//! that was valid and had no warning is remembered. Of a text that is similar, only the chunks that differ are
//! read, and of a chunk only the rules that differ where that is certain to be the same. What anybody could be
//! told is always found by [`parse_whole`] alone: whatever is wrong or strange makes it read the whole text.

use std::{borrow::Cow, collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use super::{
    Diagnostics, Peer, Policy, SecurityGroup, Warning, admission,
    draft::Draft,
    outline::{Edit, empty_chunk, group_of},
    parse::{Names, is_json, names_of, parse_all_but_admission, parse_whole},
    patch::patch,
    plain::Emptied,
    section::Report,
    tree::Tree,
};

#[cfg(test)]
mod tests;

/// Texts of fewer bytes are parsed whole: that takes a few milliseconds.
const WORTH_PARTS: usize = 64 << 10;

/// Parses texts that follow one another.
#[derive(Debug)]
pub struct Parser {
    last: Last,
    /// Texts of fewer bytes are parsed whole, and not remembered.
    least: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self { last: Last::default(), least: WORTH_PARTS }
    }
}

/// A text that was valid, and what it says; at first an empty one, which says nothing.
#[derive(Debug, Default)]
struct Last {
    text: Arc<str>,
    chunks: Vec<Range<usize>>,
    policy: Arc<Policy>,
}

impl Parser {
    /// The same as [`super::parse()`].
    ///
    /// # Errors
    /// Everything that is wrong with the text, at once.
    pub fn parse(
        &mut self,
        text: &Arc<str>,
        origin: &Path,
    ) -> Result<(Arc<Policy>, Vec<Warning>), Diagnostics> {
        if text.len() >= self.least
            && let Some(next) = self.last.followed_by(text, origin)
        {
            self.last = next;
            return Ok((Arc::clone(&self.last.policy), Vec::new()));
        }
        let (policy, warnings) = parse_whole(text, origin)?;
        Ok((Arc::new(policy), warnings))
    }
}

/// What `text` says; `None` if it is too short, or if only the whole of it can tell.
pub(super) fn parse_in_parts(text: &str, origin: &Path) -> Option<Policy> {
    let text = Some(text).filter(|text| text.len() >= WORTH_PARTS)?;
    Some(Arc::unwrap_or_clone(Last::default().followed_by(&text.into(), origin)?.policy))
}

fn is_toml(text: &str, origin: &Path) -> bool {
    !is_json(text, origin)
}

/// What `chunks` of a text are: the groups by name, and all the others.
struct Sorted<'t> {
    groups: BTreeMap<&'t str, &'t str>,
    rest: Vec<&'t str>,
}

impl<'t> Sorted<'t> {
    /// `None` if a group is there twice.
    fn new(text: &'t str, chunks: &[Range<usize>]) -> Option<Self> {
        let mut sorted = Self { groups: BTreeMap::new(), rest: Vec::new() };
        for chunk in chunks {
            let chunk = &text[chunk.clone()];
            match group_of(chunk) {
                Some(name) if sorted.groups.insert(name, chunk).is_some() => return None,
                Some(_) => {}
                None => sorted.rest.push(chunk),
            }
        }
        Some(sorted)
    }
}

impl Last {
    /// What `text` says; `None` if only the whole of it can tell.
    fn followed_by(&self, text: &Arc<str>, origin: &Path) -> Option<Self> {
        let edit = Edit::between(&self.text, text);
        if !is_toml(text, origin) || !edit.is_plain(text) {
            return None;
        }
        let (chunks, touched) = edit.split_again(&self.chunks, text);
        let old = Sorted::new(&self.text, &self.chunks[touched.old])?;
        let new = Sorted::new(text, &chunks[touched.new])?;
        let policy = if old.rest == new.rest && old.groups.keys().eq(new.groups.keys()) {
            self.with_groups(Policy::clone(&self.policy), &old, &new)?
        } else {
            self.with_rest(text, &chunks, origin)?
        };
        // Whether rules admit what forwards bring takes both, and to tell where they don't takes the whole text.
        if admission::warns(&policy) {
            return None;
        }
        Some(Self { text: Arc::clone(text), chunks, policy: Arc::new(policy) })
    }

    /// What the new text says, of which more than the groups of this one's chunks differs.
    fn with_rest(&self, text: &str, chunks: &[Range<usize>], origin: &Path) -> Option<Policy> {
        let policy = without_groups(text, chunks, origin)?;
        let (old, new) = (Sorted::new(&self.text, &self.chunks)?, Sorted::new(text, chunks)?);
        self.with_groups(policy, &old, &new)
    }

    /// `policy` with the groups `new`, of which this one has `old`.
    fn with_groups(&self, mut policy: Policy, old: &Sorted<'_>, new: &Sorted<'_>) -> Option<Policy> {
        let names = names_of(&policy);
        let is_larger = names.include(&names_of(&self.policy));
        let group = |(name, chunk): (&&str, &&str)| {
            let known = old.groups.get(name).zip(self.policy.security_groups.get(*name));
            let known = known.filter(|(_, group)| is_larger || finds_peers(group, &names));
            let group = match known {
                Some((old, group)) if old == chunk => Arc::clone(group),
                Some((old, group)) => {
                    let patched = patch(name, (old, group), chunk, &names).map(Arc::new);
                    patched.or_else(|| read_group(name, chunk, &names))?
                }
                None => read_group(name, chunk, &names)?,
            };
            Some(((*name).to_owned(), group))
        };
        let groups: Vec<_> = new.groups.iter().map(group).collect::<Option<_>>()?;
        policy.security_groups.extend(groups);
        Some(policy)
    }
}

/// What `text` says if its groups say nothing; `None` if anything about it has to be told, or if a group stands
/// elsewhere than in its own chunk, as with `[[security_groups.NAME.ingress]]`.
fn without_groups(text: &str, chunks: &[Range<usize>], origin: &Path) -> Option<Policy> {
    let chunks = || chunks.iter().map(|chunk| &text[chunk.clone()]);
    let heading = |chunk| group_of(chunk).map_or(Cow::Borrowed(chunk), |name| empty_chunk(name).into());
    let policy = parse_all_but_admission(&chunks().map(heading).collect::<String>(), origin)?;
    let names = names_of(&policy);
    let says_nothing = |name| {
        let nothing = read_group(name, &empty_chunk(name), &names);
        nothing.is_some_and(|nothing| policy.security_groups.get(name).is_some_and(|group| *group == nothing))
    };
    let is_apart = chunks().filter_map(group_of).all(says_nothing);
    is_apart.then_some(policy)
}

/// Whether `names` has all that the group's rules name.
fn finds_peers(group: &SecurityGroup, names: &Names<'_>) -> bool {
    let rules = group.ingress.iter().chain(&group.egress);
    rules.flat_map(|rule| &rule.peers).all(|peer| match peer {
        Peer::Any | Peer::Cidr(_) => true,
        Peer::Group(name) => names.groups.contains(name.as_str()),
        Peer::Network(name) => names.networks.contains(name.as_str()),
        Peer::List(name) => names.lists.contains(name.as_str()),
    })
}

/// The group `name` that `chunk` is the table of; `None` if anything about it has to be told.
fn read_group(name: &str, chunk: &str, names: &Names<'_>) -> Option<Arc<SecurityGroup>> {
    let Emptied { rest, lists } = Emptied::of((name, chunk), names);
    let mut report = Report::default();
    let tree = Tree::of_toml(&rest, &mut report)?;
    let entries = tree.root().entries()?;
    let [("security_groups", _, groups)] = entries.as_slice() else { return None };
    let [named] = &groups.entries()?[..] else { return None };
    let draft = Draft::read(named, names, &mut report)?;
    let draft = lists.into_iter().fold(draft, |draft, (direction, specs)| draft.with(direction, specs));
    let is_right = report.errors.is_empty() && report.warnings.is_empty();
    is_right.then(|| Arc::new(draft.group(name)))
}
