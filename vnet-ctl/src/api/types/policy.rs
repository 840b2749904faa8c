//! A policy on its way into force.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUpdate {
    /// The whole policy file.
    pub text: String,
    /// Where the text comes from; errors name it.
    pub origin: PathBuf,
}

/// Answer to `POST /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The generation now in force.
    pub generation: u32,
    /// What was done, one sentence each; empty when all of it held already.
    pub changes: Vec<String>,
    /// What the author of the policy may not have meant.
    pub warnings: Vec<String>,
}
