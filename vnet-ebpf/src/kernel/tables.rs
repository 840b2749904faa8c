//! The BPF maps as tables of the pipeline.

use core::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::lpm_trie};
use vnet_common::{
    Address as _, Budget, DropReason, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Flow, FlowKey,
    Forward, ForwardKey, Genuine, Heard, Ip, JoinPrefix, Link, LinkKey, MacAddr, NetworkKey, NetworkRecord,
    PeerPrefix, PolicyEntry, PolicyKey, PortKey, PortRecord, Pressure, Snooped, Station, StationKey,
    UplinkKey, UplinkRecord, V4, V6, VtepKey, limits,
};
use vnet_ebpf::{
    case::Case,
    fragments::{Fragmented, Held},
    question::{Answer, Question},
    stages::{install::Attempt, refuse::Refusal},
    tables::{FlowTable, InsertError, Tables},
    verdict::{Outcome, Verdict},
};

use super::{apart, maps, snoop};

/// The maps.
pub(super) struct Kernel;

/// A flow's entry in its map.
///
/// The element stays readable while the program runs: a preallocated map frees no memory. No program of packets
/// removes one, and `expire` none that a packet still uses, so it is the flow's for as long (`vnet_common::flow`).
pub(super) struct Entry<A: Copy>(*mut Flow<A>);

impl<A: Copy> Deref for Entry<A> {
    type Target = Flow<A>;

    #[inline(always)]
    fn deref(&self) -> &Flow<A> {
        // SAFETY: a look-up returned the pointer in this run of the program, and maps hold whole values.
        unsafe { &*self.0 }
    }
}

/// This CPU's scratch memory.
pub(super) struct Scratch<A: Copy>(*mut Case<A>);

impl<A: Copy> Deref for Scratch<A> {
    type Target = Case<A>;

    #[inline(always)]
    fn deref(&self) -> &Case<A> {
        // SAFETY: the slot belongs to this CPU, programs of packets do not interrupt one another there, and it holds
        // zeros, which are a valid case, or what a packet before wrote.
        unsafe { &*self.0 }
    }
}

impl<A: Copy> DerefMut for Scratch<A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Case<A> {
        // SAFETY: as above; a packet asks for it once, and once more when it is dropped and the first is given back.
        unsafe { &mut *self.0 }
    }
}

impl Tables for Kernel {
    type Genuine<'a> = &'a Cell<Genuine>;

    #[inline(always)]
    fn generation(&self) -> Result<u32, DropReason> {
        Ok(maps::CONTROL.get(0).ok_or(DropReason::Internal)?.generation)
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<&PortRecord> {
        // SAFETY: no program changes the map, and the kernel frees elements after a grace period.
        unsafe { maps::PORTS.get(key) }
    }

    #[inline(always)]
    fn network(&self, key: &NetworkKey) -> Option<&NetworkRecord> {
        // SAFETY: as for `port`.
        unsafe { maps::NETWORKS.get(key) }
    }

    #[inline(always)]
    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        // SAFETY: as for `port`.
        unsafe { maps::ENDPOINTS.get(key) }
    }

    #[inline(always)]
    fn peer(&self, key: &PeerPrefix) -> Option<u32> {
        maps::PEERS.get(&lpm_trie::Key::new(PeerPrefix::BITS, *key)).copied()
    }

    #[inline(always)]
    fn join(&self, key: &JoinPrefix) -> Option<u32> {
        maps::JOINS.get(&lpm_trie::Key::new(JoinPrefix::BITS, *key)).copied()
    }

    #[inline(always)]
    fn policy(&self, key: &PolicyKey) -> Option<&PolicyEntry> {
        // SAFETY: as for `port`.
        unsafe { maps::POLICY.get(key) }
    }

    #[inline(always)]
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkRecord> {
        // SAFETY: as for `port`.
        unsafe { maps::UPLINKS.get(key) }
    }

    #[inline(always)]
    fn exit(&self, key: &ExitKey) -> Option<&Exit> {
        // SAFETY: as for `port`.
        unsafe { maps::EXITS.get(key) }
    }

