//! What the policy file declares: its schema, its checks, and messages that say where and what to do.
//!
//! From one text it decides whether every line of it makes sense, and gives either a [`Policy`] whose
//! parts fit together or all that is wrong with it at once. Whether the devices that it names exist is
//! left to [`crate::host`], what becomes of it in the kernel to [`crate::compile`].

mod acl;
mod admission;
mod alone;
mod attach;
mod backends;
mod diagnostic;
mod draft;
mod elastic_ips;
mod exits;
mod forwards;
mod groups;
mod host;
mod joints;
mod listen;
mod metadata;
mod mistake;
mod model;
mod names;
mod networks;
mod outline;
mod overlaps;
mod parse;
mod parser;
mod patch;
mod placed;
mod plain;
mod ports;
mod protocol;
mod read;
mod rule;
mod rules;
mod section;
mod segments;
mod special;
mod targets;
#[cfg(test)]
mod tests;
mod tree;

pub use alone::{NETNS_DIR, parse_port};
pub(crate) use groups::built_in_ingress;
pub(crate) use read::{open, read_open};
pub(crate) use rule::direction_name;

pub use attach::DEFAULT_INTERFACE;
pub use backends::{Affinity, Backend, BackendSpec, MAX_BACKENDS, MAX_WEIGHT, USUAL_WEIGHT};
pub use diagnostic::{Colour, Diagnostic, Diagnostics, Warning};
pub use listen::{Listen, Target};
pub use mistake::Mistake;
pub use model::{
    AclAction, AclRule, Attach, DEFAULT_SNAT_PORTS, ElasticIp, Failsafe, Forward, HostAccess, HostPolicy,
    Mapping, Metadata, NetnsRef, Network, NetworkKind, OnChange, Policy, Port, SecurityGroup, Segment,
    Subnet, Uplink, Xdp,
};
pub(crate) use names::fnv1a;
pub use names::{DEFAULT_GROUP, OVERLAY_DEVICE, bridge_name, closest, parse_mac, port_mac};
pub use overlaps::Overlaps;
pub use parse::parse;
pub use parser::Parser;
pub(crate) use placed::{Subject, placed};
pub use protocol::{PortRange, Protocol};
pub use read::{ReadError, read};
pub use rule::{Peer, Rule, RuleSpec, failsafe_id, format_rule_id, parse_rule_id};

/// The JSON Schema (draft 2020-12) of the policy file.
pub const JSON_SCHEMA: &str = include_str!("../../schema/policy.schema.json");
