//! What was dropped, and why.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::DropReport;

/// Dropped packets by reason and port
#[utoipa::path(get, path = "/v1/drops", tag = "flows", responses((status = 200, description = "All counters that are not zero", body = DropReport)))]
pub(super) async fn show(State(daemon): Handle) -> Answer<DropReport> {
    Ok(Json(daemon.drops()?))
}
