//! Stage 8: remember the decision.
//!
//! Decides nothing: writes a flow's two entries, the reply's first, both or none.

use vnet_common::{Address, DropReason, Flow, FlowKey, FlowState, MacPair, Ops};

use crate::{
    case::{Case, Decision},
    hop::Hop,
    tables::{FlowTable, Insert, InsertError},
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

/// Installs the flow that the packet of `case` opens, or puts it in the place of one that has ended.
///
/// # Errors
/// [`DropReason::FlowTableFull`]; nothing is installed.
#[inline(always)]
pub fn new_flow<A: Address + Default, T: FlowTable<A>>(
    tables: &T,
    case: &mut Case<A>,
    generation: u32,
    birth: Birth,
    mode: Insert,
) -> Result<(), DropReason> {
    let entry = &mut case.entry;
    *entry = Flow::default();
    entry.state.set(FlowState::New as u8);
    entry.last_seen.set(case.now);
    entry.generation.set(generation);
    entry.ops = Ops::REPLY;
    entry.ack.set(birth.syn_end);
    decide(entry, case.answered, &case.back, case.device, case.decision);
    // Without translation a reply tuple belongs to this flow alone, so what stands there is a rest of it;
    // unless both ends open the same symmetric tuple at once.
    if tables.insert(&case.pair_key, entry, Insert::Replace).is_err() {
        return Err(DropReason::FlowTableFull);
    }
    entry.ops = Ops::NONE;
    entry.ack.set(0);
    entry.seq_next.set(birth.seq_next);
    entry.packets.set(1);
    entry.bytes.set(u64::from(birth.bytes));
    decide(entry, case.macs, &case.forth, case.forth.device, case.decision);
    match tables.insert(&case.key, entry, mode) {
        // Another CPU installed the same flow a moment ago: as good.
        Ok(()) | Err(InsertError::Exists) => Ok(()),
        Err(InsertError::Full) => {
            tables.remove(&case.pair_key);
            Err(DropReason::FlowTableFull)
        }
    }
}

/// Gives both entries of an existing flow the decision of `case`.
///
/// # Errors
/// [`DropReason::FlowTableFull`] when there is no room to replace an entry; it is as before.
#[inline(always)]
pub fn renew<A: Address + Default, T: FlowTable<A>>(
    tables: &T,
    case: &mut Case<A>,
    generation: u32,
    own: &Flow<A>,
    pair: &Flow<A>,
) -> Result<(), DropReason> {
    let Case { entry, key, pair_key, .. } = case;
    *entry = Flow::default();
    copy_record(entry, pair);
    entry.generation.set(generation);
    decide(entry, case.answered, &case.back, case.device, case.decision);
    replace(tables, pair_key, entry)?;
    copy_record(entry, own);
    decide(entry, case.macs, &case.forth, case.forth.device, case.decision);
    replace(tables, key, entry)
}

#[inline(always)]
fn replace<A, T: FlowTable<A>>(tables: &T, key: &FlowKey<A>, entry: &Flow<A>) -> Result<(), DropReason> {
    tables.insert(key, entry, Insert::Replace).map_err(|_| DropReason::FlowTableFull)
}

/// Copies what an entry has recorded of its direction.
#[inline(always)]
fn copy_record<A>(to: &mut Flow<A>, from: &Flow<A>) {
    to.ops = from.ops;
    to.last_seen.set(from.last_seen.get());
    to.state.set(from.state.get());
    to.finished.set(from.finished.get());
    to.seq_next.set(from.seq_next.get());
    to.ack.set(from.ack.get());
    to.packets.set(from.packets.get());
    to.bytes.set(from.bytes.get());
}

/// Fills the decision into `entry`, leaving its direction and its record of the connection.
#[inline(always)]
fn decide<A>(entry: &mut Flow<A>, received: MacPair, hop: &Hop, pair_device: u32, decision: Decision) {
    let direction = if entry.ops.has(Ops::REPLY) { Ops::REPLY } else { Ops::NONE };
    entry.received = received;
    entry.sent = hop.sent;
    entry.device = hop.device;
    entry.delivery = hop.delivery;
    entry.ops = hop.ops.and(direction).and(decision.keep);
    entry.pair_device = pair_device;
    entry.rules = decision.rules;
}
