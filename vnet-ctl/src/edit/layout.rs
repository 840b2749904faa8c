//! Adds to and takes from a TOML array so that it looks as if its author had done it: one item per line
//! stays one item per line, and comments stay with the lines that they are on.

use toml_edit::{Array, Value};

/// How far items of a new array are indented.
const INDENT: &str = "  ";

/// How an array without items is laid out once it has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenEmpty {
    /// One item per line.
    Lines,
    /// All in one line.
    OneLine,
}

/// Appends `item`.
pub(super) fn push(array: &mut Array, mut item: Value, when_empty: WhenEmpty) {
    let tail = take_tail(array);
    let before: Vec<String> = array.iter().map(prefix).collect();
    let line_start = before.iter().rev().find_map(|prefix| prefix.rsplit_once('\n'));
    let starts_line = tail.contains('\n') || line_start.is_some();
    if starts_line || (before.is_empty() && when_empty == WhenEmpty::Lines) {
        let (comments, closing) = match tail.rsplit_once('\n') {
            Some((comments, closing)) => (comments.trim_end(), format!("\n{closing}")),
            // The bracket stands behind the last item, where it stays.
            None if starts_line => ("", tail.clone()),
            None => ("", "\n".to_owned()),
        };
        let own_indent = closing.rsplit_once('\n').map_or("", |(_, indent)| indent);
        let indent =
            line_start.map_or_else(|| format!("{own_indent}{INDENT}"), |(_, indent)| indent.to_owned());
        item.decor_mut().set_prefix(format!("{comments}\n{indent}"));
        item.decor_mut().set_suffix("");
        let has_comma = array.trailing_comma() || before.is_empty();
        array.push_formatted(item);
        array.set_trailing(closing);
        array.set_trailing_comma(has_comma);
    } else {
        let separator = if before.is_empty() { "" } else { " " };
        item.decor_mut().set_prefix(separator);
        item.decor_mut().set_suffix("");
        array.push_formatted(item);
        array.set_trailing(tail);
    }
}

/// Adds `item` so that it is the one at `index`, or the last if there are fewer.
pub(super) fn insert(array: &mut Array, index: usize, mut item: Value, when_empty: WhenEmpty) {
    let Some(next) = array.get_mut(index) else { return push(array, item, when_empty) };
    let before = prefix(next);
    let (own, rest) = match before.split_once('\n') {
        // The comment behind the item before stays there, the lines above the next one stay with that.
        Some((behind, lines)) => {
            let indent = lines.rsplit_once('\n').map_or(lines, |(_, indent)| indent);
            (format!("{behind}\n{indent}"), format!("\n{lines}"))
        }
        None => (before, " ".to_owned()),
    };
    next.decor_mut().set_prefix(rest);
    item.decor_mut().set_prefix(own);
    item.decor_mut().set_suffix("");
    array.insert_formatted(index, item);
}

/// Takes the item at `index` out, with the comment behind it in its line; comments in lines of their own stay.
pub(super) fn remove(array: &mut Array, index: usize) {
    let is_last = index + 1 == array.len();
    let tail = take_tail(array);
    let before = array.get(index).map(prefix).unwrap_or_default();
    let after = if is_last { tail.clone() } else { array.get(index + 1).map(prefix).unwrap_or_default() };
    let gap = join_gaps(&before, &after, is_last);
    array.remove(index);
    if let Some(next) = array.get_mut(index) {
        next.decor_mut().set_prefix(gap);
        array.set_trailing(tail);
    } else if array.is_empty() {
        array.set_trailing(if gap.trim().is_empty() { String::new() } else { gap });
        array.set_trailing_comma(false);
    } else {
        array.set_trailing(gap);
    }
}

/// What stands between the neighbours of an item that is taken out, from what stood on its two sides.
fn join_gaps(before: &str, after: &str, is_last: bool) -> String {
    // The item's own comment ends with its line.
    let rest = after.find('\n').and_then(|newline| after.get(newline..));
    match (before.rfind('\n').and_then(|newline| before.get(..newline)), rest) {
        (Some(lines), Some(rest)) => format!("{lines}{rest}"),
        (Some(lines), None) if is_last => format!("{lines}{after}"),
        (Some(_), None) => before.to_owned(),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => (if is_last { after } else { before }).to_owned(),
    }
}

/// What stands between the last item and the bracket; it is taken off.
fn take_tail(array: &mut Array) -> String {
    let trailing = array.trailing().as_str().unwrap_or_default().to_owned();
    let last = array.len().checked_sub(1).and_then(|last| array.get_mut(last));
    let suffix = last.map(|last| {
        let suffix = last.decor().suffix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
        last.decor_mut().set_suffix("");
        suffix
    });
    array.set_trailing("");
    suffix.unwrap_or_default() + &trailing
}

fn prefix(value: &Value) -> String {
    value.decor().prefix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned()
}
