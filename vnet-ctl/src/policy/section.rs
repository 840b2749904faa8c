//! Reads typed values out of parsed TOML, and collects what is wrong with them instead of stopping there.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Mistake, closest, diagnostic::Finding};

/// A value and its place.
pub(super) type Node<'t> = &'t Spanned<DeValue<'t>>;

/// A name that the file gives to something, its place, and what it names.
pub(super) type Named<'t> = (&'t str, Range<usize>, Node<'t>);

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What makes the file invalid.
    pub(super) errors: Vec<Finding>,
    /// What is only strange.
    pub(super) warnings: Vec<Finding>,
}

impl Report {
    /// Records `mistake` at `span`.
    pub(super) fn error(&mut self, span: Range<usize>, mistake: Mistake) {
        self.errors.push(Finding::new(span, mistake));
    }

    /// The value, or `None` once its mistake is recorded.
    pub(super) fn keep<T>(&mut self, span: Range<usize>, result: Result<T, Mistake>) -> Option<T> {
        result.map_err(|mistake| self.error(span, mistake)).ok()
    }

    /// Records that `node` is not `wanted`.
    fn wrong_type(&mut self, node: Node<'_>, wanted: &str) {
        let found = match node.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let mistake = Mistake::new(format!("expected {wanted}, found {found}"));
        let mistake = match (wanted, node.get_ref()) {
            (LIST, DeValue::String(text)) => mistake.help(format!("write [\"{text}\"]")),
            (LIST, DeValue::Integer(number)) => mistake.help(format!("write [{number}]")),
            (STRING, DeValue::Integer(number)) => mistake.help(format!("write \"{number}\"")),
            (NUMBER, DeValue::String(text)) if text.parse::<i64>().is_ok() => {
                mistake.help(format!("write {text} without quotes"))
            }
            (BOOLEAN, DeValue::String(text)) if *text == "true" || *text == "false" => {
                mistake.help(format!("write {text} without quotes"))
            }
            _ => mistake,
        };
        self.error(node.span(), mistake);
    }
}

const STRING: &str = "a string";
const NUMBER: &str = "a number";
const BOOLEAN: &str = "true or false";
const LIST: &str = "a list";
const TABLE: &str = "a table";

/// The string that `node` must be.
pub(super) fn string<'t>(node: Node<'t>, report: &mut Report) -> Option<&'t str> {
    let text = node.get_ref().as_str();
    text.or_else(|| {
        report.wrong_type(node, STRING);
        None
    })
}

/// The truth value that `node` must be.
pub(super) fn boolean(node: Node<'_>, report: &mut Report) -> Option<bool> {
    node.get_ref().as_bool().or_else(|| {
        report.wrong_type(node, BOOLEAN);
        None
    })
}

/// The whole number that `node` must be.
pub(super) fn integer(node: Node<'_>, report: &mut Report) -> Option<i64> {
    let Some(number) = node.get_ref().as_integer() else {
        report.wrong_type(node, NUMBER);
        return None;
    };
    i64::from_str_radix(number.as_str(), number.radix()).ok().or_else(|| {
        report.error(node.span(), Mistake::new(format!("the number {number} is out of range")));
        None
    })
}

/// The items of the list that `node` must be.
pub(super) fn list<'t>(node: Node<'t>, report: &mut Report) -> Option<Vec<Node<'t>>> {
    match node.get_ref().as_array() {
        Some(items) => Some(items.iter().collect()),
        None => {
            report.wrong_type(node, LIST);
            None
        }
    }
}

/// The items of the list of strings that `node` must be, each read by `read`. Items that are wrong are
/// recorded and left out; `None` when any is.
pub(super) fn list_of<'t, T>(
    node: Node<'t>,
    report: &mut Report,
    mut read: impl FnMut(Node<'t>, &mut Report) -> Option<T>,
) -> Option<Vec<T>> {
    let items = list(node, report)?;
    let read: Vec<_> = items.into_iter().map(|item| read(item, report)).collect();
    read.into_iter().collect()
}

/// Which keys a table may have.
pub(super) struct Schema {
    /// Those that mean something now.
    pub(super) keys: &'static [&'static str],
    /// Those that are meant to, but do not yet.
    pub(super) later: &'static [&'static str],
}

/// A table whose keys are known.
pub(super) struct Section<'t> {
    /// What messages call it, such as ``network `web` ``.
    title: String,
    place: Range<usize>,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// The table that `node` must be; its unknown keys are recorded. `path` is how the file calls it
    /// (empty for the file as a whole), `title` how messages do, `place` where something missing is told.
    pub(super) fn open(
        (path, title, place): (&str, String, Range<usize>),
        node: Node<'t>,
        schema: &Schema,
        report: &mut Report,
    ) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            report.wrong_type(node, TABLE);
            return None;
        };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            if schema.later.contains(&name) {
                report.error(key.span(), not_yet(&format!("`{full}`")));
            } else if !schema.keys.contains(&name) {
                let help = match closest(name, schema.keys.iter().copied()) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!("known here: {}", schema.keys.join(", ")),
                };
                report.error(key.span(), Mistake::new(format!("unknown key `{full}`")).help(help));
            }
        }
        Some(Self { title, place, table })
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Node<'t>> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The place of `key` and its value, if it is there.
    pub(super) fn entry(&self, key: &str) -> Option<(Range<usize>, Node<'t>)> {
        let (key, node) = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
        Some((key.span(), node))
    }

    /// The value of `key`, or `None` once its absence is recorded.
    pub(super) fn require(&self, key: &str, help: &str, report: &mut Report) -> Option<Node<'t>> {
        let node = self.get(key);
        if node.is_none() {
            let message = format!("{} has no `{key}`", self.title);
            report.error(self.place.clone(), Mistake::new(message).help(help));
        }
        node
    }

    /// What the table under `key` names; nothing when it is absent.
    pub(super) fn named(&self, key: &str, report: &mut Report) -> Vec<Named<'t>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Some(table) = node.get_ref().as_table() else {
            report.wrong_type(node, TABLE);
            return Vec::new();
        };
        table.iter().map(|(name, node)| (name.get_ref().as_ref(), name.span(), node)).collect()
    }

    /// Where its absence of something is told.
    pub(super) fn place(&self) -> Range<usize> {
        self.place.clone()
    }
}

/// The mistake of using what a later version of vnet will know.
pub(super) fn not_yet(what: &str) -> Mistake {
    Mistake::new(format!("not supported yet: {what}"))
        .help("take it out; this version of vnet would not act on it")
}
