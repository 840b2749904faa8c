//! Ports as they are in force, and what passed through them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::api::{
    Refusal,
    types::{ApiError, PortInfo, PortStats},
};

/// The ports in force
#[utoipa::path(get, path = "/v1/ports", tag = "ports", responses((status = 200, description = "All of them", body = [PortInfo])))]
pub(super) async fn list(State(daemon): Handle) -> Answer<Vec<PortInfo>> {
    Ok(Json(daemon.ports().await?))
}

/// Traffic, flows and drops of one port
#[utoipa::path(get, path = "/v1/ports/{name}/stats", tag = "ports",
    params(("name" = String, Path, description = "The port's name")),
    responses((status = 200, description = "Its counters", body = PortStats),
    (status = 404, description = "There is no such port", body = ApiError)))]
pub(super) async fn stats(State(daemon): Handle, Path(name): Path<String>) -> Answer<PortStats> {
    let no_such_port = || {
        Refusal::new(StatusCode::NOT_FOUND, format!("no port is called {name:?}"))
            .help("`vnet-ctl port list` shows them all")
    };
    Ok(Json(daemon.port_stats(&name).await?.ok_or_else(no_such_port)?))
}
