//! Stage 11: do what was decided.
//!
//! Decides nothing: rewrites the packet as its hop says, and names the device.

use vnet_common::{DropReason, Flow, Ops, Tuple};

use crate::{
    headers::Datagram,
    hop::Hop,
    packet::{AddressWire, Packet},
    rewrite,
    verdict::{Outcome, Verdict},
};

/// Whether a packet may go on by `hop`; it is as before.
///
/// # Errors
/// [`DropReason::TtlExceeded`] when it is routed with its last hop behind it.
#[inline(always)]
pub fn check_ttl<A: AddressWire>(packet: &impl Packet, hop: &Hop<A>) -> Result<(), DropReason> {
    if hop.ops.has(Ops::ROUTE) { rewrite::check_ttl::<A>(packet) } else { Ok(()) }
}

/// Sends a packet on `hop`, translated to `leaves` if that says so. What its headers said is `datagram`.
///
/// # Errors
/// As [`check_ttl`].
#[inline(always)]
pub fn send<A: AddressWire>(
    packet: &mut impl Packet,
    datagram: &Datagram<A>,
    hop: &Hop<A>,
    leaves: &Tuple<A>,
) -> Outcome {
    if hop.ops.has(Ops::TRANSLATE) {
        rewrite::translated(packet, datagram, leaves)?;
    }
    route(packet, hop)
}

/// Sends a packet on `hop` with the addresses that it has.
///
/// # Errors
/// As [`check_ttl`].
#[inline(always)]
pub fn route<A: AddressWire>(packet: &mut impl Packet, hop: &Hop<A>) -> Outcome {
    if hop.ops.has(Ops::ROUTE) {
        rewrite::routed::<A>(packet, hop.sent)?;
    }
    Ok(Verdict::send(hop.device, Hop::delivery(hop)?))
}

/// Counts the packet in its flow and sends it on `hop`, as [`send`] does.
///
/// # Errors
/// As [`send`].
#[inline(always)]
pub fn replay<A: AddressWire>(
    packet: &mut impl Packet,
    datagram: &Datagram<A>,
    flow: &Flow<A>,
    (hop, leaves): (&Hop<A>, &Tuple<A>),
) -> Outcome {
    flow.packets.set(flow.packets.get() + 1);
    flow.bytes.set(flow.bytes.get() + u64::from(packet.length()));
    send(packet, datagram, hop, leaves)
}
