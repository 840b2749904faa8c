//! The embedded eBPF object, the shapes of its maps, and whether pins of an earlier run still fit.
//!
//! The loader re-uses whatever is pinned under a map's name without looking at it; here it is compared
//! first.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::{Context as _, Result};
use aya::maps::{MapError, MapInfo};

use super::{
    capacity::Capacity,
    names::{MAPS, Pins},
};

/// The programs and map declarations.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vnet-ebpf"));

/// What must agree between a map and its declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// A `bpf_map_type`.
    pub map_type: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, on one CPU.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Flags of its creation.
    pub flags: u32,
}

/// A pin that the object's map cannot take over.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It is a map of another shape.
    #[error("the pinned map {pin} is of another version: it has {}, this vnet needs {}; {REMEDY}",
        Differences(.found, .needed), Differences(.needed, .found))]
    Shape {
        /// Where it is pinned.
        pin: String,
        /// What it is.
        found: Shape,
        /// What the object declares.
        needed: Shape,
    },
    /// It is no map, or cannot be opened.
    #[error("{pin} is not a map that vnet can take over: {reason}; {REMEDY}")]
    Unusable {
        /// Where it is pinned.
        pin: String,
        /// What the kernel says.
        reason: String,
    },
    /// Programs are attached, but the map that tells the generation is gone.
    #[error("programs are attached, but the pinned map {pin} is gone; {REMEDY}")]
    Missing {
        /// Where it was pinned.
        pin: String,
    },
}

const REMEDY: &str = "`vnet-ctl teardown` removes it with everything else of vnet, then start again";

/// The declared shape of every map that is pinned.
///
/// # Errors
/// When the object lacks one of them, which a build for another version does.
pub fn declared() -> Result<BTreeMap<&'static str, Shape>> {
    let object = aya_obj::Object::parse(OBJECT).context("read the embedded eBPF object")?;
    let shape = |name: &&'static str| {
        let map = object.maps.get(*name).with_context(|| format!("the eBPF object has no map {name}"))?;
        let shape = Shape {
            map_type: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
            flags: map.map_flags(),
        };
        Ok((*name, shape))
    };
    MAPS.iter().map(shape).collect()
}

/// Whether a map has the size that was asked for when it was made.
fn is_sized(name: &str) -> bool {
    Capacity::DECLARED.entries().iter().any(|(sized, _)| *sized == name)
}

/// Compares every pinned map with its declaration, and returns the names of those not pinned yet.
///
/// # Errors
/// [`PinError`] for the first that does not fit.
pub(super) fn compare_pins(pins: &Pins) -> Result<Vec<&'static str>> {
    let mut absent = Vec::new();
    for (name, needed) in declared()? {
        let pin = pins.map(name);
        if !pin.try_exists().with_context(|| format!("look for {}", pin.display()))? {
            absent.push(name);
            continue;
        }
        compare(name, &pin, needed)?;
    }
    Ok(absent)
}

fn compare(name: &str, pin: &Path, needed: Shape) -> Result<(), PinError> {
    let unusable = |reason: String| PinError::Unusable { pin: pin.display().to_string(), reason };
    let found = shape(pin).map_err(unusable)?;
    let size = if is_sized(name) { found.max_entries } else { needed.max_entries };
    let needed = Shape { max_entries: size, ..needed };
    if found == needed {
        return Ok(());
    }
    Err(PinError::Shape { pin: pin.display().to_string(), found, needed })
}

/// The shape of the map pinned at `pin`, or why it has none.
pub(super) fn shape(pin: &Path) -> Result<Shape, String> {
    let info = MapInfo::from_pin(pin).map_err(|error| root_cause(&error))?;
    Ok(Shape {
        map_type: info.map_type().map_err(|error| error.to_string())? as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
        flags: info.map_flags(),
    })
}

