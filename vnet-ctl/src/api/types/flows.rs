//! Tracked flows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Traffic;

/// One entry of the answer to `GET /v1/flows`: both directions of a tracked flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    #[schema(value_type = String)]
    pub src: IpAddr,
    /// The opener's port, or the identifier of an ICMP echo.
    pub src_port: u16,
    /// The other end's address.
    #[schema(value_type = String)]
    pub dst: IpAddr,
    /// The other end's port.
    pub dst_port: u16,
    /// The addresses and ports with which its packets leave, if they are translated on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<Translated>,
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

/// What the opener's packets carry once they are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Translated {
    /// The source address.
    #[schema(value_type = String)]
    pub src: IpAddr,
    /// The source port, or the identifier of an ICMP echo.
    pub src_port: u16,
    /// The destination address.
    #[schema(value_type = String)]
    pub dst: IpAddr,
    /// The destination port.
    pub dst_port: u16,
}

/// Query of `GET /v1/flows` and `DELETE /v1/flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FlowsQuery {
    /// A [`crate::datapath::FlowFilter`] as text; absent or empty means all flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Answer to `DELETE /v1/flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowsRemoved {
    /// How many flows.
    pub removed: u64,
}