    #[inline(always)]
    fn elastic_ip(&self, key: &EndpointKey) -> Option<&ElasticIp> {
        // SAFETY: as for `port`.
        unsafe { maps::ELASTIC_IPS.get(key) }
    }

    #[inline(always)]
    fn forward(&self, key: &ForwardKey) -> Option<&Forward> {
        // SAFETY: as for `port`.
        unsafe { maps::FORWARDS.get(key) }
    }

    #[inline(always)]
    fn link(&self, key: &LinkKey) -> Option<&Link> {
        // SAFETY: as for `port`.
        unsafe { maps::LINKS.get(key) }
    }

    #[inline(always)]
    fn station(&self, key: &StationKey) -> Option<&Station> {
        // SAFETY: as for `port`.
        unsafe { maps::STATIONS.get(key) }
    }

    #[inline(always)]
    fn vtep(&self, key: &VtepKey) -> Option<u32> {
        // SAFETY: as for `port`.
        unsafe { maps::VTEPS.get(key) }.copied()
    }

    #[inline(always)]
    fn heard(&self, generation: u32, network: u32, mac: MacAddr) -> u16 {
        let key = StationKey::new(network, 0, mac);
        // SAFETY: another CPU may replace the element while it is read: what is read then is one of an older or newer
        // generation, or another peer that the overlay has.
        unsafe { maps::HEARD.get(key) }.map_or(0, |heard| heard.under(generation))
    }

    #[inline(always)]
    fn hear(&self, generation: u32, network: u32, mac: MacAddr, peer: u16) {
        let (key, heard) = (StationKey::new(network, 0, mac), Heard { generation, peer: peer.into() });
        // SAFETY: as in `heard`.
        if unsafe { maps::HEARD.get(key) } != Some(&heard) {
            // What does not fit is not remembered: packets then go to all peers.
            _ = maps::HEARD.insert(key, heard, 0);
        }
    }

    #[inline(always)]
    fn tell(&self, claim: Snooped) {
        snoop::claim(claim);
    }

    #[inline(always)]
    fn fragment_lock(&self, group: u32) -> Option<&Cell<u32>> {
        maps::FRAGMENT_GROUPS.get(group).map(|[lock, _]| lock)
    }

    #[inline(always)]
    fn next_held(&self, group: u32) -> Option<&Cell<u32>> {
        maps::FRAGMENT_GROUPS.get(group).map(|[_, next]| next)
    }

    #[inline(always)]
    fn fragmented(&self, index: u32) -> Option<&Fragmented> {
        maps::FRAGMENTED.get(index)
    }

    #[inline(always)]
    fn held(&self, index: u32) -> Option<&Held> {
        maps::HELD.get(index)
    }

    #[inline(always)]
    fn may_tell(&self, device: u32, now: u32) -> bool {
        budget(device).is_some_and(|budget| budget.spend_error(now))
    }

    #[inline(always)]
    fn may_flood(&self, device: u32, now: u32) -> bool {
        budget(device).is_some_and(|budget| budget.spend_flood(now))
    }

    #[inline(always)]
    fn pressure(&self) -> Pressure {
        maps::PRESSURE.get(0).map_or(Pressure::None, |word| Pressure::from_word(*word))
    }

    #[inline(always)]
    fn has_most(&self, device: u32) -> bool {
        // SAFETY: as for `port`.
        unsafe { maps::HAVE_MOST.get(device) }.is_some()
    }

    #[inline(always)]
    fn may_open(&self, device: u32, now: u32) -> bool {
        budget(device).is_some_and(|budget| budget.spend_newcomer(now))
    }

    #[inline(always)]
    fn established(&self, device: u32, now: u32) {
        if let Some(budget) = budget(device) {
            budget.give_newcomer_back(now);
        }
    }

