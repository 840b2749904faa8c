//! The maps that the programs share with the controller.

use core::cell::Cell;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
    macros::btf_map,
};
use vnet_common::{
    Budget, Control, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Flow, FlowKey, Forward, ForwardKey,
    Genuine, Heard, Ip, JoinPrefix, Link, LinkKey, NetworkKey, NetworkRecord, PeerPrefix, PolicyEntry,
    PolicyKey, PortDropKey, PortKey, PortRecord, SnoopedMessage, SocketAddress, SocketKey, Station,
    StationKey, UplinkKey, UplinkRecord, V4, V6, VtepKey, limits,
};
use vnet_ebpf::{
    case::Case,
    fragments::{Fragmented, Held},
    stages::refuse::Refusal,
};

/// Policy tables are filled by the controller alone; they grow with the policy.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub(crate) static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
pub(crate) static PORTS: HashMap<PortKey, PortRecord, { limits::PORTS as usize }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub(crate) static NETWORKS: HashMap<NetworkKey, NetworkRecord, { limits::NETWORKS as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static ENDPOINTS: HashMap<EndpointKey, Endpoint, { limits::ENDPOINTS as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static PEERS: LpmTrie<PeerPrefix, u32, { limits::PEERS as usize }> = LpmTrie::new();
#[btf_map]
pub(crate) static JOINS: LpmTrie<JoinPrefix, u32, { limits::JOINS as usize }> = LpmTrie::new();
#[btf_map]
pub(crate) static POLICY: HashMap<PolicyKey, PolicyEntry, { limits::POLICY as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static UPLINKS: HashMap<UplinkKey, UplinkRecord, { limits::UPLINKS as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static EXITS: HashMap<ExitKey, Exit, { limits::EXITS as usize }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub(crate) static ELASTIC_IPS: HashMap<EndpointKey, ElasticIp, { limits::ELASTIC_IPS as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static FORWARDS: HashMap<ForwardKey, Forward, { limits::FORWARDS as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static LINKS: HashMap<LinkKey, Link, { limits::LINKS as usize }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub(crate) static STATIONS: HashMap<StationKey, Station, { limits::STATIONS as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
pub(crate) static VTEPS: HashMap<VtepKey, u32, { limits::VTEPS as usize }, ON_DEMAND> = HashMap::new();
#[btf_map]
pub(crate) static FLOWS4: HashMap<FlowKey<V4>, Flow<V4>, { limits::FLOWS4 as usize }> = HashMap::new();
#[btf_map]
pub(crate) static FLOWS6: HashMap<FlowKey<V6>, Flow<V6>, { limits::FLOWS6 as usize }> = HashMap::new();
#[btf_map]
pub(crate) static DROPS: PerCpuArray<u64, { limits::DROP_REASONS as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static PORT_DROPS: PerCpuHashMap<PortDropKey, u64, { limits::PORT_DROPS as usize }, ON_DEMAND> =
    PerCpuHashMap::new();
/// What tells the host's own namespace from others: its cookie.
#[btf_map]
pub(crate) static HOST: Array<u64, 1> = Array::new();
/// Whom sockets of the host asked for that speak to workloads.
#[btf_map]
pub(crate) static SOCKETS: LruHashMap<SocketKey, SocketAddress, { limits::SOCKETS as usize }> =
    LruHashMap::new();
/// From which peers stations of overlays have spoken.
#[btf_map]
pub(crate) static HEARD: LruHashMap<StationKey, Heard, { limits::HEARD as usize }> = LruHashMap::new();
/// What is seen of ports whose addresses are learned; records without a message are shorter.
#[btf_map]
pub(crate) static SNOOPED: RingBuf<SnoopedMessage, { limits::SNOOPED as usize }> = RingBuf::new();
/// The lock of each group of fragmented datagrams, and how many frames it has held back.
#[btf_map]
pub(crate) static FRAGMENT_GROUPS: Array<[Cell<u32>; 2], { limits::FRAGMENT_GROUPS as usize }> = Array::new();
/// Fragmented datagrams, group after group.
#[btf_map]
pub(crate) static FRAGMENTED: Array<
    Fragmented,
    { (limits::FRAGMENT_GROUPS * limits::DATAGRAMS_IN_GROUP) as usize },
> = Array::new();
/// Frames that are held back, group after group.
#[btf_map]
pub(crate) static HELD: Array<Held, { (limits::FRAGMENT_GROUPS * limits::HELD_IN_GROUP) as usize }> =
    Array::new();
/// What packets of a device may still cause in this tick.
#[btf_map]
pub(crate) static BUDGETS: PerCpuArray<Budget, { limits::BUDGETS as usize }> = PerCpuArray::new();
/// How full the flow tables are: a [`vnet_common::Pressure`].
#[btf_map]
pub(crate) static PRESSURE: Array<u32, 1> = Array::new();
/// The devices, and links, at which more flows were opened than any may have of a crowded table.
#[btf_map]
pub(crate) static HAVE_MOST: HashMap<u32, u32, { limits::HAVE_MOST as usize }> = HashMap::new();
/// Flows that were opened, over IPv4 and over IPv6.
#[btf_map]
pub(crate) static OPENED: PerCpuArray<u64, 2> = PerCpuArray::new();
/// What only vnet knows.
#[btf_map]
pub(crate) static SECRET: Array<[u64; 2], 1> = Array::new();
/// Who is outside for certain, and what they open.
#[btf_map]
pub(crate) static GENUINE: LruHashMap<Ip, Cell<Genuine>, { limits::GENUINE as usize }> = LruHashMap::new();
/// What was refused a moment ago.
#[btf_map]
pub(crate) static REFUSED4: PerCpuArray<Refusal<V4>, { limits::REFUSALS as usize }> = PerCpuArray::new();
/// As `REFUSED4`, for IPv6.
#[btf_map]
pub(crate) static REFUSED6: PerCpuArray<Refusal<V6>, { limits::REFUSALS as usize }> = PerCpuArray::new();
/// Scratch memory of the slow path.
#[btf_map]
pub(crate) static CASE4: PerCpuArray<Case<V4>, 1> = PerCpuArray::new();
/// As `CASE4`, for IPv6.
#[btf_map]
pub(crate) static CASE6: PerCpuArray<Case<V6>, 1> = PerCpuArray::new();
