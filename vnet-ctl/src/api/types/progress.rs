//! What a change is doing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer to `GET /v1/progress`: what the change under way is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressInfo {
    /// The stage, such as `preparing devices`.
    pub stage: String,
    /// Steps of the stage that are done.
    pub done: u64,
    /// All steps of the stage; 0 where nobody can count them.
    pub total: u64,
}

/// How long a stage of a change took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageTime {
    /// The stage, as [`ProgressInfo`] names it.
    pub stage: String,
    /// Microseconds.
    pub micros: u64,
}
