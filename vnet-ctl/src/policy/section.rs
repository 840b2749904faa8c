//! Reads typed values out of a parsed file, and collects what is wrong with them instead of stopping there.

use std::ops::Range;

pub(super) use super::tree::{Named, Node};
use super::{Mistake, closest, diagnostic::Finding, tree::Kind};

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
        let kind = node.kind();
        let mistake = Mistake::new(format!("expected {wanted}, found {}", kind.name()));
        let mistake = match (wanted, kind) {
            (LIST, Kind::String(text)) => mistake.help(format!("write [\"{text}\"]")),
            (LIST, Kind::Integer(Some(number))) => mistake.help(format!("write [{number}]")),
            (STRING, Kind::Integer(Some(number))) => mistake.help(format!("write \"{number}\"")),
            (NUMBER, Kind::String(text)) if text.parse::<i64>().is_ok() => {
                mistake.help(format!("write {text} without quotes"))
            }
            (BOOLEAN, Kind::String(text)) if text == "true" || text == "false" => {
                mistake.help(format!("write {text} without quotes"))
            }
            (_, Kind::Null) => mistake.help("leave the name out instead"),
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
    if let Kind::String(text) = node.kind() {
        return Some(text);
    }
    report.wrong_type(node, STRING);
    None
}

/// The truth value that `node` must be.
pub(super) fn boolean(node: Node<'_>, report: &mut Report) -> Option<bool> {
    if let Kind::Boolean(value) = node.kind() {
        return Some(value);
    }
    report.wrong_type(node, BOOLEAN);
    None
}

/// The whole number that `node` must be.
pub(super) fn integer(node: Node<'_>, report: &mut Report) -> Option<i64> {
    match node.kind() {
        Kind::Integer(Some(number)) => return Some(number),
        Kind::Integer(None) => report.error(node.span(), Mistake::new("the number is out of range")),
        _ => report.wrong_type(node, NUMBER),
    }
    None
}

/// The items of the list that `node` must be.
pub(super) fn list<'t>(node: Node<'t>, report: &mut Report) -> Option<Vec<Node<'t>>> {
    let items = node.items();
    if items.is_none() {
        report.wrong_type(node, LIST);
    }
    items
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
    entries: Vec<Named<'t>>,
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
        let Some(entries) = node.entries() else {
            report.wrong_type(node, TABLE);
            return None;
        };
        for (name, place, _) in &entries {
            if !schema.keys.contains(name) {
                report.error(place.clone(), schema.unknown(path, name));
            }
        }
        Some(Self { title, place, entries })
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Node<'t>> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The place of `key` and its value, if it is there.
    pub(super) fn entry(&self, key: &str) -> Option<(Range<usize>, Node<'t>)> {
        let (_, place, node) = self.entries.iter().find(|(name, ..)| *name == key)?;
        Some((place.clone(), *node))
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
        node.entries().unwrap_or_else(|| {
            report.wrong_type(node, TABLE);
            Vec::new()
        })
    }

    /// Where its absence of something is told.
    pub(super) fn place(&self) -> Range<usize> {
        self.place.clone()
    }
}

impl Schema {
    /// The mistake of a key that means nothing (yet) in the table that the file calls `path`.
    fn unknown(&self, path: &str, name: &str) -> Mistake {
        let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if self.later.contains(&name) {
            return not_yet(&format!("`{full}`"));
        }
        let help = match closest(name, self.keys.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None if self.keys.is_empty() => "take it out: no key is known here yet".to_owned(),
            None => format!("known here: {}", self.keys.join(", ")),
        };
        Mistake::new(format!("unknown key `{full}`")).help(help)
    }
}

/// The word of `words` that `node` must be, as what it stands for.
pub(super) fn one_of<T: Copy, const N: usize>(
    node: Node<'_>,
    what: &str,
    words: [(&str, T); N],
    report: &mut Report,
) -> Option<T> {
    let text = string(node, report)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let known = words.map(|(word, _)| word);
    let help = match closest(&text.to_ascii_lowercase(), known) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("write {}", known.map(|word| format!("\"{word}\"")).join(" or ")),
    };
    report.error(node.span(), Mistake::new(format!("\"{text}\" is not {what}")).help(help));
    None
}

/// The mistake of using what a later version of vnet will know.
pub(super) fn not_yet(what: &str) -> Mistake {
    Mistake::new(format!("not supported yet: {what}"))
        .help("take it out; this version of vnet would not act on it")
}
