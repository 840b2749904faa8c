//! Security groups and their rules: added, changed, taken out.

use vnet_common::{Direction, RuleId};

use super::{
    EditError, IfExists, Setting, checked,
    document::{Document, Section},
    entry::Entry,
    no_such, read, reread, rules, taken, unforeseen,
};
use crate::policy::{DEFAULT_GROUP, Mistake, Peer, Policy, Rule, RuleSpec, SecurityGroup, format_rule_id};

/// Which rule of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one with this id.
    Id(RuleId),
    /// The one of this direction that matches the same.
    Spec(Direction, RuleSpec),
}

/// What to change about a group as such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupEdit {
    /// What people call it.
    pub description: Setting<String>,
    /// What becomes of flows that no rule allows any more: `cut` or `keep`.
    pub on_change: Setting<String>,
}

/// Adds a rule at the end of `group`'s rules of `direction`; gives the new text and the rule's id.
///
/// To add never takes anything away: where the file leaves out `egress`, or the group `default`, what that
/// stands for is written down beside the new rule.
///
/// # Errors
/// When there is no such group, the rule is there already, or it makes no sense.
pub fn add_rule(
    text: &str,
    group: &str,
    direction: Direction,
    spec: &RuleSpec,
    if_exists: IfExists,
) -> Result<(String, RuleId), EditError> {
    let policy = read(text)?;
    let rules = rules_of(find_group(&policy, group)?, direction);
    if let Some(rule) = rules.iter().find(|rule| rule.spec().matches_same(spec)) {
        return match if_exists {
            IfExists::Keep => Ok((text.to_owned(), rule.id)),
            IfExists::Fail => Err(EditError::Conflict(
                Mistake::new(format!("group `{group}` has this rule already: {}", format_rule_id(rule.id)))
                    .help("--if-not-exists accepts that"),
            )),
        };
    }
    let mut document = Document::read(text)?;
    rules::push(&mut document, group, direction, spec)?;
    let text = document.finish();
    let policy = reread(&text)?;
    // Ids are given out in the order of the file, so the new rule took none from another.
    let added = rules_of(find_group(&policy, group)?, direction).last();
    let id = added.map(|rule| rule.id).ok_or_else(|| unforeseen("the rule was not added"))?;
    Ok((text, id))
}

/// Takes a rule out of `group`; gives the new text and the rule's id.
///
/// # Errors
/// When there is no such group or rule.
pub fn remove_rule(text: &str, group: &str, selector: &Selector) -> Result<(String, RuleId), EditError> {
    let policy = read(text)?;
    let (direction, index, id) = find_rule(find_group(&policy, group)?, selector).ok_or_else(|| {
        let message = match selector {
            Selector::Id(id) => format!("group `{group}` has no rule {}", format_rule_id(*id)),
            Selector::Spec(..) => format!("group `{group}` has no such rule"),
        };
        EditError::NotFound(Mistake::new(message).help(format!("`vnet-ctl sg show {group}` lists its rules")))
    })?;
    let mut document = Document::read(text)?;
    rules::remove(&mut document, group, direction, index)?;
    let text = document.finish();
    reread(&text)?;
    Ok((text, id))
}

/// Adds a group without rules behind the others: nothing may come in, everything may go out.
///
/// # Errors
/// When there is one already, or its name is none.
pub fn create_group(text: &str, group: &str, edit: &GroupEdit) -> Result<String, EditError> {
    if read(text)?.security_groups.contains_key(group) {
        if group != DEFAULT_GROUP {
            return Err(taken("security group", group, "sg"));
        }
        let mistake = Mistake::new(format!("there is a security group `{group}` already"));
        return Err(EditError::Conflict(
            mistake.help("it is built in; `vnet-ctl sg add default ...` changes it"),
        ));
    }
    let mut document = Document::read(text)?;
    document.create(Section::Groups, group, |entry| edit.write(entry))?;
    checked(document)
}

