//! The way of a packet, from top to bottom.
//!
//! ```text
//! from_port, from_host, from_uplink
//!   parse      what it says              (1)
//!   follow     if it is a fragment: what it is part of; it may have to wait for the first one
//!   track      its flow, if it has one   (2)   hit, same generation ----------------+
//!   neighbour  ARP, discovery            (3)   answered or passed on                |
//!   sender     who sent it               (4)                                        |
//!   translate  for whom it really is     (5)   from outside and for nobody: passes  |
//!   route      where it goes             (6)                                        |
//!   judge      what both ends allow      (7)                                        |
//!   translate  as whom it leaves         (8)                                        |
//!   track      what it does to its flow  (9)                                        |
//!   install    remember both directions  (10)                                       |
//!   replay     rewrite and send          (11)  <------------------------------------+
//!
//! to_port        what the bridge floods to a port: discovery passes, the rest is judged or dropped
//! to_host        what the bridge floods to the host: it passes, unless the network keeps the host out
//! ```
//!
//! A hit (`decided`) skips the sender stage safely: that check was made for the key's device and the entry's MACs.

mod answer;
mod decided;
mod early;
mod errors;
mod flooded;
mod hooks;
mod neighbours;
mod read;
mod segment;
pub mod socket;
mod way;

use vnet_common::{
    Address, Delivery, DropReason, Endpoint, FlowKey, MacAddr, MacPair, Ops, V4, V6, link, mark,
};

use self::{
    decided::{advance, decided, find_pair},
    hooks::{Hook, Host, Workload},
};
use crate::{
    case::{Case, Decision, Step},
    headers::{Carries, Frame, Kind, protocol},
    packet::Packet,
    stages::{
        admit,
        install::{self, Birth},
        parse::{self, Version},
        replay, track, translate,
    },
    tables::{FlowTable, Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

pub use answer::{answer, challenge, challenge_early, is_answered};
pub use decided::carry_on;
pub use early::{early, judge as judge_early};
pub use flooded::{to_host, to_port};
pub use segment::{came, came_encapsulated, from_segment, from_underlay, spread, spread_by, to_segment};

/// Where and when a packet arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The device: a port's, a network's bridge, an uplink; or the link that it came by.
    pub device: u32,
    /// Ticks of the coarse monotonic clock.
    pub now: u32,
    /// The network of that link; 0: it came by none.
    pub network: u32,
    /// The number of the overlay's peer that it came from; 0: from none.
    pub heard: u16,
}

impl Arrival {
    /// At a device.
    #[inline(always)]
    #[must_use]
    pub const fn at(device: u32, now: u32) -> Self {
        Self { device, now, network: 0, heard: 0 }
    }
}

/// What a workload sends.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_port<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    enter::<Workload, P, T>(packet, Snapshot::take(tables)?, arrival)
}

/// What the host sends into a network. What vnet has let in already goes on to the ports.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    if mark::flooded_under(packet.mark(), snapshot.generation).is_some() {
        return Ok(Verdict::PASS);
    }
    if packet.is_forwarded() {
        return Err(DropReason::Forwarded);
    }
    // What the host's sockets ask of its own queues is no priority of the network's tags.
    packet.set_priority(0);
    enter::<Host, P, T>(packet, snapshot, arrival)
}

/// What comes from outside. Most of it is the host's own, and passes as it is.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn from_uplink<P: Packet, T: Tables>(packet: &mut P, tables: &T, arrival: Arrival) -> Outcome {
    let snapshot = Snapshot::take(tables)?;
    let verdict = decide_outside(packet, snapshot, arrival)?;
    segment::settle(packet, &snapshot, (arrival.device, false), verdict)
}

/// What becomes of what comes from outside.
#[inline(always)]
fn decide_outside<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    arrival: Arrival,
) -> Outcome {
    // What vnet does not carry is the host's to judge.
    let Ok(frame) = parse::ethernet(packet) else { return Ok(Verdict::PASS) };
    match frame.carries {
        Carries::Ipv4 => {
            let case = &mut *begin::<V4, _>(snapshot, arrival, frame)?;
            match read::read_outside(packet, &snapshot, case)? {
                Some(verdict) => Ok(verdict),
                None => outside(packet, snapshot, case),
            }
        }
        Carries::Ipv6 => {
            let case = &mut *begin::<V6, _>(snapshot, arrival, frame)?;
            if let Some(verdict) = read::read_outside(packet, &snapshot, case)? {
                return Ok(verdict);
            }
            if case.datagram.message.kind == Kind::Discovery {
                return neighbours::discovery_outside(packet, &snapshot, case);
            }
            outside(packet, snapshot, case)
        }
        Carries::Arp => neighbours::arp_outside(packet, &snapshot, arrival.device),
    }
}

