//! The policy file as a document: its named tables, and what becomes of the comments around them.

use std::net::IpAddr;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table};

use super::{
    EditError,
    entry::Entry,
    layout::WhenEmpty,
    list::{self, List},
    unforeseen,
};
use crate::policy::Mistake;

/// A part of the file that holds tables by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// `[networks.NAME]`
    Networks,
    /// `[security_groups.NAME]`
    Groups,
    /// `[ports.NAME]`
    Ports,
    /// `[elastic_ips]`
    ElasticIps,
}

impl Section {
    const fn key(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Groups => "security_groups",
            Self::Ports => "ports",
            Self::ElasticIps => "elastic_ips",
        }
    }
}

/// A part of the file that holds tables in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// `[[acl]]`
    Acl,
    /// `[[forwards]]`
    Forwards,
}

impl Listed {
    const fn key(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Forwards => "forwards",
        }
    }
}

/// A policy file that is being changed.
pub(super) struct Document {
    toml: DocumentMut,
    /// What the TOML library drops: a byte order mark, and the carriage returns of lines.
    has_mark: bool,
    has_returns: bool,
}

const MARK: char = '\u{feff}';

impl Document {
    /// The document of a text that is a valid policy.
    pub(super) fn read(text: &str) -> Result<Self, EditError> {
        if text.trim_start().starts_with('{') {
            let mistake = Mistake::new("the policy file is JSON, and commands change TOML only");
            return Err(EditError::Invalid(mistake.help("edit the file by hand, then `vnet-ctl apply`")));
        }
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

    /// The table called `name`; what is added to an inline one stands in its line.
    pub(super) fn entry(&mut self, section: Section, name: &str) -> Option<Entry<'_>> {
        let entry = self.toml.get_mut(section.key())?.as_table_like_mut()?.get_mut(name)?;
        let layout = if entry.is_inline_table() { WhenEmpty::OneLine } else { WhenEmpty::Lines };
        Some(Entry::new(entry.as_table_like_mut()?, layout))
    }

    /// Adds a table behind the others of its section, with what `fill` puts into it.
    pub(super) fn create(
        &mut self,
        section: Section,
        name: &str,
        fill: impl FnOnce(&mut Entry<'_>),
    ) -> Result<(), EditError> {
        let named = self.toml.entry(section.key()).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let last = last_position(named);
        let mut table = Table::new();
        fill(&mut Entry::new(&mut table, WhenEmpty::Lines));
        if let Some(behind) = last.and_then(|last| self.take_comment_behind(last)) {
            table.decor_mut().set_prefix(format!("{behind}\n\n"));
        }
        let named = self.toml.get_mut(section.key()).and_then(Item::as_table_like_mut);
        named.ok_or_else(|| unforeseen("its section cannot be found"))?.insert(name, Item::Table(table));
        Ok(())
    }

    /// Takes off the comment that ends the table at `position`: the lines directly below its last one, with a
    /// blank line behind them. TOML counts them to what follows; at the end of the file they stay there.
    fn take_comment_behind(&mut self, position: isize) -> Option<String> {
        let next = next_table(self.toml.as_table_mut(), position)?;
        let text = list::prefix(next);
        let (comment, _) = text.split_once("\n\n").filter(|(comment, _)| comment.starts_with('#'))?;
        next.decor_mut().set_prefix(text.get(comment.len() + 1..)?);
        Some(comment.to_owned())
    }

    /// Takes a table out, with the comment directly above it; `false` when there is none.
    pub(super) fn delete(&mut self, section: Section, name: &str) -> bool {
        let named = self.toml.get_mut(section.key()).and_then(Item::as_table_like_mut);
        let Some(removed) = named.and_then(|named| named.remove(name)) else { return false };
        if let Item::Table(table) = &removed {
            self.keep_headings(table);
        }
        true
    }

    /// The entries of a list; without one, an empty one.
    pub(super) fn list(&mut self, listed: Listed) -> Result<List<'_>, EditError> {
        let key = listed.key();
        let item = self.toml.entry(key).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        List::of(item, WhenEmpty::Lines).ok_or_else(|| unforeseen(&format!("`{key}` cannot be found")))
    }

