//! The policy tables as typed maps: how an entry of [`Tables`] stands in its map, on one side or the other.

use std::{collections::BTreeMap, net::IpAddr, os::fd::AsFd as _};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, IterableMap, LpmTrie, Map, MapData, MapError, lpm_trie},
};
use ipnet::IpNet;
use vnet_common::{
    ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Forward, ForwardKey, Ip, JoinPrefix, Link, LinkKey,
    MacAddr, NetworkKey, NetworkRecord, PeerPrefix, PolicyEntry, PolicyKey, PortKey, PortRecord, Side,
    Station, StationKey, UplinkKey, UplinkRecord, VtepKey, limits,
};

use super::{names, sys};
use crate::compile::{Changes, Difference, ExitPlace, Tables};

/// How the entries of one table stand in its map.
pub(super) trait Layout {
    /// Name of the map.
    const MAP: &str;
    /// What the table holds, for people.
    const WHAT: &str;
    /// Whether the map has one lock for all of its entries, as a trie: then several CPUs only wait for one another.
    const HAS_ONE_LOCK: bool = false;
    /// Entries that fit, both sides together.
    const CAPACITY: u32;
    /// An entry's key without its side.
    type Key: Ord + Copy;
    /// A key of the map.
    type MapKey: Pod + Sync;
    /// A value of both.
    type Value: Pod + PartialEq + Sync;
    /// The map's type.
    type Map: IterableMap<Self::MapKey, Self::Value> + TryFrom<Map, Error = MapError>;

    /// The key on `side`.
    fn on_side(key: &Self::Key, side: Side) -> Self::MapKey;
    /// The side and the key.
    fn split(key: &Self::MapKey) -> (Side, Self::Key);
    /// The table within a policy's tables.
    fn of(tables: &Tables) -> &BTreeMap<Self::Key, Self::Value>;
    /// The same, to be filled.
    fn of_mut(tables: &mut Tables) -> &mut BTreeMap<Self::Key, Self::Value>;
    /// The table's part of a difference.
    fn changes(difference: &Difference) -> &Changes<Self::Key, Self::Value>;
}

/// One table in its map.
pub(super) struct Table<L: Layout> {
    map: L::Map,
}

impl<L: Layout> Table<L> {
    pub(super) fn take(object: &Ebpf) -> Result<Self> {
        Ok(Self { map: open_map(object, L::MAP)? })
    }

    /// Writes `difference` to `side`. Removals come first: they make room.
    pub(super) fn write(&self, side: Side, difference: &Difference) -> Result<()> {
        let changes =
            || L::changes(difference).iter().map(|(key, change)| (L::on_side(key, side), change.after));
        let gone: Vec<_> = changes().filter(|(_, after)| after.is_none()).map(|(key, _)| key).collect();
        sys::delete_all(self.map.map(), &gone).with_context(|| format!("delete from {}", L::MAP))?;
        let put: Vec<_> = changes().filter_map(|(key, after)| Some((key, after?))).collect();
        let put_all = if L::HAS_ONE_LOCK { sys::put_all } else { sys::put_at_once };
        put_all(self.map.map(), &put).with_context(|| format!("write to {}", L::MAP))
    }

    /// Adds what both sides hold to `sides`.
    pub(super) fn read(&self, sides: &mut [Tables; 2]) -> Result<()> {
        let entries = sys::entries::<L::MapKey, L::Value>(self.map.map());
        for (key, value) in entries.with_context(|| format!("read {}", L::MAP))? {
            let (side, key) = L::split(&key);
            L::of_mut(&mut sides[side as usize & 1]).insert(key, value);
        }
        Ok(())
    }
}

/// Opens a map of an object once more. The object keeps its own: programs that are yet to be loaded know maps by the
/// numbers of its descriptors.
pub(super) fn open_map<M: TryFrom<Map, Error = MapError>>(object: &Ebpf, name: &str) -> Result<M> {
    let map = object.map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
    let data = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data) => data,
        _ => bail!("the map {name} has a type that vnet does not use"),
    };
    let open = || Map::from_map_data(MapData::from_fd(data.fd().as_fd().try_clone_to_owned()?)?);
    open().and_then(M::try_from).with_context(|| format!("open the map {name}"))
}

