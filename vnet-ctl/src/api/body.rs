//! A request's body: read whole before anything is done, within bounds of size and time.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body_util::LengthLimitError;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::{Refusal, access::is_read};

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long it may take to arrive.
    pub(super) time: Duration,
    /// Size of one with a policy in it: far more rules than the tables take.
    pub(super) policy_bytes: usize,
    /// Size of any other.
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(30), policy_bytes: 16 << 20, bytes: 64 << 10 }
    }
}

/// Has the body at hand before the request goes on.
pub(super) async fn collect(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    // Whoever may only ask brings none.
    let has_policy = !is_read(request.method()) && request.uri().path().starts_with("/v1/policy");
    let most = if has_policy { limits.policy_bytes } else { limits.bytes };
    let (head, body) = request.into_parts();
    // Of one that announces too much, nothing is read.
    if body.size_hint().lower() > most as u64 {
        return ended(too_long(most));
    }
    let refusal = match timeout(limits.time, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(error)) if is_too_long(&error) => too_long(most),
        Ok(Err(error)) => {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the body of the request cannot be read: {error}"))
        }
        Err(_) => {
            let error =
                format!("the body of the request has not arrived within {} seconds", limits.time.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, error).help("send it again, in one go")
        }
    };
    ended(refusal)
}

fn too_long(most: usize) -> Refusal {
    let error = format!("the body of this request may have {most} bytes at most");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        .help("a policy of that size does not fit the tables; only those are meant to be large")
}

/// With the end of the connection, as what is left of the body is not read.
fn ended(refusal: Refusal) -> Response {
    let mut response = refusal.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}
