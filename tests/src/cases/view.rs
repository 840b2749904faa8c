//! Flow entries in the world's words, so that those of two runners can be compared and read.

use std::{collections::BTreeMap, fmt};

use vnet_common::{Address, Flow, FlowKey, FlowState, MacPair, Ops, RuleId};

use super::world::{Device, Devices};

/// The protocol number of entries that only fill a table.
pub const FILLER: u8 = 255;
/// An entry not seen for longer than this, some 20 s, is idle. The kernel's clock runs on while a case is
/// played, so cases let more time than that pass, and take less.
const FRESH_TICKS: u32 = 20;

/// A tuple, for people: protocol, where it arrives, source, destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple(pub String);

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// Where its packets arrive.
    pub arrives: Option<Device>,
    /// The connection's state.
    pub state: FlowState,
    /// Whether it is the reply direction.
    pub is_reply: bool,
    /// Whether its packets are routed.
    pub is_routed: bool,
    /// Where its packets go.
    pub device: Option<Device>,
    /// How: the byte of a delivery.
    pub delivery: u8,
    /// Whether its FIN has passed.
    pub finished: bool,
    /// The next sequence number.
    pub seq_next: u32,
    /// The highest acknowledgement.
    pub ack: u32,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// The generation that allowed it.
    pub generation: u32,
    /// The rules that did.
    pub rules: [RuleId; 2],
    /// Where answers arrive.
    pub pair_device: Option<Device>,
    /// The MACs it arrives with.
    pub received: MacPair,
    /// The MACs it leaves with; nothing unless it is routed.
    pub sent: MacPair,
    /// The longest packet; 0: any length.
    pub mtu: u16,
    /// The tags that its packets leave with, or the number of the peer that they go to; 0: none.
    pub tags: (u16, u16),
    /// The number of the peer that they come from; 0: from none.
    pub heard: u16,
    /// Whether no packet of this direction has passed of late.
    pub is_idle: bool,
}

/// All entries of both versions.
pub type Flows = BTreeMap<Tuple, FlowView>;

/// Adds the entry of `key` to `flows`, unless it is a filler.
pub fn add<A: Address>(flows: &mut Flows, devices: &Devices, now: u32, key: &FlowKey<A>, flow: &Flow<A>) {
    if key.origin.protocol() == FILLER {
        return;
    }
    let arrives = devices.device(key.origin.ifindex());
    let name = arrives.map_or_else(|| key.origin.ifindex().to_string(), |device| format!("{device:?}"));
    let (src, dst) = (key.src.ip(), key.dst.ip());
    let (src_port, dst_port) = (key.ports.src().get(), key.ports.dst().get());
    let tuple = Tuple(format!("{} at {name}: {src} {src_port} > {dst} {dst_port}", key.origin.protocol()));
    let is_routed = flow.ops.get().has(Ops::ROUTE);
    let view = FlowView {
        arrives,
        state: flow.state(),
        is_reply: flow.ops.get().has(Ops::REPLY),
        is_routed,
        device: devices.device(flow.device.get()),
        delivery: flow.delivery.get(),
        finished: flow.finished.get() == 1,
        seq_next: flow.seq_next.get(),
        ack: flow.ack.get(),
        packets: flow.packets.get(),
        bytes: flow.bytes.get(),
        generation: flow.generation.get(),
        rules: flow.rules.get(),
        pair_device: devices.device(flow.pair_device.get()),
        received: flow.received.get(),
        sent: if is_routed { flow.sent.get() } else { MacPair::default() },
        mtu: flow.mtu.get(),
        tags: (flow.vlan.get(), flow.outer.get()),
        heard: flow.heard.get(),
        is_idle: now.wrapping_sub(flow.last_seen.get()) > FRESH_TICKS,
    };
    flows.insert(tuple, view);
}

/// A flow table, one entry to a line.
#[derive(Debug)]
pub struct Shown<'a>(pub &'a Flows);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(out, "    (no flows)");
        }
        for (Tuple(tuple), view) in self.0 {
            writeln!(out, "    {tuple}\n      {view:?}")?;
        }
        Ok(())
    }
}