/// The way of every packet that enters a network here. What passes goes into the bridge, with the mark that lets it
/// out again, and beyond this host if the network does.
#[inline(always)]
fn enter<H: Hook, P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    arrival: Arrival,
) -> Outcome {
    let mut arrival = arrival;
    let frame = match parse::ethernet(packet) {
        Err(DropReason::VlanTag) if H::TAKES_TAGS => {
            let came = packet.came(&snapshot, arrival.device)?.ok_or(DropReason::VlanTag)?;
            arrival.device = came.number;
            parse::ethernet(packet)
        }
        frame => frame,
    }?;
    let mut verdict = decide::<H, P, T>(packet, snapshot, arrival, frame)?;
    if verdict == Verdict::PASS {
        if H::HAS_BUDGET && !snapshot.tables.may_flood(arrival.device, arrival.now) {
            return Err(DropReason::Storm);
        }
        let network = H::network(&snapshot, arrival)?;
        if link::is_link(arrival.device) {
            verdict = Verdict::send(network, Delivery::Flood);
        } else {
            if segment::extends(&snapshot, network)? {
                packet.spread(&snapshot, network, arrival.device);
            }
            packet.set_mark(mark::flooded(snapshot.generation));
            return Ok(verdict);
        }
    }
    segment::settle(packet, &snapshot, (arrival.device, false), verdict)
}

/// What becomes of a packet that enters a network.
#[inline(always)]
fn decide<H: Hook, P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    arrival: Arrival,
    frame: Frame,
) -> Outcome {
    match frame.carries {
        Carries::Ipv4 => {
            let case = &mut *begin::<V4, _>(snapshot, arrival, frame)?;
            match read::read(packet, &snapshot, case, H::HOLDS)? {
                Some(verdict) => Ok(verdict),
                None => datagram::<H, _, _, _>(packet, snapshot, case),
            }
        }
        Carries::Ipv6 => {
            let case = &mut *begin::<V6, _>(snapshot, arrival, frame)?;
            if let Some(verdict) = read::read(packet, &snapshot, case, H::HOLDS)? {
                return Ok(verdict);
            }
            if case.datagram.message.kind == Kind::Discovery {
                return H::discovery(packet, &snapshot, arrival, case);
            }
            datagram::<H, _, _, _>(packet, snapshot, case)
        }
        Carries::Arp => H::arp(packet, &snapshot, arrival, frame.macs),
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
    (case.network, case.heard) = (arrival.network, arrival.heard);
    Ok(case)
}

/// An IP packet that is not about neighbours.
#[inline(always)]
fn datagram<H: Hook, A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    H::observe(packet, &snapshot, case)?;
    match decided(packet, snapshot, case)? {
        Verdict::OPEN => {}
        verdict => return Ok(verdict),
    }
    match H::sender(packet, &snapshot, case)? {
        Verdict::OPEN => packet.unicast(&snapshot, case),
        verdict => Ok(verdict),
    }
}

/// The same from outside.
#[inline(always)]
fn outside<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    leave_out_router(case);
    match decided(packet, snapshot, case)? {
        Verdict::OPEN => {}
        verdict => return Ok(verdict),
    }
    if !is_for_uplink(&snapshot, case) {
        return Ok(Verdict::PASS);
    }
    packet.unicast(&snapshot, case)
}

/// By which router it comes says nothing about a flow.
#[inline(always)]
fn leave_out_router<A: Copy>(case: &mut Case<A>) {
    case.macs = MacPair::new(case.macs.dst(), MacAddr::default());
}

/// Whether a packet from outside is for the uplink that it arrived at; if so, fills in who sent it.
#[inline(always)]
fn is_for_uplink<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> bool {
    let mac = case.macs.dst();
    if snapshot.uplink(case.device).is_none_or(|uplink| uplink.mac != mac) {
        return false;
    }
    case.from = Endpoint::outside(case.device, snapshot.peer(case.datagram.src.ip()));
    (case.network, case.gateway_mac) = (case.device, mac);
    true
}

/// A unicast packet whose sender is known: opens a flow, changes one, or has one judged again.
///
/// It is called through [`Packet::unicast`]. What is found out before the judgement is left in the case: the verifier
/// then walks the judgement once, not once for each way that leads there.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn unicast<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    if case.datagram.message.kind == Kind::Error {
        return errors::related_error(packet, snapshot, case);
    }
    classify(snapshot, case);
    if matches!(case.step, Step::Single | Step::Open | Step::Reopen) {
        let opens = match case.step {
            Step::Single => Ok(()),
            _ => track::may_open(&case.datagram.message),
        };
        if !case.from.is_outside() {
            opens?;
        } else if opens.is_err() && admit::answers(snapshot, case) {
            return Ok(Verdict::TAKEN);
        } else if opens.is_err() || !is_forwarded(snapshot, case) || is_awaited(packet, case) {
            // It is the host's, or answers a connection of the host's own.
            return left_to_host(snapshot, case, DropReason::Unsolicited);
        }
    }
    if let Err(reason) = way::allow(snapshot, case) {
        // A frame for somebody else says nothing about the flow.
        if case.step == Step::Renew && reason != DropReason::WrongMac {
            for key in [&case.key, &case.pair_key] {
                snapshot.tables.find(key).as_deref().map(track::cut);
            }
        }
        return Err(reason);
    }
    replay::check(packet, &case.datagram, &case.forth)?;
    match case.step {
        Step::Single => replay::send(packet, snapshot, &case.datagram, (&case.forth, &case.forth.leaves)),
        Step::Open | Step::Reopen => open(packet, snapshot, case),
        Step::Continue | Step::Challenge | Step::Renew => proceed(packet, snapshot, case),
    }
}

