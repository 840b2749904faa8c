//! Which question goes to which answer: one line for each, and the handlers one file per concept.

mod drops;
mod events;
mod flows;
mod ipam;
mod networks;
mod policy;
mod ports;
mod progress;
mod status;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    handler::Handler,
    http::{Method, StatusCode},
    middleware,
    routing::{MethodFilter, MethodRouter, on},
};

use super::{Refusal, Socket, access};
use crate::daemon::Daemon;

/// A policy of this size has far more rules than the tables take.
const MAX_BODY_BYTES: usize = 16 << 20;

type Answer<T> = Result<Json<T>, Refusal>;
type Handle = State<Arc<Daemon>>;

/// Every question that the API answers.
fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/status", status::show),
        Route::post("/v1/shutdown", status::shutdown),
        Route::get("/v1/policy", policy::show),
        Route::post("/v1/policy", policy::apply),
        Route::post("/v1/policy/confirm", policy::confirm),
        Route::post("/v1/policy/rollback", policy::rollback),
        Route::post("/v1/policy/diff", policy::diff),
        Route::get("/v1/networks", networks::list),
        Route::get("/v1/ports", ports::list),
        Route::put("/v1/ports/{name}", ports::put),
        Route::delete("/v1/ports/{name}", ports::delete),
        Route::get("/v1/ports/{name}/stats", ports::stats),
        Route::get("/v1/ipam", ipam::show),
        Route::post("/v1/ipam/check", ipam::check),
        Route::delete("/v1/ipam/{address}", ipam::release),
        Route::get("/v1/drops", drops::show),
        Route::get("/v1/events", events::list),
        Route::get("/v1/progress", progress::show),
        Route::get("/v1/flows", flows::list),
        Route::delete("/v1/flows", flows::flush),
    ]
}

/// One method of one path.
struct Route {
    path: &'static str,
    answer: MethodRouter<Arc<Daemon>>,
}

impl Route {
    fn get<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Daemon>>) -> Self {
        Self::new(Method::GET, path, handler)
    }

    fn post<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Daemon>>) -> Self {
        Self::new(Method::POST, path, handler)
    }

    fn put<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Daemon>>) -> Self {
        Self::new(Method::PUT, path, handler)
    }

    fn delete<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Daemon>>) -> Self {
        Self::new(Method::DELETE, path, handler)
    }

    fn new<T: 'static>(method: Method, path: &'static str, handler: impl Handler<T, Arc<Daemon>>) -> Self {
        let filter = MethodFilter::try_from(method).unwrap_or(MethodFilter::GET);
        Self { path, answer: on(filter, handler) }
    }
}

/// Every path of the API, for those whom `socket` admits.
pub(crate) fn router(daemon: Arc<Daemon>, socket: &Socket) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.answer))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(socket.owner(), access::check))
        .with_state(daemon)
}

async fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no such path in the API of this vnet")
}

async fn not_allowed() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path of the API has no such method")
}
