//! Tracked flows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Traffic;

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