/// Finds out what the packet does to its flow, and what allowed that so far.
#[inline(never)]
fn classify<A: Address + Default, T: Tables + FlowTable<A>>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) {
    (case.before, case.before_device) = (Decision::TRUST, 0);
    let (message, is_known) = (&case.datagram.message, case.step != Step::Open);
    if message.kind == Kind::Single {
        case.step = Step::Single;
        return;
    }
    case.step = Step::Open;
    let own = if is_known { snapshot.tables.find(&case.key) } else { None };
    let Some(own) = own else { return };
    if message.kind == Kind::Echo && own.ops.get().has(Ops::REPLY) {
        case.step = Step::Single;
        return;
    }
    let is_alive = snapshot.tables.touch(&own, case.now);
    (case.before_pair, case.before_leaves) = (own.pair_device.get(), own.leaving(&case.key));
    case.before_mac = own.sent.get().dst();
    let is_whole = find_pair(snapshot, case, &own).is_some();
    let message = &case.datagram.message;
    case.step = if !is_alive || !is_whole || track::has_ended(&own) || track::starts_anew(&own, message) {
        Step::Reopen
    } else if track::challenges(&own, message) {
        Step::Challenge
    } else {
        case.before = Decision { rules: own.rules.get(), keep: own.ops.get() };
        case.before_device = own.device.get();
        Step::Renew
    };
}

/// Whether what comes from outside is for a network. If not, it is the host's, whatever flow was there before.
#[inline(always)]
fn is_forwarded<A: Address, T: Tables + FlowTable<A>>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> bool {
    case.ask();
    let is_forwarded = snapshot.tables.destination(snapshot.generation, case);
    if !is_forwarded && case.step == Step::Reopen {
        snapshot.tables.find(&case.key).as_deref().map(track::cut);
    }
    is_forwarded
}

/// Leaves to the host what came from outside for no network; but not what is for an address that the host does not
/// have, for if it forwards it would send that back, again and again.
///
/// # Errors
/// `reason`.
#[inline(always)]
fn left_to_host<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &Case<A>,
    reason: DropReason,
) -> Outcome {
    let is_vnets = translate::is_elastic(snapshot, case.device, case.datagram.dst);
    if is_vnets { Err(reason) } else { Ok(Verdict::PASS) }
}

/// Whether it answers a socket of the host's own, from a port that is forwarded.
#[inline(always)]
fn is_awaited<A: Address, P: Packet>(packet: &P, case: &Case<A>) -> bool {
    case.datagram.protocol == protocol::UDP && packet.is_awaited(&case.asker_tuple)
}

/// Opens a flow. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn open<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    let segment = &case.datagram.message.segment;
    if case.step == Step::Open {
        admit::newcomer(snapshot, case)?;
    }
    let (seq_next, syn_end) = (segment.end, segment.seq.wrapping_add(1));
    case.pair_key = FlowKey::of(case.forth.far, case.datagram.protocol, case.forth.leaves.reversed());
    let birth = Birth { seq_next, syn_end, bytes: packet.length() };
    install::new_flow(snapshot.tables, case, snapshot.generation, birth)?;
    if case.step == Step::Open {
        FlowTable::<A>::count_opened(snapshot.tables);
    }
    replay::clamp(packet, &case.datagram, &case.forth, case.back.mtu)?;
    replay::send(packet, snapshot, &case.datagram, (&case.forth, &case.forth.leaves))
}

/// Carries on a flow that has been judged again. As [`open`].
#[inline(never)]
fn proceed<A: Version, P: Packet, T: Tables + FlowTable<A>>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Outcome {
    // Both were there a moment ago.
    let own = snapshot.tables.find(&case.key).ok_or(DropReason::FlowExpiring)?;
    let pair = snapshot.tables.find(&case.pair_key).ok_or(DropReason::FlowExpiring)?;
    if case.step == Step::Renew {
        install::renew(snapshot.tables, case, snapshot.generation, &own, &pair);
    }
    advance(packet, snapshot, case, (&own, &pair))
}
