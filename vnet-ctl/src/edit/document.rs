//! The policy file as a document: where its groups and rules are, however their author wrote them.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};
use vnet_common::Direction;

use super::{
    EditError,
    layout::{self, WhenEmpty},
    unforeseen,
};
use crate::policy::{DEFAULT_GROUP, Mistake, Peer, RuleSpec, built_in_ingress, direction_name};

const GROUPS: &str = "security_groups";

/// A policy file that is being changed.
pub(super) struct Document {
    toml: DocumentMut,
    /// What the TOML library drops: a byte order mark, and the carriage returns of lines.
    has_mark: bool,
    has_returns: bool,
}

const MARK: char = '\u{feff}';

/// The rules of one direction of a group.
pub(super) enum Rules<'d> {
    /// `ingress = [...]`.
    Array(&'d mut Array, WhenEmpty),
    /// `[[security_groups.NAME.ingress]]`; the second is where they are.
    Tables(&'d mut dyn TableLike, &'static str),
}

impl Document {
    /// The document of a text that is a valid policy.
    pub(super) fn read(text: &str) -> Result<Self, EditError> {
        let toml = text.parse().map_err(|error: toml_edit::TomlError| {
            EditError::Invalid(Mistake::new(format!("the policy file cannot be edited: {}", error.message())))
        })?;
        let has_returns = text.contains("\r\n") && text.matches('\n').count() == text.matches("\r\n").count();
        Ok(Self { toml, has_mark: text.starts_with(MARK), has_returns })
    }

    /// The changed text.
    pub(super) fn finish(self) -> String {
        let mut text = self.toml.to_string();
        if self.has_returns {
            text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        if self.has_mark && !text.starts_with(MARK) {
            text.insert(0, MARK);
        }
        text
    }

    /// The rules of `group`. Those that the file leaves out, and the policy has nevertheless, are written down.
    pub(super) fn rules(&mut self, group: &str, direction: Direction) -> Result<Rules<'_>, EditError> {
        let key = direction_name(direction);
        if group == DEFAULT_GROUP && self.group(group).is_none() {
            self.create_group(group, None)?;
            let ingress = new_array(&[built_in_ingress()], Direction::Ingress, WhenEmpty::Lines);
            let (table, _) = self.group(group).ok_or_else(|| unforeseen("the group cannot be written"))?;
            table.insert(direction_name(Direction::Ingress), Item::Value(ingress.into()));
        }
        let (table, when_empty) = self.group(group).ok_or_else(|| unforeseen("the group cannot be found"))?;
        if !table.contains_key(key) {
            let implied = match direction {
                Direction::Ingress => Vec::new(),
                Direction::Egress => vec![implied_egress()],
            };
            let mut array = new_array(&implied, direction, when_empty);
            if when_empty == WhenEmpty::OneLine {
                array.decor_mut().set_prefix(" ");
                array.decor_mut().set_suffix(take_suffix(table));
            }
            table.insert(key, Item::Value(array.into()));
        }
        if table.get(key).is_some_and(Item::is_array_of_tables) {
            return Ok(Rules::Tables(table, key));
        }
        let array = table.get_mut(key).and_then(Item::as_array_mut);
        array
            .map(|array| Rules::Array(array, when_empty))
            .ok_or_else(|| unforeseen("the rules cannot be found"))
    }

    /// Adds an empty group.
    pub(super) fn create_group(&mut self, group: &str, description: Option<&str>) -> Result<(), EditError> {
        let groups = self.toml.entry(GROUPS).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let groups = groups.as_table_like_mut().ok_or_else(|| unforeseen("the groups cannot be found"))?;
        let mut table = Table::new();
        if let Some(description) = description {
            table.insert("description", description.into());
        }
        groups.insert(group, Item::Table(table));
        Ok(())
    }

    /// Takes a group out; `false` when the file has none.
    pub(super) fn delete_group(&mut self, group: &str) -> Result<bool, EditError> {
        let Some(groups) = self.toml.get_mut(GROUPS).and_then(Item::as_table_like_mut) else {
            return Ok(false);
        };
        let removed = groups.remove(group);
        if let Some(Item::Table(table)) = &removed {
            self.keep_headings(table);
        }
        Ok(removed.is_some())
    }

