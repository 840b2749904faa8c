//! What the change under way is doing.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::ProgressInfo;

/// What the change under way is doing
#[utoipa::path(get, path = "/v1/progress", tag = "daemon", responses((status = 200, description = "`null` if no change is under way", body = Option<ProgressInfo>)))]
pub(super) async fn show(State(daemon): Handle) -> Answer<Option<ProgressInfo>> {
    Ok(Json(daemon.progress()))
}
