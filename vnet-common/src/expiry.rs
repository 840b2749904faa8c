//! How the controller and the program `expire` agree which flows are forgotten.

#[cfg(doc)]
use crate::Flow;
use crate::{FlowKey, V4, V6, shared};

/// How the controller asks the program `expire` to mark entries as [`Flow::EXPIRED`], and to remove what is marked.
///
/// The packet of the test run is: [`ExpireHeader::OFFSET`] zero bytes, then this, then one [`ExpireQuestion`] for each
/// entry, to which the program writes its answer; all as the host stores them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireHeader {
    /// IP version of the keys: 4 or 6.
    pub version: u32,
    /// How many questions follow, [`ExpireHeader::MOST`] at most.
    pub count: u32,
}

impl ExpireHeader {
    /// Where it begins: after an Ethernet header, which a test run demands, and padding.
    pub const OFFSET: usize = 16;
    /// Questions in one run: a test run takes packets of less than a page.
    pub const MOST: usize = 64;
}

/// Whether an entry is still idle: if so, it is marked; or if it was marked, removed.
///
/// Layout (IPv4, 24 bytes): `last_seen` u32, `answer` i32, `key` 16.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireQuestion<A> {
    /// The entry's `last_seen` when the controller found it idle; [`Flow::EXPIRED`] for one that is marked.
    pub last_seen: u32,
    /// An [`ExpireAnswer`], once there is one.
    pub answer: i32,
    /// The entry's key.
    pub key: FlowKey<A>,
}

impl<A> ExpireQuestion<A> {
    /// Where the answer is.
    pub const ANSWER: usize = 4;

    /// Where the question numbered `number` begins.
    #[inline(always)]
    #[must_use]
    pub const fn offset(number: usize) -> usize {
        ExpireHeader::OFFSET + size_of::<ExpireHeader>() + number * size_of::<Self>()
    }
}

/// An answer of the program `expire`; also what it returns: [`ExpireAnswer::Malformed`], or anything else.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireAnswer {
    /// The question makes no sense.
    Malformed = -1,
    /// The entry was idle and is marked.
    Marked = 1,
    /// A packet has refreshed the entry, or a flow has begun in it; it stays.
    Refreshed = 0,
    /// There is no such entry, or none any more.
    Gone = 2,
}

shared! {
    ExpireHeader = 8,
    ExpireQuestion<V4> = 24,
    ExpireQuestion<V6> = 48,
}
