//! A tracked flow: its two entries joined, and as people see it.

use std::{
    collections::{HashMap as Index, HashSet},
    hash::Hash,
};

use vnet_common::{Flow, FlowKey, FlowState, Ops, Tuple, ticks_from_secs};

use super::flows::Version;
use crate::api::types::{FlowInfo, Traffic, Translated};

/// A flow as its table holds it. An entry whose pair is gone stands alone, as the original direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<A: Version> {
    pub(super) key: FlowKey<A>,
    pub(super) original: A::Image,
    pub(super) reply: Option<(FlowKey<A>, A::Image)>,
}

impl<A: Version> Pair<A> {
    /// Ticks since the last packet of either direction.
    fn idle_ticks(&self, now: u32) -> u32 {
        let idle = |flow: &Flow<A>| now.saturating_sub(flow.last_seen.get());
        let original = idle(&self.original);
        self.reply.as_ref().map_or(original, |(_, reply)| original.min(idle(reply)))
    }

    /// Whether both directions have been silent for longer than the flow's timeout, as far as that holds now.
    fn is_idle(&self, patience: Patience) -> bool {
        let timeout = ticks_from_secs(self.timeout_secs());
        self.idle_ticks(patience.now) > patience.of(self.original.state(), timeout)
    }

    /// Whether this is no flow but an endpoint-independent mapping.
    pub(super) const fn is_mapping(&self) -> bool {
        self.key.is_of_mapping()
    }

    /// The key of the mapping that the flow has, if its network has such.
    fn mapping(&self) -> FlowKey<A> {
        let FlowKey { origin, src, ports, .. } = self.key;
        FlowKey::mapping(origin.ifindex(), origin.protocol(), src, ports.src())
    }

    fn timeout_secs(&self) -> u32 {
        self.original.state().timeout_secs(self.key.origin.protocol())
    }

    /// Where its packets arrive, and by which device they leave.
    pub(super) fn devices(&self) -> [u32; 3] {
        [self.key.origin.ifindex(), self.original.pair_device.get(), self.original.device.get()]
    }

    pub(super) fn show(&self, now: u32, name: &dyn Fn(u32) -> String) -> FlowInfo {
        let flow: &Flow<A> = &self.original;
        let reply = self.reply.as_ref().map(|(_, reply)| traffic::<A>(reply)).unwrap_or_default();
        let [egress, ingress] = flow.rules.get();
        let translated = flow.ops.get().has(Ops::TRANSLATE).then(|| translated(flow.leaving(&self.key)));
        FlowInfo {
            protocol: protocol_name(self.key.origin.protocol()),
            state: state_name(flow.state()).to_owned(),
            from: name(self.key.origin.ifindex()),
            to: name(flow.pair_device.get()),
            src: self.key.src.ip().to_std(),
            src_port: self.key.ports.src().get(),
            dst: self.key.dst.ip().to_std(),
            dst_port: self.key.ports.dst().get(),
            translated,
            original: traffic::<A>(&self.original),
            reply,
            idle_secs: secs_from_ticks(self.idle_ticks(now)),
            timeout_secs: u64::from(self.timeout_secs()),
            generation: flow.generation.get(),
            egress_rule: rule_name(egress),
            ingress_rule: rule_name(ingress),
        }
    }
}

fn translated<A: Version>(leaves: Tuple<A>) -> Translated {
    Translated {
        src: leaves.src.ip().to_std(),
        src_port: leaves.ports.src().get(),
        dst: leaves.dst.ip().to_std(),
        dst_port: leaves.ports.dst().get(),
    }
}

/// How long flows are remembered on which nothing passes.
///
/// Each has its timeout, until half of a table is in use. From then on connections that open or end, and questions that
/// nobody has answered, have less and less of theirs, and none once nine tenths are in use: the next look forgets them.
/// While the programs are told of the pressure, what has not come about by then has [`Patience::PRESSED_SECS`] at most. An
/// established flow always has its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    now: u32,
    /// What is left of a timeout, in parts of [`Patience::WHOLE`].
    part: u64,
    is_pressed: bool,
}

impl Patience {
    const WHOLE: u64 = 1024;
    /// Seconds for a connection to come about while a table is under pressure: two repetitions of a SYN (RFC 6298
    /// section 2.1) fit.
    const PRESSED_SECS: u32 = 10;

