//! DHCP as a LAN has it (RFC 2131): a server with a few addresses to give, and a client in a namespace. Both speak by
//! packet sockets, as real ones do, for a client has no address yet.

mod client;
mod message;
mod server;

pub use client::{Client, Lease};
pub use message::{Kind, Message, discovery};
pub use server::{Server, Terms};

/// UDP ports (RFC 2131 section 4.1).
const SERVER: u16 = 67;
const CLIENT: u16 = 68;
