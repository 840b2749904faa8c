//! The address pool: which addresses there are, and who has them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One entry of the answer to `GET /v1/ipam`: a subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The network.
    pub network: String,
    /// The subnet, as CIDR.
    pub subnet: String,
    /// The gateway, which no port gets.
    pub gateway: IpAddr,
    /// How many addresses ports may have; the largest number stands for more.
    pub size: u64,
    /// How many of them ports have.
    pub used: u64,
    /// How many are left.
    pub free: u64,
    /// Who has which, by address.
    pub leases: Vec<Lease>,
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: String,
    /// `policy`, or the runtime that created the port.
    pub origin: String,
    /// Whether its workload is there.
    pub state: LeaseState,
}

/// Whether the workload that has an address is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Its interface is in place.
    Live,
    /// Its namespace or device is gone.
    Gone,
}

/// One entry of the answer to `POST /v1/ipam/check`: something about an address that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamFinding {
    /// The address.
    pub address: IpAddr,
    /// The port that has it, or had.
    pub port: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub help: String,
}
