//! What has been declared: by people in the policy file, and by runtimes through the API.
//!
//! Pure. What is declared becomes one [`Policy`] here; whether it gets in force is decided elsewhere.

use std::path::PathBuf;

use crate::policy::Policy;

/// Everything that should be in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    /// By people.
    pub(super) file: PolicyFile,
}

/// A policy file that was found valid.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyFile {
    /// Its text.
    pub(super) text: String,
    /// Where the text comes from.
    pub(super) origin: PathBuf,
    /// What it says.
    pub(super) policy: Policy,
}

impl Declared {
    /// All of it as one policy.
    pub(super) fn joined(&self) -> Policy {
        self.file.policy.clone()
    }
}
