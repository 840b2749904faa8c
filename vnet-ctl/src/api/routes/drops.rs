//! What was dropped, and why.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::DropReport;

/// `GET /v1/drops`
pub(super) async fn show(State(daemon): Handle) -> Answer<DropReport> {
    Ok(Json(daemon.drops()?))
}
