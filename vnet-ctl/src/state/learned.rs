//! The addresses that ports were heard with, as they are kept: a lease lasts beyond the daemon.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

/// The addresses that ports were heard with, by the port's name.
pub type LearnedAddresses = BTreeMap<String, Vec<Learned>>;

/// An address that a port was heard with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The address.
    pub address: IpAddr,
    /// In which network.
    pub network: String,
    /// Since when, in seconds since the boot.
    pub since_secs: u64,
    /// Until when a DHCP server lets the port have it, in seconds since the boot; none: the port itself claims it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until_secs: Option<u64>,
}
