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
        types::{Applied, Confirmed, PolicyDiff, PolicyInForce, PolicyUpdate},
    },
    daemon::Daemon,
};

/// Longer, and whoever waits has forgotten it.
const LONGEST_CONFIRM_SECS: u64 = 24 * 60 * 60;

/// `GET /v1/policy`
pub(super) async fn show(State(daemon): Handle) -> Answer<PolicyInForce> {
    Ok(Json(daemon.policy_in_force()?))
}

/// `POST /v1/policy`
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

/// `POST /v1/policy/confirm`
pub(super) async fn confirm(State(daemon): Handle) -> Answer<Confirmed> {
    whole(daemon, async move |daemon| Ok(daemon.confirm().await?)).await
}

/// `POST /v1/policy/rollback`
pub(super) async fn rollback(State(daemon): Handle) -> Answer<Applied> {
    whole(daemon, async move |daemon| Ok(daemon.rollback().await?)).await
}

/// `POST /v1/policy/diff`
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
