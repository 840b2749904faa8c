//! Stage 10: remember the decision.
//!
//! Decides a translated flow's source port, and else nothing: writes a flow's two entries, the reply's first. Entries
//! that are there are written in place, for packets on other CPUs may be reading them (`vnet_common::flow`). Who has
//! exchanged an entry's generation for [`Flow::UNDECIDED`] writes its decision, then puts the new generation there;
//! others leave it alone.

pub mod ports;

use vnet_common::{Address, DropReason, Flow, FlowKey, FlowState, MacPair, Ops};

use crate::{
    case::{Case, Decision, Step},
    hop::Hop,
    tables::{FlowTable, InsertError},
    word,
};

/// What is known of a connection when it begins.
#[derive(Clone, Copy)]
pub struct Birth {
    /// TCP: the sequence number after its SYN.
    pub seq_next: u32,
    /// TCP: the least that an answer acknowledges, its SYN without the data.
    pub syn_end: u32,
    /// Length of the first packet in bytes.
    pub bytes: u32,
}

/// Installs the flow that the packet of `case` opens, or puts it in the place of one that has ended. A function of its own
/// in the kernel too, for the stack's sake.
///
/// # Errors
/// [`DropReason::FlowTableFull`], [`DropReason::FlowExpiring`], [`DropReason::PortsExhausted`]; no flow is opened.
#[inline(never)]
pub fn new_flow<A: Address + Default, T: FlowTable<A>>(
    tables: &T,
    case: &mut Case<A>,
    generation: u32,
    birth: Birth,
) -> Result<(), DropReason> {
    let entry = &mut case.entry;
    *entry = Flow::default();
    entry.state.set(FlowState::New as u8);
    entry.last_seen.set(case.now);
    entry.generation.set(generation);
    entry.ops.set(Ops::REPLY);
    entry.ack.set(birth.syn_end);
    decide(entry, (case.answered, case.forth.peer()), &case.back, case.decision);
    if case.source.first_port == 0 {
        reserve(tables, &case.pair_key, &case.entry)?;
    } else {
        tables.reserve_port(case)?;
    }
    let entry = &mut case.entry;
    entry.ops.set(Ops::NONE);
    entry.ack.set(0);
    entry.seq_next.set(birth.seq_next);
    entry.packets.set(1);
    entry.bytes.set(u64::from(birth.bytes));
    decide(entry, (case.macs, case.heard), &case.forth, case.decision);
    match tables.insert(&case.key, entry) {
        Ok(()) => Ok(()),
        Err(InsertError::Exists) if case.step == Step::Reopen => take_over(tables, &case.key, entry),
        // Another CPU installed the same flow a moment ago: as good.
        Err(InsertError::Exists) => Ok(()),
        Err(InsertError::Full) => {
            // Nothing will come by it, and it is soon forgotten.
            if let Some(alone) = tables.find(&case.pair_key) {
                alone.state.set(FlowState::Closed as u8);
            }
            Err(DropReason::FlowTableFull)
        }
    }
}

/// Makes the entry of `key` that of answers to a new flow.
///
/// An untranslated tuple belongs to this flow alone, so what stands there is a rest of it; unless both ends open
/// the same symmetric tuple at once. A translated one may be another flow's, as long as that has not ended.
///
/// # Errors
/// [`DropReason::FlowTableFull`], [`DropReason::FlowExpiring`], [`DropReason::PortsExhausted`].
#[inline(always)]
fn reserve<A: Address, T: FlowTable<A>>(
    tables: &T,
    key: &FlowKey<A>,
    entry: &Flow<A>,
) -> Result<(), DropReason> {
    settle_for(tables, attempt(tables, key, entry), key, entry)
}

/// What an attempt to make an entry that of answers to a new flow finds.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// There was none: it is there now.
    Done,
    /// There is one that may be taken over.
    Over,
    /// There is one of another flow.
    Busy,
    /// There is no room.
    Full,
}