/// Whether a deletion found nothing.
pub(super) fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Records of ports.
pub(super) enum Ports {}
/// Records of networks.
pub(super) enum Networks {}
/// Who has an address.
pub(super) enum Endpoints {}
/// Prefixes that rules name.
pub(super) enum Peers {}
/// Prefixes of networks that are joined to others.
pub(super) enum Joins {}
/// Compiled rules.
pub(super) enum Policy {}
/// Devices that lead outside.
pub(super) enum Uplinks {}
/// The addresses that networks leave with.
pub(super) enum Exits {}
/// Elastic IPs by private address.
pub(super) enum ElasticIps {}
/// What stands behind addresses and ports that are translated.
pub(super) enum Forwards {}
/// By which links networks go beyond this host.
pub(super) enum Links {}
/// Who has a MAC.
pub(super) enum Stations {}
/// Peers of overlays.
pub(super) enum Vteps {}

macro_rules! table_of {
    ($field:ident) => {
        fn of(tables: &Tables) -> &BTreeMap<Self::Key, Self::Value> {
            &tables.$field
        }

        fn of_mut(tables: &mut Tables) -> &mut BTreeMap<Self::Key, Self::Value> {
            &mut tables.$field
        }

        fn changes(difference: &Difference) -> &Changes<Self::Key, Self::Value> {
            &difference.$field
        }
    };
}

impl Layout for Ports {
    const MAP: &str = names::PORTS;
    const WHAT: &str = "ports";
    const CAPACITY: u32 = limits::PORTS;
    type Key = u32;
    type MapKey = PortKey;
    type Value = PortRecord;
    type Map = HashMap<MapData, PortKey, PortRecord>;

    fn on_side(&ifindex: &u32, side: Side) -> PortKey {
        PortKey { ifindex, side }
    }

    fn split(key: &PortKey) -> (Side, u32) {
        (key.side, key.ifindex)
    }

    table_of!(ports);
}

impl Layout for Networks {
    const MAP: &str = names::NETWORKS;
    const WHAT: &str = "networks";
    const CAPACITY: u32 = limits::NETWORKS;
    type Key = u32;
    type MapKey = NetworkKey;
    type Value = NetworkRecord;
    type Map = HashMap<MapData, NetworkKey, NetworkRecord>;

    fn on_side(&ifindex: &u32, side: Side) -> NetworkKey {
        NetworkKey { ifindex, side }
    }

    fn split(key: &NetworkKey) -> (Side, u32) {
        (key.side, key.ifindex)
    }

    table_of!(networks);
}

impl Layout for Endpoints {
    const MAP: &str = names::ENDPOINTS;
    const WHAT: &str = "addresses";
    const CAPACITY: u32 = limits::ENDPOINTS;
    type Key = (u32, IpAddr);
    type MapKey = EndpointKey;
    type Value = Endpoint;
    type Map = HashMap<MapData, EndpointKey, Endpoint>;

    fn on_side(&(network, addr): &(u32, IpAddr), side: Side) -> EndpointKey {
        EndpointKey { network, side, addr: Ip::from_std(addr) }
    }

    fn split(key: &EndpointKey) -> (Side, (u32, IpAddr)) {
        (key.side, (key.network, key.addr.to_std()))
    }

    table_of!(endpoints);
}

impl Layout for Peers {
    const MAP: &str = names::PEERS;
    const WHAT: &str = "prefixes in rules";
    const HAS_ONE_LOCK: bool = true;
    const CAPACITY: u32 = limits::PEERS;
    type Key = IpNet;
    type MapKey = lpm_trie::Key<PeerPrefix>;
    type Value = u32;
    type Map = LpmTrie<MapData, PeerPrefix, u32>;

    fn on_side(net: &IpNet, side: Side) -> Self::MapKey {
        let addr = Ip::from_std(net.network());
        lpm_trie::Key::new(bits_of(net, PEER_BITS), PeerPrefix { side, addr })
    }

    fn split(key: &Self::MapKey) -> (Side, IpNet) {
        let prefix = key.data();
        (prefix.side, net_of(prefix.addr, key.prefix_len(), PEER_BITS))
    }

