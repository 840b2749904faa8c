//! What a case is made of.

use std::fmt;

use vnet_common::{Delivery, DropReason, FlowState, Ip, Pressure, mark};
use vnet_ebpf::packet::Tunnel;

use super::{
    frame::routed,
    nat::Way,
    run::hex,
    view::FlowView,
    world::{Device, Party, Policy},
};

/// A program that a packet enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What a workload sends.
    FromPort,
    /// What the bridge floods to a port.
    ToPort,
    /// What the host sends.
    FromHost,
    /// What the bridge floods to the host.
    ToHost,
    /// What comes from outside.
    FromUplink,
    /// What comes from the segments of networks.
    FromSegment,
    /// What the host sends to a LAN that it shares with a network.
    ToSegment,
    /// What comes where overlays may.
    FromUnderlay,
}

/// Where and how a frame enters.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The program.
    pub hook: Hook,
    /// The device.
    pub device: Device,
    /// Whether a VLAN tag is held beside the frame.
    pub vlan_tag: bool,
    /// Whether the host received it elsewhere.
    pub forwarded: bool,
    /// How many generations ago vnet let it into the bridge, if it did.
    pub let_in: Option<u32>,
    /// Whether vnet has sent it on its way again.
    pub again: bool,
    /// Whether a socket of the host's own waits for it.
    pub awaited: bool,
    /// Bytes of payload in each segment that it will be cut into; 0: it stays whole.
    pub segment_payload: u16,
    /// The priority that its sender asked for.
    pub priority: u16,
    /// Out of which tunnel it came; only the model can bring it in.
    pub tunnel: Option<Tunnel>,
    /// Whether it came in where overlays may.
    pub overlay: bool,
}

impl Entry {
    /// A plain frame; what the bridge floods has been let in.
    #[must_use]
    pub const fn at(hook: Hook, device: Device) -> Self {
        let let_in = match hook {
            Hook::ToPort | Hook::ToHost => Some(0),
            _ => None,
        };
        Self {
            hook,
            device,
            vlan_tag: false,
            forwarded: false,
            let_in,
            again: false,
            awaited: false,
            segment_payload: 0,
            priority: 0,
            tunnel: None,
            overlay: false,
        }
    }

    /// Its mark while `generation` is in force.
    #[must_use]
    pub const fn mark(&self, generation: u32) -> u32 {
        match self.let_in {
            _ if self.again => mark::AGAIN,
            _ if self.overlay => mark::OVERLAY,
            Some(age) => mark::flooded(generation.wrapping_sub(age)),
            None => 0,
        }
    }

    /// The same, to be cut into segments with this many bytes of payload.
    #[must_use]
    pub const fn in_segments_of(self, segment_payload: u16) -> Self {
        Self { segment_payload, ..self }
    }

    /// The same, let in while the generation before was in force.
    #[must_use]
    pub const fn let_in_before(self) -> Self {
        Self { let_in: Some(1), ..self }
    }

    /// The same, sent on its way again by vnet.
    #[must_use]
    pub const fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// The same, with a priority.
    #[must_use]
    pub const fn with_priority(self, priority: u16) -> Self {
        Self { priority, ..self }
    }

    /// The same, out of `tunnel`, where overlays may come in.
    #[must_use]
    pub const fn out_of(self, tunnel: Tunnel) -> Self {
        Self { tunnel: Some(tunnel), overlay: true, ..self }
    }

    /// The same without a mark: nothing of vnet's has seen it.
    #[must_use]
    pub const fn unseen(self) -> Self {
        Self { let_in: None, overlay: false, ..self }
    }
}

/// Sent by the workload of `port`.
#[must_use]
pub(super) const fn from(port: &Party) -> Entry {
    Entry::at(Hook::FromPort, port.device)
}

/// Sent by the host into the network of `gateway`.
#[must_use]
pub(super) const fn host(gateway: &Party) -> Entry {
    Entry::at(Hook::FromHost, gateway.device)
}

/// Flooded by the bridge to `port`.
#[must_use]
pub(super) const fn to(port: &Party) -> Entry {
    Entry::at(Hook::ToPort, port.device)
}

/// Flooded by the bridge of `gateway` to the host.
#[must_use]
pub(super) const fn up(gateway: &Party) -> Entry {
    Entry::at(Hook::ToHost, gateway.device)
}

