//! A list of tables in the policy file, in either of the two ways that TOML has for it.

use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table};

use super::layout::{self, WhenEmpty};

/// Entries in their order.
pub(super) enum List<'d> {
    /// `key = [{ ... }]`, and how it is laid out once it is no longer empty.
    Array(&'d mut Array, WhenEmpty),
    /// `[[key]]`
    Tables(&'d mut ArrayOfTables),
}

impl<'d> List<'d> {
    /// The list that `item` is, if it is one.
    pub(super) fn of(item: &'d mut Item, when_empty: WhenEmpty) -> Option<Self> {
        match item {
            Item::ArrayOfTables(tables) => Some(Self::Tables(tables)),
            Item::Value(value) => value.as_array_mut().map(|array| Self::Array(array, when_empty)),
            Item::None | Item::Table(_) => None,
        }
    }

    /// Adds an entry so that it is the one at `index`, or the last if there are fewer.
    pub(super) fn insert(self, index: usize, entry: InlineTable) {
        match self {
            Self::Array(array, when_empty) => layout::insert(array, index, entry.into(), when_empty),
            Self::Tables(tables) => insert_table(tables, index, entry.into_table()),
        }
    }

    /// Takes an entry out; gives its table, if it was one with a heading.
    pub(super) fn remove(self, index: usize) -> Option<Table> {
        match self {
            Self::Array(array, _) => {
                layout::remove(array, index);
                None
            }
            Self::Tables(tables) => (index < tables.len()).then(|| tables.remove(index)),
        }
    }
}

fn insert_table(tables: &mut ArrayOfTables, index: usize, mut table: Table) {
    let Some(next) = tables.get_mut(index) else { return tables.push(table) };
    // Of two tables with one position, the text has that first which the array has first.
    table.set_position(next.position());
    if index == 0
        && let above = prefix(next)
        && let Some((heading, own)) = above.rsplit_once("\n\n").filter(|(heading, _)| heading.contains('#'))
    {
        // What stands above all entries stays there.
        table.decor_mut().set_prefix(format!("{heading}\n\n"));
        next.decor_mut().set_prefix(format!("\n{own}"));
    }
    tables.insert(index, table);
}

/// What stands above the heading of a table.
pub(super) fn prefix(table: &Table) -> String {
    table.decor().prefix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned()
}
