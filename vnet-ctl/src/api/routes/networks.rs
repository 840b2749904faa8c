//! Networks as they are in force.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::NetworkInfo;

/// `GET /v1/networks`
pub(super) async fn list(State(daemon): Handle) -> Answer<Vec<NetworkInfo>> {
    Ok(Json(daemon.networks()))
}
