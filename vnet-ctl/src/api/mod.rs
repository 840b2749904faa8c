//! The daemon's socket: HTTP/1.1 with JSON.
//!
//! Decides who may speak ([`access`](self)), which question goes to which answer (`routes`), and how an
//! error looks; what the answers are is [`crate::daemon`]'s affair. The words are in [`types`]; clients use
//! them as well.

mod access;
mod error;
mod exchange;
mod routes;
mod socket;
pub mod types;

pub(crate) use error::Refusal;
pub use exchange::{ExchangeError, exchange};
pub(crate) use routes::router;
pub(crate) use socket::{Peer, Socket, post};
