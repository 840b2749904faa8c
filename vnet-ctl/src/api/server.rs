//! Takes connections and answers what comes over them, so that no client harms another.
//!
//! Each connection is bounded in what it may send and in how long it may take: for a request's head, for its
//! body ([`super::body`]), for taking the answer ([`super::patience`]). So is the number of connections, in
//! all and for each user; some are kept for root. A request that has arrived whole may take as long as its
//! change does.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header::SERVER},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::{
    access::{Access, Caller},
    patience::Patient,
    socket::Peer,
    types::ApiError,
};

/// The pause after a failure to take a connection: no more files may be open, for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a request's head may take, and how long a connection may be idle before one.
    pub(super) head: Duration,
    /// How long a client may take nothing of an answer.
    pub(super) stall: Duration,
    /// Size of a request's head.
    pub(super) head_bytes: usize,
    /// Connections at one time. Far below the 1024 files that a process may usually open.
    pub(super) connections: usize,
    /// Of these, those that are root's alone.
    pub(super) for_root: usize,
    /// Connections of one user other than root.
    pub(super) connections_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            head_bytes: 16 << 10,
            connections: 512,
            for_root: 128,
            connections_per_user: 64,
        }
    }
}

/// Answers over `listener` until `stop` says so; then lets requests under way end, and idle connections not.
///
/// Dropping the future breaks off what is under way.
pub(super) async fn serve(
    listener: UnixListener,
    router: Router,
    (access, limits): (Arc<Access>, Limits),
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Places { limits, taken: Mutex::default() });
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("no connection can be taken: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = told(&mut stop) => break,
        };
        let caller = access.caller(&Peer::of(&stream));
        let Some(place) = Place::take(&places, caller.uid) else {
            // Whoever cannot take so little at once gets nothing.
            let _ = stream.into_std().and_then(|mut stream| stream.write(&no_place()));
            debug!("no place for another connection of {:?}", caller.uid);
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            converse(stream, router, (caller, limits), stop).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for the end of the daemon.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that the daemon is gone, which is as good a reason.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// One connection, to its end.
async fn converse(
    stream: UnixStream,
    router: Router,
    (caller, limits): (Caller, Limits),
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller);
        let router = router.clone();
        async move {
            let mut response = router.oneshot(request.map(Body::new)).await?;
            let server = HeaderValue::from_static(concat!("vnet/", env!("CARGO_PKG_VERSION")));
            response.headers_mut().insert(SERVER, server);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Patient::new(stream, limits.stall));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_header_size(limits.head_bytes);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection of {:?} broke off: {error}", caller.uid);
    }
}

/// The answer to whom there is no place for.
fn no_place() -> Vec<u8> {
    let error = ApiError {
        error: "too many connections to vnet are open, in all or of this user".to_owned(),
        help: Some("close some of them, or try again in a moment".to_owned()),
        ..ApiError::default()
    };
    let body = serde_json::to_string(&error).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Counts connections.
#[derive(Debug)]
struct Places {
    limits: Limits,
    taken: Mutex<HashMap<Option<u32>, usize>>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    uid: Option<u32>,
}

impl Place {
    fn take(places: &Arc<Places>, uid: Option<u32>) -> Option<Self> {
        let limits = places.limits;
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&uid).copied().unwrap_or_default();
        let free = match uid {
            Some(0) => all < limits.connections,
            _ => all + limits.for_root < limits.connections && own < limits.connections_per_user,
        };
        if !free {
            return None;
        }
        taken.insert(uid, own + 1);
        Some(Self { places: places.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests;
