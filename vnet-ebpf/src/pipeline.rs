//! The way of a packet, from top to bottom.
//!
//! ```text
//! from_port, from_host
//!   parse      what it says             (1)
//!   track      its flow, if it has one  (2)  hit, same generation, routine ---------+
//!   neighbour  ARP, discovery           (3)  answered or passed on                  |
//!   sender     who sent it              (4)                                         |
//!   route      where it goes            (5)                                         |
//!   judge      what both ends allow     (6)                                         |
//!   track      what it does to its flow (7)                                         |
//!   install    remember both directions (8)                                         |
//!   replay     rewrite and send         (9)  <--------------------------------------+
//!
//! to_port        what the bridge floods to a port: discovery passes, the rest is judged or dropped
//! to_host        what the bridge floods to the host: it passes, unless the network keeps the host out
//! ```
//!
//! A hit skips the sender stage safely: the key holds the device, and the entry the MACs, that the
//! check was made for.

mod flooded;
mod neighbours;

use core::sync::atomic::{Ordering, compiler_fence};

use vnet_common::{Address, Delivery, DropReason, Flow, MacPair, Ops, V4, V6, mark};

use crate::{
    case::{Case, Decision, Step},
    headers::{Carries, ETHERNET_LEN, Frame, Kind, Service},
    hop::Hop,
    packet::Packet,
    stages::{
        install::{self, Birth},
        judge,
        neighbour::Speaker,
        parse::{self, Quoted},
        replay, route, sender, track,
    },
    tables::{FlowTable, Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

pub use flooded::{to_host, to_port};

/// Where and when a packet arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The device: a port's, or a network's bridge.
    pub device: u32,
    /// Ticks of the coarse monotonic clock.
    pub now: u32,
}

/// What a workload sends.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_port<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    enter::<Workload, P, T>(packet, tables, arrival)
}

/// What the host sends into a network.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    if packet.is_forwarded() {
        return Err(DropReason::Forwarded);
    }
    enter::<Host, P, T>(packet, tables, arrival)
}

/// What comes from outside. Most of it is the host's own, and passes.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_uplink<P: Packet, T: Tables>(_packet: &mut P, _tables: &T, _arrival: Arrival) -> Outcome {
    Ok(Verdict::PASS)
}

/// Who may send at a hook, and what else than flows they may send there.
trait Hook {
    /// Who sends this frame.
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason>;

    /// Checks and fills in who sends the datagram; decides what is no unicast there and then.
    fn sender<A: Address, T: Tables>(
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<Option<Verdict>, DropReason>;
}

/// A port's device: the workload behind it.
struct Workload;

/// A network's bridge: the host.
struct Host;

impl Hook for Workload {
    #[inline(always)]
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason> {
        let port = snapshot.port(arrival.device)?;
        sender::check_mac(port, macs)?;
        Ok(Speaker::port(arrival.device, port))
    }

    /// A function of its own in the kernel too, for the stack's sake.
    #[inline(never)]
    fn sender<A: Address, T: Tables>(
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<Option<Verdict>, DropReason> {
        let port = snapshot.port(case.device)?;
        sender::check_mac(port, case.macs)?;
        sender::check_role(&case.datagram)?;
        let is_dhcp_request = sender::is_dhcp_request(&case.datagram);
        if !is_dhcp_request || case.datagram.src.ip() != V4::default().ip() {
            case.from = *sender::check_address(*snapshot, port, case.device, &case.datagram)?;
        }
        (case.network, case.gateway_mac) = (port.network, port.gateway_mac);
        let destination = case.datagram.dst.ip();
        if !destination.is_multicast() {
            return Ok(None);
        }
        case.service = Service::of_packet(&case.datagram);
        if is_dhcp_request {
            judge::reaches_host(snapshot, case.network, &case.service)?;
            return Ok(Some(Verdict::send(port.network, Delivery::Host)));
        }
        judge::sends(snapshot, &case.service, port.group_set, snapshot.peer(destination))?;
        Ok(Some(Verdict::PASS))
    }
}

impl Hook for Host {
    #[inline(always)]
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        _: MacPair,
    ) -> Result<Speaker, DropReason> {
        Ok(Speaker::host(arrival.device, snapshot.network(arrival.device)?))
    }

