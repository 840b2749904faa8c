//! What people see of an answer: fields and tables, as text.

use comfy_table::{ContentArrangement, Table as Grid, presets};

use super::Tone;

/// What people see of an answer.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// What `-o name` prints.
    pub(super) names: Vec<String>,
    pub(super) sections: Vec<Section>,
}

/// A part of what people see.
#[derive(Debug)]
pub(super) enum Section {
    Fields(Vec<(&'static str, String)>),
    Table(Table),
}

impl Section {
    /// The note that stands for a table without rows.
    pub(super) fn empty_note(&self) -> Option<&'static str> {
        match self {
            Self::Table(table) if table.rows.is_empty() => table.empty,
            _ => None,
        }
    }
}

impl View {
    /// Of one thing, called `name`.
    pub(crate) fn of(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], sections: Vec::new() }
    }

    /// Of a list; the first column is the name.
    pub(crate) fn list(table: Table) -> Self {
        let names = table.rows.iter().filter_map(|row| row.first().cloned()).collect();
        Self { names, sections: vec![Section::Table(table)] }
    }

    /// The same, with other names than the first column for `-o name`.
    pub(crate) fn named(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect(), ..self }
    }

    /// Adds `label: value` lines.
    pub(crate) fn fields<const N: usize>(mut self, fields: [(&'static str, String); N]) -> Self {
        self.sections.push(Section::Fields(fields.into()));
        self
    }

    /// Adds a table above.
    pub(crate) fn above(mut self, table: Table) -> Self {
        self.sections.insert(0, Section::Table(table));
        self
    }

    /// Adds a table below.
    pub(crate) fn table(mut self, table: Table) -> Self {
        self.sections.push(Section::Table(table));
        self
    }

    /// As text, coloured by `paint`.
    pub(super) fn render(&self, is_wide: bool, paint: impl Fn(Tone, &str) -> String) -> String {
        let texts = self.sections.iter().map(|section| match section {
            Section::Fields(fields) => render_fields(fields),
            Section::Table(table) => table.render(is_wide, &paint),
        });
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

fn render_fields(fields: &[(&'static str, String)]) -> String {
    let width = fields.iter().map(|(label, _)| label.len() + 1).max().unwrap_or_default();
    let line =
        |(label, value): &(&str, String)| format!("{:width$}  {}\n", format!("{label}:"), printable(value));
    fields.iter().filter(|(_, value)| !value.is_empty()).map(line).collect()
}

/// Rows under upper-case headers, two spaces apart, without borders.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    /// How many of the headers stand in the narrow table.
    narrow: usize,
    rows: Vec<Vec<String>>,
    empty: Option<&'static str>,
}

impl Table {
    /// With these columns.
    pub(crate) fn new<const N: usize>(headers: [&'static str; N]) -> Self {
        Self { headers: headers.into(), narrow: N, rows: Vec::new(), empty: None }
    }

    /// With further columns that only `-o wide` shows.
    pub(crate) fn wide<const N: usize>(mut self, headers: [&'static str; N]) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The note that stands for a table without rows.
    pub(crate) fn empty(mut self, note: &'static str) -> Self {
        self.empty = Some(note);
        self
    }

    /// Fills in the rows; each has as many cells as there are columns.
    pub(crate) fn rows<const N: usize>(mut self, rows: impl IntoIterator<Item = [String; N]>) -> Self {
        self.rows.extend(rows.into_iter().map(Vec::from));
        self
    }

    fn render(&self, is_wide: bool, paint: impl Fn(Tone, &str) -> String) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let columns = if is_wide { self.headers.len() } else { self.narrow };
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        grid.add_row(self.headers.iter().take(columns));
        for row in &self.rows {
            grid.add_row(row.iter().take(columns).map(|text| cell(text)));
        }
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let line = |(index, line): (usize, String)| {
            let tone = if index == 0 { Tone::Strong } else { Tone::Plain };
            paint(tone, line.trim_end()) + "\n"
        };
        grid.lines().enumerate().map(line).collect()
    }
}

/// A cell's text: `-` where there is none.
fn cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// A text without what could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// What a list holds, for one cell or a sentence.
pub(crate) fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// What a list holds, as one word: the way a command line takes it.
pub(crate) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// `1 port`, `2 ports`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::{super::paint, *};

    fn sample() -> Table {
        Table::new(["NAME", "NETWORK"])
            .wide(["MAC"])
            .empty("No ports.")
            .rows([["a", "web", "02::1"], ["long-name", "", "x"]].map(|row| row.map(str::to_owned)))
    }

    fn plain(_: Tone, text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn columns_stand_two_spaces_apart_without_trailing_space() {
        assert_eq!(sample().render(false, plain), "NAME       NETWORK\na          web\nlong-name  -\n");
    }

    #[test]
    fn wide_adds_its_columns() {
        let text = sample().render(true, plain);
        assert_eq!(text.lines().next(), Some("NAME       NETWORK  MAC"));
    }

    #[test]
    fn only_the_header_is_strong() {
        let text = sample().render(false, |tone, text| paint(true, tone, text));
        assert!(text.starts_with("\u{1b}[1mNAME") && text.matches('\u{1b}').count() == 2, "{text:?}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
    }

    #[test]
    fn fields_line_up_and_empty_ones_are_left_out() {
        let view = View::of("x").fields([
            ("Name", "x".to_owned()),
            ("State dir", "/s".to_owned()),
            ("No", String::new()),
        ]);
        assert_eq!(view.render(false, plain), "Name:       x\nState dir:  /s\n");
    }

    #[test]
    fn a_list_is_named_by_its_first_column() {
        assert_eq!(View::list(sample()).names, ["a", "long-name"]);
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!((counted(1, "port"), counted(0, "rule")), ("1 port".to_owned(), "0 rules".to_owned()));
    }
}
