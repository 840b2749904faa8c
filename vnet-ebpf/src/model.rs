//! The datapath's world on the host: packets in byte vectors, tables in hash maps.
//!
//! Behaves as the kernel does, so that one table of cases serves both.

use std::{
    cell::{Cell, OnceCell, RefCell, RefMut},
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use vnet_common::{
    Address, Be16, Budget, Delivery, DropReason, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Flow,
    FlowKey, Forward, ForwardKey, Heard, Ip, JoinPrefix, Link, LinkKey, MacAddr, NetworkKey, NetworkRecord,
    PeerPrefix, PolicyEntry, PolicyKey, PortKey, PortRecord, Snooped, Station, StationKey, Tuple, UplinkKey,
    UplinkRecord, V4, V6, VtepKey, limits,
};

use crate::{
    case::Case,
    fragments::{Fragmented, Held},
    headers::ETHERNET_LEN,
    packet::{Change, ChangeKind, Packet, Tag, Tunnel, Wire},
    pipeline,
    question::{Answer, Question},
    stages::{
        follow::{self, Followed},
        install::ports,
        judge, neighbour,
        parse::{self, Version},
        translate,
    },
    tables::{FlowTable, InsertError, Snapshot, Tables},
    verdict::Outcome,
};

/// Where tags stand in a frame: between the MACs and the ethertype.
const TAG_OFFSET: usize = 12;

/// A packet as a vector of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPacket {
    /// The frame, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// The VLAN tag that is held beside it.
    pub tag: Option<Tag>,
    /// Its priority.
    pub priority: u16,
    /// Out of which tunnel it came, or into which it goes.
    pub tunnel: Option<Tunnel>,
    /// Copies of it that were sent.
    pub copies: Vec<ModelCopy>,
    /// What the controller was told of it.
    pub told: RefCell<Vec<(Snooped, Vec<u8>)>>,
    /// Whether the host forwards it.
    pub forwarded: bool,
    /// Its mark.
    pub mark: u32,
    /// Whether a socket of the host's waits for it.
    pub is_awaited: bool,
    /// The copies of it that arrive once more, each at a device.
    pub again: Vec<(u32, Vec<u8>)>,
    /// Bytes of payload in each segment that it will be cut into.
    pub segment_payload: u32,
    /// Whether the checksum of TCP and UDP is left to the device.
    pub leaves_checksum: bool,
}

/// A copy of a packet that was sent to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCopy {
    /// The device.
    pub device: u32,
    /// Out of it, or as received there.
    pub delivery: Delivery,
    /// The mark that it had.
    pub mark: u32,
    /// The frame, with its tags in it.
    pub bytes: Vec<u8>,
    /// The tunnel that it enters.
    pub tunnel: Option<Tunnel>,
}

impl ModelPacket {
    /// The frame with all of its tags in it.
    #[must_use]
    pub fn on_the_wire(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(Tag { protocol, control }) = self.tag {
            let tag = [protocol.to_be_bytes(), control.to_be_bytes()].concat();
            bytes.splice(TAG_OFFSET..TAG_OFFSET, tag);
        }
        bytes
    }

    /// An untagged packet that the sender made itself.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn range<T>(&self, offset: usize) -> Result<std::ops::Range<usize>, DropReason> {
        let end = offset.checked_add(size_of::<T>()).ok_or(DropReason::Truncated)?;
        if end > self.bytes.len() { Err(DropReason::Truncated) } else { Ok(offset..end) }
    }
}

impl Packet for ModelPacket {
    fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn segment_payload(&self) -> u32 {
        self.segment_payload
    }

    fn reshape(&mut self, kept: u32, room: u32) -> Result<(), DropReason> {
        if kept as usize > self.bytes.len() {
            return Err(DropReason::Truncated);
        }
        self.bytes.truncate(kept as usize);
        self.bytes.splice(ETHERNET_LEN..ETHERNET_LEN, vec![0; room as usize]);
        self.segment_payload = 0;
        Ok(())
    }

    fn read<T: Wire>(&self, offset: usize) -> Result<T, DropReason> {
        let range = self.range::<T>(offset)?;
        // SAFETY: `range` is size_of::<T>() bytes long, and any bytes are a `T: Wire`.
        Ok(unsafe { self.bytes[range].as_ptr().cast::<T>().read_unaligned() })
    }

    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason> {
        let range = self.range::<T>(offset)?;
        // SAFETY: `range` is size_of::<T>() bytes long, and a `T: Wire` has no padding.
        unsafe { self.bytes[range].as_mut_ptr().cast::<T>().write_unaligned(value) };
        Ok(())
    }