fn root_cause(error: &MapError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What the first shape has where the second differs.
struct Differences<'a>(&'a Shape, &'a Shape);

impl fmt::Display for Differences<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |shape: &Shape| {
            [
                ("type", shape.map_type),
                ("key size", shape.key_size),
                ("value size", shape.value_size),
                ("capacity", shape.max_entries),
                ("flags", shape.flags),
            ]
        };
        let differing = fields(self.0).into_iter().zip(fields(self.1)).filter(|(mine, other)| mine != other);
        let words: Vec<String> = differing.map(|((name, value), _)| format!("{name} {value}")).collect();
        out.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::{
        Budget, Control, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, FlowImage4, FlowImage6, FlowKey,
        Forward, ForwardKey, JoinPrefix, Link, LinkKey, NetworkKey, NetworkRecord, PeerPrefix, PolicyEntry,
        PolicyKey, PortDropKey, PortKey, PortRecord, SocketAddress, SocketKey, Station, StationKey,
        UplinkKey, UplinkRecord, V4, V6, VtepKey, limits,
    };

    use super::*;

    #[test]
    fn the_object_declares_every_map_with_the_shared_layouts() {
        let declared = declared().unwrap();
        let expected = [
            ("CONTROL", 4, size_of::<Control>(), 1),
            ("PORTS", size_of::<PortKey>(), size_of::<PortRecord>(), limits::PORTS),
            ("NETWORKS", size_of::<NetworkKey>(), size_of::<NetworkRecord>(), limits::NETWORKS),
            ("ENDPOINTS", size_of::<EndpointKey>(), size_of::<Endpoint>(), limits::ENDPOINTS),
            ("PEERS", 4 + size_of::<PeerPrefix>(), 4, limits::PEERS),
            ("JOINS", 4 + size_of::<JoinPrefix>(), 4, limits::JOINS),
            ("POLICY", size_of::<PolicyKey>(), size_of::<PolicyEntry>(), limits::POLICY),
            ("UPLINKS", size_of::<UplinkKey>(), size_of::<UplinkRecord>(), limits::UPLINKS),
            ("EXITS", size_of::<ExitKey>(), size_of::<Exit>(), limits::EXITS),
            ("ELASTIC_IPS", size_of::<EndpointKey>(), size_of::<ElasticIp>(), limits::ELASTIC_IPS),
            ("FORWARDS", size_of::<ForwardKey>(), size_of::<Forward>(), limits::FORWARDS),
            ("LINKS", size_of::<LinkKey>(), size_of::<Link>(), limits::LINKS),
            ("STATIONS", size_of::<StationKey>(), size_of::<Station>(), limits::STATIONS),
            ("VTEPS", size_of::<VtepKey>(), 4, limits::VTEPS),
            ("FLOWS4", size_of::<FlowKey<V4>>(), size_of::<FlowImage4>(), limits::FLOWS4),
            ("FLOWS6", size_of::<FlowKey<V6>>(), size_of::<FlowImage6>(), limits::FLOWS6),
            ("DROPS", 4, 8, limits::DROP_REASONS),
            ("PORT_DROPS", size_of::<PortDropKey>(), 8, limits::PORT_DROPS),
            ("HOST", 4, 8, 1),
            ("SOCKETS", size_of::<SocketKey>(), size_of::<SocketAddress>(), limits::SOCKETS),
            ("SNOOPED", 0, 0, limits::SNOOPED),
            ("BUDGETS", 4, size_of::<Budget>(), limits::BUDGETS),
        ];
        assert_eq!(declared.len(), expected.len());
        for (name, key_size, value_size, max_entries) in expected {
            let shape = declared[name];
            let found = (shape.key_size as usize, shape.value_size as usize, shape.max_entries);
            assert_eq!(found, (key_size, value_size, max_entries), "{name}");
        }
    }

    #[test]
    fn a_mismatch_names_the_pin_what_differs_and_the_remedy() {
        let needed = Shape { map_type: 1, key_size: 8, value_size: 20, max_entries: 8192, flags: 1 };
        let found = Shape { value_size: 16, max_entries: 4096, ..needed };
        let text =
            PinError::Shape { pin: "/sys/fs/bpf/vnet/v2/maps/PORTS".to_owned(), found, needed }.to_string();
        assert!(text.contains("/maps/PORTS"), "{text}");
        assert!(
            text.contains("has value size 16, capacity 4096, this vnet needs value size 20, capacity 8192")
        );
        assert!(text.contains("vnet-ctl teardown"));
    }
}