    #[inline(always)]
    fn secret(&self) -> [u64; 2] {
        maps::SECRET.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn genuine(&self, addr: Ip) -> Option<&Cell<Genuine>> {
        // SAFETY: another CPU may give the element to somebody else while it is used: what is read then, or counted, is
        // about an address at which somebody is.
        unsafe { maps::GENUINE.get(addr) }
    }

    #[inline(always)]
    fn believe(&self, addr: Ip, now: u32) {
        // Who does not fit is asked again.
        _ = maps::GENUINE.insert(addr, Cell::new(Genuine::since(now)), 0);
    }

    #[inline(always)]
    fn ask(&self, question: Question) -> Answer {
        apart::ask(question)
    }
}

macro_rules! flow_table {
    (
        $addr:ty,
        ($map:ident, $scratch:ident, $refused:ident),
        $destination:path,
        $judge_early:path,
        $reserve_port:path,
        $try_port:path
    ) => {
        impl FlowTable<$addr> for Kernel {
            type Entry<'a> = Entry<$addr>;
            type Scratch<'a> = Scratch<$addr>;

            #[inline(always)]
            fn scratch(&self) -> Result<Scratch<$addr>, DropReason> {
                maps::$scratch.get_ptr_mut(0).map(Scratch).ok_or(DropReason::Internal)
            }

            #[inline(always)]
            fn find(&self, key: &FlowKey<$addr>) -> Option<Entry<$addr>> {
                maps::$map.get_ptr_mut(key).map(Entry)
            }

            #[inline(always)]
            fn insert(&self, key: &FlowKey<$addr>, flow: &Flow<$addr>) -> Result<(), InsertError> {
                const EEXIST: i32 = -17;
                maps::$map.insert(key, flow, BPF_NOEXIST.into()).map_err(|error| match error {
                    EEXIST => InsertError::Exists,
                    _ => InsertError::Full,
                })
            }

            #[inline(always)]
            fn count_opened(&self) {
                if let Some(count) = maps::OPENED.get_ptr_mut(if <$addr>::IS_V4 { 0 } else { 1 }) {
                    // SAFETY: the slot belongs to this CPU.
                    unsafe { *count += 1 };
                }
            }

            #[inline(always)]
            fn refusal(&self, place: u32) -> Option<&Refusal<$addr>> {
                maps::$refused.get(place)
            }

            #[inline(always)]
            fn destination(&self, generation: u32, case: &mut Case<$addr>) -> bool {
                $destination(case, generation) != 0
            }

            #[inline(always)]
            fn judge_early(&self, generation: u32, case: &mut Case<$addr>) -> Outcome {
                Verdict::outcome_of($judge_early(case, generation))
            }

            #[inline(always)]
            fn reserve_port(&self, case: &mut Case<$addr>) -> Result<(), DropReason> {
                apart::from_word($reserve_port(case))
            }

            #[inline(always)]
            fn try_port(&self, case: &mut Case<$addr>, number: u32) -> Result<Attempt, DropReason> {
                Attempt::from_word($try_port(case, number))
            }

            #[inline(always)]
            fn exchange(&self, word: &Cell<u32>, old: u32, new: u32) -> bool {
                compare_exchange(word.as_ptr(), old, new)
            }
        }
    };
}
flow_table!(
    V4,
    (FLOWS4, CASE4, REFUSED4),
    apart::destination4,
    apart::judge_early4,
    apart::reserve_port4,
    apart::try_port4
);
flow_table!(
    V6,
    (FLOWS6, CASE6, REFUSED6),
    apart::destination6,
    apart::judge_early6,
    apart::reserve_port6,
    apart::try_port6
);

/// What packets of a device may still cause.
#[inline(always)]
fn budget<'a>(device: u32) -> Option<&'a mut Budget> {
    let slot = maps::BUDGETS.get_ptr_mut(device % limits::BUDGETS)?;
    // SAFETY: the slot belongs to this CPU, where tc programs do not interrupt one another.
    Some(unsafe { &mut *slot })
}

/// Stores `new` if the word is `old`, in one step; whether it did.
///
/// `core` has no 32-bit atomics for this target, but LLVM has the instruction (Linux 5.12).
#[inline(always)]
pub(super) fn compare_exchange(word: *mut u32, old: u32, new: u32) -> bool {
    use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};
    // SAFETY: the word is a field of a map's element, aligned and valid while the program runs.
    let (_, exchanged) = unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(word, old, new) };
    exchanged
}
