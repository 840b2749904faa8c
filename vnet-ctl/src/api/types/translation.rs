//! What leads from outside to workloads: forwards and elastic IPs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::{Affinity, OnChange};

/// One entry of the answer to `GET /v1/forwards`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "tcp/0.0.0.0:8080", "listen": "0.0.0.0:8080", "protocol": "tcp", "affinity": "flow", "backends": [{"to": "web-1:80", "port": "web-1", "weight": 1, "network": "web", "address": "10.10.0.10"}]}))]
pub struct ForwardInfo {
    /// What it is called: protocol and what is listened on.
    pub name: String,
    /// The address and the port, or range of ports, that is listened on.
    pub listen: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// What goes to the same of several backends: each connection (`flow`) or all of a `client`.
    #[schema(value_type = String)]
    pub affinity: Affinity,
    /// Where it leads, in the order of the policy.
    pub backends: Vec<BackendInfo>,
}

/// A workload that a forward leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendInfo {
    /// The port of the policy and the port number, or range, of the workload.
    pub to: String,
    /// The port of the policy.
    pub port: String,
    /// Its part of new connections, in proportion to the others' weights; with 0 it keeps those that it has.
    pub weight: u8,
    /// Its network.
    pub network: String,
    /// The workload's address that it leads to; absent while it has none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
}

/// One entry of the answer to `GET /v1/elastic_ips`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"elastic_ip": "198.51.100.20", "port": "web-1", "network": "web", "address": "10.10.0.10", "uplink": "eth0", "on_change": "cut"}))]
pub struct ElasticIpInfo {
    /// The public address.
    #[schema(value_type = String)]
    pub elastic_ip: IpAddr,
    /// The port that it stands for.
    pub port: String,
    /// That port's network.
    pub network: String,
    /// The workload's own address behind it; absent while it has none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The device behind which it is known; absent while there is none.
    #[serde(default)]
    pub uplink: Option<String>,
    /// What becomes of established flows when it goes to another port: `cut` or `keep`.
    #[schema(value_type = String)]
    pub on_change: OnChange,
}
