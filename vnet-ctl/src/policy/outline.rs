//! A TOML text in chunks that can be read by themselves, and where two texts differ.
//!
//! A chunk begins at each line whose first character is `[`, and ends where the next one begins; what is before
//! the first is a chunk, too. In a valid policy without strings of several lines no other line begins so: no
//! key takes a list of lists.

use std::ops::Range;

use vnet_common::Direction;

use super::rule::direction_name;

/// How a group's heading begins.
const HEADING: &str = "[security_groups.";

/// Whether no string of `text` can have several lines.
pub(super) fn is_plain(text: &str) -> bool {
    // Without an end before the last, which lets the compiler look at many places at once.
    let is_border = |three: &[u8]| matches!(three, b"\"\"\"" | b"'''");
    !text.as_bytes().windows(3).fold(false, |found, three| found | is_border(three))
}

/// The chunks of `text`, which stands at `offset`.
pub(super) fn split(text: &str, offset: usize) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if at > 0 && line.trim_start_matches([' ', '\t']).starts_with('[') {
            chunks.push(offset + start..offset + at);
            start = at;
        }
        at += line.len();
    }
    chunks.push(offset + start..offset + at);
    chunks
}

/// The group that `chunk` is the table of; `None` if it is anything else, or has an unusual heading.
pub(super) fn group_of(chunk: &str) -> Option<&str> {
    let (name, after) = chunk.strip_prefix(HEADING)?.split_once(']')?;
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let is_alone = after.lines().next().is_none_or(|after| after.trim().is_empty());
    (is_bare && is_alone && !name.is_empty()).then_some(name)
}

/// Which rules of a group are in the list that begins with `line`; `None` if none does.
pub(super) fn list_opened_by(line: &str) -> Option<Direction> {
    let (key, opening) = line.split_once('=')?;
    let directions = [Direction::Ingress, Direction::Egress];
    let direction = directions.into_iter().find(|of| direction_name(*of) == key.trim_end())?;
    (opening.trim_start() == "[").then_some(direction)
}

/// The chunk that has the heading of the group `name` alone.
pub(super) fn empty_chunk(name: &str) -> String {
    format!("{HEADING}{name}]\n")
}

/// Where two texts differ: between what both begin with and what both end with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// In the old one.
    pub(super) old: Range<usize>,
    /// In the new one.
    pub(super) new: Range<usize>,
}

impl Edit {
    /// Between `old` and `new`.
    pub(super) fn between(old: &str, new: &str) -> Self {
        let begin = common_prefix(old.as_bytes(), new.as_bytes());
        let most = old.len().min(new.len()) - begin;
        let tails = (&old.as_bytes()[old.len() - most..], &new.as_bytes()[new.len() - most..]);
        let end = common_suffix(tails.0, tails.1);
        let mut edit = Self { old: begin..old.len() - end, new: begin..new.len() - end };
        while !(new.is_char_boundary(edit.new.start) && old.is_char_boundary(edit.old.start)) {
            (edit.old.start, edit.new.start) = (edit.old.start - 1, edit.new.start - 1);
        }
        while !(new.is_char_boundary(edit.new.end) && old.is_char_boundary(edit.old.end)) {
            (edit.old.end, edit.new.end) = (edit.old.end + 1, edit.new.end + 1);
        }
        edit
    }

    /// The same, but of whole lines.
    pub(super) fn whole_lines(self, old: &str, new: &str) -> Self {
        let start = old[..self.old.start].rfind('\n').map_or(0, |at| at + 1);
        let ends_line = |text: &str, end: usize| end == 0 || text.as_bytes()[end - 1] == b'\n';
        let more = if ends_line(old, self.old.end) && ends_line(new, self.new.end) {
            0
        } else {
            let rest = &old[self.old.end..];
            rest.find('\n').map_or(rest.len(), |at| at + 1)
        };
        Self { old: start..self.old.end + more, new: start..self.new.end + more }
    }

    /// Whether no string of several lines came into the new text.
    pub(super) fn is_plain(&self, new: &str) -> bool {
        // Quotation marks around it may belong to it.
        let mut around = self.new.start.saturating_sub(2)..(self.new.end + 2).min(new.len());
        while !new.is_char_boundary(around.start) {
            around.start -= 1;
        }
        while !new.is_char_boundary(around.end) {
            around.end += 1;
        }
        is_plain(&new[around])
    }