    fn update_checksum(&mut self, offset: usize, change: Change) -> Result<(), DropReason> {
        let old: Be16 = self.read(offset)?;
        if self.leaves_checksum {
            // It has the sum of the pseudo-header so far, not its complement.
            let sum = u32::from(old.to_ne()) + change.sum;
            let folded = (0..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
            return match change.kind {
                ChangeKind::Pseudo => self.write(offset, Be16::from_bytes((folded as u16).to_ne_bytes())),
                ChangeKind::Covered => Ok(()),
            };
        }
        let sum = u64::from(!u16::from_ne_bytes(old.to_bytes())) + u64::from(change.sum);
        let folded = (0..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
        let check = match !(folded as u16) {
            0 if change.is_udp => 0xffff,
            check => check,
        };
        self.write(offset, Be16::from_bytes(check.to_ne_bytes()))
    }

    fn tag_beside(&self) -> Option<Tag> {
        self.tag
    }

    fn pop_tag(&mut self) -> Result<(), DropReason> {
        if self.tag.take().is_none() {
            let range = self.range::<[u8; 4]>(TAG_OFFSET)?;
            self.bytes.drain(range);
        }
        // What is outermost now is held beside the frame, as in the kernel.
        let ether_type: Be16 = self.read(TAG_OFFSET)?;
        if Tag::is_announced_by(ether_type.get()) {
            let control: Be16 = self.read(TAG_OFFSET + 2)?;
            self.bytes.drain(TAG_OFFSET..TAG_OFFSET + 4);
            self.tag = Some(Tag { protocol: ether_type.get(), control: control.get() });
        }
        Ok(())
    }

    fn push_tag(&mut self, tag: Tag) -> Result<(), DropReason> {
        self.bytes = self.on_the_wire();
        self.tag = Some(tag);
        Ok(())
    }

    fn priority(&self) -> u16 {
        self.priority
    }

    fn set_priority(&mut self, priority: u16) {
        self.priority = priority;
    }

    fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel
    }

    fn enter_tunnel(&mut self, tunnel: Tunnel) -> Result<(), DropReason> {
        self.tunnel = Some(tunnel);
        Ok(())
    }

    fn copy_to(&mut self, device: u32, delivery: Delivery) {
        let (mark, bytes, tunnel) = (self.mark, self.on_the_wire(), self.tunnel);
        self.copies.push(ModelCopy { device, delivery, mark, bytes, tunnel });
    }

    fn tell(&self, message: &Snooped, offset: usize) {
        let text = self.bytes.get(offset..).unwrap_or_default();
        self.told.borrow_mut().push((*message, text.to_vec()));
    }

    fn spread<T: Tables>(&mut self, snapshot: &Snapshot<'_, T>, network: u32, except: u32) {
        pipeline::spread(self, snapshot, network, except);
    }

    fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    fn check_options(&self, offset: usize, end: usize) -> Result<(), DropReason> {
        parse::check_options(self, offset, end)
    }

    fn check_link_options(&self, offset: usize, end: usize, mac: MacAddr) -> Result<(), DropReason> {
        neighbour::check_link_options(self, offset, end, mac)
    }

    fn unicast<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        pipeline::unicast(self, snapshot, case)
    }

    fn follow<A: Address, T: Tables>(
        &mut self,
        tables: &T,
        case: &mut Case<A>,
        may_hold: bool,
    ) -> Result<Followed, DropReason> {
        follow::follow(self, tables, case, may_hold)
    }

    fn is_awaited<A: Address>(&self, _: &Tuple<A>) -> bool {
        self.is_awaited
    }

    fn save(&self, frame: &[Cell<u8>; limits::HELD_BYTES]) -> bool {
        for (to, from) in frame.iter().zip(&self.bytes) {
            to.set(*from);
        }
        self.bytes.len() <= frame.len()
    }

    fn become_frame(&mut self, frame: &[Cell<u8>; limits::HELD_BYTES], len: u32) -> bool {
        self.bytes = frame.iter().take(len as usize).map(Cell::get).collect();
        true
    }

    fn arrive_again(&mut self, device: u32) {
        self.again.push((device, self.bytes.clone()));
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }
}

/// A flow table with a capacity.
#[derive(Debug)]
pub struct ModelFlows<A: Copy> {
    /// Its entries.
    pub entries: RefCell<HashMap<FlowKey<A>, Rc<Flow<A>>>>,
    /// How many fit.
    pub capacity: usize,
}

impl<A: Copy> Default for ModelFlows<A> {
    fn default() -> Self {
        Self { entries: RefCell::default(), capacity: 1024 }
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
    /// The case of an IPv4 packet.
    pub case4: RefCell<Case<V4>>,
    /// The case of an IPv6 packet.
    pub case6: RefCell<Case<V6>>,
}

impl Tables for ModelTables {
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
        self.budgets.borrow_mut().entry(device).or_default().spend(now)
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

            fn destination(&self, generation: u32, case: &mut Case<$addr>) -> bool {
                translate::destination(&Snapshot { tables: self, generation }, case)
            }

            fn reserve_port(&self, case: &mut Case<$addr>) -> Result<(), DropReason> {
                ports::reserve_port(self, case)
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
