//! The policy tables as typed maps: how an entry of [`Tables`] stands in its map, on one side or the other.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, IterableMap, LpmTrie, Map, MapData, MapError, lpm_trie},
};
use ipnet::IpNet;
use vnet_common::{
    Endpoint, EndpointKey, Ip, NetworkKey, NetworkRecord, PeerPrefix, PolicyEntry, PolicyKey, PortKey,
    PortRecord, Side, limits,
};

use super::{names, sys};
use crate::compile::Tables;

/// How the entries of one table stand in its map.
pub(super) trait Layout {
    /// Name of the map.
    const MAP: &str;
    /// What the table holds, for people.
    const WHAT: &str;
    /// Entries that fit, both sides together.
    const CAPACITY: u32;
    /// An entry's key without its side.
    type Key: Ord + Copy;
    /// A key of the map.
    type MapKey: Pod;
    /// A value of both.
    type Value: Pod + PartialEq;
    /// The map's type.
    type Map: Store<Self::MapKey, Self::Value> + TryFrom<Map, Error = MapError>;

    /// The key on `side`.
    fn on_side(key: &Self::Key, side: Side) -> Self::MapKey;
    /// The side and the key.
    fn split(key: &Self::MapKey) -> (Side, Self::Key);
    /// The table within a policy's tables.
    fn of(tables: &Tables) -> &BTreeMap<Self::Key, Self::Value>;
    /// The same, to be filled.
    fn of_mut(tables: &mut Tables) -> &mut BTreeMap<Self::Key, Self::Value>;
}

/// A map that single entries are written to.
pub(super) trait Store<K, V> {
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    fn delete(&mut self, key: &K) -> Result<(), MapError>;
    fn data(&self) -> &MapData;
}

impl<K: Pod, V: Pod> Store<K, V> for HashMap<MapData, K, V> {
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        self.remove(key)
    }

    fn data(&self) -> &MapData {
        IterableMap::map(self)
    }
}

impl<V: Pod> Store<lpm_trie::Key<PeerPrefix>, V> for LpmTrie<MapData, PeerPrefix, V> {
    fn put(&mut self, key: &lpm_trie::Key<PeerPrefix>, value: &V) -> Result<(), MapError> {
        self.insert(key, *value, 0)
    }

    fn delete(&mut self, key: &lpm_trie::Key<PeerPrefix>) -> Result<(), MapError> {
        self.remove(key)
    }

    fn data(&self) -> &MapData {
        IterableMap::map(self)
    }
}

/// One table in its map.
pub(super) struct Table<L: Layout> {
    map: L::Map,
}

impl<L: Layout> Table<L> {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self { map: take_map(object, L::MAP)? })
    }

    pub(super) fn put(&mut self, side: Side, key: &L::Key, value: &L::Value) -> Result<()> {
        self.map
            .put(&L::on_side(key, side), value)
            .map_err(|error| anyhow!("write to {}: {}", L::MAP, super::links::causes(&error)))
    }

    /// Deletes an entry, which may be gone already.
    pub(super) fn delete(&mut self, side: Side, key: &L::Key) -> Result<()> {
        match self.map.delete(&L::on_side(key, side)) {
            Err(error) if !is_absent(&error) => {
                Err(anyhow!("delete from {}: {}", L::MAP, super::links::causes(&error)))
            }
            _ => Ok(()),
        }
    }

    /// Adds what both sides hold to `sides`.
    pub(super) fn read(&self, sides: &mut [Tables; 2]) -> Result<()> {
        let entries = sys::entries::<L::MapKey, L::Value>(self.map.data());
        for (key, value) in entries.with_context(|| format!("read {}", L::MAP))? {
            let (side, key) = L::split(&key);
            L::of_mut(&mut sides[side as usize & 1]).insert(key, value);
        }
        Ok(())
    }
}

/// Takes a map out of a loaded object.
pub(super) fn take_map<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<M> {
    let map = object.take_map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
    map.try_into().with_context(|| format!("the map {name} has another type"))
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
/// Compiled rules.
pub(super) enum Policy {}

macro_rules! table_of {
    ($field:ident) => {
        fn of(tables: &Tables) -> &BTreeMap<Self::Key, Self::Value> {
            &tables.$field
        }

        fn of_mut(tables: &mut Tables) -> &mut BTreeMap<Self::Key, Self::Value> {
            &mut tables.$field
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
    const CAPACITY: u32 = limits::PEERS;
    type Key = IpNet;
    type MapKey = lpm_trie::Key<PeerPrefix>;
    type Value = u32;
    type Map = LpmTrie<MapData, PeerPrefix, u32>;

    fn on_side(net: &IpNet, side: Side) -> Self::MapKey {
        let addr = Ip::from_std(net.network());
        let version_bits = if addr.is_v4() { V4_PREFIX } else { 0 };
        lpm_trie::Key::new(SIDE_BITS + version_bits + u32::from(net.prefix_len()), PeerPrefix { side, addr })
    }

    fn split(key: &Self::MapKey) -> (Side, IpNet) {
        let prefix = key.data();
        let addr = prefix.addr.to_std();
        let version_bits = if addr.is_ipv4() { V4_PREFIX } else { 0 };
        let len = key.prefix_len().saturating_sub(SIDE_BITS + version_bits);
        // Lengths out of range are not of vnet's making; as host prefixes they match nothing of the policy.
        let net = IpNet::new(addr, u8::try_from(len).unwrap_or(u8::MAX)).unwrap_or_else(|_| addr.into());
        (prefix.side, net)
    }

    table_of!(peers);
}

/// Bits that a key spends on its side.
const SIDE_BITS: u32 = 32;
/// Bits of `::ffff:0:0/96`.
const V4_PREFIX: u32 = 96;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_survive_the_way_to_the_map_and_back() {
        for text in ["10.0.0.0/8", "203.0.113.7/32", "2001:db8::/32", "::1/128", "fd00::/8"] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(Peers::split(&Peers::on_side(&net, 1)), (1, net));
        }
        let key = Peers::on_side(&"10.0.0.0/8".parse().unwrap(), 0);
        assert_eq!(key.prefix_len(), 32 + 96 + 8);
    }

    #[test]
    fn endpoints_survive_the_way_to_the_map_and_back() {
        for text in ["10.0.0.1", "fe80::1"] {
            let key = (7, text.parse().unwrap());
            assert_eq!(Endpoints::split(&Endpoints::on_side(&key, 1)), (1, key));
        }
    }
}
