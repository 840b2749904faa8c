//! The policy: put in force, kept, returned from, compared, told.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::{
    api::{
        Refusal,
        types::{ApiError, Applied, Confirmed, PolicyDiff, PolicyInForce, PolicyUpdate},
    },
    daemon::Daemon,
};

/// Longer, and whoever waits has forgotten it.
const LONGEST_CONFIRM_SECS: u64 = 24 * 60 * 60;

/// The policy in force
///
/// Its text as it was written, and what it comes to together with the ports of runtimes.
#[utoipa::path(get, path = "/v1/policy", tag = "policy", responses((status = 200, description = "The text and the generation", body = PolicyInForce)))]
pub(super) async fn show(State(daemon): Handle) -> Answer<PolicyInForce> {
    Ok(Json(daemon.policy_in_force()?))
}

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
    let Json(PolicyUpdate { text, origin, confirm_secs, install }) = update?;
    if confirm_secs.is_some_and(|secs| !(1..=LONGEST_CONFIRM_SECS).contains(&secs)) {
        let message = format!("confirm_secs is 1 to {LONGEST_CONFIRM_SECS}");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    }
    whole(daemon, async move |daemon| {
        if install || confirm_secs.is_some() {
            Ok(daemon.install(&text, &origin, confirm_secs).await?)
        } else {
            Ok(daemon.apply(&text, &origin).await?)
        }
    })
    .await
}

/// Keep the policy that waits for its confirmation
#[utoipa::path(post, path = "/v1/policy/confirm", tag = "policy",
    responses((status = 200, description = "It stays in force", body = Confirmed),
    (status = 409, description = "No policy waits for a confirmation", body = ApiError)))]
pub(super) async fn confirm(State(daemon): Handle) -> Answer<Confirmed> {
    whole(daemon, async move |daemon| Ok(daemon.confirm().await?)).await
}

/// Return to the policy before this one
#[utoipa::path(post, path = "/v1/policy/rollback", tag = "policy",
    responses((status = 200, description = "The previous one is in force", body = Applied),
    (status = 409, description = "There is no previous policy, or the policy file has been changed since", body = ApiError)))]
pub(super) async fn rollback(State(daemon): Handle) -> Answer<Applied> {
    whole(daemon, async move |daemon| Ok(daemon.rollback().await?)).await
}

/// What a policy would change
///
/// Nothing is changed.
#[utoipa::path(post, path = "/v1/policy/diff", tag = "policy", request_body = PolicyUpdate,
    responses((status = 200, description = "In the words of the policy, and the steps on the host", body = PolicyDiff),
    (status = 422, description = "The policy, or the body, has errors; `diagnostics` has those of the policy", body = ApiError)))]
pub(super) async fn diff(
    State(daemon): Handle,
    update: Result<Json<PolicyUpdate>, JsonRejection>,
) -> Answer<PolicyDiff> {
    let Json(PolicyUpdate { text, origin, .. }) = update?;
    Ok(Json(daemon.diff(&text, &origin).await?))
}

/// Makes a change to its end: a client that goes away does not stop it halfway.
async fn whole<T, F>(daemon: Arc<Daemon>, change: impl FnOnce(Arc<Daemon>) -> F + Send + 'static) -> Answer<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send,
{
    let done = tokio::spawn(async move { change(daemon).await }).await;
    Ok(Json(done.map_err(|error| anyhow::anyhow!("change the policy: {error}"))??))
}
