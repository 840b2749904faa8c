//! How the daemon stands, and its end.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};

use super::{Answer, Handle};
use crate::api::types::{ShutdownQuery, Status, TeardownReport};

/// How the daemon and its policy stand
#[utoipa::path(get, path = "/v1/status", tag = "daemon", responses((status = 200, description = "How things stand", body = Status)))]
pub(super) async fn show(State(daemon): Handle) -> Answer<Status> {
    Ok(Json(daemon.status()?))
}

/// End the daemon
///
/// With `teardown`, everything that vnet made is removed first; without, traffic and policy stay as they are.
#[utoipa::path(post, path = "/v1/shutdown", tag = "daemon", params(ShutdownQuery),
    responses((status = 200, description = "It ends", body = TeardownReport)))]
pub(super) async fn shutdown(
    State(daemon): Handle,
    query: Result<Query<ShutdownQuery>, QueryRejection>,
) -> Answer<TeardownReport> {
    let Query(query) = query?;
    let report = tokio::spawn(async move { daemon.stop(query.teardown).await });
    Ok(Json(report.await.map_err(|error| anyhow::anyhow!("shut down: {error}"))?))
}
