//! Ports as they are in force, and what passed through them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DropCount;

/// One entry of the answer to `GET /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "web-1", "network": "web", "device": "vp-web-1", "ifindex": 12, "mac": "02:00:00:00:00:0a", "addresses": ["10.10.0.10", "fd00:10::a"], "security_groups": ["web"], "attach": {"netns": "web-1", "create": true, "name": "eth0"}, "state": "up"}))]
pub struct PortInfo {
    /// Its name in the policy.
    pub name: String,
    /// Its network.
    pub network: String,
    /// The host-side device.
    pub device: String,
    /// The index of that device.
    pub ifindex: u32,
    /// The workload's MAC.
    pub mac: String,
    /// The workload's addresses, given or assigned.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// What it is attached to.
    pub attach: AttachInfo,
    /// Whether it can carry traffic now.
    pub state: PortState,
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
}

/// Whether a port can carry traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// The device is up and has a carrier.
    Up,
    /// The device is there, but down or without carrier.
    Down,
    /// The device is gone.
    Missing,
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