    table_of!(peers);
}

impl Layout for Joins {
    const MAP: &str = names::JOINS;
    const WHAT: &str = "prefixes of joined networks";
    const HAS_ONE_LOCK: bool = true;
    const CAPACITY: u32 = limits::JOINS;
    type Key = (u32, IpNet);
    type MapKey = lpm_trie::Key<JoinPrefix>;
    type Value = u32;
    type Map = LpmTrie<MapData, JoinPrefix, u32>;

    fn on_side((network, net): &(u32, IpNet), side: Side) -> Self::MapKey {
        let prefix = JoinPrefix { network: *network, side, addr: Ip::from_std(net.network()) };
        lpm_trie::Key::new(bits_of(net, JOIN_BITS), prefix)
    }

    fn split(key: &Self::MapKey) -> (Side, (u32, IpNet)) {
        let prefix = key.data();
        (prefix.side, (prefix.network, net_of(prefix.addr, key.prefix_len(), JOIN_BITS)))
    }

    table_of!(joins);
}

/// Bits that a key of the peers has before its address.
const PEER_BITS: u32 = PeerPrefix::BITS - 128;
/// Bits that a key of the joins has before its address.
const JOIN_BITS: u32 = JoinPrefix::BITS - 128;
/// Bits of `::ffff:0:0/96`.
const V4_PREFIX: u32 = 96;

/// The prefix length of a key that has `before` bits before `net`.
fn bits_of(net: &IpNet, before: u32) -> u32 {
    let version_bits = if net.addr().is_ipv4() { V4_PREFIX } else { 0 };
    before + version_bits + u32::from(net.prefix_len())
}

/// What such a key stands for.
fn net_of(addr: Ip, bits: u32, before: u32) -> IpNet {
    let addr = addr.to_std();
    let version_bits = if addr.is_ipv4() { V4_PREFIX } else { 0 };
    let len = bits.saturating_sub(before + version_bits);
    // Lengths out of range are not of vnet's making; as host prefixes they match nothing of the policy.
    IpNet::new(addr, u8::try_from(len).unwrap_or(u8::MAX)).unwrap_or_else(|_| addr.into())
}

impl Layout for Policy {
    const MAP: &str = names::POLICY;
    const WHAT: &str = "compiled rules";
    const CAPACITY: u32 = limits::POLICY;
    type Key = PolicyKey;
    type MapKey = PolicyKey;
    type Value = PolicyEntry;
    type Map = HashMap<MapData, PolicyKey, PolicyEntry>;

    fn on_side(key: &PolicyKey, side: Side) -> PolicyKey {
        key.on_side(side)
    }

    fn split(key: &PolicyKey) -> (Side, PolicyKey) {
        (key.side(), key.on_side(0))
    }

    table_of!(policy);
}

impl Layout for Uplinks {
    const MAP: &str = names::UPLINKS;
    const WHAT: &str = "uplinks";
    const CAPACITY: u32 = limits::UPLINKS;
    type Key = u32;
    type MapKey = UplinkKey;
    type Value = UplinkRecord;
    type Map = HashMap<MapData, UplinkKey, UplinkRecord>;

    fn on_side(&ifindex: &u32, side: Side) -> UplinkKey {
        UplinkKey { ifindex, side }
    }

    fn split(key: &UplinkKey) -> (Side, u32) {
        (key.side, key.ifindex)
    }

    table_of!(uplinks);
}

impl Layout for Exits {
    const MAP: &str = names::EXITS;
    const WHAT: &str = "addresses of networks outside";
    const CAPACITY: u32 = limits::EXITS;
    type Key = ExitPlace;
    type MapKey = ExitKey;
    type Value = Exit;
    type Map = HashMap<MapData, ExitKey, Exit>;

    fn on_side(&ExitPlace { network, version, slot }: &ExitPlace, side: Side) -> ExitKey {
        ExitKey { network, side, version, slot }
    }

    fn split(key: &ExitKey) -> (Side, ExitPlace) {
        (key.side, ExitPlace { network: key.network, version: key.version, slot: key.slot })
    }

    table_of!(exits);
}

