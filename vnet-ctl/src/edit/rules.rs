//! Rules of groups and entries of the acl, as their author would write them.

use toml_edit::{Array, InlineTable, Item, Value};
use vnet_common::Direction;

use super::{
    EditError,
    document::{Document, Section},
    entry::Entry,
    layout::{self, WhenEmpty},
    list::List,
    unforeseen,
};
use crate::policy::{DEFAULT_GROUP, Peer, PortRange, RuleSpec, built_in_ingress, direction_name};

/// Adds a rule behind the others of its group and direction.
pub(super) fn push(
    document: &mut Document,
    group: &str,
    direction: Direction,
    spec: &RuleSpec,
) -> Result<(), EditError> {
    written_group(document, group)?;
    let entry = document.entry(Section::Groups, group).ok_or_else(no_group)?;
    let list = written_list(entry, direction)?;
    list.insert(usize::MAX, inline(spec, direction));
    Ok(())
}

/// Takes a rule out.
pub(super) fn remove(
    document: &mut Document,
    group: &str,
    direction: Direction,
    index: usize,
) -> Result<(), EditError> {
    written_group(document, group)?;
    let Entry { table, layout } = document.entry(Section::Groups, group).ok_or_else(no_group)?;
    written_list(Entry { table: &mut *table, layout }, direction)?.remove(index);
    let key = direction_name(direction);
    if table.get(key).and_then(Item::as_array_of_tables).is_some_and(|tables| tables.is_empty()) {
        // No table at all would mean that the key is left out, which is something else.
        table.insert(key, Item::Value(Array::new().into()));
    }
    Ok(())
}

fn no_group() -> EditError {
    unforeseen("the group cannot be found")
}

/// Writes the group `default` down where the file leaves it to what is built in.
pub(super) fn written_group(document: &mut Document, group: &str) -> Result<(), EditError> {
    if group != DEFAULT_GROUP || document.entry(Section::Groups, group).is_some() {
        return Ok(());
    }
    document.create(Section::Groups, group, |entry| {
        let ingress = new_array(&[built_in_ingress()], Direction::Ingress, WhenEmpty::Lines);
        entry.table.insert(direction_name(Direction::Ingress), Item::Value(ingress.into()));
    })
}

/// The rules of one direction. Those that the file leaves out, and the policy has nevertheless, are written down.
fn written_list(mut entry: Entry<'_>, direction: Direction) -> Result<List<'_>, EditError> {
    let key = direction_name(direction);
    if !entry.table.contains_key(key) {
        let implied = match direction {
            Direction::Ingress => Vec::new(),
            Direction::Egress => vec![implied_egress()],
        };
        entry.set(key, new_array(&implied, direction, entry.layout).into());
    }
    let layout = entry.layout;
    entry
        .table
        .get_mut(key)
        .and_then(|item| List::of(item, layout))
        .ok_or_else(|| unforeseen("the rules cannot be found"))
}

/// What an omitted `egress` stands for.
fn implied_egress() -> RuleSpec {
    let description = Some("everything may go out".to_owned());
    RuleSpec { description, ..RuleSpec::all_of(Peer::Any) }
}

fn new_array(rules: &[RuleSpec], direction: Direction, when_empty: WhenEmpty) -> Array {
    let mut array = Array::new();
    rules.iter().for_each(|spec| layout::push(&mut array, inline(spec, direction).into(), when_empty));
    array
}

/// A rule of a group.
pub(super) fn inline(spec: &RuleSpec, direction: Direction) -> InlineTable {
    let mut table = InlineTable::new();
    let number = spec.protocol.to_string().parse::<i64>();
    table.insert("protocol", number.map_or_else(|_| spec.protocol.to_string().into(), Value::from));
    if !spec.ports.is_empty() {
        let port = |range: &PortRange| -> Value {
            if range.first == range.last { i64::from(range.first).into() } else { range.to_string().into() }
        };
        table.insert("ports", Value::Array(spec.ports.iter().map(port).collect()));
    }
    if let Some((kind, code)) = spec.icmp {
        table.insert("icmp_type", i64::from(kind).into());
        code.into_iter().for_each(|code| _ = table.insert("icmp_code", i64::from(code).into()));
    }
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    table.insert(key, Value::Array(spec.peers.iter().map(ToString::to_string).collect()));
    if let Some(description) = &spec.description {
        table.insert("description", description.as_str().into());
    }
    table
}