/// Received by the uplink.
#[must_use]
pub(super) const fn outside() -> Entry {
    Entry::at(Hook::FromUplink, Device::U)
}

/// On a device of which the policy knows nothing.
#[must_use]
pub(super) const fn stranger(hook: Hook) -> Entry {
    Entry::at(hook, Device::Stranger)
}

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Dropped, for this reason.
    Drop(DropReason),
    /// On, unchanged.
    Pass,
    /// The same, marked as what may be an overlay's.
    Marked,
    /// Kept by vnet, or sent on its way again as these frames. Only the model shows them.
    Taken(Vec<Vec<u8>>),
    /// Dropped, for this reason, and in its place an ICMP error goes to a device.
    Tell {
        /// Why.
        reason: DropReason,
        /// To which device.
        device: Device,
        /// How.
        delivery: Delivery,
        /// The whole frame of the error.
        frame: Vec<u8>,
    },
    /// To another device.
    Send {
        /// To which.
        device: Device,
        /// How.
        delivery: Delivery,
        /// The whole frame, with its tags.
        frame: Vec<u8>,
    },
}

/// What else a frame that is not dropped leads to. It is nothing but for networks that go beyond the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// The priority that it has afterwards.
    pub priority: u16,
    /// The tunnel that it enters. Only the model shows it.
    pub tunnel: Option<Tunnel>,
    /// Copies of it that are sent, in any order. Only the model shows them.
    pub copies: Vec<Sent>,
}

/// A copy that is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    /// To which device.
    pub device: Device,
    /// Out of it, or as received there.
    pub delivery: Delivery,
    /// The whole frame, with its tags.
    pub frame: Vec<u8>,
    /// The tunnel that it enters.
    pub tunnel: Option<Tunnel>,
}

impl fmt::Debug for Sent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, delivery, frame, tunnel } = self;
        write!(out, "{device:?} by {delivery:?} into {tunnel:?}: {}", hex(frame))
    }
}

impl Sent {
    /// Out of `device`.
    pub(super) const fn by(device: Device, frame: Vec<u8>) -> Self {
        Self { device, delivery: Delivery::Device, frame, tunnel: None }
    }

    /// As received at `device`.
    pub(super) const fn up(device: Device, frame: Vec<u8>) -> Self {
        Self { device, delivery: Delivery::Host, frame, tunnel: None }
    }

    /// The same, into `tunnel`.
    pub(super) fn into(self, tunnel: Tunnel) -> Self {
        Self { tunnel: Some(tunnel), ..self }
    }
}

/// A predicate over the flow table, and what it asks.
pub(super) type Check = (&'static str, fn(&[FlowView]) -> bool);

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame enters.
    Packet {
        /// Where.
        entry: Entry,
        /// Its bytes.
        frame: Vec<u8>,
        /// What must become of it.
        outcome: Outcome,
        /// What else it leads to.
        aside: Aside,
    },
    /// Time passes: this many seconds.
    Advance(u32),
    /// A tick of the coarse clock begins.
    Tick,
    /// A new generation is put in force.
    Commit(Policy),
    /// The flow table must satisfy this.
    Flows(Check),
    /// All entries must be in this state; there must be some.
    State(FlowState),
    /// The IPv6 flow table is filled up to this many free entries.
    Fill {
        /// How many stay free.
        free: usize,
    },
    /// What a device may send to many in this tick is spent, but for one frame; and the flows that it may open.
    Spend(Device),
    /// Who is outside has spent the connections that they may open in this tick, but for one; that they are there was shown
    /// too long ago.
    SpendOf(Ip),
    /// The controller says how full the flow tables are.
    Press(Pressure),
    /// The controller says that most flows were opened at a device.
    Crowd(Device),
    /// A SYN from outside is challenged, and answered by a reset with a wrong number, then with the right one.
    Challenge(Way),
    /// Every entry was last seen in this tick, or is marked with it.
    LastSeen(u32),
    /// The delivery of every entry becomes nonsense.
    Corrupt,
}

/// A name and steps.
#[derive(Clone, Debug)]
pub struct Case {
    /// The behaviour that it shows.
    pub name: String,
    /// What happens.
    pub steps: Vec<Step>,
    /// Whether the kernel's test run cannot play it.
    pub model_only: bool,
}

