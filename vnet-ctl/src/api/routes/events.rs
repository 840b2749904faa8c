//! What happened.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};

use super::{Answer, Handle};
use crate::api::types::{Event, EventsQuery};

/// `GET /v1/events`
pub(super) async fn list(
    State(daemon): Handle,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Vec<Event>> {
    let Query(query) = query?;
    Ok(Json(daemon.events(query.after, query.wait).await))
}