    #[inline(always)]
    fn sender<A: Address, T: Tables>(
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<Option<Verdict>, DropReason> {
        let gateway_mac = snapshot.network(case.device)?.gateway_mac;
        (case.network, case.gateway_mac) = (case.device, gateway_mac);
        case.from = route::host(snapshot, case.network, gateway_mac, case.datagram.src.ip());
        if !case.datagram.dst.ip().is_multicast() {
            return Ok(None);
        }
        judge::host_may_speak(snapshot, case.network)?;
        Ok(Some(Verdict::PASS))
    }
}

/// The way of every packet that enters a network. What passes goes into the bridge, with the mark that lets it
/// out again.
#[inline(always)]
fn enter<H: Hook, P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    let verdict = decide::<H, P, T>(packet, snapshot, arrival)?;
    if verdict.destination().is_none() {
        packet.set_mark(mark::flooded(snapshot.generation));
    }
    Ok(verdict)
}

/// What becomes of a packet that enters a network.
#[inline(always)]
fn decide<H: Hook, P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    arrival: Arrival,
) -> Outcome {
    let frame = parse::ethernet(packet)?;
    match frame.carries {
        Carries::Ipv4 => {
            let case = &mut *begin::<V4, _>(snapshot, arrival, frame)?;
            case.datagram = parse::ipv4(packet, ETHERNET_LEN)?;
            datagram::<H, _, _, _>(packet, snapshot, case)
        }
        Carries::Ipv6 => {
            let case = &mut *begin::<V6, _>(snapshot, arrival, frame)?;
            read_ipv6(packet, case)?;
            if case.datagram.message.kind == Kind::Discovery {
                let speaker = H::speaker(&snapshot, arrival, frame.macs)?;
                return neighbours::discovery(packet, snapshot, &speaker, case);
            }
            datagram::<H, _, _, _>(packet, snapshot, case)
        }
        Carries::Arp => {
            let speaker = H::speaker(&snapshot, arrival, frame.macs)?;
            neighbours::answer_arp(packet, &snapshot, &speaker)
        }
    }
}

/// Begins the case of a packet.
#[inline(always)]
fn begin<'a, A: Copy, T: FlowTable<A>>(
    snapshot: Snapshot<'a, T>,
    arrival: Arrival,
    frame: Frame,
) -> Result<T::Scratch<'a>, DropReason> {
    let mut case = snapshot.tables.scratch()?;
    (case.device, case.now, case.macs) = (arrival.device, arrival.now, frame.macs);
    Ok(case)
}

/// Reads IPv6. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn read_ipv6<P: Packet>(packet: &P, case: &mut Case<V6>) -> Result<(), DropReason> {
    case.datagram = parse::ipv6(packet, ETHERNET_LEN)?;
    Ok(())
}

/// An IP packet that is not about neighbours.
#[inline(always)]
fn datagram<H: Hook, A: Quoted, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    case.key = case.datagram.key(case.device);
    // Routine: the decision stands, and nothing changes but the record of the packet's own direction.
    if let Some(flow) = snapshot.tables.find(&case.key)
        && let Some(hop) = current(snapshot, &flow, case.macs)
        && track::is_routine(&flow, &case.datagram.message)
    {
        snapshot.tables.touch(&flow, case.now)?;
        track::record(&flow, &case.datagram.message);
        return replay::replay(packet, &flow, &hop);
    }
    match H::sender(&snapshot, case)? {
        Some(verdict) => Ok(verdict),
        None => unicast(packet, &snapshot, case),
    }
}

/// The way of a packet with `macs` if the decision in its entry stands. It is copied before that is looked at,
/// for another CPU may be writing a newer one.
#[inline(always)]
fn current<A: Copy, T: Tables>(snapshot: Snapshot<'_, T>, flow: &Flow<A>, macs: MacPair) -> Option<Hop> {
    let hop = Hop::of(flow);
    compiler_fence(Ordering::SeqCst);
    track::is_current(flow, snapshot.generation, macs).then_some(hop)
}

/// A unicast packet whose sender is known: opens a flow, changes one, or has one judged again.
///
/// A function of its own in the kernel too, so that it is there once for each IP version. What is found out
/// before the judgement is left in the case: the verifier then walks the judgement once, not once for each
/// way that leads there.
#[inline(never)]
fn unicast<A: Quoted, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    if case.datagram.message.kind == Kind::Error {
        return related_error(packet, snapshot, case);
    }
    classify(snapshot, case)?;
    if case.step != Step::Continue
        && let Err(reason) = admit(snapshot, case)
    {
        // A frame for somebody else says nothing about the flow.
        if case.step == Step::Renew && reason != DropReason::WrongMac {
            for key in [&case.key, &case.pair_key] {
                snapshot.tables.find(key).as_deref().map(track::cut);
            }
        }
        return Err(reason);
    }
    match case.step {
        Step::Single => replay::send::<A>(packet, &case.forth),
        Step::Open | Step::Reopen => open(packet, snapshot, case),
        Step::Continue | Step::Challenge | Step::Renew => proceed(packet, snapshot, case),
    }
}