impl Attempt {
    /// A result as a word.
    #[inline(always)]
    #[must_use]
    pub fn word_of(result: Result<Self, DropReason>) -> u32 {
        word::of(result.map(|attempt| attempt as u32))
    }

    /// From [`Attempt::word_of`].
    ///
    /// # Errors
    /// What that was given.
    #[inline(always)]
    pub fn from_word(word: u32) -> Result<Self, DropReason> {
        match word::result(word)? {
            0 => Ok(Self::Done),
            1 => Ok(Self::Over),
            2 => Ok(Self::Busy),
            3 => Ok(Self::Full),
            _ => Err(DropReason::Internal),
        }
    }
}

#[inline(always)]
fn attempt<A: Address, T: FlowTable<A>>(tables: &T, key: &FlowKey<A>, entry: &Flow<A>) -> Attempt {
    match tables.insert(key, entry) {
        Ok(()) => Attempt::Done,
        Err(InsertError::Exists) if is_free(tables, key, entry) => Attempt::Over,
        Err(InsertError::Exists) => Attempt::Busy,
        Err(InsertError::Full) => Attempt::Full,
    }
}

/// Makes of an attempt what can be made of it.
#[inline(always)]
fn settle_for<A: Address, T: FlowTable<A>>(
    tables: &T,
    attempt: Attempt,
    key: &FlowKey<A>,
    entry: &Flow<A>,
) -> Result<(), DropReason> {
    match attempt {
        Attempt::Done => Ok(()),
        Attempt::Over => take_over(tables, key, entry),
        Attempt::Busy => Err(DropReason::PortsExhausted),
        Attempt::Full => Err(DropReason::FlowTableFull),
    }
}

/// Whether the entry of `key` may become that of `new`: it is a rest of the same flow, or its flow has ended or expired.
#[inline(always)]
fn is_free<A: Address, T: FlowTable<A>>(tables: &T, key: &FlowKey<A>, new: &Flow<A>) -> bool {
    let Some(there) = tables.find(key) else { return true };
    !new.ops.get().has(Ops::TRANSLATE)
        || there.state() >= FlowState::TimeWait
        || there.last_seen.get() == Flow::<A>::EXPIRED
        || there.pair_key(key) == new.pair_key(key)
}

/// Makes the entry of `key` that of a new flow.
///
/// # Errors
/// [`DropReason::FlowExpiring`] when it is being removed at this moment, or written by another CPU; it is left alone.
#[inline(always)]
fn take_over<A: Address, T: FlowTable<A>>(
    tables: &T,
    key: &FlowKey<A>,
    new: &Flow<A>,
) -> Result<(), DropReason> {
    let there = tables.find(key).ok_or(DropReason::FlowExpiring)?;
    if !tables.revive(&there, new.last_seen.get()) {
        return Err(DropReason::FlowExpiring);
    }
    let seen = there.generation.get();
    if !is_won(tables, &there, seen) {
        return Err(DropReason::FlowExpiring);
    }
    there.state.set(new.state.get());
    there.finished.set(new.finished.get());
    there.seq_next.set(new.seq_next.get());
    there.ack.set(new.ack.get());
    there.packets.set(new.packets.get());
    there.bytes.set(new.bytes.get());
    copy_decision(&there, new);
    // Only this CPU may change it now.
    _ = tables.exchange(&there.generation, Flow::<A>::UNDECIDED, new.generation.get());
    Ok(())
}

/// Gives both entries of an existing flow the decision of `case`. A function of its own in the kernel too, for the
/// stack's sake.
#[inline(never)]
pub fn renew<A: Address + Default, T: FlowTable<A>>(
    tables: &T,
    case: &mut Case<A>,
    generation: u32,
    own: &Flow<A>,
    pair: &Flow<A>,
) {
    let entry = &mut case.entry;
    *entry = Flow::default();
    entry.generation.set(generation);
    entry.ops.set(pair.ops.get());
    decide(entry, (case.answered, case.forth.peer()), &case.back, case.decision);
    settle(tables, pair, entry);
    entry.ops.set(own.ops.get());
    decide(entry, (case.macs, case.heard), &case.forth, case.decision);
    settle(tables, own, entry);
}

