//! The daemon's socket: HTTP/1.1 with JSON.
//!
//! The words are in [`types`]; clients use them as well.

pub mod types;
