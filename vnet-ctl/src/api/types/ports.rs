//! Ports as they are in force, and what passed through them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DropCount;

/// One entry of the answer to `GET /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "web-1", "origin": "policy", "network": "web", "device": "vp-web-1", "ifindex": 12, "mac": "02:00:00:00:00:0a", "addresses": ["10.10.0.10", "fd00:10::a"], "security_groups": ["web"], "attach": {"netns": "web-1", "create": true, "name": "eth0"}, "state": "up"}))]
pub struct PortInfo {
    /// Its name in the policy.
    pub name: String,
    /// Who declares it: `policy` is the policy file, anything else the runtime that created it.
    #[serde(default = "policy_origin")]
    pub origin: String,
    /// Its network.
    pub network: String,
    /// The networks that it takes part in as well, by tagged frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<PortVlan>,
    /// The host-side device; empty if there is none, as of a port that another host looks after.
    pub device: String,
    /// The index of that device.
    pub ifindex: u32,
    /// The workload's MAC.
    pub mac: String,
    /// The workload's addresses, given, assigned or learned.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Those of them that it was heard with, in a bridged network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub learned: Vec<IpAddr>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// What it is attached to.
    pub attach: AttachInfo,
    /// Whether it can carry traffic now.
    pub state: PortState,
}

impl PortInfo {
    /// Whether it takes part in the network called `name`.
    #[must_use]
    pub fn is_in(&self, name: &str) -> bool {
        self.network == name || self.vlans.iter().any(|vlan| vlan.network == name)
    }
}

/// A network that a trunk port takes part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortVlan {
    /// The network.
    pub network: String,
    /// The tag that its frames have on the port.
    pub vlan: u16,
}

/// The origin of ports that the policy file declares.
pub const POLICY_ORIGIN: &str = "policy";

fn policy_origin() -> String {
    POLICY_ORIGIN.to_owned()
}

/// Body of `PUT /v1/ports/NAME`: a port that a runtime creates. Keys and meanings are those of
/// `[ports.NAME]` in the policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"network": "web", "security_groups": ["web"], "origin": "cni", "attach": {"netns": "/run/netns/pod-7"}}))]
pub struct RuntimePort {
    /// The network that it is in.
    pub network: String,
    /// The networks that it takes part in as well, by tagged frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<String>,
    /// Its addresses; none means assigned and kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Its MAC; none means derived from its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its groups; none means `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// Who creates it, for instance `cni`.
    pub origin: String,
    /// Where the workload is.
    pub attach: RuntimeAttach,
}

/// Where the workload of a [`RuntimePort`] is: `netns`, `device` or `tap`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeAttach {
    /// A namespace, by its name under `/run/netns` or by the path of a file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Whether vnet makes the namespace or the tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<bool>,
    /// The interface's name in there; `eth0` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A veth or tap that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// A tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// The user who may open a tap that vnet makes, by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// Answer to `PUT /v1/ports/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortCreated {
    /// The generation now in force.
    pub generation: u32,
    /// Whether anything changed: not if the same port was there already.
    pub changed: bool,
    /// The port, with the addresses and the MAC that it got.
    pub port: PortInfo,
}

/// Answer to `DELETE /v1/ports/NAME` and `DELETE /v1/ipam/ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortRemoved {
    /// The generation now in force.
    pub generation: u32,
    /// The port that was removed.
    pub port: String,
    /// Its addresses, free again.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// What could not be cleaned up; it is tried again with the next change.
    pub warnings: Vec<String>,
}

/// What a port is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AttachInfo {
    /// An interface that vnet made inside a network namespace.
    Netns {
        /// Name under `/run/netns`, or a path.
        netns: String,
        /// Whether vnet makes the namespace.
        create: bool,
        /// The interface's name in there.
        name: String,
    },
    /// A device that exists without vnet.
    Device {
        /// Its name.
        device: String,
    },
    /// A tap.
    Tap {
        /// Its name.
        tap: String,
        /// Whether vnet makes it.
        create: bool,
        /// The number of the user who may open it; none: root alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<u32>,
    },
    /// Another host looks after it.
    Remote {
        /// That host among the peers of an overlay; none: wherever in the segment it is.
        remote: Option<String>,
    },
}

/// Whether a port can carry traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// The device is up and has a carrier.
    Up,
    /// The device is there, but down or without carrier.
    Down,
    /// The device, or the workload that it led to, is gone.
    Missing,
    /// Another host looks after it, and knows.
    Remote,
}

/// Answer to `GET /v1/ports/NAME/stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortStats {
    /// The port.
    pub name: String,
    /// Its host-side device.
    pub device: String,
    /// The index of that device.
    pub ifindex: u32,
    /// Flows tracked now that begin or end at the port.
    pub flows: u64,
    /// What has reached the workload since its interface exists.
    pub ingress: Traffic,
    /// What the workload has sent, dropped or not.
    pub egress: Traffic,
    /// Packets dropped at the port, by reason, since its device exists.
    pub drops: Vec<DropCount>,
}

/// An amount of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Packets; segments that travel as one count as one.
    pub packets: u64,
    /// Bytes, with Ethernet headers.
    pub bytes: u64,
}