/// Changes a group's description and the like; its rules stay.
///
/// # Errors
/// When there is none, or a value makes no sense.
pub fn set_group(text: &str, group: &str, edit: &GroupEdit) -> Result<String, EditError> {
    find_group(&read(text)?, group)?;
    let mut document = Document::read(text)?;
    rules::written_group(&mut document, group)?;
    let entry = document.entry(Section::Groups, group);
    edit.write(&mut entry.ok_or_else(|| unforeseen("the group cannot be found"))?);
    checked(document)
}

impl GroupEdit {
    fn write(&self, entry: &mut Entry<'_>) {
        entry.apply("description", &self.description);
        entry.apply("on_change", &self.on_change);
    }
}

/// Takes a group out, with the comments directly above it.
///
/// # Errors
/// When there is none, or ports or rules still name it.
pub fn delete_group(text: &str, group: &str) -> Result<String, EditError> {
    let policy = read(text)?;
    find_group(&policy, group)?;
    // Without a definition of its own, `default` is what is built in, and may stay in use.
    let users = if group == DEFAULT_GROUP { Vec::new() } else { users_of(&policy, group) };
    if !users.is_empty() {
        let mistake = Mistake::new(format!("security group `{group}` is still in use: {}", users.join(", ")));
        return Err(EditError::Conflict(mistake.help(
            "take it out there first (`vnet-ctl port set NAME --group …`, `vnet-ctl sg remove`, `vnet-ctl acl remove`)",
        )));
    }
    let mut document = Document::read(text)?;
    if !document.delete(Section::Groups, group) {
        return Err(EditError::Conflict(
            Mistake::new(format!("security group `{group}` is built in")).help("nothing is there to delete"),
        ));
    }
    checked(document)
}

fn find_group<'p>(policy: &'p Policy, name: &str) -> Result<&'p SecurityGroup, EditError> {
    policy.security_groups.get(name).map(AsRef::as_ref).ok_or_else(|| {
        no_such(
            "security group",
            name,
            policy.security_groups.keys(),
            &format!("`vnet-ctl sg create {name}` makes it"),
        )
    })
}

fn rules_of(group: &SecurityGroup, direction: Direction) -> &[Rule] {
    match direction {
        Direction::Ingress => &group.ingress,
        Direction::Egress => &group.egress,
    }
}

/// The direction, position and id of the wanted rule.
fn find_rule(group: &SecurityGroup, selector: &Selector) -> Option<(Direction, usize, RuleId)> {
    let is_wanted = |rule: &&Rule| match selector {
        Selector::Id(id) => rule.id == *id,
        Selector::Spec(direction, spec) => rule.direction == *direction && rule.spec().matches_same(spec),
    };
    [Direction::Ingress, Direction::Egress].into_iter().find_map(|direction| {
        let rules = rules_of(group, direction);
        let index = rules.iter().position(|rule| is_wanted(&rule))?;
        Some((direction, index, rules.get(index)?.id))
    })
}

/// Ports in `group`, other groups whose rules name it, and the acl if it does.
fn users_of(policy: &Policy, group: &str) -> Vec<String> {
    let ports = policy.ports.iter().filter(|(_, port)| port.security_groups.iter().any(|name| name == group));
    let ports = ports.map(|(name, _)| format!("port `{name}`"));
    let rules = naming(policy, &Peer::Group(group.to_owned()), Some(group));
    ports.chain(rules).collect()
}

/// The groups but for `except`, and the acl, where they have rules that name `peer`.
pub(super) fn naming(policy: &Policy, peer: &Peer, except: Option<&str>) -> Vec<String> {
    let names_it = |rule: &Rule| rule.peers.contains(peer);
    let groups = policy.security_groups.iter().filter(|(name, _)| Some(name.as_str()) != except);
    let groups = groups.filter(|(_, group)| group.ingress.iter().chain(&group.egress).any(names_it));
    let groups = groups.map(|(name, _)| format!("rules of group `{name}`"));
    let acl = policy.acl.iter().any(|entry| names_it(&entry.rule)).then(|| "the acl".to_owned());
    groups.chain(acl).collect()
}