impl Case {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), steps: Vec::new(), model_only: false }
    }

    /// Only on the model: the kernel's test run cannot make such a packet.
    pub(super) fn model_only(mut self) -> Self {
        self.model_only = true;
        self
    }

    pub(super) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn packet(self, entry: Entry, frame: Vec<u8>, outcome: Outcome) -> Self {
        self.then(Step::Packet { entry, frame, outcome, aside: Aside::default() })
    }

    /// What else the last packet leads to.
    fn aside(mut self, change: impl FnOnce(&mut Aside)) -> Self {
        match self.steps.last_mut() {
            Some(Step::Packet { aside, .. }) => change(aside),
            other => panic!("{other:?} leads to nothing else"),
        }
        self
    }

    /// Copies of the last packet are sent, too.
    pub(super) fn copied(self, copies: Vec<Sent>) -> Self {
        self.aside(|aside| aside.copies = copies)
    }

    /// The last packet enters a tunnel.
    pub(super) fn into(self, tunnel: Tunnel) -> Self {
        self.aside(|aside| aside.tunnel = Some(tunnel))
    }

    /// The last packet has this priority afterwards.
    pub(super) fn at_priority(self, priority: u16) -> Self {
        self.aside(|aside| aside.priority = priority)
    }

    pub(super) fn drops(self, entry: Entry, frame: Vec<u8>, reason: DropReason) -> Self {
        self.packet(entry, frame, Outcome::Drop(reason))
    }

    /// It is dropped, and `told` leaves for `device` in its place.
    pub(super) fn tells(
        self,
        (entry, frame): (Entry, Vec<u8>),
        reason: DropReason,
        (device, delivery): (Device, Delivery),
        told: Vec<u8>,
    ) -> Self {
        self.packet(entry, frame, Outcome::Tell { reason, device, delivery, frame: told })
    }

    /// It passes, marked as what may be an overlay's.
    pub(super) fn marks(self, entry: Entry, frame: Vec<u8>) -> Self {
        self.packet(entry, frame, Outcome::Marked)
    }

    pub(super) fn passes(self, entry: Entry, frame: Vec<u8>) -> Self {
        self.packet(entry, frame, Outcome::Pass)
    }

    /// It is kept, or sent on its way again as `again`.
    pub(super) fn takes(self, entry: Entry, frame: Vec<u8>, again: &[&Vec<u8>]) -> Self {
        self.packet(entry, frame, Outcome::Taken(again.iter().map(|frame| (*frame).clone()).collect()))
    }

    /// It leaves for `device` as `out`.
    pub(super) fn sends(
        self,
        entry: Entry,
        frame: Vec<u8>,
        (device, delivery): (Device, Delivery),
        out: Vec<u8>,
    ) -> Self {
        self.packet(entry, frame, Outcome::Send { device, delivery, frame: out })
    }

    /// It reaches `receiver` as it is.
    pub(super) fn switches(self, entry: Entry, frame: Vec<u8>, receiver: &Party) -> Self {
        let out = frame.clone();
        self.sends(entry, frame, reach(entry, receiver), out)
    }

    /// It reaches `receiver` by way of the gateway `router`.
    pub(super) fn routes(self, entry: Entry, frame: Vec<u8>, receiver: &Party, router: &Party) -> Self {
        let out = routed(&frame, receiver.mac, router.mac);
        self.sends(entry, frame, reach(entry, receiver), out)
    }

    pub(super) fn advance(self, secs: u32) -> Self {
        self.then(Step::Advance(secs))
    }

    pub(super) fn commit(self, policy: Policy) -> Self {
        self.then(Step::Commit(policy))
    }

    pub(super) fn state(self, state: FlowState) -> Self {
        self.then(Step::State(state))
    }

    pub(super) fn flows(self, what: &'static str, check: fn(&[FlowView]) -> bool) -> Self {
        self.then(Step::Flows((what, check)))
    }

    pub(super) fn no_flows(self) -> Self {
        self.flows("no entry is left", |flows| flows.is_empty())
    }
}

/// How `receiver` is reached: straight into its namespace only from another port's ingress.
pub(super) fn reach(entry: Entry, receiver: &Party) -> (Device, Delivery) {
    match (entry.hook, receiver.delivery) {
        (Hook::FromHost | Hook::ToSegment, Delivery::Peer) => (receiver.device, Delivery::Device),
        (_, delivery) => (receiver.device, delivery),
    }
}
