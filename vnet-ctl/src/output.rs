//! How answers reach a person or a program: tables, YAML, JSON or bare names on stdout; notes and
//! errors on stderr.
//!
//! Commands hand over the typed answer and a [`View`] of it; the format that the person chose decides
//! which of the two is printed. A reader that goes away early (`| head`) is no error.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use clap::{
    ValueEnum,
    builder::styling::{AnsiColor, Style},
};
use comfy_table::{ContentArrangement, Table as Grid, presets};
use serde::Serialize;

use crate::failure::{Failure, Kind};

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// The same with more columns
    Wide,
    /// JSON; stable, snake_case; errors are JSON on stderr
    Json,
    /// YAML, of the same shape as JSON
    Yaml,
    /// Bare names, one a line, for scripts
    Name,
}

/// What `--color` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Even into a file or a pipe
    Always,
    /// Nowhere
    Never,
}

impl ColorWhen {
    fn applies(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                is_terminal
                    && !is_set("NO_COLOR")
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// What a piece of text means, and so its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Allowed, added, well.
    Good,
    /// Denied, removed, broken.
    Bad,
    /// Works, but look.
    Warn,
    /// Headings.
    Strong,
    /// Everything else.
    Plain,
}

impl Tone {
    fn style(self) -> Style {
        let fg = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        match self {
            Self::Good => fg(AnsiColor::Green),
            Self::Bad => fg(AnsiColor::Red).bold(),
            Self::Warn => fg(AnsiColor::Yellow).bold(),
            Self::Strong => Style::new().bold(),
            Self::Plain => Style::new(),
        }
    }
}

/// Whoever takes what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Goes on reading.
    Reads,
    /// Has gone away, as `head` does.
    Gone,
}

/// Where and how to print.
#[derive(Debug)]
pub(crate) struct Output {
    /// What stdout carries.
    pub(crate) format: Format,
    is_quiet: bool,
    colors_stdout: bool,
    colors_stderr: bool,
}

impl Output {
    /// As the global flags say.
    pub(crate) fn new(format: Format, color: ColorWhen, is_quiet: bool) -> Self {
        Self {
            format,
            is_quiet,
            colors_stdout: color.applies(io::stdout().is_terminal()),
            colors_stderr: color.applies(io::stderr().is_terminal()),
        }
    }

    /// Whether answers are sentences and tables rather than data.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Whether stderr takes colours.
    pub(crate) fn colors_stderr(&self) -> bool {
        self.colors_stderr
    }

    /// Prints `value` as JSON or YAML, or else the view of it.
    pub(crate) fn show<T: Serialize + ?Sized>(&self, value: &T, view: &View) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => {
                serde_json::to_string_pretty(value).map(|json| json + "\n").map_err(unprintable)?
            }
            Format::Yaml => serde_norway::to_string(value).map_err(unprintable)?,
            Format::Name => view.names.iter().map(|name| format!("{name}\n")).collect(),
            Format::Table | Format::Wide => {
                for empty in view.sections.iter().filter_map(Section::empty_note) {
                    self.note(empty);
                }
                view.render(self.format == Format::Wide, |tone, text| self.painted(tone, text))
            }
        };
        self.print(&text)
    }

    /// `text` for stdout, coloured where stdout takes colours.
    pub(crate) fn painted(&self, tone: Tone, text: &str) -> String {
        paint(self.colors_stdout, tone, text)
    }

    /// Prints to stdout as it stands.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        self.write(text).map(|_| ())
    }

    fn write(&self, text: &str) -> Result<Reader, Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(Reader::Reads),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(Failure::new(Kind::Failed, format!("write to stdout: {error}"))),
        }
    }

    /// Whether a person looks at stderr, and wants to see how things go.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.is_quiet && io::stderr().is_terminal()
    }

    /// One of many values, printed as it comes: with `-o json` as an object in a line. Tells whether anybody
    /// is still reading.
    pub(crate) fn stream<T: Serialize>(&self, value: &T, name: &str, line: &str) -> Result<Reader, Failure> {
        let text = match self.format {
            Format::Json => serde_json::to_string(value).map(|json| json + "\n").map_err(unprintable)?,
            Format::Yaml => {
                serde_norway::to_string(value).map(|yaml| format!("---\n{yaml}")).map_err(unprintable)?
            }
            Format::Name => format!("{name}\n"),
            Format::Table | Format::Wide => format!("{line}\n"),
        };
        self.write(&text)
    }

    /// A line for the person at the terminal, on stderr; silent with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A note that asks for attention.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", paint(self.colors_stderr, Tone::Warn, "warning:")));
    }

    /// Prints a failure on stderr, with `-o json` as JSON.
    pub(crate) fn fail(&self, failure: &Failure) {
        let text = match self.format {
            Format::Json => failure.to_json().to_string(),
            _ => self.failure_text(failure),
        };
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn failure_text(&self, failure: &Failure) -> String {
        let message = format!("{} {}", paint(self.colors_stderr, Tone::Bad, "error:"), failure.message);
        let mut text = match &failure.rendered {
            Some(rendered) => format!("{}\n\n{message}", rendered.trim_end()),
            None => message,
        };
        if let Some(help) = &failure.help {
            text += &format!("\n{} {help}", paint(self.colors_stderr, Tone::Good, "help:"));
        }
        text
    }
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Failed, format!("print the answer: {error}"))
}

fn paint(is_on: bool, tone: Tone, text: &str) -> String {
    if !is_on || tone == Tone::Plain {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// What people see of an answer.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// What `-o name` prints.
    names: Vec<String>,
    sections: Vec<Section>,
}

#[derive(Debug)]
enum Section {
    Fields(Vec<(&'static str, String)>),
    Table(Table),
}

impl Section {
    fn empty_note(&self) -> Option<&'static str> {
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

    fn render(&self, is_wide: bool, paint: impl Fn(Tone, &str) -> String) -> String {
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
    use super::*;

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

    #[test]
    fn color_is_a_choice() {
        assert!(
            ColorWhen::Always.applies(false)
                && !ColorWhen::Never.applies(true)
                && !ColorWhen::Auto.applies(false)
        );
    }
}
