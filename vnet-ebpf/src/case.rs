//! What the stages gather about a packet.
//!
//! It lives in scratch memory, because a BPF program's stack of 512 bytes has no room for it: per CPU in
//! the kernel, where nothing interrupts a tc program with another on the same CPU. All zeros
//! are a valid case, and each field is written before it is read.
//!
//! It serves the verifier as well: what it reads from a map is unknown to it, so it walks what follows
//! the parser once and not again for each way in which a packet can be parsed.

use vnet_common::{Endpoint, Flow, FlowKey, MacAddr, MacPair, Ops, RuleId};

use crate::{
    headers::{Datagram, Service},
    hop::Hop,
};

/// A packet under judgement.
#[derive(Clone, Debug)]
pub struct Case<A> {
    /// Where it arrived.
    pub device: u32,
    /// When, in ticks.
    pub now: u32,
    /// The network that it is in.
    pub network: u32,
    /// The MACs that it arrived with.
    pub macs: MacPair,
    /// The MAC of the network's gateway.
    pub gateway_mac: MacAddr,
    /// What its headers say.
    pub datagram: Datagram<A>,
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
    /// Its way.
    pub forth: Hop,
    /// The way of answers.
    pub back: Hop,
    /// The MACs that answers are expected to arrive with.
    pub answered: MacPair,
    /// What it asks for.
    pub service: Service,
    /// The rules that allow it: egress, ingress.
    pub rules: [RuleId; 2],
    /// The entry that is being written.
    pub entry: Flow<A>,
}

impl<A: Default> Case<A> {
    /// A case that says nothing.
    #[must_use]
    pub fn blank() -> Self {
        let hop = Hop { device: 0, delivery: 0, ops: Ops::NONE, sent: MacPair::default() };
        let nobody = Endpoint::gateway(0, MacAddr::default(), 0);
        Self {
            device: 0,
            now: 0,
            network: 0,
            macs: MacPair::default(),
            datagram: Datagram::default(),
            quoted: Datagram::default(),
            gateway_mac: MacAddr::default(),
            key: FlowKey::default(),
            pair_key: FlowKey::default(),
            from: nobody,
            to: nobody,
            forth: hop,
            back: hop,
            answered: MacPair::default(),
            service: Service { protocol: 0, port: 0, is_v4: false },
            rules: [0; 2],
            entry: Flow::default(),
        }
    }
}
