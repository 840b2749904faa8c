//! One request over the daemon's socket, and its answer.

use std::{io, path::Path};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody listens, or nobody lets us in.
    #[error("{0}")]
    Unreachable(#[source] io::Error),
    /// Somebody listened, and broke off.
    #[error("{0}")]
    BrokenOff(#[from] hyper::Error),
    /// What was to be asked is no request.
    #[error("{0}")]
    NoRequest(#[from] hyper::http::Error),
}

/// Asks the daemon at `socket`, over a connection of its own. The caller decides how long to wait.
///
/// # Errors
/// [`ExchangeError`]; an answer that says no is none.
pub async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), ExchangeError> {
    let stream = UnixStream::connect(socket).await.map_err(ExchangeError::Unreachable)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the sender as well.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "vnet")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}
