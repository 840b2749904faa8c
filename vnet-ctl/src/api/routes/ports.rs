//! Ports as they are in force, and what passed through them.

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::api::{
    Refusal,
    types::{ApiError, PortCreated, PortInfo, PortRemoved, PortStats, RuntimePort},
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

/// Create or replace a port of a runtime
///
/// It is there when the answer comes, and survives a restart. Asking again for the same port changes nothing.
#[utoipa::path(put, path = "/v1/ports/{name}", tag = "ports", params(("name" = String, Path, description = "The port's name")),
    request_body = RuntimePort,
    responses((status = 200, description = "It is in force", body = PortCreated),
    (status = 409, description = "Something has the name, the address or the device already: the error says what", body = ApiError)))]
pub(super) async fn put(
    State(daemon): Handle,
    Path(name): Path<String>,
    port: Result<Json<RuntimePort>, JsonRejection>,
) -> Answer<PortCreated> {
    let Json(port) = port?;
    Ok(Json(daemon.put_port(name, port).await?))
}

/// Remove a port of a runtime
#[utoipa::path(delete, path = "/v1/ports/{name}", tag = "ports", params(("name" = String, Path, description = "The port's name")),
    responses((status = 200, description = "It is gone", body = PortRemoved),
    (status = 404, description = "There is no such port", body = ApiError),
    (status = 409, description = "The policy file declares it", body = ApiError)))]
pub(super) async fn delete(State(daemon): Handle, Path(name): Path<String>) -> Answer<PortRemoved> {
    Ok(Json(daemon.delete_port(name).await?))
}
