//! Networks as they are in force.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::Segment;

/// One entry of the answer to `GET /v1/networks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkInfo {
    /// Its name in the policy.
    pub name: String,
    /// `nat`, `private`, `routed` or `bridged`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's index.
    pub ifindex: u32,
    /// The bridge's MAC, which is the gateway's.
    pub mac: String,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its subnets.
    pub subnets: Vec<SubnetInfo>,
    /// The networks that it is routed with, whichever of them says so.
    pub connected: Vec<String>,
    /// Whether the host and its ports may speak.
    pub host: bool,
    /// The addresses that its packets leave with outside, if there is a way out.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub exit_addresses: Vec<IpAddr>,
    /// How many ports are in it, trunk ports among them.
    pub ports: usize,
    /// The device that its packets leave by: the one in use, else the one that the policy names as the way outside, to
    /// its LAN or to the peers of its overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// The addresses that they leave with, as the policy has them; none: the uplink's own.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub snat: Vec<IpAddr>,
    /// The source ports that they may get, as in `1024-32767`; only of networks of type `nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat_ports: Option<String>,
    /// The prefixes to which they leave untranslated.
    #[serde(default)]
    pub no_snat: Vec<String>,
    /// For whom the source port holds that a workload's port becomes: `endpoint-dependent` or
    /// `endpoint-independent`; only of networks of type `nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
    /// Whether SYNs that are routed announce no larger segments than fit the way.
    #[serde(default)]
    pub clamp_mss: bool,
    /// How it goes beyond this host, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Segment>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubnetInfo {
    /// As CIDR.
    pub subnet: String,
    /// The host's address in it; in a bridged network the LAN's router.
    #[schema(value_type = String)]
    pub gateway: IpAddr,
}
