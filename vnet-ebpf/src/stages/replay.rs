//! Stage 11: do what was decided.
//!
//! Decides whether the packet may go that way, by its hops left and its length; rewrites it as its hop says, and names
//! the device.

use vnet_common::{Be16, Delivery, DropReason, Flow, Link, LinkFlags, LinkKey, Ops, Tuple};

use crate::{
    headers::{Datagram, ETHERNET_LEN, Segment, protocol},
    hop::Hop,
    packet::{AddressWire, Packet, SEGMENTED_BEFORE, Tag, Tunnel},
    rewrite,
    tables::{Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// Whether a packet may go on by `hop`; it is as before. A function of its own in the kernel too, for the verifier's
/// sake.
///
/// # Errors
/// [`DropReason::TtlExceeded`] when it is routed with its last hop behind it, [`DropReason::TooBig`].
#[inline(never)]
pub fn check<A: AddressWire>(
    packet: &impl Packet,
    datagram: &Datagram<A>,
    hop: &Hop<A>,
) -> Result<(), DropReason> {
    if hop.ops.has(Ops::ROUTE) {
        rewrite::check_ttl::<A>(packet)?;
    }
    if fits(packet, datagram, hop.mtu) { Ok(()) } else { Err(DropReason::TooBig) }
}

/// Whether a packet, or each segment that it will be cut into, fits `mtu`; 0: everything does.
#[inline(always)]
pub fn fits<A: Copy>(packet: &impl Packet, datagram: &Datagram<A>, mtu: u16) -> bool {
    let most = u32::from(mtu) + ETHERNET_LEN as u32;
    mtu == 0 || packet.length() <= most || segments_fit(packet, datagram, most)
}

/// Whether the segments fit `most` bytes that a packet will be cut into, which is longer.
///
/// The packet tells itself how long they are (`gso_size`). `bpf_check_mtu` would compare with the MTU of a device, but
/// that of a workload's link is inside its namespace, and the table's is that of the generation.
#[inline(always)]
fn segments_fit<A: Copy>(packet: &impl Packet, datagram: &Datagram<A>, most: u32) -> bool {
    /// Of UDP, RFC 768.
    const UDP_HEADER_LEN: u32 = 8;
    let header_len = match datagram.protocol {
        protocol::UDP => UDP_HEADER_LEN,
        _ => datagram.message.segment.header_len.into(),
    };
    match packet.segment_payload() {
        0 => false,
        // Their sender knows the MTU that it has been told; no one size tells whether it is right.
        SEGMENTED_BEFORE => true,
        payload => datagram.payload as u32 + header_len + payload <= most,
    }
}

/// Lowers the segment size that a SYN announces to what fits both ways, if `hop` says so; the way back takes packets
/// of `back` bytes.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(always)]
pub fn clamp<A: AddressWire>(
    packet: &mut impl Packet,
    datagram: &Datagram<A>,
    hop: &Hop<A>,
    back: u16,
) -> Result<(), DropReason> {
    let is_syn = datagram.message.tcp().is_some_and(|segment| segment.has(Segment::SYN));
    if !is_syn || !hop.ops.has(Ops::CLAMP_MSS) {
        return Ok(());
    }
    // RFC 9293 section 3.7.1: the headers without options are what a segment size leaves out.
    let headers = if A::IS_V4 { 40 } else { 60 };
    let known = |mtu: u16| if mtu == 0 { u16::MAX } else { mtu };
    let mtu = known(hop.mtu).min(known(back));
    let at = datagram.payload_offset()?;
    let end = at + usize::from(datagram.message.segment.header_len);
    rewrite::clamp_mss(packet, at..end, Be16::new(mtu.saturating_sub(headers)))
}

/// Sends a packet on `hop`, translated to `leaves` if that says so. What its headers said is `datagram`.
///
/// # Errors
/// [`DropReason::TtlExceeded`]; the packet is as before.
#[inline(always)]
pub fn send<A: AddressWire, T: Tables>(
    packet: &mut impl Packet,
    snapshot: &Snapshot<'_, T>,
    datagram: &Datagram<A>,
    (hop, leaves): (&Hop<A>, &Tuple<A>),
) -> Outcome {
    route(packet, hop)?;
    if hop.ops.has(Ops::TRANSLATE) {
        rewrite::translated(packet, datagram, leaves)?;
    }
    depart(packet, snapshot, hop)
}

/// Lets a packet go that looks as it is to look: with its tags, or into its tunnel.
///
/// # Errors
/// [`DropReason::NoRoute`] for a peer that the overlay does not have any more, [`DropReason::Internal`].
#[inline(always)]
pub fn depart<A: Copy, T: Tables>(
    packet: &mut impl Packet,
    snapshot: &Snapshot<'_, T>,
    hop: &Hop<A>,
) -> Outcome {
    if hop.vlan != 0 {
        tag(packet, hop.vlan, hop.outer)?;
    } else if hop.outer != 0 {
        return into_overlay(packet, snapshot, hop.far, hop.outer);
    }
    Ok(Verdict::send(hop.device, Hop::delivery(hop)?))
}

/// Puts the tags `vlan` and, if it is not 0, `service` around a frame. Where the former has no priority, the packet's own
/// is told.
#[inline(always)]
fn tag(packet: &mut impl Packet, vlan: u16, service: u16) -> Result<(), DropReason> {
    const PRIORITY: u32 = 13;
    let priority = if vlan >> PRIORITY == 0 { packet.priority() << PRIORITY } else { 0 };
    packet.push_tag(Tag { protocol: Tag::CUSTOMER, control: vlan | priority })?;
    if service != 0 {
        packet.push_tag(Tag { protocol: Tag::SERVICE, control: service })?;
    }
    Ok(())
}

/// Lets a packet go by the link `number`; in an overlay to `peer`. A function of its own in the kernel too, for the
/// stack's sake.
///
/// # Errors
/// [`DropReason::NoRoute`] when there is none, [`DropReason::Internal`].
#[inline(never)]
pub fn by_link<T: Tables>(
    packet: &mut impl Packet,
    snapshot: &Snapshot<'_, T>,
    number: u32,
    peer: u16,
) -> Outcome {
    leave(packet, departure(snapshot, number, peer)?)
}

/// Lets a packet of a flow go into an overlay by the link `number` to `peer`: encapsulated already, if its kind and the
/// peer's allow it; the overlays' device does it else. As [`by_link`].
#[inline(never)]
fn into_overlay<T: Tables>(
    packet: &mut impl Packet,
    snapshot: &Snapshot<'_, T>,
    number: u32,
    peer: u16,
) -> Outcome {
    let link = departure(snapshot, number, peer)?;
    if link.underlay != 0 && rewrite::encapsulate(packet, link)? {
        return Ok(Verdict::send(link.underlay, Delivery::NextHop));
    }
    leave(packet, link)
}

/// The link `number`; in an overlay the way to `peer`.
#[inline(always)]
fn departure<'a, T: Tables>(
    snapshot: &Snapshot<'a, T>,
    number: u32,
    peer: u16,
) -> Result<&'a Link, DropReason> {
    snapshot.link(LinkKey::departure(number, peer.into())).ok_or(DropReason::NoRoute)
}