impl Layout for ElasticIps {
    const MAP: &str = names::ELASTIC_IPS;
    const WHAT: &str = "elastic IPs";
    const CAPACITY: u32 = limits::ELASTIC_IPS;
    type Key = (u32, IpAddr);
    type MapKey = EndpointKey;
    type Value = ElasticIp;
    type Map = HashMap<MapData, EndpointKey, ElasticIp>;

    fn on_side(key: &(u32, IpAddr), side: Side) -> EndpointKey {
        Endpoints::on_side(key, side)
    }

    fn split(key: &EndpointKey) -> (Side, (u32, IpAddr)) {
        Endpoints::split(key)
    }

    table_of!(elastic_ips);
}

impl Layout for Forwards {
    const MAP: &str = names::FORWARDS;
    const WHAT: &str = "blocks of forwarded ports";
    const CAPACITY: u32 = limits::FORWARDS;
    type Key = ForwardKey;
    type MapKey = ForwardKey;
    type Value = Forward;
    type Map = HashMap<MapData, ForwardKey, Forward>;

    fn on_side(key: &ForwardKey, side: Side) -> ForwardKey {
        key.on_side(side)
    }

    fn split(key: &ForwardKey) -> (Side, ForwardKey) {
        (key.side, key.on_side(0))
    }

    table_of!(forwards);
}

impl Layout for Links {
    const MAP: &str = names::LINKS;
    const WHAT: &str = "links beyond this host";
    const CAPACITY: u32 = limits::LINKS;
    type Key = LinkKey;
    type MapKey = LinkKey;
    type Value = Link;
    type Map = HashMap<MapData, LinkKey, Link>;

    fn on_side(key: &LinkKey, side: Side) -> LinkKey {
        key.on_side(side)
    }

    fn split(key: &LinkKey) -> (Side, LinkKey) {
        (key.side, key.on_side(0))
    }

    table_of!(links);
}

impl Layout for Stations {
    const MAP: &str = names::STATIONS;
    const WHAT: &str = "MACs";
    const CAPACITY: u32 = limits::STATIONS;
    type Key = (u32, MacAddr);
    type MapKey = StationKey;
    type Value = Station;
    type Map = HashMap<MapData, StationKey, Station>;

    fn on_side(&(network, mac): &(u32, MacAddr), side: Side) -> StationKey {
        StationKey::new(network, side, mac)
    }

    fn split(key: &StationKey) -> (Side, (u32, MacAddr)) {
        (key.side, (key.network, key.mac))
    }

    table_of!(stations);
}

impl Layout for Vteps {
    const MAP: &str = names::VTEPS;
    const WHAT: &str = "peers of overlays";
    const CAPACITY: u32 = limits::VTEPS;
    type Key = (u32, IpAddr);
    type MapKey = VtepKey;
    type Value = u32;
    type Map = HashMap<MapData, VtepKey, u32>;

    fn on_side(&(vni, addr): &(u32, IpAddr), side: Side) -> VtepKey {
        VtepKey { vni, side, addr: Ip::from_std(addr) }
    }

    fn split(key: &VtepKey) -> (Side, (u32, IpAddr)) {
        (key.side, (key.vni, key.addr.to_std()))
    }

    table_of!(vteps);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_survive_the_way_to_the_map_and_back() {
        for text in ["10.0.0.0/8", "203.0.113.7/32", "2001:db8::/32", "::1/128", "fd00::/8"] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(Peers::split(&Peers::on_side(&net, 1)), (1, net));
        }
        let net = "10.0.0.0/8".parse().unwrap();
        assert_eq!(Peers::on_side(&net, 0).prefix_len(), 32 + 96 + 8);
        assert_eq!(Joins::on_side(&(7, net), 0).prefix_len(), 64 + 96 + 8);
        assert_eq!(Joins::split(&Joins::on_side(&(7, net), 1)), (1, (7, net)));
    }

    #[test]
    fn endpoints_survive_the_way_to_the_map_and_back() {
        for text in ["10.0.0.1", "fe80::1"] {
            let key = (7, text.parse().unwrap());
            assert_eq!(Endpoints::split(&Endpoints::on_side(&key, 1)), (1, key));
        }
    }
}
