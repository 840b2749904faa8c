//! What the change under way is doing.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::ProgressInfo;

/// `GET /v1/progress`
pub(super) async fn show(State(daemon): Handle) -> Answer<Option<ProgressInfo>> {
    Ok(Json(daemon.progress()))
}
