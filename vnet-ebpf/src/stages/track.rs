//! Stages 2 and 9: which flow it belongs to, and what it does to the flow.
//!
//! Decides whether a packet continues its flow and what state the connection is in. Each entry records
//! what its own direction sent; whatever needs the other end's view (handshake, close, reset) looks at
//! the pair. TCP states as in RFC 9293 section 3.3.2, resets as strict as RFC 5961 section 3.

use vnet_common::{Delivery, DropReason, Flow, FlowState, MacPair, Ops};

use crate::{
    case::Step,
    headers::{Kind, Message, Segment},
};

/// Whether the decision in `flow` still stands for a frame with `macs`, which came from the overlay's peer `heard` if from
/// one. It does not where nobody knew by which link packets get there.
#[inline(always)]
#[must_use]
pub fn is_current<A: Copy>(flow: &Flow<A>, generation: u32, macs: MacPair, heard: u16) -> bool {
    flow.generation.get() == generation
        && flow.received.get() == macs
        && flow.heard.get() == heard
        && flow.delivery.get() != Delivery::Beyond as u8
}

/// Whether the packet changes nothing but the record of its own direction.
#[inline(always)]
#[must_use]
pub fn is_routine<A: Copy>(flow: &Flow<A>, message: &Message) -> bool {
    let (established, is_reply) = (flow.state() == FlowState::Established, flow.ops.get().has(Ops::REPLY));
    match message.kind {
        Kind::Tcp => established && !message.segment.has(Segment::SYN | Segment::FIN | Segment::RST),
        // Judged one by one, though their tuple is that of an echo session with identifier 0.
        Kind::Error | Kind::Single | Kind::Discovery => false,
        // Its first fragment has said all that there is to say.
        Kind::Part => flow.state() != FlowState::Closed,
        // So is a request in the tuple of a reply.
        Kind::Echo => !is_reply,
        // The first answer is what establishes these.
        Kind::Plain | Kind::EchoReply => established || !is_reply,
    }
}

/// What a packet that is not routine does to the flow, whose decision stands: [`Step::Continue`], or [`Step::Renew`] if
/// somebody has to be asked.
#[inline(always)]
#[must_use]
pub fn step<A: Copy>(flow: &Flow<A>, message: &Message) -> Step {
    let is_alone = match message.kind {
        Kind::Error | Kind::Single | Kind::Discovery => true,
        Kind::Echo => flow.ops.get().has(Ops::REPLY),
        Kind::Tcp | Kind::Part | Kind::Plain | Kind::EchoReply => false,
    };
    let goes_on = !is_alone && !has_ended(flow) && !starts_anew(flow, message) && !challenges(flow, message);
    if goes_on { Step::Continue } else { Step::Renew }
}

/// Records how far this direction has sent and acknowledged.
#[inline(always)]
pub fn record<A: Copy>(flow: &Flow<A>, message: &Message) {
    let Some(segment) = message.tcp() else { return };
    // Zero is an entry that has recorded nothing yet; a SYN ends what an older connection left.
    let begins = segment.has(Segment::SYN);
    if begins || flow.seq_next.get() == 0 || is_after(segment.end, flow.seq_next.get()) {
        flow.seq_next.set(segment.end);
    }
    if segment.has(Segment::ACK) && (begins || flow.ack.get() == 0 || is_after(segment.ack, flow.ack.get())) {
        flow.ack.set(segment.ack);
    }
}

/// Whether sequence number `a` is after `b` (RFC 9293 section 3.4).
#[inline(always)]
const fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Whether a packet may open a flow.
///
/// # Errors
/// [`DropReason::NoFlow`], [`DropReason::Unsolicited`], [`DropReason::Fragment`].
#[inline(always)]
pub const fn may_open(message: &Message) -> Result<(), DropReason> {
    match message.kind {
        Kind::Tcp if !message.segment.opens() => Err(DropReason::NoFlow),
        Kind::EchoReply => Err(DropReason::Unsolicited),
        Kind::Part => Err(DropReason::Fragment),
        _ => Ok(()),
    }
}

/// Whether this is a SYN on a connection that lives: judged like a new one, changes nothing. The other end
/// answers with a challenge, and if the sender has really forgotten the connection, its reset clears it.
#[inline(always)]
#[must_use]
pub fn challenges<A: Copy>(flow: &Flow<A>, message: &Message) -> bool {
    message.tcp().is_some_and(Segment::opens)
        && matches!(flow.state(), FlowState::Established | FlowState::FinWait)
}

/// Whether a flow has ended, so that nothing belongs to it any more.
#[inline(always)]
#[must_use]
pub fn has_ended<A: Copy>(flow: &Flow<A>) -> bool {
    flow.state() == FlowState::Closed
}

/// Ends a flow that the policy allows no more, by both of its entries.
#[inline(always)]
pub fn cut<A: Copy>(flow: &Flow<A>) {
    flow.state.set(FlowState::Closed as u8);
}

