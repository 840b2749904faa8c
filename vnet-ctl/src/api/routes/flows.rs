//! Tracked flows.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::{
    api::{
        Refusal,
        types::{FlowInfo, FlowsQuery, FlowsRemoved},
    },
    datapath::{FilterError, FlowFilter},
};

/// `GET /v1/flows`
pub(super) async fn list(
    State(daemon): Handle,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer<Vec<FlowInfo>> {
    Ok(Json(daemon.flows(&filter(query?.0)?)?))
}

/// `DELETE /v1/flows`
pub(super) async fn flush(
    State(daemon): Handle,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer<FlowsRemoved> {
    let removed = daemon.flush_flows(&filter(query?.0)?)?;
    Ok(Json(FlowsRemoved { removed }))
}

fn filter(query: FlowsQuery) -> Result<FlowFilter, Refusal> {
    let text = query.filter.unwrap_or_default();
    text.parse().map_err(|error: FilterError| {
        Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
            .help("for example port=web-1,protocol=tcp,dst_port=443,address=10.10.0.0/24")
    })
}
