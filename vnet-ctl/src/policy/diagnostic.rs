//! What is wrong with a policy file, shown with the lines that it is about.

use std::{fmt, ops::Range, path::Path};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize, Serializer};

use super::Mistake;

/// One finding as machines read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Something in a valid policy that is probably not what its author wants.
pub type Warning = Diagnostic;

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        self.help.iter().try_for_each(|help| write!(out, "; {help}"))
    }
}

/// Whether to colour what a terminal shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Never,
    /// ANSI escapes.
    Always,
}

/// A finding with the bytes of the text that it is about.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    mistake: Mistake,
    span: Range<usize>,
    /// Another place that belongs to it.
    related: Option<(Range<usize>, String)>,
}

impl Finding {
    /// `mistake` at `span`.
    pub(super) fn new(span: Range<usize>, mistake: Mistake) -> Self {
        Self { mistake, span, related: None }
    }

    /// The same, also pointing at another place.
    pub(super) fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    /// What is wrong, wherever it is.
    pub(super) fn into_mistake(self) -> Mistake {
        self.mistake
    }

    /// As machines read it.
    fn locate(&self, file: &str, (source, lines): (&str, &Lines)) -> Diagnostic {
        let start = source.floor_char_boundary(self.span.start);
        let (line, line_start) = lines.of(start);
        Diagnostic {
            file: file.to_owned(),
            line,
            column: source.get(line_start..start).unwrap_or_default().chars().count() + 1,
            message: self.mistake.message.clone(),
            help: self.mistake.help.clone(),
        }
    }

    /// As people read it. Only the lines from the first to the last place are shown to the renderer, which
    /// reads all that it is given.
    fn report<'a>(&'a self, file: &'a str, (source, lines): (&'a str, &Lines)) -> Group<'a> {
        let spans = || [Some(&self.span), self.related.as_ref().map(|(span, _)| span)].into_iter().flatten();
        let first = spans().map(|span| source.floor_char_boundary(span.start)).min().unwrap_or_default();
        let last = spans().map(|span| source.ceil_char_boundary(span.end)).max().unwrap_or_default();
        let (line, from) = lines.of(first);
        let end =
            source.get(last..).and_then(|rest| rest.find('\n')).map_or(source.len(), |more| last + more);
        let excerpt = source.get(from..end).unwrap_or_default();
        let underline = |kind: AnnotationKind, span: &Range<usize>| -> Annotation<'a> {
            let start = source.floor_char_boundary(span.start);
            kind.span(start - from..source.ceil_char_boundary(span.end).max(start) - from)
        };
        let mut snippet = Snippet::source(excerpt)
            .line_start(line)
            .path(file)
            .annotation(underline(AnnotationKind::Primary, &self.span));
        if let Some((span, label)) = &self.related {
            snippet = snippet.annotation(underline(AnnotationKind::Context, span).label(label));
        }
        let group = Level::ERROR.primary_title(&self.mistake.message).element(snippet);
        match &self.mistake.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }
}

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(source: &str) -> Self {
        let newlines = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { starts: [0].into_iter().chain(newlines.map(|(at, _)| at + 1)).collect() }
    }

    /// The number of the line that has the byte at `offset`, from 1, and where it begins.
    fn of(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        (line, line.checked_sub(1).and_then(|index| self.starts.get(index)).copied().unwrap_or_default())
    }
}

/// Everything that is wrong with a policy file; never empty.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    file: String,
    source: String,
    lines: Lines,
    findings: Vec<Finding>,
}

impl Diagnostics {
    /// The findings in `source`, in the order of their places.
    pub(super) fn new(origin: &Path, source: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.start);
        let lines = if findings.is_empty() { Lines::new("") } else { Lines::new(source) };
        Self { file: origin.display().to_string(), source: source.to_owned(), lines, findings }
    }

    /// The same findings, told as in the file `origin`: for a text that was parsed without knowing its file.
    #[must_use]
    pub fn with_origin(self, origin: &Path) -> Self {
        Self { file: origin.display().to_string(), ..self }
    }

    /// How many findings there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    /// The findings as machines read them.
    pub fn iter(&self) -> impl Iterator<Item = Diagnostic> + '_ {
        self.findings.iter().map(|finding| finding.locate(&self.file, (&self.source, &self.lines)))
    }

    /// The findings as people read them: each with its line, underlined.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Never => Renderer::plain(),
            Colour::Always => Renderer::styled(),
        };
        let render =
            |finding: &Finding| renderer.render(&[finding.report(&self.file, (&self.source, &self.lines))]);
        self.findings.iter().map(render).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(Colour::Never))
    }
}

impl std::error::Error for Diagnostics {}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