    /// That of the tick `now`, with `used` of `capacity` entries in use; whether the programs are told of pressure.
    pub(super) fn new(now: u32, used: usize, capacity: u32, is_pressed: bool) -> Self {
        let (used, capacity) = (used as u64, u64::from(capacity).max(1));
        // All of it at 50 %, nothing at 90 %.
        let left = (90 * capacity).saturating_sub(100 * used);
        Self { now, part: (Self::WHOLE * left / (40 * capacity)).min(Self::WHOLE), is_pressed }
    }

    /// What is left in `state` of `timeout`, in ticks.
    fn of(self, state: FlowState, timeout: u32) -> u32 {
        let left = (u64::from(timeout) * self.part / Self::WHOLE) as u32;
        match state {
            FlowState::Established => timeout,
            FlowState::New | FlowState::SynReceived if self.is_pressed => {
                left.min(ticks_from_secs(Self::PRESSED_SECS))
            }
            _ => left,
        }
    }
}

/// Which of `pairs` have been silent for so long that they are forgotten. A mapping is not, as long as one of its flows
/// lives (RFC 4787 REQ-6).
pub(super) fn forgotten<A: Version>(pairs: &[Pair<A>], patience: Patience) -> impl Iterator<Item = &Pair<A>>
where
    FlowKey<A>: Hash,
{
    let alive = pairs.iter().filter(|pair| !pair.is_mapping() && !pair.is_idle(patience));
    let needed: HashSet<FlowKey<A>> = alive.map(Pair::mapping).collect();
    pairs.iter().filter(move |pair| pair.is_idle(patience) && !needed.contains(&pair.key))
}

/// Joins entries to flows.
pub(super) fn pair_up<A: Version>(entries: Vec<(FlowKey<A>, A::Image)>) -> Vec<Pair<A>>
where
    FlowKey<A>: Hash,
{
    let live = entries.into_iter().filter(|(_, flow)| flow.last_seen.get() != Flow::<A>::EXPIRED);
    let (mut replies, originals): (Index<FlowKey<A>, A::Image>, Vec<_>) =
        live.fold((Index::new(), Vec::new()), |(mut replies, mut originals), (key, flow)| {
            if flow.ops.get().has(Ops::REPLY) {
                replies.insert(key, flow);
            } else {
                originals.push((key, flow));
            }
            (replies, originals)
        });
    let mut pairs: Vec<Pair<A>> = originals
        .into_iter()
        .map(|(key, original)| {
            let reply = replies.remove_entry(&original.pair_key(&key));
            Pair { key, original, reply }
        })
        .collect();
    pairs.extend(replies.into_iter().map(|(key, original)| Pair { key, original, reply: None }));
    pairs
}

fn traffic<A: Version>(flow: &A::Image) -> Traffic {
    Traffic { packets: flow.packets.get(), bytes: flow.bytes.get() }
}

/// A tick is 2^30 ns.
fn secs_from_ticks(ticks: u32) -> u64 {
    (u64::from(ticks) << 30) / 1_000_000_000
}

fn rule_name(id: u32) -> Option<String> {
    (id != 0).then(|| crate::policy::format_rule_id(id))
}

/// The name of an IP protocol, or its number.
fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

