//! What is remembered of datagrams that come in fragments.
//!
//! Memory is bounded: [`limits::FRAGMENT_GROUPS`] groups with room for so many datagrams and frames each. A device
//! belongs to one group, and whoever looks at a group or changes it holds the group's lock, for less than a
//! microsecond. Zeroed memory is free.

use core::cell::Cell;

use vnet_common::{Ip, Origin, Ports, limits};

/// What a fragment says of itself (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The identification, 16 bits in IPv4.
    pub id: u32,
    /// Where it begins in the datagram, in units of 8 bytes.
    pub start: u16,
    /// Where it ends, in units of 8 bytes, begun ones counted.
    pub end: u16,
    /// 1 if it is the last one.
    pub is_last: u32,
}

/// What fragments of a datagram have in common, where they arrive.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramKey {
    /// Device and protocol.
    pub origin: Origin,
    /// Identification.
    pub id: u32,
    /// Source.
    pub src: Ip,
    /// Destination.
    pub dst: Ip,
}

/// A fragment that has arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// As in [`Fragment`].
    pub start: u16,
    /// As in [`Fragment`].
    pub end: u16,
    /// The stamp of the frame if it is held back, else 0.
    pub stamp: u32,
}

/// A datagram of which fragments have arrived.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Fragmented {
    /// Which one.
    pub key: Cell<DatagramKey>,
    /// The tick in which its first fragment to arrive did.
    pub since: Cell<u32>,
    /// [`Fragmented::KNOWN`] and the other bits.
    pub state: Cell<u32>,
    /// The ports, once known.
    pub ports: Cell<Ports>,
    /// The protocol behind all headers, once known.
    pub protocol: Cell<u32>,
    /// How many fragments have arrived.
    pub count: Cell<u32>,
    /// How many units of 8 bytes they have.
    pub units: Cell<u32>,
    /// How many the datagram has; 0 until the last fragment has arrived.
    pub whole: Cell<u32>,
    /// The fragments.
    pub arrived: [Cell<Arrived>; limits::FRAGMENTS],
}

impl Default for Fragmented {
    fn default() -> Self {
        Self {
            key: Cell::default(),
            since: Cell::default(),
            state: Cell::default(),
            ports: Cell::default(),
            protocol: Cell::default(),
            count: Cell::default(),
            units: Cell::default(),
            whole: Cell::default(),
            arrived: [const { Cell::new(Arrived { start: 0, end: 0, stamp: 0 }) }; limits::FRAGMENTS],
        }
    }
}

impl Fragmented {
    /// The bit of `state` that says that the first fragment has arrived.
    pub const KNOWN: u32 = 1;
    /// The bit that says that fragments overlap.
    pub const BROKEN: u32 = 1 << 1;
    /// The bit that says that some are held back.
    pub const HOLDS: u32 = 1 << 2;
    /// The bit that says that all fragments have arrived: others are of another datagram.
    pub const WHOLE: u32 = 1 << 3;
    /// The bit that says that the record is in use.
    pub const TAKEN: u32 = 1 << 4;

    /// Whether all bits of `state` are set.
    #[inline(always)]
    #[must_use]
    pub fn is(&self, state: u32) -> bool {
        self.state.get() & state == state
    }

    /// Sets bits of `state`.
    #[inline(always)]
    pub fn mark(&self, state: u32) {
        self.state.set(self.state.get() | state);
    }
}

/// A frame that is held back.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Held {
    /// Whose it is: 0 while it is written.
    pub stamp: Cell<u32>,
    /// How long it is.
    pub len: Cell<u32>,
    /// The frame.
    pub bytes: [Cell<u8>; limits::HELD_BYTES],
}

impl Default for Held {
    fn default() -> Self {
        let bytes = [const { Cell::new(0) }; limits::HELD_BYTES];
        Self { stamp: Cell::default(), len: Cell::default(), bytes }
    }
}
