//! What of a network lies beyond this host, and by which links frames come and go.
//!
//! A **link** is a place where frames arrive and leave that a device alone does not tell: a trunk and a tag on it, an
//! overlay and its number there, an uplink that is bridged. Its number stands where an ifindex would, in the keys of
//! flows and in endpoints. A **station** is whatever has a MAC in a network, here or beyond.

use crate::{Ip, MacAddr, Side, V4, bits, shared};

/// The bit of every link's number; ifindexes are below.
const LINK: u32 = 1 << 23;
/// The bit of the links of ports that take part in several networks.
const MEMBER: u32 = 1 << 22;

/// Numbers of links.
pub mod link {
    use super::{LINK, MEMBER};

    /// The link by which the network whose bridge is `bridge` goes beyond this host.
    #[inline(always)]
    #[must_use]
    pub const fn segment(bridge: u32) -> u32 {
        LINK | bridge
    }

    /// The link of a port that takes part in one more network, the `index`th of them all.
    #[inline(always)]
    #[must_use]
    pub const fn member(index: u32) -> u32 {
        LINK | MEMBER | index
    }

    /// The bridge of the network whose segment is beyond the link `number`.
    #[inline(always)]
    #[must_use]
    pub const fn bridge(number: u32) -> u32 {
        number & !LINK
    }

    /// Whether `device` is a link, and no device.
    #[inline(always)]
    #[must_use]
    pub const fn is_link(device: u32) -> bool {
        device & LINK != 0
    }

    /// Whether `device` is the link of a network's segment.
    #[inline(always)]
    #[must_use]
    pub const fn is_segment(device: u32) -> bool {
        device & (LINK | MEMBER) == LINK
    }
}

/// The tags of a frame, as a key has them: the VLAN identifier next to the payload in the low 12 bits, the service
/// VLAN's (IEEE 802.1ad) in the next 12; 0: none. In an overlay: its network identifier.
#[inline(always)]
#[must_use]
pub const fn tag_of(vlan: u16, service: u16) -> u32 {
    const IDENTIFIER: u16 = 0x0fff;
    (vlan & IDENTIFIER) as u32 | ((service & IDENTIFIER) as u32) << 12
}

/// Key of a link.
///
/// Layout: `place` u32, `side` u32, `tag` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// A device, a bridge, or the number of a link.
    pub place: u32,
    /// Which copy.
    pub side: Side,
    /// What tells it apart there.
    pub tag: u32,
}

impl LinkKey {
    /// Where frames come from that arrive at `device` with `tag`; see [`tag_of`].
    #[inline(always)]
    #[must_use]
    pub const fn arrival(device: u32, tag: u32) -> Self {
        Self { place: device, side: 0, tag }
    }

    /// Where packets come from that arrive at `device` encapsulated, in the overlay `vni`.
    #[inline(always)]
    #[must_use]
    pub const fn encapsulated(device: u32, vni: u32) -> Self {
        /// No tag and no network identifier has it.
        const ENCAPSULATED: u32 = 1 << 31;
        Self::arrival(device, ENCAPSULATED | vni)
    }

    /// The link with `number`; of an overlay the way to the peer `peer`, counted from 1.
    #[inline(always)]
    #[must_use]
    pub const fn departure(number: u32, peer: u32) -> Self {
        Self { place: number, side: 0, tag: peer }
    }

    /// The `index`th link to which the network whose bridge is `bridge` floods, counted from 0.
    #[inline(always)]
    #[must_use]
    pub const fn flood(bridge: u32, index: u32) -> Self {
        Self { place: bridge, side: 0, tag: index }
    }

    /// The same on `side`.
    #[inline(always)]
    #[must_use]
    pub const fn on_side(self, side: Side) -> Self {
        Self { side, ..self }
    }
}

/// What is special about a link; a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFlags(u16);

impl LinkFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// An overlay: frames are encapsulated.
    pub const OVERLAY: Self = Self(1);
    /// The host has its own address there, on the same device: frames to its MAC are its own.
    pub const SHARED: Self = Self(1 << 1);
    /// The link of a port: what comes by it is a workload's.
    pub const PORT: Self = Self(1 << 2);
}