const fn state_name(state: FlowState) -> &'static str {
    match state {
        FlowState::New => "new",
        FlowState::SynReceived => "syn_received",
        FlowState::Established => "established",
        FlowState::FinWait => "fin_wait",
        FlowState::TimeWait => "time_wait",
        FlowState::Closed => "closed",
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::{Be16, FlowImage4, Origin, V4};

    use super::*;

    fn key() -> FlowKey<V4> {
        FlowKey {
            origin: Origin::new(7, 6),
            src: V4::from_octets([10, 0, 0, 1]),
            dst: V4::from_octets([10, 0, 0, 2]),
            ports: vnet_common::Ports::new(Be16::new(40000), Be16::new(80)),
        }
    }

    fn entry(pair_device: u32, ops: Ops, last_seen: u32) -> FlowImage4 {
        let flow = Flow::<V4>::default();
        flow.pair_device.set(pair_device);
        flow.ops.set(ops);
        flow.last_seen.set(last_seen);
        flow.state.set(3);
        flow.packets.set(5);
        flow.into()
    }

    fn flow(original_seen: u32, reply_seen: u32) -> Vec<Pair<V4>> {
        pair_up(vec![
            (key().reversed(9), entry(7, Ops::REPLY, reply_seen)),
            (key(), entry(9, Ops::NONE, original_seen)),
        ])
    }

    #[test]
    fn two_entries_are_one_flow() {
        let pairs = flow(100, 90);
        assert_eq!(pairs.len(), 1);
        let shown = pairs[0].show(103, &|ifindex| format!("if{ifindex}"));
        assert_eq!((shown.from.as_str(), shown.to.as_str(), shown.dst_port), ("if7", "if9", 80));
        assert_eq!((shown.state.as_str(), shown.reply.packets, shown.idle_secs), ("established", 5, 3));
    }

    #[test]
    fn both_sides_of_a_translation_are_one_flow() {
        let outside = vnet_common::Tuple {
            src: V4::from_octets([198, 51, 100, 2]),
            dst: key().dst,
            ports: vnet_common::Ports::new(Be16::new(1024), Be16::new(80)),
        };
        let translating = |pair_device, ops: Ops, leaves| {
            let entry = entry(pair_device, ops.and(Ops::TRANSLATE), 100);
            entry.leaves.set(leaves);
            entry
        };
        let reply = FlowKey::of(9, 6, outside.reversed());
        let pairs = pair_up(vec![
            (key(), translating(9, Ops::NONE, outside)),
            (reply, translating(7, Ops::REPLY, key().tuple().reversed())),
        ]);
        assert_eq!(pairs.len(), 1);
        let shown = pairs[0].show(100, &|ifindex| format!("if{ifindex}"));
        assert_eq!(
            (shown.src.to_string(), shown.src_port, shown.reply.packets),
            ("10.0.0.1".into(), 40000, 5)
        );
        let translated = shown.translated.unwrap();
        assert_eq!((translated.src.to_string(), translated.src_port), ("198.51.100.2".into(), 1024));
        assert_eq!((translated.dst, translated.dst_port), (shown.dst, 80));
        assert_eq!(flow(100, 90)[0].show(103, &|_| String::new()).translated, None);
    }

    #[test]
    fn a_flow_is_as_idle_as_its_livelier_direction() {
        assert_eq!(flow(10, 90)[0].idle_ticks(100), 10);
        assert_eq!(flow(90, 10)[0].idle_ticks(100), 10);
        assert_eq!(flow(101, 10)[0].idle_ticks(100), 0);
    }

    #[test]
    fn a_full_table_forgets_what_opens_or_ends_and_nothing_established() {
        let left = |state, used| Patience::new(0, used, 1000, false).of(state, 240);
        assert_eq!(
            [0, 500, 501, 700, 899, 900, 1000].map(|used| left(FlowState::New, used)),
            [240, 240, 239, 120, 0, 0, 0]
        );
        assert_eq!(
            [FlowState::SynReceived, FlowState::FinWait, FlowState::TimeWait].map(|state| left(state, 800)),
            [60; 3]
        );
        assert_eq!([0, 900, 1000].map(|used| left(FlowState::Established, used)), [240; 3]);
        let left = |state, used| Patience::new(0, used, 1000, true).of(state, 240);
        assert_eq!([100, 600, 900].map(|used| left(FlowState::New, used)), [10, 10, 0]);
        assert_eq!(left(FlowState::TimeWait, 600), 180);
        // Entries that were made a moment ago are no more idle than that.
        let pair = &flow(100, 100)[0];
        pair.original.state.set(FlowState::New as u8);
        let is_idle = |now| pair.is_idle(Patience::new(now, 1000, 1000, true));
        assert_eq!([100, 101].map(is_idle), [false, true]);
    }

    #[test]
    fn a_mapping_is_forgotten_after_the_last_of_its_flows() {
        let tuple = key().tuple();
        let mapping = FlowKey::mapping(7, 6, tuple.src, tuple.ports.src());
        let pairs = |last_seen| {
            pair_up(vec![(key(), entry(9, Ops::NONE, last_seen)), (mapping, entry(0, Ops::NONE, 1))])
        };
        let now = ticks_from_secs(10_000);
        let forgotten = |last_seen| {
            let pairs = pairs(last_seen);
            super::forgotten(&pairs, Patience::new(now, 3, 100, false))
                .map(|pair| pair.key)
                .collect::<HashSet<_>>()
        };
        assert_eq!(forgotten(now), HashSet::new());
        assert_eq!(forgotten(1), HashSet::from([key(), mapping]));
    }

    #[test]
    fn entries_without_pair_stand_alone_and_those_being_removed_do_not_count() {
        let alone = pair_up(vec![(key().reversed(9), entry(7, Ops::REPLY, 1))]);
        assert!(alone.len() == 1 && alone[0].reply.is_none());
        assert!(pair_up(vec![(key(), entry(9, Ops::NONE, Flow::<V4>::EXPIRED))]).is_empty());
    }
}
