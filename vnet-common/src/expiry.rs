//! How the controller and the program `expire` agree which flows are forgotten.

use crate::shared;
#[cfg(doc)]
use crate::{Flow, FlowKey};

/// How the controller asks the program `expire` to mark an entry as [`Flow::EXPIRED`].
///
/// The packet of the test run is: [`ExpireHeader::OFFSET`] zero bytes, then `version` u32 (4 or 6),
/// `last_seen` u32, both as the host stores them, then the bytes of the [`FlowKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireHeader {
    /// IP version of the key.
    pub version: u32,
    /// The entry's `last_seen` when the controller found it idle.
    pub last_seen: u32,
}

impl ExpireHeader {
    /// Where it begins: after an Ethernet header, which a test run demands, and padding.
    pub const OFFSET: usize = 16;
}

/// The return value of the program `expire`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireAnswer {
    /// The question makes no sense.
    Malformed = -1,
    /// The entry was idle and is marked.
    Marked = 1,
    /// A packet has refreshed the entry; it stays.
    Refreshed = 0,
    /// There is no such entry.
    Gone = 2,
}

shared! {
    ExpireHeader = 8,
}
