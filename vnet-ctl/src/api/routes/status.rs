//! How the daemon stands, and its end.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};

use super::{Answer, Handle};
use crate::api::types::{ShutdownQuery, Status, TeardownReport};

/// `GET /v1/status`
pub(super) async fn show(State(daemon): Handle) -> Answer<Status> {
    Ok(Json(daemon.status()?))
}

/// `POST /v1/shutdown`
pub(super) async fn shutdown(
    State(daemon): Handle,
    query: Result<Query<ShutdownQuery>, QueryRejection>,
) -> Answer<TeardownReport> {
    let Query(query) = query?;
    let report = tokio::spawn(async move { daemon.stop(query.teardown).await });
    Ok(Json(report.await.map_err(|error| anyhow::anyhow!("shut down: {error}"))?))
}
