//! A policy on its way into force.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};

use super::{Answer, Handle};
use crate::api::types::{ApiError, Applied, PolicyUpdate};

/// Put a policy in force, whole or not at all
///
/// A policy with any error changes nothing. One that is in force already changes nothing either.
#[utoipa::path(post, path = "/v1/policy", tag = "policy", request_body = PolicyUpdate,
    responses((status = 200, description = "It is in force", body = Applied),
    (status = 422, description = "The policy, or the body, has errors; `diagnostics` has those of the policy", body = ApiError)))]
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
