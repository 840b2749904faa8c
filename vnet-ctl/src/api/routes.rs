//! Which question goes to which answer.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    middleware,
    routing::{get, post},
};

use super::{
    Refusal, Socket, access,
    types::{
        Applied, DropReport, Event, EventsQuery, FlowInfo, FlowsQuery, FlowsRemoved, NetworkInfo,
        PolicyUpdate, PortInfo, PortStats, ShutdownQuery, Status, TeardownReport,
    },
};
use crate::{daemon::Daemon, datapath::FlowFilter};

/// A policy of this size has far more rules than the tables take.
const MAX_BODY_BYTES: usize = 16 << 20;

type Answer<T> = Result<Json<T>, Refusal>;
type Handle = State<Arc<Daemon>>;

/// Every path of the API, for those whom `socket` admits.
pub(crate) fn router(daemon: Arc<Daemon>, socket: &Socket) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/policy", post(apply))
        .route("/v1/networks", get(networks))
        .route("/v1/ports", get(ports))
        .route("/v1/ports/{name}/stats", get(port_stats))
        .route("/v1/drops", get(drops))
        .route("/v1/events", get(events))
        .route("/v1/flows", get(flows).delete(flush))
        .route("/v1/shutdown", post(shutdown))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(socket.owner(), access::check))
        .with_state(daemon)
}

async fn status(State(daemon): Handle) -> Answer<Status> {
    Ok(Json(daemon.status()?))
}

async fn apply(State(daemon): Handle, update: Result<Json<PolicyUpdate>, JsonRejection>) -> Answer<Applied> {
    let Json(update) = update?;
    // A client that goes away does not stop a change halfway.
    let applied = tokio::spawn(async move { daemon.apply(&update.text, &update.origin).await });
    let applied = applied.await.map_err(|error| anyhow::anyhow!("apply the policy: {error}"))??;
    Ok(Json(applied))
}

async fn networks(State(daemon): Handle) -> Answer<Vec<NetworkInfo>> {
    Ok(Json(daemon.networks()))
}

async fn ports(State(daemon): Handle) -> Answer<Vec<PortInfo>> {
    Ok(Json(daemon.ports().await?))
}

async fn port_stats(State(daemon): Handle, Path(name): Path<String>) -> Answer<PortStats> {
    let no_such_port = || {
        Refusal::new(StatusCode::NOT_FOUND, format!("no port is called {name:?}"))
            .help("`vnet-ctl port list` shows them all")
    };
    Ok(Json(daemon.port_stats(&name).await?.ok_or_else(no_such_port)?))
}

async fn drops(State(daemon): Handle) -> Answer<DropReport> {
    Ok(Json(daemon.drops()?))
}

async fn events(
    State(daemon): Handle,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Vec<Event>> {
    let Query(query) = query?;
    Ok(Json(daemon.events(query.after, query.wait).await))
}

async fn flows(
    State(daemon): Handle,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer<Vec<FlowInfo>> {
    Ok(Json(daemon.flows(&filter(query?.0)?)?))
}

async fn flush(
    State(daemon): Handle,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer<FlowsRemoved> {
    let removed = daemon.flush_flows(&filter(query?.0)?)?;
    Ok(Json(FlowsRemoved { removed }))
}

async fn shutdown(
    State(daemon): Handle,
    query: Result<Query<ShutdownQuery>, QueryRejection>,
) -> Answer<TeardownReport> {
    let Query(query) = query?;
    let report = tokio::spawn(async move { daemon.stop(query.teardown).await });
    Ok(Json(report.await.map_err(|error| anyhow::anyhow!("shut down: {error}"))?))
}

async fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no such path in the API of this vnet")
}

async fn not_allowed() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path of the API has no such method")
}

fn filter(query: FlowsQuery) -> Result<FlowFilter, Refusal> {
    let text = query.filter.unwrap_or_default();
    text.parse().map_err(|error: crate::datapath::FilterError| {
        Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
            .help("for example port=web-1,protocol=tcp,dst_port=443,address=10.10.0.0/24")
    })
}
