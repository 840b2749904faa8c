//! What was dropped, and why.

use serde::{Deserialize, Serialize};

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
