//! Ports as they are in force, and what passed through them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::api::{
    Refusal,
    types::{PortInfo, PortStats},
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