bits!(LinkFlags);

/// A link: where frames that arrive by it are, and how others leave by it.
///
/// Layout: `number` u32, `network` u32, `device` u32, `vlan` u16, `outer` u16, `vni` u32, `flags` u16, `mtu` u16,
/// `remote` 16, `underlay` u32, `local` 4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number, see [`link`].
    pub number: u32,
    /// The bridge of the network that it is part of.
    pub network: u32,
    /// The device by which frames leave.
    pub device: u32,
    /// The tag next to the payload that they leave with: 3 bits of priority, 1 of drop eligibility, 12 of identifier
    /// (IEEE 802.1Q section 9.6); 0: none.
    pub vlan: u16,
    /// The service tag around it (IEEE 802.1ad); of an overlay the number of the peer.
    pub outer: u16,
    /// Of an overlay: its network identifier, 24 bits (RFC 7348).
    pub vni: u32,
    /// What is special about it.
    pub flags: LinkFlags,
    /// The longest IP packet in bytes that passes.
    pub mtu: u16,
    /// Of an overlay: the peer's address.
    pub remote: Ip,
    /// Of an overlay: the device that leads to the peer, where the programs encapsulate; 0: the overlays' device does.
    pub underlay: u32,
    /// This host's address there.
    pub local: V4,
}

/// Key of a station.
///
/// Layout: `network` u32, `side` u32, `mac` [u8; 6], 2 bytes of padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StationKey {
    /// The network's bridge.
    pub network: u32,
    /// Which copy.
    pub side: Side,
    /// Its MAC.
    pub mac: MacAddr,
    padding: u16,
}

impl StationKey {
    /// Who has `mac` in the network whose bridge is `network`.
    #[inline(always)]
    #[must_use]
    pub const fn new(network: u32, side: Side, mac: MacAddr) -> Self {
        Self { network, side, mac, padding: 0 }
    }
}

/// Who has a MAC: a port here, the network's gateway, or a port elsewhere that the policy knows.
///
/// Layout: `device` u32, `delivery` u16, `peer` u16.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The port's device, the bridge, or the number of the link to it.
    pub device: u32,
    /// How a frame gets there: a [`crate::Delivery`].
    pub delivery: u16,
    /// Of an overlay: the number of the peer that it is behind; 0: not known.
    pub peer: u16,
}

/// From which of an overlay's peers a station spoke last, whom the policy does not know. Its key is the [`StationKey`] of
/// side 0.
///
/// Layout: `generation` u32, `peer` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The generation in which the peer has that number.
    pub generation: u32,
    /// The peer's number.
    pub peer: u32,
}

impl Heard {
    /// The peer's number under `generation`; 0: it may be another's now.
    #[inline(always)]
    #[must_use]
    pub const fn under(&self, generation: u32) -> u16 {
        if self.generation == generation { self.peer as u16 } else { 0 }
    }
}

/// Key of a peer of an overlay. The value is its number there, counted from 1.
///
/// Layout: `vni` u32, `side` u32, `addr` 16.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VtepKey {
    /// The overlay's network identifier.
    pub vni: u32,
    /// Which copy.
    pub side: Side,
    /// The address that it sends from.
    pub addr: Ip,
}

shared! {
    LinkKey = 12,
    Link = 48,
    StationKey = 16,
    Station = 8,
    VtepKey = 24,
    Heard = 8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_IFINDEX;

    #[test]
    fn numbers_of_links_are_told_from_ifindexes_and_from_one_another() {
        assert!(!link::is_link(MAX_IFINDEX));
        assert!(link::is_segment(link::segment(MAX_IFINDEX)) && link::is_link(link::segment(1)));
        assert!(link::is_link(link::member(7)) && !link::is_segment(link::member(7)));
    }

    #[test]
    fn a_tag_in_a_key_is_without_priority() {
        assert_eq!(tag_of(0xa00a, 0), 10);
        assert_eq!(tag_of(10, 0xe064), 100 << 12 | 10);
    }
}
