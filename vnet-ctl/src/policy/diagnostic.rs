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
    pub(super) fn locate(&self, file: &str, source: &str) -> Diagnostic {
        let start = source.floor_char_boundary(self.span.start);
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Diagnostic {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: self.mistake.message.clone(),
            help: self.mistake.help.clone(),
        }
    }

    fn report<'a>(&'a self, file: &'a str, source: &'a str) -> Group<'a> {
        let underline = |kind: AnnotationKind, span: &Range<usize>| -> Annotation<'a> {
            let start = source.floor_char_boundary(span.start);
            kind.span(start..source.ceil_char_boundary(span.end).max(start))
        };
        let mut snippet =
            Snippet::source(source).path(file).annotation(underline(AnnotationKind::Primary, &self.span));
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

/// Everything that is wrong with a policy file; never empty.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    file: String,
    source: String,
    findings: Vec<Finding>,
}

impl Diagnostics {
    /// The findings in `source`, in the order of their places.
    pub(super) fn new(origin: &Path, source: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.start);
        Self { file: origin.display().to_string(), source: source.to_owned(), findings }
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
        self.findings.iter().map(|finding| finding.locate(&self.file, &self.source))
    }

    /// The findings as people read them: each with its line, underlined.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Never => Renderer::plain(),
            Colour::Always => Renderer::styled(),
        };
        let render = |finding: &Finding| renderer.render(&[finding.report(&self.file, &self.source)]);
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
