//! Ports as they are in force, and what passed through them.

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::api::{
    Refusal,
    types::{PortCreated, PortInfo, PortRemoved, PortStats, RuntimePort},
};

/// `GET /v1/ports`
pub(super) async fn list(State(daemon): Handle) -> Answer<Vec<PortInfo>> {
    Ok(Json(daemon.ports().await?))
}

/// `GET /v1/ports/{name}/stats`
pub(super) async fn stats(State(daemon): Handle, Path(name): Path<String>) -> Answer<PortStats> {
    let no_such_port = || {
        Refusal::new(StatusCode::NOT_FOUND, format!("no port is called {name:?}"))
            .help("`vnet-ctl port list` shows them all")
    };
    Ok(Json(daemon.port_stats(&name).await?.ok_or_else(no_such_port)?))
}

/// `PUT /v1/ports/{name}`
pub(super) async fn put(
    State(daemon): Handle,
    Path(name): Path<String>,
    port: Result<Json<RuntimePort>, JsonRejection>,
) -> Answer<PortCreated> {
    let Json(port) = port?;
    Ok(Json(daemon.put_port(name, port).await?))
}

/// `DELETE /v1/ports/{name}`
pub(super) async fn delete(State(daemon): Handle, Path(name): Path<String>) -> Answer<PortRemoved> {
    Ok(Json(daemon.delete_port(name).await?))
}
