//! Why a command ends badly: the sentence, the remedy and the exit code.
//!
//! Every error that leaves the program passes through [`Failure`]; how it is printed is
//! [`crate::output`]'s affair.

use std::{fmt, process::ExitCode};

use serde_json::{Value, json};
use vnet_ctl::api::types::Diagnostic;

/// The kinds of failure that scripts tell apart; the discriminant is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line or the policy is not valid.
    Invalid = 2,
    /// Nobody answers at the daemon's socket.
    Unreachable = 3,
    /// What the command names does not exist.
    NotFound = 4,
    /// It exists already, or something else needs it.
    Conflict = 5,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    /// One sentence: what went wrong, and where.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) help: Option<String>,
    /// Errors of a policy file.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The same errors with the source underlined, for people; replaces `message` on a terminal.
    pub(crate) rendered: Option<String>,
}

impl Failure {
    /// A failure of `kind`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, diagnostics: Vec::new(), rendered: None }
    }

    /// The same, with what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, with the errors of a policy file, and their text if somebody underlined the source.
    pub(crate) fn caused_by(mut self, diagnostics: Vec<Diagnostic>, rendered: Option<String>) -> Self {
        let listed = || diagnostics.iter().map(one_line).collect::<Vec<_>>().join("\n");
        self.rendered = rendered.or_else(|| (!diagnostics.is_empty()).then(listed));
        self.diagnostics = diagnostics;
        self
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    /// What `-o json` prints on stderr.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "error": self.message,
            "help": self.help,
            "code": self.kind as u8,
            "diagnostics": self.diagnostics,
        })
    }
}

/// A diagnostic the way compilers print them without the source.
fn one_line(diagnostic: &Diagnostic) -> String {
    let Diagnostic { file, line, column, message, help } = diagnostic;
    let help = help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
    format!("{file}:{line}:{column}: error: {message}{help}")
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Errors of which nothing more is known than the chain of their causes.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(Kind::Failed, format!("{error:#}")),
        }
    }
}

/// How a command that did not fail ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Exit code 0.
    Success,
    /// Exit code 1: the answer is no, as when `sg test` finds a packet denied.
    No,
}

impl From<Done> for ExitCode {
    fn from(done: Done) -> Self {
        match done {
            Done::Success => Self::SUCCESS,
            Done::No => Self::FAILURE,
        }
    }
}

/// What every command returns.
pub(crate) type Outcome = Result<Done, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carries_the_sentence_the_remedy_and_the_code() {
        let failure = Failure::new(Kind::NotFound, "no group `web`").help("create it");
        assert_eq!(
            failure.to_json(),
            json!({"error": "no group `web`", "help": "create it", "code": 4, "diagnostics": []})
        );
    }

    #[test]
    fn a_failure_inside_anyhow_keeps_its_kind() {
        let failure = Failure::from(anyhow::Error::new(Failure::new(Kind::Conflict, "taken")));
        assert_eq!(failure.kind, Kind::Conflict);
    }
}
