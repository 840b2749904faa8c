//! The pinned maps, as the tests fill and read them.

use std::{collections::BTreeMap, ops::Deref};

use aya::{
    Pod,
    maps::{
        Array, HashMap, IterableMap as _, LpmTrie, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues,
        lpm_trie,
    },
};
use vnet_common::{
    Address, Budget, Control, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Flow, FlowImage4, FlowImage6,
    FlowKey, Forward, ForwardKey, JoinPrefix, Link, LinkKey, NetworkKey, NetworkRecord, PeerPrefix,
    PolicyEntry, PolicyKey, PortDropKey, PortKey, PortRecord, Station, StationKey, UplinkKey, UplinkRecord,
    V4, V6, VtepKey, limits, side_of,
};
use vnet_ctl::datapath::names::{self, Pins};
use vnet_tests::cases::world::{Devices, Tables};

/// An address whose flows have a map.
pub(crate) trait Tracked: Address {
    /// A copy of an entry.
    type Image: Pod + Deref<Target = Flow<Self>> + From<Flow<Self>>;
    /// How `expire` calls this version.
    const NUMBER: u32;
    /// The bytes of a key.
    fn key_bytes(key: &FlowKey<Self>) -> Vec<u8>;
    /// The map.
    fn table(maps: &mut Maps) -> &mut HashMap<MapData, FlowKey<Self>, Self::Image>;
    /// The map, to read.
    fn table_ref(maps: &Maps) -> &HashMap<MapData, FlowKey<Self>, Self::Image>;
}

macro_rules! tracked {
    ($addr:ty, $image:ty, $number:literal, $field:ident) => {
        impl Tracked for $addr {
            type Image = $image;
            const NUMBER: u32 = $number;

            fn key_bytes(key: &FlowKey<Self>) -> Vec<u8> {
                let origin = key.origin.ifindex() | u32::from(key.origin.protocol()) << 24;
                let (src_port, dst_port) = (key.ports.src().to_bytes(), key.ports.dst().to_bytes());
                [&origin.to_ne_bytes()[..], &key.src.octets(), &key.dst.octets(), &src_port, &dst_port]
                    .concat()
            }

            fn table(maps: &mut Maps) -> &mut HashMap<MapData, FlowKey<Self>, Self::Image> {
                &mut maps.$field
            }

            fn table_ref(maps: &Maps) -> &HashMap<MapData, FlowKey<Self>, Self::Image> {
                &maps.$field
            }
        }
    };
}
tracked!(V4, FlowImage4, 4, flows4);
tracked!(V6, FlowImage6, 6, flows6);

/// All maps of the datapath.
pub(crate) struct Maps {
    control: Array<MapData, Control>,
    ports: HashMap<MapData, PortKey, PortRecord>,
    networks: HashMap<MapData, NetworkKey, NetworkRecord>,
    endpoints: HashMap<MapData, EndpointKey, Endpoint>,
    peers: LpmTrie<MapData, PeerPrefix, u32>,
    joins: LpmTrie<MapData, JoinPrefix, u32>,
    policy: HashMap<MapData, PolicyKey, PolicyEntry>,
    uplinks: HashMap<MapData, UplinkKey, UplinkRecord>,
    exits: HashMap<MapData, ExitKey, Exit>,
    elastic_ips: HashMap<MapData, EndpointKey, ElasticIp>,
    forwards: HashMap<MapData, ForwardKey, Forward>,
    links: HashMap<MapData, LinkKey, Link>,
    stations: HashMap<MapData, StationKey, Station>,
    vteps: HashMap<MapData, VtepKey, u32>,
    flows4: HashMap<MapData, FlowKey<V4>, FlowImage4>,
    flows6: HashMap<MapData, FlowKey<V6>, FlowImage6>,
    drops: PerCpuArray<MapData, u64>,
    port_drops: PerCpuHashMap<MapData, PortDropKey, u64>,
    budgets: PerCpuArray<MapData, Budget>,
}

/// Opens a pin as a map of a kind.
macro_rules! open {
    ($pins:expr, $kind:ident, $name:expr) => {
        Map::$kind(MapData::from_pin($pins.map($name)).expect($name)).try_into().expect($name)
    };
}

impl Maps {
    /// The maps below `pins`.
    pub(crate) fn open(pins: &Pins) -> Self {
        Self {
            control: open!(pins, Array, names::CONTROL),
            ports: open!(pins, HashMap, names::PORTS),
            networks: open!(pins, HashMap, names::NETWORKS),
            endpoints: open!(pins, HashMap, names::ENDPOINTS),
            peers: open!(pins, LpmTrie, names::PEERS),
            joins: open!(pins, LpmTrie, names::JOINS),
            policy: open!(pins, HashMap, names::POLICY),
            uplinks: open!(pins, HashMap, names::UPLINKS),
            exits: open!(pins, HashMap, names::EXITS),
            elastic_ips: open!(pins, HashMap, names::ELASTIC_IPS),
            forwards: open!(pins, HashMap, names::FORWARDS),
            links: open!(pins, HashMap, names::LINKS),
            stations: open!(pins, HashMap, names::STATIONS),
            vteps: open!(pins, HashMap, names::VTEPS),
            flows4: open!(pins, HashMap, names::FLOWS4),
            flows6: open!(pins, HashMap, names::FLOWS6),
            drops: open!(pins, PerCpuArray, names::DROPS),
            port_drops: open!(pins, PerCpuHashMap, names::PORT_DROPS),
            budgets: open!(pins, PerCpuArray, names::BUDGETS),
        }
    }

