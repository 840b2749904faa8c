//! One named table of the policy file: keys are set and taken out as its author would do it.

use toml_edit::{Array, Item, TableLike, Value};

use super::layout::{self, WhenEmpty};

/// What becomes of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is given this value.
    Set(T),
    /// It is taken out, so that its default holds.
    Unset,
}

impl<T> Setting<T> {
    /// What is given, if anything is.
    pub fn of(given: Option<T>) -> Self {
        given.map_or(Self::Keep, Self::Set)
    }

    /// The same for a list, of which nothing given means that it stays.
    #[must_use]
    pub fn of_list(given: Vec<T>) -> Setting<Vec<T>> {
        if given.is_empty() { Setting::Keep } else { Setting::Set(given) }
    }

    /// Taken out if `unset`, a flag of the command line, says so.
    #[must_use]
    pub fn or_unset(self, unset: bool) -> Self {
        if unset { Self::Unset } else { self }
    }
}

/// A named table.
pub(super) struct Entry<'d> {
    pub(super) table: &'d mut dyn TableLike,
    pub(super) layout: WhenEmpty,
}

impl<'d> Entry<'d> {
    /// `table`, to which keys are added in lines of their own or in its one line.
    pub(super) fn new(table: &'d mut dyn TableLike, layout: WhenEmpty) -> Self {
        Self { table, layout }
    }

    /// Does to `key` what `setting` says.
    pub(super) fn apply<T: Clone + Into<Value>>(&mut self, key: &str, setting: &Setting<T>) {
        match setting {
            Setting::Keep => {}
            Setting::Set(value) => self.set(key, value.clone().into()),
            Setting::Unset => self.unset(key),
        }
    }

    /// The same for a list of strings; those that are in it already stay where they are.
    pub(super) fn apply_list(&mut self, key: &str, setting: &Setting<Vec<String>>) {
        match setting {
            Setting::Keep => {}
            Setting::Set(wanted) => match (self.table.get_mut(key).and_then(Item::as_value_mut), &wanted[..])
            {
                (Some(Value::Array(array)), _) => change_list(array, wanted),
                // A list of one may be written as that one alone.
                (Some(Value::String(_)), [one]) => self.set(key, one.as_str().into()),
                _ => self.set(key, Value::Array(wanted.iter().map(String::as_str).collect())),
            },
            Setting::Unset => self.unset(key),
        }
    }

    /// Makes the list under `key` hold what is `wanted`, comments of items that stay kept; `false` if it is none.
    pub(super) fn apply_values(
        &mut self,
        key: &str,
        wanted: &[Value],
        is_same: &dyn Fn(&Value, &Value) -> bool,
    ) -> bool {
        let Some(Value::Array(array)) = self.table.get_mut(key).and_then(Item::as_value_mut) else {
            return false;
        };
        change_values(array, wanted, is_same);
        true
    }

    /// Gives `key` a value; a comment behind the old one stays.
    pub(super) fn set(&mut self, key: &str, mut value: Value) {
        if let Some(old) = self.table.get_mut(key).and_then(Item::as_value_mut) {
            *value.decor_mut() = old.decor().clone();
            *old = value;
            return;
        }
        if self.layout == WhenEmpty::OneLine {
            value.decor_mut().set_prefix(" ");
            value.decor_mut().set_suffix(self.take_suffix());
        }
        self.table.insert(key, Item::Value(value));
    }

    /// Takes `key` out.
    pub(super) fn unset(&mut self, key: &str) {
        let is_last = self.table.iter().last().is_some_and(|(last, _)| last == key);
        let removed = self.table.remove(key);
        if self.layout != WhenEmpty::OneLine || !is_last {
            return;
        }
        // What stood before the closing brace.
        let suffix =
            removed.as_ref().and_then(Item::as_value).and_then(|value| value.decor().suffix()?.as_str());
        let last = self.table.iter_mut().last();
        if let (Some(suffix), Some(last)) = (suffix, last.and_then(|(_, item)| item.as_value_mut())) {
            last.decor_mut().set_suffix(suffix);
        }
    }

    /// The blank before the closing brace of an inline table; it is taken off.
    fn take_suffix(&mut self) -> String {
        let last = self.table.iter_mut().last().and_then(|(_, item)| item.as_value_mut());
        let Some(last) = last else { return " ".to_owned() };
        let suffix = last.decor().suffix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
        last.decor_mut().set_suffix("");
        suffix
    }
}

/// Makes `array` hold what is `wanted`.
fn change_list(array: &mut Array, wanted: &[String]) {
    let wanted: Vec<Value> = wanted.iter().map(|want| want.as_str().into()).collect();
    change_values(array, &wanted, &|a, b| a.as_str().is_some() && a.as_str() == b.as_str());
}

/// The same for values of any kind, of which those that are in it already, as `is_same` says, become what is wanted
/// where they stand.
fn change_values(array: &mut Array, wanted: &[Value], is_same: &dyn Fn(&Value, &Value) -> bool) {
    for index in (0..array.len()).rev() {
        let is_wanted = |value: &Value| wanted.iter().any(|want| is_same(value, want));
        if !array.get(index).is_some_and(is_wanted) {
            layout::remove(array, index);
        }
    }
    for want in wanted {
        let place = array.iter().position(|value| is_same(value, want));
        let Some(there) = place.and_then(|place| array.get_mut(place)) else {
            layout::push(array, want.clone(), WhenEmpty::OneLine);
            continue;
        };
        if !is_written_as(there, want) {
            let decor = there.decor().clone();
            *there = want.clone();
            *there.decor_mut() = decor;
        }
    }
}

/// Whether two values say the same.
fn is_written_as(a: &Value, b: &Value) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    [&mut a, &mut b].into_iter().for_each(|value| {
        if let Value::InlineTable(table) = value {
            table.fmt();
        }
        value.decor_mut().clear();
    });
    a.to_string() == b.to_string()
}
