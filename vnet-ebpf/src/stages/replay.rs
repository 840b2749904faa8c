//! Stage 9: do what was decided.
//!
//! Decides nothing: rewrites the packet as its hop says, and names the device.

use vnet_common::{Address, Flow, Ops};

use crate::{
    hop::Hop,
    packet::Packet,
    rewrite,
    verdict::{Outcome, Verdict},
};

/// Sends a packet on `hop`.
///
/// # Errors
/// [`vnet_common::DropReason::TtlExceeded`] when it is routed with its last hop behind it.
#[inline(always)]
pub fn send<A: Address>(packet: &mut impl Packet, hop: &Hop) -> Outcome {
    if hop.ops.has(Ops::ROUTE) {
        rewrite::routed::<A>(packet, hop.sent)?;
    }
    Ok(Verdict::send(hop.device, hop.delivery()?))
}

/// Counts the packet in its flow and sends it on `hop`.
///
/// # Errors
/// As [`send`].
#[inline(always)]
pub fn replay<A: Address>(packet: &mut impl Packet, flow: &Flow<A>, hop: &Hop) -> Outcome {
    flow.packets.set(flow.packets.get() + 1);
    flow.bytes.set(flow.bytes.get() + u64::from(packet.length()));
    send::<A>(packet, hop)
}