    /// The kernel's ids of maps of which every program reads one.
    pub(crate) fn ids(&self) -> [u32; 3] {
        [self.flows4.map(), self.ports.map(), self.networks.map()]
            .map(|map| map.info().expect("map info").id())
    }

    /// The generation in force.
    pub(crate) fn generation(&self) -> u32 {
        self.control.get(&0, 0).expect("CONTROL").generation
    }

    /// Sets the generation in force, nothing else.
    pub(crate) fn set_generation(&mut self, generation: u32) {
        self.control.set(0, Control::new(generation), 0).expect("CONTROL");
    }

    /// Empties the side of `generation`, fills it with `tables` and puts it in force.
    pub(crate) fn commit(&mut self, generation: u32, tables: &Tables) {
        let side = side_of(generation);
        remove(&mut self.ports, |key| key.side == side);
        remove(&mut self.networks, |key| key.side == side);
        remove(&mut self.endpoints, |key| key.side == side);
        remove(&mut self.policy, |key| key.side() == side);
        remove(&mut self.uplinks, |key| key.side == side);
        remove(&mut self.exits, |key| key.side == side);
        remove(&mut self.elastic_ips, |key| key.side == side);
        remove(&mut self.forwards, |key| key.side == side);
        remove(&mut self.links, |key| key.side == side);
        remove(&mut self.stations, |key| key.side == side);
        remove(&mut self.vteps, |key| key.side == side);
        let peers: Vec<_> = self.peers.iter().map(|entry| entry.expect("PEERS").0).collect();
        for key in peers.iter().filter(|key| key.data().side == side) {
            self.peers.remove(key).expect("PEERS");
        }
        let joins: Vec<_> = self.joins.iter().map(|entry| entry.expect("JOINS").0).collect();
        for key in joins.iter().filter(|key| key.data().side == side) {
            self.joins.remove(key).expect("JOINS");
        }
        for &(ifindex, record) in &tables.ports {
            self.ports.insert(PortKey { ifindex, side }, record, 0).expect("PORTS");
        }
        for &(ifindex, record) in &tables.networks {
            self.networks.insert(NetworkKey { ifindex, side }, record, 0).expect("NETWORKS");
        }
        for &(network, addr, endpoint) in &tables.endpoints {
            self.endpoints.insert(EndpointKey { network, side, addr }, endpoint, 0).expect("ENDPOINTS");
        }
        for &(bits, addr, identity) in &tables.peers {
            let key = lpm_trie::Key::new(32 + bits, PeerPrefix { side, addr });
            self.peers.insert(&key, identity, 0).expect("PEERS");
        }
        for &(ifindex, record) in &tables.uplinks {
            self.uplinks.insert(UplinkKey { ifindex, side }, record, 0).expect("UPLINKS");
        }
        for &(network, version, exit) in &tables.exits {
            self.exits.insert(ExitKey { network, side, version, slot: 0 }, exit, 0).expect("EXITS");
        }
        for &(network, addr, elastic) in &tables.elastic_ips {
            self.elastic_ips.insert(EndpointKey { network, side, addr }, elastic, 0).expect("ELASTIC_IPS");
        }
        for (key, forward) in &tables.forwards {
            self.forwards.insert(key.on_side(side), forward, 0).expect("FORWARDS");
        }
        for (key, link) in &tables.links {
            self.links.insert(key.on_side(side), link, 0).expect("LINKS");
        }
        for &(network, mac, station) in &tables.stations {
            self.stations.insert(StationKey::new(network, side, mac), station, 0).expect("STATIONS");
        }
        for &(vni, addr, number) in &tables.vteps {
            self.vteps.insert(VtepKey { vni, side, addr }, number, 0).expect("VTEPS");
        }
        for &(network, bits, addr, bridge) in &tables.joins {
            let key = lpm_trie::Key::new(64 + bits, JoinPrefix { network, side, addr });
            self.joins.insert(&key, bridge, 0).expect("JOINS");
        }
        for (key, value) in &tables.policy {
            self.policy.insert(key.on_side(side), *value, 0).expect("POLICY");
        }
        self.set_generation(generation);
    }

    /// Forgets the ICMP errors about packets of `devices`.
    pub(crate) fn forget_errors(&mut self, devices: &Devices) {
        for ifindex in devices.0 {
            self.set_budget(ifindex, Budget::default());
        }
    }

    /// Gives the device `ifindex` that budget on each CPU.
    pub(crate) fn set_budget(&mut self, ifindex: u32, budget: Budget) {
        let slots = self.budgets.get(&0, 0).expect("BUDGETS").len();
        let all = PerCpuValues::try_from(vec![budget; slots]).expect("one for each CPU");
        self.budgets.set(ifindex % limits::BUDGETS, all, 0).expect("BUDGETS");
    }

    /// Dropped packets by reason, all CPUs together.
    pub(crate) fn drops(&self) -> BTreeMap<u32, u64> {
        let sum = |reason| self.drops.get(&reason, 0).expect("DROPS").iter().sum();
        (0..limits::DROP_REASONS)
            .map(|reason| (reason, sum(reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Dropped packets by device and reason.
    pub(crate) fn port_drops(&self) -> BTreeMap<(u32, u32), u64> {
        let entries = self.port_drops.iter().map(|entry| entry.expect("PORT_DROPS"));
        entries.map(|(key, counts)| ((key.ifindex, key.reason), counts.iter().sum())).collect()
    }
}

/// Removes the entries whose keys are `wanted`; how many they were.
pub(crate) fn remove<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, wanted: impl Fn(&K) -> bool) -> usize {
    let keys: Vec<K> = map.keys().map(|key| key.expect("a key")).filter(|key| wanted(key)).collect();
    for key in &keys {
        map.remove(key).expect("remove an entry");
    }
    keys.len()
}