/// Lets a packet go by the device of `link`.
#[inline(always)]
fn leave(packet: &mut impl Packet, link: &Link) -> Outcome {
    dress(packet, link)?;
    Ok(Verdict::send(link.device, Delivery::Device))
}

/// Gives a packet the tags of a link, or has it encapsulated.
///
/// # Errors
/// [`DropReason::Internal`].
#[inline(always)]
pub fn dress(packet: &mut impl Packet, link: &Link) -> Result<(), DropReason> {
    if link.flags.has(LinkFlags::OVERLAY) {
        return packet.enter_tunnel(Tunnel { vni: link.vni, remote: link.remote });
    }
    if link.vlan == 0 { Ok(()) } else { tag(packet, link.vlan, link.outer) }
}

/// Takes off what [`dress`] gave it, but for the tunnel, which the next one replaces.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(always)]
pub fn undress(packet: &mut impl Packet, link: &Link) -> Result<(), DropReason> {
    if link.flags.has(LinkFlags::OVERLAY) || link.vlan == 0 {
        return Ok(());
    }
    packet.pop_tag()?;
    if link.outer == 0 { Ok(()) } else { packet.pop_tag() }
}

/// Makes a packet that is routed look so.
///
/// # Errors
/// [`DropReason::TtlExceeded`]; the packet is as before.
#[inline(always)]
pub fn route<A: AddressWire>(packet: &mut impl Packet, hop: &Hop<A>) -> Result<(), DropReason> {
    if hop.ops.has(Ops::ROUTE) { rewrite::routed::<A>(packet, hop.sent) } else { Ok(()) }
}

/// Counts the packet in its flow and sends it on `hop`, as [`send`] does.
///
/// # Errors
/// As [`send`].
#[inline(always)]
pub fn replay<A: AddressWire, T: Tables>(
    packet: &mut impl Packet,
    snapshot: &Snapshot<'_, T>,
    (datagram, flow): (&Datagram<A>, &Flow<A>),
    (hop, leaves): (&Hop<A>, &Tuple<A>),
) -> Outcome {
    flow.packets.set(flow.packets.get() + 1);
    flow.bytes.set(flow.bytes.get() + u64::from(packet.length()));
    send(packet, snapshot, datagram, (hop, leaves))
}
