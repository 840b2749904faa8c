//! What the stages gather about a packet.
//!
//! It lives in scratch memory, because a BPF program's stack of 512 bytes has no room for it: per CPU in
//! the kernel, where nothing interrupts a tc program with another on the same CPU. All zeros
//! are a valid case, and each field is written before it is read.
//!
//! It serves the verifier as well: what it reads from a map is unknown to it, so it walks what follows
//! the parser once and not again for each way in which a packet can be parsed.

use vnet_common::{Address, Endpoint, Flow, FlowKey, ForwardKey, MacAddr, MacPair, Ops, RuleId, Tuple};

use crate::{
    fragments::Fragment,
    headers::{Datagram, Service},
    hop::Hop,
};

/// What a packet does to its flow.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has none: it is judged by itself and leaves no trace.
    Single = 0,
    /// It opens one.
    Open = 1,
    /// It opens one in the place of one that has ended.
    Reopen = 2,
    /// It changes the state of one whose decision stands.
    Continue = 3,
    /// It is a SYN on a connection that lives: judged as if it opened one.
    Challenge = 4,
    /// It has one judged again.
    Renew = 5,
}

/// What allows a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rules: egress, ingress; 0 where none was asked.
    pub rules: [RuleId; 2],
    /// [`Ops::KEEP_EGRESS`], [`Ops::KEEP_INGRESS`]: which of them keep it when no rule allows it any more.
    pub keep: Ops,
}

impl Decision {
    /// No rule was asked, none keeps it.
    pub const TRUST: Self = Self { rules: [0; 2], keep: Ops::NONE };
}

/// Whom the destination that was asked for stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The network of whoever it is; 0: it stands for itself.
    pub network: u32,
    /// 1 if it is a metadata service, which no rule is asked about.
    pub is_metadata: u32,
    /// 1 if flows stay with whoever had them when it stands for somebody else.
    pub keeps: u32,
}

impl Target {
    /// Itself.
    pub const NONE: Self = Self { network: 0, is_metadata: 0, keeps: 0 };
}

/// The source with which a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<A> {
    /// The address.
    pub addr: A,
    /// The first source port that it may get; 0: it keeps its own.
    pub first_port: u16,
    /// The last one.
    pub last_port: u16,
    /// 1 if the same source port becomes the same one whoever is spoken to.
    pub is_independent: u32,
}

/// A packet under judgement.
#[derive(Clone, Debug)]
pub struct Case<A: Copy> {
    /// Where it arrived: at a device, or by a link.
    pub device: u32,
    /// When, in ticks.
    pub now: u32,
    /// The network that it is in.
    pub network: u32,
    /// The MACs that it arrived with.
    pub macs: MacPair,
    /// The MAC of the network's gateway.
    pub gateway_mac: MacAddr,
    /// The number of the overlay's peer that it came from; 0: from none.
    pub heard: u16,
    /// What its headers say.
    pub datagram: Datagram<A>,
    /// Which part of its datagram it is, if it is a fragment.
    pub fragment: Fragment,
    /// What the packet said that an ICMP error quotes.
    pub quoted: Datagram<A>,
    /// Its tuple.
    pub key: FlowKey<A>,
    /// The tuple of answers to it.
    pub pair_key: FlowKey<A>,
    /// Who sent it, checked.
    pub from: Endpoint,
    /// Who is to have it.
    pub to: Endpoint,
    /// The network that they are in: the packet's own, or one joined to it.
    pub to_network: u32,
    /// The MAC of that network's gateway.
    pub to_gateway_mac: MacAddr,
    /// Its way.
    pub forth: Hop<A>,
    /// The way of answers.
    pub back: Hop<A>,
    /// The MACs that answers are expected to arrive with.
    pub answered: MacPair,
    /// What it does to its flow.
    pub step: Step,
    /// What allowed a flow that is judged again, with all of its entry's operations; nothing for others.
    pub before: Decision,
    /// Where packets of such a flow went; 0 for others.
    pub before_device: u32,
    /// Where its answers arrive.
    pub before_pair: u32,
    /// The MAC that they went to.
    pub before_mac: MacAddr,
    /// The tuple with which packets of a flow that is there leave.
    pub before_leaves: Tuple<A>,
    /// Who opens the flow, or did.
    pub asker: Endpoint,
    /// Whom they ask.
    pub asked: Endpoint,
    /// The network of who asks, or the uplink behind which they are.
    pub asker_network: u32,
    /// The tuple of the first packet, as it arrived.
    pub asker_tuple: Tuple<A>,
    /// The same with the destination that it stands for.
    pub asked_tuple: Tuple<A>,
    /// Whom the destination stands for.
    pub target: Target,
    /// The head under which the forward of a destination is looked for.
    pub forward_head: ForwardKey,
    /// The block under it.
    pub forward_key: ForwardKey,
    /// The key of its endpoint-independent mapping.
    pub mapping_key: FlowKey<A>,
    /// The key of the claim on the port that the mapping leads to.
    pub claim_key: FlowKey<A>,
    /// The source with which the first packet leaves.
    pub source: Source<A>,
    /// What they ask for.
    pub service: Service,
    /// What allows it.
    pub decision: Decision,
    /// The entry that is being written.
    pub entry: Flow<A>,
    /// That of a mapping.
    pub mapping: Flow<A>,
}

impl<A: Address> Case<A> {
    /// The packet's sender is who asks.
    #[inline(always)]
    pub fn ask(&mut self) {
        (self.asker, self.asker_network) = (self.from, self.network);
        self.asker_tuple = self.key.tuple();
    }

    /// The packet answers: its receiver is who asked, its sender who was asked.
    #[inline(always)]
    pub fn answer(&mut self) {
        (self.asker, self.asker_network, self.asked) = (self.to, self.to_network, self.from);
        self.asker_tuple = self.before_leaves.reversed();
    }
}

impl<A: Copy + Default> Default for Case<A> {
    /// A case that says nothing.
    fn default() -> Self {
        let tuple = Tuple::default();
        let sent = MacPair::default();
        let (device, far, delivery, ops) = (0, 0, 0, Ops::NONE);
        let hop = Hop { device, delivery, ops, sent, leaves: tuple, mtu: 0, vlan: 0, outer: 0, far };
        let nobody = Endpoint::gateway(0, MacAddr::default(), 0);
        Self {
            device: 0,
            now: 0,
            network: 0,
            macs: MacPair::default(),
            datagram: Datagram::default(),
            fragment: Fragment::default(),
            quoted: Datagram::default(),
            gateway_mac: MacAddr::default(),
            heard: 0,
            key: FlowKey::default(),
            pair_key: FlowKey::default(),
            from: nobody,
            to: nobody,
            to_network: 0,
            to_gateway_mac: MacAddr::default(),
            forth: hop,
            back: hop,
            answered: MacPair::default(),
            step: Step::Single,
            before: Decision::TRUST,
            before_device: 0,
            before_pair: 0,
            before_mac: MacAddr::default(),
            before_leaves: tuple,
            asker: nobody,
            asked: nobody,
            asker_network: 0,
            asker_tuple: tuple,
            asked_tuple: tuple,
            target: Target::NONE,
            forward_head: ForwardKey::NONE,
            forward_key: ForwardKey::NONE,
            mapping_key: FlowKey::default(),
            claim_key: FlowKey::default(),
            source: Source { addr: A::default(), first_port: 0, last_port: 0, is_independent: 0 },
            service: Service { protocol: 0, port: 0, is_v4: false },
            decision: Decision::TRUST,
            entry: Flow::default(),
            mapping: Flow::default(),
        }
    }
}
