//! How the daemon stands, and its end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of the layouts that it shares with the datapath.
    pub abi: u32,
    /// Its process.
    pub pid: u32,
    /// The policy file that it was started with.
    #[schema(value_type = String)]
    pub policy_path: PathBuf,
    /// Where it remembers what it assigned.
    #[schema(value_type = String)]
    pub state_dir: PathBuf,
    /// The policy generation in force.
    pub generation: u32,
    /// Networks of the policy in force.
    pub networks: usize,
    /// Ports of the policy in force.
    pub ports: usize,
    /// Rules of its security groups.
    pub rules: usize,
    /// Flows tracked now.
    pub flows: FlowCounts,
    /// Memory that it takes.
    #[serde(default)]
    pub memory: Memory,
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// The policy that waits for its confirmation.
    #[serde(default)]
    pub pending: Option<PendingInfo>,
    /// The devices that lead outside.
    #[serde(default)]
    pub uplinks: Vec<UplinkInfo>,
    /// What does not work on this host, and why.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// A policy that is rolled back unless somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingInfo {
    /// For how many seconds it still waits; 0 while it is being rolled back.
    pub seconds_left: u64,
    /// The generation that it became.
    pub generation: u32,
}

/// A device that leads outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkInfo {
    /// Its name.
    pub device: String,
    /// Who runs the XDP program that drops early what is dropped anyway: `native` (its driver), `generic` (the kernel) or
    /// `off` (nobody).
    pub xdp: String,
    /// Why nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    /// Of the kernel, for all tables.
    pub tables: u64,
    /// Of the daemon.
    pub daemon: u64,
}

/// How many flows are tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowCounts {
    /// Over IPv4.
    pub v4: u64,
    /// Over IPv6.
    pub v6: u64,
    /// How many have room over IPv4.
    #[serde(default)]
    pub most_v4: u64,
    /// How many have room over IPv6.
    #[serde(default)]
    pub most_v6: u64,
}

/// Query of `POST /v1/shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ShutdownQuery {
    /// Whether everything is removed first.
    #[serde(default)]
    pub teardown: bool,
}

/// Answer to `POST /v1/shutdown`, and what `vnet-ctl teardown` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeardownReport {
    /// What was removed, one sentence each.
    pub removed: Vec<String>,
    /// What could not be removed, and why.
    pub problems: Vec<String>,
}
