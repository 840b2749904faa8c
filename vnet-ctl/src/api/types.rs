//! The words of the API: what travels as JSON between the daemon and its clients.
//!
//! Field names are stable snake_case. A client of an older version ignores fields it does not know.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::policy::Diagnostic;

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of the layouts that it shares with the datapath.
    pub abi: u32,
    /// Its process.
    pub pid: u32,
    /// The policy file that it was started with.
    pub policy_path: PathBuf,
    /// Where it remembers what it assigned.
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
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
}

/// How many flows are tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounts {
    /// Over IPv4.
    pub v4: u64,
    /// Over IPv6.
    pub v6: u64,
}

/// Body of `POST /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUpdate {
    /// The whole policy file.
    pub text: String,
    /// Where the text comes from; errors name it.
    pub origin: PathBuf,
}

/// Answer to `POST /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The generation now in force.
    pub generation: u32,
    /// What was done, one sentence each; empty when all of it held already.
    pub changes: Vec<String>,
    /// What the author of the policy may not have meant.
    pub warnings: Vec<String>,
}

/// One entry of the answer to `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number; the daemon counts from 1.
    pub id: u64,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// What happened, in a sentence.
    pub message: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Another policy is in force, or ports came or went.
    Applied,
    /// What somebody else changed on the host was put right.
    Repaired,
    /// Something is not as it should be.
    Problem,
}

/// Query of `GET /v1/events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsQuery {
    /// Only events after the one with this number.
    #[serde(default)]
    pub after: u64,
    /// Wait until there are any.
    #[serde(default)]
    pub wait: bool,
}

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

/// One entry of the answer to `GET /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub addresses: Vec<IpAddr>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// What it is attached to.
    pub attach: AttachInfo,
    /// Whether it can carry traffic now.
    pub state: PortState,
}

/// What a port is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets; segments that travel as one count as one.
    pub packets: u64,
    /// Bytes, with Ethernet headers.
    pub bytes: u64,
}

/// Answer to `GET /v1/drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReport {
    /// All drops by reason; reasons without drops are absent.
    pub total: Vec<DropCount>,
    /// Drops by port and reason.
    pub ports: Vec<PortDrops>,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// The reason's stable name.
    pub reason: String,
    /// Its number.
    pub number: u32,
    /// How many.
    pub packets: u64,
    /// What it means.
    pub explanation: String,
}

/// Packets dropped at one device for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDrops {
    /// The port, or the device's own name or index where no port of the policy has it.
    pub port: String,
    /// The device's index.
    pub ifindex: u32,
    /// The reason's stable name.
    pub reason: String,
    /// Its number.
    pub number: u32,
    /// How many.
    pub packets: u64,
}

/// One entry of the answer to `GET /v1/flows`: both directions of a tracked flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowInfo {
    /// `tcp`, `udp`, … or the number.
    pub protocol: String,
    /// Where the flow stands: `new`, `syn_received`, `established`, `fin_wait`, `time_wait`, `closed`.
    pub state: String,
    /// Who opened it: a port, or `host`.
    pub from: String,
    /// To whom: a port, or `host`.
    pub to: String,
    /// The opener's address.
    pub src: IpAddr,
    /// The opener's port, or the identifier of an ICMP echo.
    pub src_port: u16,
    /// The other end's address.
    pub dst: IpAddr,
    /// The other end's port.
    pub dst_port: u16,
    /// What the opener sent.
    pub original: Traffic,
    /// What came back.
    pub reply: Traffic,
    /// Seconds since the last packet of either direction.
    pub idle_secs: u64,
    /// Seconds of silence after which it is forgotten.
    pub timeout_secs: u64,
    /// The generation that allowed it last.
    pub generation: u32,
    /// The sender's egress rule that allowed it.
    pub egress_rule: Option<String>,
    /// The receiver's ingress rule that allowed it.
    pub ingress_rule: Option<String>,
}

/// Query of `GET /v1/flows` and `DELETE /v1/flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsQuery {
    /// A [`crate::datapath::FlowFilter`] as text; absent or empty means all flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Answer to `DELETE /v1/flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsRemoved {
    /// How many flows.
    pub removed: u64,
}

/// Query of `POST /v1/shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownQuery {
    /// Whether everything is removed first.
    #[serde(default)]
    pub teardown: bool,
}

/// Answer to `POST /v1/shutdown`, and what `vnet-ctl teardown` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownReport {
    /// What was removed, one sentence each.
    pub removed: Vec<String>,
    /// What could not be removed, and why.
    pub problems: Vec<String>,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One sentence: what went wrong, and where.
    pub error: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The errors of a policy file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// The same with the source underlined, for a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<String>,
}
