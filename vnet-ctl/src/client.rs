//! Talks to the daemon: HTTP/1.1 with JSON over its Unix socket, one connection per request.
//!
//! Decides from what the daemon answers which [`Failure`] it is; what to ask is the commands' affair.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use vnet_ctl::api::types::ApiError;

use crate::failure::{Failure, Kind};

/// A question is answered from memory; a daemon silent for so long hangs.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(15);
/// A policy of thousands of ports makes as many devices.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(300);

/// The way to one daemon.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// To the daemon at `socket`; nothing is opened yet.
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// Sends `body` to `path`.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.answer(Method::POST, path, encoded(body)?).await
    }

    /// Has `path` be what `body` says.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.answer(Method::PUT, path, encoded(body)?).await
    }

    /// Removes what `path` names.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(Method::DELETE, path, Bytes::new()).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let limit = if method == Method::GET { QUESTION_TIMEOUT } else { CHANGE_TIMEOUT };
        let (status, body) = tokio::time::timeout(limit, self.exchange(method, path, body))
            .await
            .map_err(|_| self.silent(limit))??;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| {
            Failure::new(Kind::Failed, format!("the daemon's answer to {path} makes no sense here: {error}"))
                .help("vnet-ctl and the daemon are probably of different versions; restart the daemon")
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let lost = |error: hyper::Error| self.lost(&error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Its errors reach the sender as well.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "vnet")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::new(Kind::Invalid, format!("no way to ask for {path}: {error}")))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(lost)?.to_bytes();
        Ok((status, body))
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::PermissionDenied => {
                Failure::new(Kind::Unreachable, format!("no permission for the daemon's socket {socket}"))
                    .help("run the command as root, or as a member of the group that owns the socket")
            }
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Failure::new(Kind::Unreachable, format!("no vnet daemon is running at {socket}")).help(
                    "start it with `vnet-ctl run --policy FILE`, or name the socket of a running one with --socket \
                     or VNET_SOCKET",
                )
            }
            _ => Failure::new(Kind::Unreachable, format!("connect to the daemon at {socket}: {error}"))
                .help("--socket or VNET_SOCKET names the socket of a running `vnet-ctl run`"),
        }
    }

    fn lost(&self, error: &hyper::Error) -> Failure {
        let message = format!("the daemon at {} broke off the conversation: {error}", self.socket.display());
        Failure::new(Kind::Unreachable, message)
            .help("see the daemon's own log; `vnet-ctl status` tells if it runs")
    }

    fn silent(&self, limit: Duration) -> Failure {
        let socket = self.socket.display();
        let message = format!("the daemon at {socket} has not answered for {} seconds", limit.as_secs());
        Failure::new(Kind::Unreachable, message).help("see the daemon's own log")
    }
}

fn encoded(body: &impl Serialize) -> Result<Bytes, Failure> {
    let body = serde_json::to_vec(body);
    body.map(Bytes::from).map_err(|error| Failure::new(Kind::Failed, format!("encode the request: {error}")))
}

/// What the daemon says when it says no.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let kind = match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Kind::Invalid,
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::CONFLICT => Kind::Conflict,
        _ => Kind::Failed,
    };
    let Ok(ApiError { error, help, diagnostics, rendered }) = serde_json::from_slice(body) else {
        let text = String::from_utf8_lossy(body);
        return Failure::new(kind, format!("the daemon answered {status}: {}", text.trim()));
    };
    let mut failure = Failure::new(kind, error).caused_by(diagnostics, rendered);
    failure.help = help;
    failure
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_policy_keeps_its_diagnostics() {
        let body = br#"{"error":"1 error","diagnostics":[{"file":"p.toml","line":3,"column":7,"message":"no such group","help":"web"}]}"#;
        let failure = refusal(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(
            (failure.kind, failure.message.as_str(), failure.diagnostics.len()),
            (Kind::Invalid, "1 error", 1)
        );
        assert_eq!(failure.rendered.as_deref(), Some("p.toml:3:7: error: no such group\n  help: web"));
    }

    #[test]
    fn an_answer_without_json_is_still_told() {
        let failure = refusal(StatusCode::INTERNAL_SERVER_ERROR, b"oops\n");
        assert_eq!(failure.kind, Kind::Failed);
        assert!(failure.message.ends_with("oops"));
    }

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(segment("web-1"), "web-1");
        assert_eq!(segment("../a b?"), "..%2Fa%20b%3F");
    }
}
