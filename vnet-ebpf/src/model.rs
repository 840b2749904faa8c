//! The datapath's world on the host: packets in byte vectors, tables in hash maps.
//!
//! Behaves as the kernel does, so that one table of cases serves both.

mod packet;

use std::{
    cell::{Cell, OnceCell, RefCell, RefMut},
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use vnet_common::{
    Budget, DropReason, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Flow, FlowKey, Forward, ForwardKey,
    Genuine, Heard, Ip, JoinPrefix, Link, LinkKey, MacAddr, NetworkKey, NetworkRecord, PeerPrefix,
    PolicyEntry, PolicyKey, PortKey, PortRecord, Pressure, Snooped, Station, StationKey, UplinkKey,
    UplinkRecord, V4, V6, VtepKey, limits,
};

pub use self::packet::{ModelCopy, ModelPacket};
use crate::{
    case::Case,
    fragments::{Fragmented, Held},
    pipeline,
    question::{Answer, Question},
    stages::{
        install::{Attempt, ports},
        judge,
        refuse::Refusal,
        translate,
    },
    tables::{FlowTable, InsertError, Snapshot, Tables},
    verdict::Outcome,
};

/// What only the model knows.
const MODEL_SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// A flow table with a capacity.
#[derive(Debug)]
pub struct ModelFlows<A: Copy> {
    /// Its entries.
    pub entries: RefCell<HashMap<FlowKey<A>, Rc<Flow<A>>>>,
    /// How many fit.
    pub capacity: usize,
    /// What was refused a moment ago; made when it is looked at.
    refused: OnceCell<Box<[Refusal<A>]>>,
}

impl<A: Copy> Default for ModelFlows<A> {
    fn default() -> Self {
        Self { entries: RefCell::default(), capacity: 1024, refused: OnceCell::new() }
    }
}

/// What is remembered of fragmented datagrams.
#[derive(Debug)]
pub struct ModelFragments {
    locks: Vec<Cell<u32>>,
    next: Vec<Cell<u32>>,
    // Made when they are looked at: there are many of them.
    datagrams: Vec<OnceCell<Box<Fragmented>>>,
    held: Vec<OnceCell<Box<Held>>>,
}

impl Default for ModelFragments {
    fn default() -> Self {
        let groups = limits::FRAGMENT_GROUPS as usize;
        Self {
            locks: vec![Cell::default(); groups],
            next: vec![Cell::default(); groups],
            datagrams: vec![OnceCell::new(); groups * limits::DATAGRAMS_IN_GROUP as usize],
            held: vec![OnceCell::new(); groups * limits::HELD_IN_GROUP as usize],
        }
    }
}

/// All tables.
#[derive(Debug, Default)]
pub struct ModelTables {
    /// The generation in force.
    pub generation: Cell<u32>,
    /// Ports by device and side.
    pub ports: HashMap<PortKey, PortRecord>,
    /// Networks by bridge and side.
    pub networks: HashMap<NetworkKey, NetworkRecord>,
    /// Endpoints by network, side and address.
    pub endpoints: HashMap<EndpointKey, Endpoint>,
    /// Identities by prefix: length in bits of the whole key, then the key.
    pub peers: HashMap<(u32, PeerPrefix), u32>,
    /// Bridges by prefix of a joined network: length in bits of the whole key, then the key.
    pub joins: HashMap<(u32, JoinPrefix), u32>,
    /// Heads and blocks.
    pub policy: BTreeMap<PolicyKey, PolicyEntry>,
    /// Uplinks.
    pub uplinks: HashMap<UplinkKey, UplinkRecord>,
    /// How networks lead outside.
    pub exits: HashMap<ExitKey, Exit>,
    /// Elastic IPs by private address.
    pub elastic_ips: HashMap<EndpointKey, ElasticIp>,
    /// Heads and blocks of forwards.
    pub forwards: BTreeMap<ForwardKey, Forward>,
    /// Links by what arrives, leaves or is flooded.
    pub links: HashMap<LinkKey, Link>,
    /// Who has a MAC.
    pub stations: HashMap<StationKey, Station>,
    /// Peers of overlays.
    pub vteps: HashMap<VtepKey, u32>,
    /// Claims that the controller was told of.
    pub claims: RefCell<Vec<Snooped>>,
    /// From which peers stations of overlays have spoken.
    pub heard: RefCell<HashMap<StationKey, Heard>>,
    /// Fragmented datagrams.
    pub fragments: ModelFragments,
    /// IPv4 flows.
    pub flows4: ModelFlows<V4>,
    /// IPv6 flows.
    pub flows6: ModelFlows<V6>,
    /// ICMP errors by device.
    pub budgets: RefCell<HashMap<u32, Budget>>,
    /// Whether a flow table fills up.
    pub pressure: Cell<Pressure>,
    /// The devices at which most flows were opened.
    pub have_most: RefCell<HashSet<u32>>,
    /// Who is outside for certain.
    pub genuine: RefCell<HashMap<Ip, Rc<Cell<Genuine>>>>,
    /// The case of an IPv4 packet.
    pub case4: RefCell<Case<V4>>,
    /// The case of an IPv6 packet.
    pub case6: RefCell<Case<V6>>,
}

impl Tables for ModelTables {
    type Genuine<'a> = Rc<Cell<Genuine>>;

    fn generation(&self) -> Result<u32, DropReason> {
        Ok(self.generation.get())
    }

    fn port(&self, key: &PortKey) -> Option<&PortRecord> {
        self.ports.get(key)
    }

    fn network(&self, key: &NetworkKey) -> Option<&NetworkRecord> {
        self.networks.get(key)
    }

    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        self.endpoints.get(key)
    }

    fn peer(&self, key: &PeerPrefix) -> Option<u32> {
        longest(key.addr, PeerPrefix::BITS, |len, addr| {
            self.peers.get(&(len, PeerPrefix { addr, ..*key })).copied()
        })
    }

    fn join(&self, key: &JoinPrefix) -> Option<u32> {
        longest(key.addr, JoinPrefix::BITS, |len, addr| {
            self.joins.get(&(len, JoinPrefix { addr, ..*key })).copied()
        })
    }

    fn policy(&self, key: &PolicyKey) -> Option<&PolicyEntry> {
        self.policy.get(key)
    }

    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkRecord> {
        self.uplinks.get(key)
    }

    fn exit(&self, key: &ExitKey) -> Option<&Exit> {
        self.exits.get(key)
    }

    fn elastic_ip(&self, key: &EndpointKey) -> Option<&ElasticIp> {
        self.elastic_ips.get(key)
    }

    fn forward(&self, key: &ForwardKey) -> Option<&Forward> {
        self.forwards.get(key)
    }

    fn link(&self, key: &LinkKey) -> Option<&Link> {
        self.links.get(key)
    }

    fn station(&self, key: &StationKey) -> Option<&Station> {
        self.stations.get(key)
    }

    fn vtep(&self, key: &VtepKey) -> Option<u32> {
        self.vteps.get(key).copied()
    }

    fn heard(&self, generation: u32, network: u32, mac: MacAddr) -> u16 {
        let key = StationKey::new(network, 0, mac);
        self.heard.borrow().get(&key).map_or(0, |heard| heard.under(generation))
    }

    fn hear(&self, generation: u32, network: u32, mac: MacAddr, peer: u16) {
        self.heard
            .borrow_mut()
            .insert(StationKey::new(network, 0, mac), Heard { generation, peer: peer.into() });
    }

    fn tell(&self, claim: Snooped) {
        self.claims.borrow_mut().push(claim);
    }

    fn fragment_lock(&self, group: u32) -> Option<&Cell<u32>> {
        self.fragments.locks.get(group as usize)
    }

    fn next_held(&self, group: u32) -> Option<&Cell<u32>> {
        self.fragments.next.get(group as usize)
    }

    fn fragmented(&self, index: u32) -> Option<&Fragmented> {
        self.fragments.datagrams.get(index as usize).map(|cell| &**cell.get_or_init(Box::default))
    }

    fn held(&self, index: u32) -> Option<&Held> {
        self.fragments.held.get(index as usize).map(|cell| &**cell.get_or_init(Box::default))
    }

    fn may_tell(&self, device: u32, now: u32) -> bool {
        self.budgets.borrow_mut().entry(device).or_default().spend_error(now)
    }

    fn may_flood(&self, device: u32, now: u32) -> bool {
        self.budgets.borrow_mut().entry(device).or_default().spend_flood(now)
    }

    fn pressure(&self) -> Pressure {
        self.pressure.get()
    }

    fn has_most(&self, device: u32) -> bool {
        self.have_most.borrow().contains(&device)
    }

    fn may_open(&self, device: u32, now: u32) -> bool {
        self.budgets.borrow_mut().entry(device).or_default().spend_newcomer(now)
    }

    fn established(&self, device: u32, now: u32) {
        self.budgets.borrow_mut().entry(device).or_default().give_newcomer_back(now);
    }

    fn secret(&self) -> [u64; 2] {
        MODEL_SECRET
    }

    fn genuine(&self, addr: Ip) -> Option<Rc<Cell<Genuine>>> {
        self.genuine.borrow().get(&addr).cloned()
    }

    fn believe(&self, addr: Ip, now: u32) {
        self.genuine.borrow_mut().insert(addr, Rc::new(Cell::new(Genuine::since(now))));
    }

    fn ask(&self, question: Question) -> Answer {
        judge::answer(self, &question)
    }
}

