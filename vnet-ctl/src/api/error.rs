//! Errors as clients see them: a status, and JSON.

use axum::{
    Json,
    body::to_bytes,
    extract::rejection::{JsonRejection, QueryRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

use super::types::ApiError;

/// Longest error that the framework writes.
const OWN_WORDS_BYTES: usize = 4096;

/// A request that is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    body: Box<ApiError>,
}

impl Refusal {
    /// With a sentence that says what went wrong.
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: Box::new(ApiError { error: error.into(), ..ApiError::default() }) }
    }

    /// The same, with what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.body.help = Some(help.into());
        self
    }

    /// With everything that is known.
    pub(crate) fn with_body(status: StatusCode, body: ApiError) -> Self {
        Self { status, body: Box::new(body) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(*self.body)).into_response()
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let refusal = Self::new(rejection.status(), one_line(&rejection.body_text()));
        match rejection {
            JsonRejection::MissingJsonContentType(_) => {
                refusal.help("send JSON, with the header `content-type: application/json`")
            }
            _ => refusal.help("GET /v1/openapi.json describes what this path takes"),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), one_line(&rejection.body_text()))
            .help("GET /v1/openapi.json describes what this path takes")
    }
}

/// The same in JSON, where the framework refuses a request in words of its own.
pub(super) async fn as_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let words = to_bytes(body, OWN_WORDS_BYTES).await.unwrap_or_default();
    let words = match String::from_utf8_lossy(&words) {
        words if words.trim().is_empty() => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        words => one_line(&words),
    };
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = ApiError { error: words, ..ApiError::default() };
    (head, Json(body)).into_response()
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