    /// The chunks of the new text, from those of the old one; and which of them the edit touches.
    pub(super) fn split_again(&self, old: &[Range<usize>], new: &str) -> (Vec<Range<usize>>, Self) {
        // Also the one before: what loses its heading belongs to it.
        let first = old.partition_point(|chunk| chunk.end < self.old.start).saturating_sub(1);
        let last = old.partition_point(|chunk| chunk.start <= self.old.end);
        let moved = |at: usize| at - self.old.end + self.new.end;
        let start = old.get(first).map_or(0, |chunk| chunk.start);
        let end = old.get(last).map_or(new.len(), |chunk| moved(chunk.start));
        let between = split(&new[start..end], start);
        let touched = Self { old: first..last, new: first..first + between.len() };
        let after = old[last..].iter().map(|chunk| moved(chunk.start)..moved(chunk.end));
        (old[..first].iter().cloned().chain(between).chain(after).collect(), touched)
    }
}

/// How many bytes are compared at once.
const BLOCK: usize = 4096;

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK));
    let same = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.rchunks_exact(BLOCK).zip(b.rchunks_exact(BLOCK));
    let same = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    let (a, b) = (&a[..a.len() - same], &b[..b.len() - same]);
    same + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(old: &str, new: &str) -> (String, String) {
        let edit = Edit::between(old, new);
        assert_eq!(old[..edit.old.start], new[..edit.new.start]);
        assert_eq!(old[edit.old.end..], new[edit.new.end..]);
        (old[edit.old].to_owned(), new[edit.new].to_owned())
    }

    #[test]
    fn texts_differ_where_they_were_edited() {
        let same = (String::new(), String::new());
        assert_eq!(between("abc", "abc"), same);
        assert_eq!(between("aaa", "aaaa"), (String::new(), "a".to_owned()));
        assert_eq!(between("a\u{e4}c", "a\u{e5}c"), ("\u{e4}".to_owned(), "\u{e5}".to_owned()));
        let (long, longer) = ("x".repeat(9000), "x".repeat(9001));
        assert_eq!(between(&long, &longer), (String::new(), "x".to_owned()));
    }

    #[test]
    fn an_edit_of_whole_lines_has_nothing_else() {
        let (old, new) = ("a\nbc\nd\n", "a\nbxc\nd\n");
        let edit = Edit::between(old, new).whole_lines(old, new);
        assert_eq!((&old[edit.old], &new[edit.new]), ("bc\n", "bxc\n"));
        let (old, new) = ("a\nb\n", "a\nx\nb\n");
        let edit = Edit::between(old, new).whole_lines(old, new);
        assert_eq!((&old[edit.old], &new[edit.new]), ("", "x\n"));
    }

    #[test]
    fn chunks_of_an_edited_text_are_those_of_the_text() {
        let text = "version = 1\n[a]\nx = 1\n  [b]\n[security_groups.c]\ny = 2\n[d]\n";
        for at in 0..=text.len() {
            for (gone, come) in [(0, "[e]\n"), (0, "\n[e]\n"), (1, ""), (9, ""), (3, "\n"), (0, "#")] {
                let mut new = text.to_owned();
                new.replace_range(at..(at + gone).min(text.len()), come);
                let (chunks, _) = Edit::between(text, &new).split_again(&split(text, 0), &new);
                assert_eq!(chunks, split(&new, 0), "{new}");
            }
        }
    }

    #[test]
    fn a_group_is_known_by_its_heading() {
        for (chunk, group) in [
            ("[security_groups.a-b_1]\r\nx = 1\n", Some("a-b_1")),
            ("[security_groups.a]", Some("a")),
            ("[security_groups.a] # with a comment\n", None),
            ("[security_groups.\"a\"]\n", None),
            ("[security_groups.a.b]\n", None),
            (" [security_groups.a]\n", None),
            ("[security_groups]\n", None),
        ] {
            assert_eq!(group_of(chunk), group, "{chunk}");
        }
    }
}