    /// The list's entry at `index`; what is added to an inline one stands in its line.
    pub(super) fn listed(&mut self, listed: Listed, index: usize) -> Option<Entry<'_>> {
        match self.toml.get_mut(listed.key())? {
            Item::ArrayOfTables(tables) => Some(Entry::new(tables.get_mut(index)?, WhenEmpty::Lines)),
            Item::Value(value) => {
                let table = value.as_array_mut()?.get_mut(index)?.as_inline_table_mut()?;
                Some(Entry::new(table, WhenEmpty::OneLine))
            }
            Item::None | Item::Table(_) => None,
        }
    }

    /// Takes the list's entry at `index` out, with the comment directly above it.
    pub(super) fn remove(&mut self, listed: Listed, index: usize) -> Result<(), EditError> {
        let removed = self.list(listed)?.remove(index);
        if let Some(table) = &removed {
            self.keep_headings(table);
        }
        let is_empty = |item: &Item| {
            item.as_array_of_tables().is_some_and(ArrayOfTables::is_empty)
                || item.as_array().is_some_and(is_bare)
        };
        if self.toml.get(listed.key()).is_some_and(is_empty) {
            self.toml.remove(listed.key());
        }
        Ok(())
    }

    /// The elastic IPs as one table; without one, an empty one. `None` if each is a table with its own heading.
    pub(super) fn elastic_ips(&mut self) -> Option<Entry<'_>> {
        let item = self.toml.entry(Section::ElasticIps.key()).or_insert_with(toml_edit::table);
        let is_apart = item.as_table().is_some_and(|table| table.is_implicit() && !table.is_empty());
        let layout = if item.is_inline_table() { WhenEmpty::OneLine } else { WhenEmpty::Lines };
        Some(Entry::new(item.as_table_like_mut().filter(|_| !is_apart)?, layout))
    }

    /// How the file writes the elastic IP `addr`.
    pub(super) fn key_of(&self, addr: IpAddr) -> Option<String> {
        let named = self.toml.get(Section::ElasticIps.key())?.as_table_like()?;
        named.iter().map(|(key, _)| key).find(|key| key.parse() == Ok(addr)).map(str::to_owned)
    }

    /// Takes the elastic IP that the file writes as `key` out, with the comment directly above it, and the
    /// section with the last of them unless something else is said in it.
    pub(super) fn delete_elastic_ip(&mut self, key: &str) {
        let section = Section::ElasticIps.key();
        if let Some(table) = self.toml.get_mut(section).and_then(Item::as_table_mut)
            && let Some(above) = kept_above(table, key)
        {
            let next = table.iter().map(|(name, _)| name.to_owned()).skip_while(|name| name != key).nth(1);
            if let Some(mut next) = next.and_then(|next| table.key_mut(&next)) {
                let own = prefix_of(next.leaf_decor());
                let blank = if own.starts_with('\n') { "" } else { "\n" };
                next.leaf_decor_mut().set_prefix(format!("{above}\n{blank}{own}"));
            } else {
                let position = table.position().unwrap_or_default();
                self.keep_above(&above, position);
            }
        }
        match self.elastic_ips() {
            Some(mut elastic_ips) => elastic_ips.unset(key),
            None => _ = self.delete(Section::ElasticIps, key),
        }
        let is_done = |item: &Item| match item {
            Item::Table(table) => table.is_empty() && !list::prefix(table).contains('#'),
            item => item.as_table_like().is_some_and(|table| table.is_empty()),
        };
        if self.toml.get(section).is_some_and(is_done) {
            self.toml.remove(section);
        }
    }

    /// Moves what stands above the heading of a removed table to the next one, but for the comment that
    /// belongs to the table itself: the one with no blank line between.
    fn keep_headings(&mut self, removed: &Table) {
        let above = list::prefix(removed);
        let Some((kept, _)) = above.rsplit_once("\n\n").filter(|(kept, _)| kept.contains('#')) else {
            return;
        };
        let Some(position) = removed.position() else { return };
        self.keep_above(kept, position);
    }

    /// Keeps comments above the table that follows `position`, or at the end of the file.
    fn keep_above(&mut self, kept: &str, position: isize) {
        if let Some(next) = next_table(self.toml.as_table_mut(), position) {
            let prefix = format!("{kept}\n{}", list::prefix(next));
            next.decor_mut().set_prefix(prefix);
        } else {
            let trailing = self.toml.trailing().as_str().unwrap_or_default();
            let trailing = format!("{kept}\n{trailing}");
            self.toml.set_trailing(trailing);
        }
    }
}

/// What stands above `key` and is not about it: all but the comment with no blank line between.
fn kept_above(table: &Table, key: &str) -> Option<String> {
    let above = prefix_of(table.key(key)?.leaf_decor());
    let (kept, _) = above.rsplit_once("\n\n").filter(|(kept, _)| kept.contains('#'))?;
    Some(kept.to_owned())
}

fn prefix_of(decor: &toml_edit::Decor) -> String {
    decor.prefix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned()
}

/// Whether nothing is in it, not even a comment.
fn is_bare(array: &Array) -> bool {
    array.is_empty() && !array.trailing().as_str().unwrap_or_default().contains('#')
}

/// Where the last of the tables in `item` stands.
fn last_position(item: &Item) -> Option<isize> {
    match item {
        Item::Table(table) => {
            let within = table.iter().filter_map(|(_, item)| last_position(item)).max();
            // The heading of a section that is not written has no place.
            let own = table.position().filter(|_| !table.is_implicit() && !table.is_dotted());
            within.max(own)
        }
        Item::ArrayOfTables(tables) => tables.iter().filter_map(Table::position).max(),
        Item::None | Item::Value(_) => None,
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
