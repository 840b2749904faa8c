//! Marks by which vnet's programs know each other's packets.
//!
//! Workloads cannot set them: a mark does not cross a veth between namespaces, a tap's packets have none, and
//! what enters at a port is marked anew. The program that a mark is for takes it off.

/// Sent by vnet to a device itself, out of a port's or up the host's stack by a bridge: "vnet".
pub const DECIDED: u32 = 0x766e_6574;

/// A fragment that vnet held back, at the device where it arrived again: "vnag".
pub const AGAIN: u32 = 0x766e_6167;

/// An encapsulated packet that came in where overlays may: "vnov".
pub const OVERLAY: u32 = 0x766e_6f76;

/// Let into a network's bridge, which floods it to ports and to the host: "vnf", then the generation's low byte.
const FLOODED: u32 = 0x766e_6600;
/// The bits of [`FLOODED`] that tell the generation.
const GENERATION: u32 = 0xff;

/// The mark of what was let into a bridge under `generation`.
#[inline(always)]
#[must_use]
pub const fn flooded(generation: u32) -> u32 {
    FLOODED | generation & GENERATION
}

/// Under which generation the packet with `mark` was let into a bridge, where `current` is in force: that one or
/// the one before. Older ones are not there any more, `current` judges what they let in.
#[inline(always)]
#[must_use]
pub const fn flooded_under(mark: u32, current: u32) -> Option<u32> {
    if mark & !GENERATION != FLOODED {
        return None;
    }
    let age = current.wrapping_sub(mark) & GENERATION;
    Some(if age == 1 { current.wrapping_sub(1) } else { current })
}
