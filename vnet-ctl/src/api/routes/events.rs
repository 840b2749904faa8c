//! What happened.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};

use super::{Answer, Handle};
use crate::api::types::{Event, EventsQuery};

/// What happened, in order
///
/// With `wait`, the answer comes as soon as there is an event, or after 60 seconds with none.
#[utoipa::path(get, path = "/v1/events", tag = "daemon", params(EventsQuery),
    responses((status = 200, description = "Those after the one asked for; old ones are forgotten", body = [Event])))]
pub(super) async fn list(
    State(daemon): Handle,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Vec<Event>> {
    let Query(query) = query?;
    Ok(Json(daemon.events(query.after, query.wait).await))
}
