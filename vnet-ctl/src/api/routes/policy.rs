//! A policy on its way into force.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};

use super::{Answer, Handle};
use crate::api::types::{Applied, PolicyUpdate};

/// `POST /v1/policy`
pub(super) async fn apply(
    State(daemon): Handle,
    update: Result<Json<PolicyUpdate>, JsonRejection>,
) -> Answer<Applied> {
    let Json(update) = update?;
    // A client that goes away does not stop a change halfway.
    let applied = tokio::spawn(async move { daemon.apply(&update.text, &update.origin).await });
    let applied = applied.await.map_err(|error| anyhow::anyhow!("apply the policy: {error}"))??;
    Ok(Json(applied))
}
