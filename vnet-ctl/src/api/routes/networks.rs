//! Networks as they are in force.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::NetworkInfo;

/// The networks in force
#[utoipa::path(get, path = "/v1/networks", tag = "networks", responses((status = 200, description = "All of them", body = [NetworkInfo])))]
pub(super) async fn list(State(daemon): Handle) -> Answer<Vec<NetworkInfo>> {
    Ok(Json(daemon.networks()))
}
