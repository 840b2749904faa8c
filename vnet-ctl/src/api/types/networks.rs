//! Networks as they are in force.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One entry of the answer to `GET /v1/networks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its name in the policy.
    pub name: String,
    /// `nat` or `private`.
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
    /// How many ports are in it.
    pub ports: usize,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetInfo {
    /// As CIDR.
    pub subnet: String,
    /// The host's address in it.
    pub gateway: IpAddr,
}
