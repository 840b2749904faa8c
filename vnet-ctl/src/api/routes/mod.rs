//! Which question goes to which answer: one line for each, and the handlers one file per concept.

mod document;
mod drops;
mod events;
mod flows;
mod ipam;
mod networks;
mod policy;
mod ports;
mod progress;
mod status;
mod translation;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    handler::Handler,
    http::{Method, StatusCode, Uri},
    middleware,
    routing::{MethodFilter, MethodRouter, on},
};

use super::{
    Refusal,
    access::{self, Access},
    body, error,
    rate::{self, Rates},
};
use crate::daemon::Daemon;

type Answer<T> = Result<Json<T>, Refusal>;
type Handle = State<Arc<Daemon>>;

/// Every question that the API answers.
fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/openapi.json", document::show),
        Route::get("/v1/status", status::show),
        Route::post("/v1/shutdown", status::shutdown),
        Route::get("/v1/policy", policy::show),
        Route::post("/v1/policy", policy::apply),
        Route::post("/v1/policy/confirm", policy::confirm),
        Route::post("/v1/policy/rollback", policy::rollback),
        Route::post("/v1/policy/diff", policy::diff),
        Route::get("/v1/networks", networks::list),
        Route::get("/v1/forwards", translation::forwards),
        Route::get("/v1/elastic_ips", translation::elastic_ips),
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
    #[cfg_attr(not(test), expect(dead_code, reason = "the document is compared with it"))]
    method: Method,
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
        // Only methods of their own name come here.
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self { method, path, answer: on(filter, handler) }
    }
}

/// Every path of the API.
pub(super) fn router(daemon: Arc<Daemon>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.answer))
        .with_state(daemon)
}

/// What stands before every handler: who it is, how often they come, and the size of what they bring.
pub(super) fn guarded(router: Router, access: Arc<Access>, limits: body::Limits) -> Router {
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        // The body is bounded where it is read.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(limits, body::collect))
        .layer(middleware::from_fn_with_state(Arc::<Rates>::default(), rate::check))
        .layer(middleware::from_fn_with_state(access, access::check))
        .layer(middleware::map_response(error::as_json))
}

async fn not_found(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("the API of this vnet has no path {:?}", uri.path()))
        .help("GET /v1/openapi.json tells them all")
}

async fn not_allowed(method: Method, uri: Uri) -> Refusal {
    let error = format!("{} cannot be asked to {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error)
        .help("the header `allow` tells the methods of this path, GET /v1/openapi.json those of all")
}
