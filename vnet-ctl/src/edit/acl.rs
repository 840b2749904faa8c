//! Entries of the acl: put in their place, taken out.

use toml_edit::{InlineTable, Value};
use vnet_common::{Direction, RuleId};

use super::{
    EditError, IfExists, checked,
    document::{Document, Listed},
    read, reread, rules, unforeseen,
};
use crate::policy::{AclAction, AclRule, Mistake, Policy, RuleSpec, direction_name, format_rule_id};

/// An entry that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclSpec {
    /// What becomes of the packets that it matches.
    pub action: AclAction,
    /// Which way they go.
    pub direction: Direction,
    /// Which packets.
    pub rule: RuleSpec,
}

impl AclSpec {
    fn is_same(&self, entry: &AclRule) -> bool {
        self.action == entry.action
            && self.direction == entry.rule.direction
            && self.rule.matches_same(&entry.rule.spec())
    }

    /// As its author would write it.
    fn inline(&self) -> InlineTable {
        let rule = rules::inline(&self.rule, self.direction);
        let first =
            [("action", self.action.to_string()), ("direction", direction_name(self.direction).to_owned())];
        let first = first.into_iter().map(|(key, word)| (key.to_owned(), Value::from(word)));
        first.chain(rule.into_iter().map(|(key, value)| (key.to_string(), value))).collect()
    }
}

/// Where a new entry goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Behind all others.
    #[default]
    Last,
    /// So that it is the one at this position, counted from 1.
    Position(usize),
    /// Directly before the entry with this id.
    Before(RuleId),
    /// Directly behind it.
    After(RuleId),
}

/// Which entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclSelector {
    /// The one with this id.
    Id(RuleId),
    /// The one at this position, counted from 1.
    Position(usize),
    /// The first that says the same.
    Spec(AclSpec),
}

/// Puts an entry in its place; gives the new text and the entry's id.
///
/// # Errors
/// When it is there already, its place is none, or it makes no sense.
pub fn add_acl(
    text: &str,
    spec: &AclSpec,
    place: Place,
    if_exists: IfExists,
) -> Result<(String, RuleId), EditError> {
    let policy = read(text)?;
    if let Some((index, entry)) = policy.acl.iter().enumerate().find(|(_, entry)| spec.is_same(entry)) {
        let (id, position) = (entry.rule.id, index + 1);
        return match if_exists {
            IfExists::Keep => Ok((text.to_owned(), id)),
            IfExists::Fail => Err(EditError::Conflict(
                Mistake::new(format!(
                    "the acl has this entry already: {} at position {position}",
                    format_rule_id(id)
                ))
                .help("--if-not-exists accepts that; to move it, remove it first"),
            )),
        };
    }
    let index = index_of(&policy, place)?;
    let mut document = Document::read(text)?;
    document.list(Listed::Acl)?.insert(index, spec.inline());
    let text = document.finish();
    let policy = reread(&text)?;
    let added = policy.acl.get(index).filter(|entry| spec.is_same(entry));
    let id = added.map(|entry| entry.rule.id).ok_or_else(|| unforeseen("the entry was not added"))?;
    Ok((text, id))
}

/// Takes an entry out; gives the new text and the entry's id.
///
/// # Errors
/// When there is none.
pub fn remove_acl(text: &str, selector: &AclSelector) -> Result<(String, RuleId), EditError> {
    let policy = read(text)?;
    let found = match selector {
        AclSelector::Id(id) => policy.acl.iter().position(|entry| entry.rule.id == *id),
        AclSelector::Position(position) => position.checked_sub(1),
        AclSelector::Spec(spec) => policy.acl.iter().position(|entry| spec.is_same(entry)),
    };
    let Some((index, entry)) = found.and_then(|index| Some((index, policy.acl.get(index)?))) else {
        return Err(absent(
            &policy,
            &match selector {
                AclSelector::Id(id) => format!("no entry {}", format_rule_id(*id)),
                AclSelector::Position(position) => format!("no position {position}"),
                AclSelector::Spec(_) => "no such entry".to_owned(),
            },
        ));
    };
    let mut document = Document::read(text)?;
    document.remove(Listed::Acl, index)?;
    Ok((checked(document)?, entry.rule.id))
}

/// What is not there.
fn absent(policy: &Policy, what: &str) -> EditError {
    let count = policy.acl.len();
    let message =
        format!("the acl has {what}: it has {count} {}", if count == 1 { "entry" } else { "entries" });
    EditError::NotFound(Mistake::new(message).help("`vnet-ctl acl list` shows them"))
}

/// The index, from 0, at which an entry goes in.
fn index_of(policy: &Policy, place: Place) -> Result<usize, EditError> {
    let of_id = |id: RuleId| {
        let index = policy.acl.iter().position(|entry| entry.rule.id == id);
        index.ok_or_else(|| absent(policy, &format!("no entry {}", format_rule_id(id))))
    };
    match place {
        Place::Last => Ok(policy.acl.len()),
        Place::Position(position) if (1..=policy.acl.len() + 1).contains(&position) => Ok(position - 1),
        Place::Position(position) => Err(absent(policy, &format!("no position {position}"))),
        Place::Before(id) => of_id(id),
        Place::After(id) => of_id(id).map(|index| index + 1),
    }
}