/// Whether a packet on an existing flow starts another one in its place: a SYN after the end of the
/// connection, or a SYN with another sequence number while the first is unanswered.
#[inline(always)]
#[must_use]
pub fn starts_anew<A: Copy>(flow: &Flow<A>, message: &Message) -> bool {
    let Some(segment) = message.tcp() else { return false };
    segment.opens()
        && match flow.state() {
            FlowState::TimeWait | FlowState::Closed => true,
            FlowState::New => !flow.ops.get().has(Ops::REPLY) && flow.seq_next.get() != segment.end,
            _ => false,
        }
}

/// What a packet that is not routine does to its flow. `own` is the entry of its direction.
///
/// # Errors
/// [`DropReason::BadAck`], [`DropReason::NoFlow`]; the flow is as before.
#[inline(always)]
pub fn advance<A: Copy>(own: &Flow<A>, pair: &Flow<A>, message: &Message) -> Result<(), DropReason> {
    let state = own.state();
    let next = match message.tcp() {
        Some(segment) => tcp(own, pair, segment)?,
        _ if own.ops.get().has(Ops::REPLY) && message.kind != Kind::Part => FlowState::Established,
        _ => state,
    };
    if counts(next, message) {
        record(own, message);
    }
    own.state.set(next as u8);
    pair.state.set(next as u8);
    Ok(())
}

/// Whether the sequence numbers of a packet are to be believed: not those of a reset, nor those of a SYN
/// that an established connection will answer with a challenge.
#[inline(always)]
fn counts(state: FlowState, message: &Message) -> bool {
    let Some(segment) = message.tcp() else { return true };
    !segment.has(Segment::RST)
        && (!segment.has(Segment::SYN) || matches!(state, FlowState::New | FlowState::SynReceived))
}

/// The state after `segment`.
#[inline(always)]
fn tcp<A: Copy>(own: &Flow<A>, pair: &Flow<A>, segment: &Segment) -> Result<FlowState, DropReason> {
    let state = own.state();
    let from_client = !own.ops.get().has(Ops::REPLY);
    if segment.has(Segment::RST) {
        return Ok(if is_exact_reset(own, pair, segment) {
            FlowState::Closed
        } else if state == FlowState::Established && segment.seq == own.seq_next.get() {
            // Behind data that is not acknowledged yet: the end is gone, whether its receiver obeys or not.
            finish(own, pair, state)
        } else {
            state
        });
    }
    let acks_all = segment.has(Segment::ACK) && segment.ack == pair.seq_next.get();
    match (state, segment.flags & (Segment::SYN | Segment::ACK)) {
        (FlowState::Closed, _) => Err(DropReason::NoFlow),
        // Simultaneous open (RFC 9293 section 3.5, figure 7): the other end's SYN crosses the first.
        (FlowState::New, Segment::SYN) if !from_client => Ok(FlowState::SynReceived),
        (FlowState::New | FlowState::SynReceived, Segment::SYN) => Ok(state),
        (FlowState::New | FlowState::SynReceived, SYN_ACK)
            if !acks_all && (from_client || segment.ack != own.ack.get()) =>
        {
            Err(DropReason::BadAck)
        }
        // It answers a SYN that was let through on a connection which only this entry remembers.
        (FlowState::Established | FlowState::FinWait, SYN_ACK) if segment.end != own.seq_next.get() => {
            pair.seq_next.set(segment.ack);
            pair.ack.set(0);
            own.finished.set(0);
            pair.finished.set(0);
            Ok(FlowState::SynReceived)
        }
        (FlowState::New, SYN_ACK) if !from_client => Ok(FlowState::SynReceived),
        // A challenge ACK of the end that still remembers an older connection (RFC 5961 section 4).
        (FlowState::New, _) if !from_client => Ok(state),
        (FlowState::New, _) => Err(DropReason::BadAck),
        (FlowState::SynReceived, Segment::ACK) if acks_all && segment.has(Segment::FIN) => {
            Ok(finish(own, pair, FlowState::Established))
        }
        (FlowState::SynReceived, Segment::ACK) if acks_all => Ok(FlowState::Established),
        _ if segment.has(Segment::FIN) => Ok(finish(own, pair, state)),
        _ => Ok(state),
    }
}

const SYN_ACK: u8 = Segment::SYN | Segment::ACK;

/// Whether a reset is the one that its receiver obeys at once: exactly at the next byte that it expects,
/// or, before it has acknowledged anything, acknowledging its SYN.
#[inline(always)]
fn is_exact_reset<A: Copy>(own: &Flow<A>, pair: &Flow<A>, segment: &Segment) -> bool {
    if own.state() == FlowState::New && own.ops.get().has(Ops::REPLY) {
        return segment.has(Segment::ACK) && segment.ack == pair.seq_next.get();
    }
    let expected = if pair.ack.get() == 0 { own.seq_next.get() } else { pair.ack.get() };
    segment.seq == expected
}

/// The state once this direction has sent its FIN.
#[inline(always)]
fn finish<A: Copy>(own: &Flow<A>, pair: &Flow<A>, state: FlowState) -> FlowState {
    own.finished.set(1);
    match (state, pair.finished.get()) {
        (FlowState::TimeWait, _) | (_, 1) => FlowState::TimeWait,
        _ => FlowState::FinWait,
    }
}
