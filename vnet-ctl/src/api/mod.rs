//! The daemon's socket: HTTP/1.1 with JSON.
//!
//! Decides who may speak ([`access`](self)), how much and how long anybody may take (`server`, `body`,
//! `patience`, `rate`), which question goes to which answer (`routes`), and how an error looks; what the
//! answers are is [`crate::daemon`]'s affair. The words are in [`types`]; clients use them as well.

mod access;
mod body;
mod error;
mod exchange;
mod patience;
mod rate;
mod routes;
mod server;
mod socket;
pub mod types;

use std::sync::Arc;

use tokio::{net::UnixListener, sync::watch};

pub use access::AccessOptions;
pub(crate) use error::Refusal;
pub use exchange::{ExchangeError, exchange};
pub(crate) use socket::{Socket, post};

use crate::daemon::Daemon;

/// Answers those whom `socket` admits until `stop` says so, and lets requests under way end.
pub(crate) async fn serve(
    daemon: Arc<Daemon>,
    socket: &Socket,
    listener: UnixListener,
    stop: watch::Receiver<bool>,
) {
    let router = routes::guarded(routes::router(daemon), socket.access(), body::Limits::default());
    server::serve(listener, router, (socket.access(), server::Limits::default()), stop).await;
}