/// Finds out what the packet does to its flow, and what allowed that so far.
#[inline(never)]
fn classify<A: Address, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    (case.step, case.before, case.before_device) = (Step::Single, Decision::TRUST, 0);
    let message = &case.datagram.message;
    if message.kind == Kind::Single {
        return Ok(());
    }
    let Some(own) = snapshot.tables.find(&case.key) else {
        case.step = Step::Open;
        return track::may_open(message);
    };
    if message.kind == Kind::Echo && own.ops.get().has(Ops::REPLY) {
        return Ok(());
    }
    snapshot.tables.touch(&own, case.now)?;
    case.pair_key = case.key.reversed(own.pair_device.get());
    if snapshot.tables.find(&case.pair_key).is_none() || track::starts_anew(&own, message) {
        case.step = Step::Reopen;
        return track::may_open(message);
    }
    track::may_continue(&own)?;
    case.step = if track::challenges(&own, message) {
        Step::Challenge
    } else if let Some(hop) = current(*snapshot, &own, case.macs) {
        case.forth = hop;
        Step::Continue
    } else {
        case.before = Decision { rules: own.rules.get(), keep: own.ops.get() };
        case.before_device = own.device.get();
        Step::Renew
    };
    Ok(())
}

/// Judges the packet, in the direction in which its flow is or was opened, and fills in its way.
#[inline(never)]
fn admit<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> Result<(), DropReason> {
    if let Err(reason) = route::destination(snapshot, case) {
        // The host may have opened it from an address that is not the gateway's.
        if case.before_device != case.network {
            return Err(reason);
        }
        route::to_host_elsewhere(case);
    }
    route::way(case)?;
    let is_answer = case.before.keep.has(Ops::REPLY);
    if is_answer {
        case.asker = case.to;
        case.asked = case.from;
    } else {
        case.asker = case.from;
        case.asked = case.to;
    }
    if case.asked.is_elsewhere() {
        // Only a joined network's gateway can have been asked; it is none any more.
        return Err(snapshot.network(case.network)?.unknown_destination());
    }
    case.service = match case.step {
        Step::Single => Service::of_packet(&case.datagram),
        _ if is_answer => Service::of_flow(&case.pair_key),
        _ => Service::of_flow(&case.key),
    };
    if case.forth.device != case.before_device {
        // What another device has taken over is another's: nothing of it is kept.
        case.before = Decision::TRUST;
    }
    case.decision = judge::both_ends(snapshot, case)?;
    Ok(())
}

/// Opens a flow.
#[inline(always)]
fn open<A: Address + Default, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    let verdict = replay::send::<A>(packet, &case.forth)?;
    let segment = &case.datagram.message.segment;
    let (seq_next, syn_end) = (segment.end, segment.seq.wrapping_add(1));
    case.pair_key = case.key.reversed(case.forth.device);
    install::new_flow(
        snapshot.tables,
        case,
        snapshot.generation,
        Birth { seq_next, syn_end, bytes: packet.length() },
    )?;
    Ok(verdict)
}

/// Carries on a flow that is not routine: its state changes, or its decision was out of date.
#[inline(always)]
fn proceed<A: Address + Default, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    // Both were there a moment ago.
    let own = snapshot.tables.find(&case.key).ok_or(DropReason::FlowExpiring)?;
    let pair = snapshot.tables.find(&case.pair_key).ok_or(DropReason::FlowExpiring)?;
    track::advance(&own, &pair, &case.datagram.message)?;
    if case.step == Step::Renew {
        install::renew(snapshot.tables, case, snapshot.generation, &own, &pair);
    }
    replay::replay(packet, &own, &case.forth)
}

/// An ICMP error: it passes if it is about a flow that is allowed, and comes from that flow's other end or
/// from the host. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn related_error<A: Quoted, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    const ICMP_HEADER_LEN: usize = 8;
    case.quoted = A::quoted(packet, case.datagram.payload + ICMP_HEADER_LEN)?;
    let quoted = &case.quoted;
    if quoted.src != case.datagram.dst || quoted.dst != case.datagram.src && !case.from.is_gateway() {
        return Err(DropReason::UnrelatedError);
    }
    // The host may have sent from an address that is not the gateway's; whether it did, the flow tells.
    if route::destination(snapshot, case).is_err() {
        route::to_host_elsewhere(case);
    }
    case.pair_key = case.quoted.key(case.to.device);
    let flow = snapshot.tables.find(&case.pair_key).ok_or(DropReason::UnrelatedError)?;
    if flow.generation.get() != snapshot.generation {
        return Err(DropReason::UnrelatedError);
    }
    if case.from.is_gateway() && flow.device.get() != case.network {
        // It's about a flow between ports.
        judge::host_may_speak(snapshot, case.network)?;
    }
    route::way(case)?;
    replay::send::<A>(packet, &case.forth)
}
