//! Marks by which vnet's programs know each other's packets.
//!
//! Workloads cannot set them: a mark does not cross a veth between namespaces, a tap's packets have none, and
//! what enters at a port is marked anew. The program that a mark is for takes it off.

/// Sent by vnet to a device itself, out of a port's or up the host's stack by a bridge: "vnet".
pub const DECIDED: u32 = 0x766e_6574;

/// Let into a network's bridge, which floods it to ports and to the host: "vnef".
pub const FLOODED: u32 = 0x766e_6566;
