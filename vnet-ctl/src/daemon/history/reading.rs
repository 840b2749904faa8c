//! Texts as the policies that they are. The last valid one is remembered, so that of one that is similar only
//! the difference is read.

use std::{path::Path, sync::PoisonError, time::Instant};

use super::History;
use crate::{
    api::types::StageTime,
    daemon::{at_length, declared::PolicyFile, error::ApplyError},
};

/// A policy that was found valid, and what its author may not have meant.
pub(super) struct Parsed {
    pub(super) file: PolicyFile,
    pub(super) warnings: Vec<String>,
    /// How long it took to read.
    pub(super) took: StageTime,
}

impl History {
    /// `text`, of which errors are told as of `origin`.
    pub(super) fn read(&self, text: &str, origin: &Path) -> Result<Parsed, ApplyError> {
        let begin = Instant::now();
        let text = text.into();
        let parsed = at_length(|| {
            // Whoever panicked with it left a policy that was valid, or none.
            self.parser.lock().unwrap_or_else(PoisonError::into_inner).parse(&text, origin)
        });
        let (policy, warnings) = parsed.map_err(|errors| ApplyError::Policy(Box::new(errors)))?;
        Ok(Parsed {
            file: PolicyFile { text, origin: origin.to_owned(), policy },
            warnings: warnings.iter().map(ToString::to_string).collect(),
            took: StageTime::since("reading the policy", begin),
        })
    }
}