/// Gives an entry the decision of `new` and its generation. Most often only the generation differs.
///
/// Another CPU that does the same, for this generation or another, wins or loses; what stands there in the
/// end is one CPU's decision with its own generation.
#[inline(always)]
fn settle<A: Address + Default, T: FlowTable<A>>(tables: &T, there: &Flow<A>, new: &Flow<A>) {
    let (seen, generation) = (there.generation.get(), new.generation.get());
    if seen != Flow::<A>::UNDECIDED && is_same_decision(there, new) {
        _ = tables.exchange(&there.generation, seen, generation);
    } else if is_won(tables, there, seen) {
        copy_decision(there, new);
        _ = tables.exchange(&there.generation, Flow::<A>::UNDECIDED, generation);
    }
}

/// Whether this CPU may write the decision of an entry whose generation was `seen`.
#[inline(always)]
fn is_won<A: Copy, T: FlowTable<A>>(tables: &T, there: &Flow<A>, seen: u32) -> bool {
    seen != Flow::<A>::UNDECIDED && tables.exchange(&there.generation, seen, Flow::<A>::UNDECIDED)
}

/// Field by field: two decisions do not fit the stack.
#[inline(always)]
fn is_same_decision<A: Address + Default>(a: &Flow<A>, b: &Flow<A>) -> bool {
    a.ops.get() == b.ops.get()
        && a.device.get() == b.device.get()
        && a.delivery.get() == b.delivery.get()
        && a.sent.get() == b.sent.get()
        && a.mtu.get() == b.mtu.get()
        && a.vlan.get() == b.vlan.get()
        && a.outer.get() == b.outer.get()
        && a.pair_device.get() == b.pair_device.get()
        && a.received.get() == b.received.get()
        && a.heard.get() == b.heard.get()
        && a.rules.get() == b.rules.get()
        && (!a.ops.get().has(Ops::TRANSLATE) || a.leaves.get() == b.leaves.get())
}

#[inline(always)]
fn copy_decision<A: Copy>(to: &Flow<A>, from: &Flow<A>) {
    to.received.set(from.received.get());
    to.sent.set(from.sent.get());
    to.device.set(from.device.get());
    to.delivery.set(from.delivery.get());
    to.ops.set(from.ops.get());
    to.pair_device.set(from.pair_device.get());
    to.rules.set(from.rules.get());
    to.leaves.set(from.leaves.get());
    to.mtu.set(from.mtu.get());
    to.vlan.set(from.vlan.get());
    to.outer.set(from.outer.get());
    to.heard.set(from.heard.get());
}

/// Fills the decision into `entry`, leaving its direction and its record of the connection. Its packets come with the
/// MACs `received`, from the overlay's peer `heard` if they come from one.
#[inline(always)]
fn decide<A: Copy>(entry: &Flow<A>, (received, heard): (MacPair, u16), hop: &Hop<A>, decision: Decision) {
    let direction = if entry.ops.get().has(Ops::REPLY) { Ops::REPLY } else { Ops::NONE };
    entry.received.set(received);
    entry.heard.set(heard);
    entry.sent.set(hop.sent);
    entry.device.set(hop.device);
    entry.delivery.set(hop.delivery);
    entry.ops.set(hop.ops.and(direction).and(decision.keep));
    entry.pair_device.set(hop.far);
    entry.rules.set(decision.rules);
    entry.leaves.set(hop.leaves);
    entry.mtu.set(hop.mtu);
    entry.vlan.set(hop.vlan);
    entry.outer.set(hop.outer);
}
