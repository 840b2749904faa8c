//! How answers reach a person or a program: tables, YAML, JSON or bare names on stdout; notes and
//! errors on stderr.
//!
//! Commands hand over the typed answer and a [`View`] of it; the format that the person chose decides
//! which of the two is printed. A reader that goes away early (`| head`) is no error.

mod view;

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use clap::{
    ValueEnum,
    builder::styling::{AnsiColor, Style},
};
use serde::Serialize;

use self::view::Section;
pub(crate) use self::view::{Table, View, counted, joined, listed, printable};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_is_a_choice() {
        assert!(
            ColorWhen::Always.applies(false)
                && !ColorWhen::Never.applies(true)
                && !ColorWhen::Auto.applies(false)
        );
    }
}