    /// Moves what stands above the heading of a removed table to the next one, but for the comment that
    /// belongs to the table itself: the one with no blank line between.
    fn keep_headings(&mut self, removed: &Table) {
        let above = removed.decor().prefix().and_then(|raw| raw.as_str()).unwrap_or_default();
        let Some((kept, _)) = above.rsplit_once("\n\n").filter(|(kept, _)| kept.contains('#')) else {
            return;
        };
        let Some(position) = removed.position() else { return };
        if let Some(next) = next_table(self.toml.as_table_mut(), position) {
            let prefix = next.decor().prefix().and_then(|raw| raw.as_str()).unwrap_or_default();
            let prefix = format!("{kept}\n{prefix}");
            next.decor_mut().set_prefix(prefix);
        } else {
            let trailing = self.toml.trailing().as_str().unwrap_or_default();
            let trailing = format!("{kept}\n{trailing}");
            self.toml.set_trailing(trailing);
        }
    }

    /// A group as the file has it. What is added to an inline table stands in one line, as the rest of it.
    fn group(&mut self, name: &str) -> Option<(&mut dyn TableLike, WhenEmpty)> {
        let groups = self.toml.get_mut(GROUPS)?.as_table_like_mut()?;
        let group = groups.get_mut(name)?;
        let when_empty = if group.is_inline_table() { WhenEmpty::OneLine } else { WhenEmpty::Lines };
        Some((group.as_table_like_mut()?, when_empty))
    }
}

impl Rules<'_> {
    /// Adds a rule behind the others.
    pub(super) fn push(self, spec: &RuleSpec, direction: Direction) {
        match self {
            Self::Array(array, when_empty) => layout::push(array, inline(spec, direction).into(), when_empty),
            Self::Tables(table, key) => {
                let rules = table.get_mut(key).and_then(Item::as_array_of_tables_mut);
                rules.into_iter().for_each(|rules| rules.push(inline(spec, direction).into_table()));
            }
        }
    }

    /// Takes a rule out.
    pub(super) fn remove(self, index: usize) {
        match self {
            Self::Array(array, _) => layout::remove(array, index),
            Self::Tables(table, key) => {
                let rules = table.get_mut(key).and_then(Item::as_array_of_tables_mut);
                let is_empty = rules.is_some_and(|rules| {
                    rules.remove(index);
                    ArrayOfTables::is_empty(rules)
                });
                if is_empty {
                    // No table at all would mean that the key is left out, which is something else.
                    table.insert(key, Item::Value(Array::new().into()));
                }
            }
        }
    }
}

/// The table that follows position `after` in the text.
fn next_table(table: &mut Table, after: isize) -> Option<&mut Table> {
    fn collect<'t>(table: &'t mut Table, after: isize, found: &mut Vec<(isize, &'t mut Table)>) {
        // A table is either taken or looked into: one that follows comes before its own tables.
        match table.position() {
            Some(position) if position > after && !table.is_implicit() && !table.is_dotted() => {
                found.push((position, table));
            }
            _ => table.iter_mut().for_each(|(_, item)| match item {
                Item::Table(inner) => collect(inner, after, found),
                Item::ArrayOfTables(tables) => {
                    tables.iter_mut().for_each(|inner| collect(inner, after, found))
                }
                Item::None | Item::Value(_) => {}
            }),
        }
    }
    let mut found = Vec::new();
    collect(table, after, &mut found);
    found.into_iter().min_by_key(|(position, _)| *position).map(|(_, table)| table)
}

/// The blank before the closing brace of an inline table; it is taken off.
fn take_suffix(table: &mut dyn TableLike) -> String {
    let Some(last) = table.iter_mut().last().and_then(|(_, item)| item.as_value_mut()) else {
        return " ".to_owned();
    };
    let suffix = last.decor().suffix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
    last.decor_mut().set_suffix("");
    suffix
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

/// A rule as its author would write it.
fn inline(spec: &RuleSpec, direction: Direction) -> InlineTable {
    let mut table = InlineTable::new();
    let number = spec.protocol.to_string().parse::<i64>();
    table.insert("protocol", number.map_or_else(|_| spec.protocol.to_string().into(), Value::from));
    if !spec.ports.is_empty() {
        let port = |range: &crate::policy::PortRange| -> Value {
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