/// What `find` has for the longest prefix of `addr`, whose keys are `bits` long with the address whole.
fn longest(addr: Ip, bits: u32, find: impl Fn(u32, Ip) -> Option<u32>) -> Option<u32> {
    let addr = u128::from_be_bytes(addr.octets());
    (0..=128).find_map(|short| {
        let mask = u128::MAX.checked_shl(short).unwrap_or(0);
        find(bits - short, Ip::from_octets((addr & mask).to_be_bytes()))
    })
}

macro_rules! flow_table {
    ($addr:ty, $field:ident, $case:ident) => {
        impl FlowTable<$addr> for ModelTables {
            type Entry<'a> = Rc<Flow<$addr>>;
            type Scratch<'a> = RefMut<'a, Case<$addr>>;

            fn scratch(&self) -> Result<RefMut<'_, Case<$addr>>, DropReason> {
                Ok(self.$case.borrow_mut())
            }

            fn find(&self, key: &FlowKey<$addr>) -> Option<Self::Entry<'_>> {
                self.$field.entries.borrow().get(key).cloned()
            }

            fn insert(&self, key: &FlowKey<$addr>, flow: &Flow<$addr>) -> Result<(), InsertError> {
                let mut entries = self.$field.entries.borrow_mut();
                if entries.contains_key(key) {
                    return Err(InsertError::Exists);
                }
                if entries.len() >= self.$field.capacity {
                    return Err(InsertError::Full);
                }
                entries.insert(*key, Rc::new(flow.clone()));
                Ok(())
            }

            // No controller looks.
            fn count_opened(&self) {}

            fn refusal(&self, place: u32) -> Option<&Refusal<$addr>> {
                let make = || (0..limits::REFUSALS).map(|_| Refusal::default()).collect();
                self.$field.refused.get_or_init(make).get(place as usize)
            }

            fn destination(&self, generation: u32, case: &mut Case<$addr>) -> bool {
                translate::destination(&Snapshot { tables: self, generation }, case)
            }

            fn judge_early(&self, generation: u32, case: &mut Case<$addr>) -> Outcome {
                pipeline::judge_early(&Snapshot { tables: self, generation }, case)
            }

            fn reserve_port(&self, case: &mut Case<$addr>) -> Result<(), DropReason> {
                ports::reserve_port(self, case)
            }

            fn try_port(&self, case: &mut Case<$addr>, number: u32) -> Result<Attempt, DropReason> {
                ports::try_port(self, case, number)
            }

            fn exchange(&self, word: &Cell<u32>, old: u32, new: u32) -> bool {
                let is_old = word.get() == old;
                if is_old {
                    word.set(new);
                }
                is_old
            }
        }
    };
}
flow_table!(V4, flows4, case4);
flow_table!(V6, flows6, case6);
