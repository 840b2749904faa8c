//! By which links networks go beyond this host, who has a MAC, and the peers of overlays, made from a policy and its
//! devices.

use std::{collections::BTreeMap, net::IpAddr};

use vnet_common::{Link, LinkKey, MacAddr, Station};

use super::Devices;
use crate::policy::Policy;

/// The links of networks, by what arrives, by what leaves, and where each network floods.
pub(super) fn links(policy: &Policy, devices: &Devices) -> BTreeMap<LinkKey, Link> {
    let _ = (policy, devices);
    BTreeMap::new()
}

/// Who has a MAC, in networks that go beyond this host: their ports and gateways.
pub(super) fn stations(policy: &Policy, devices: &Devices) -> BTreeMap<(u32, MacAddr), Station> {
    let _ = (policy, devices);
    BTreeMap::new()
}

/// The peers of overlays, numbered from 1 in each.
pub(super) fn vteps(policy: &Policy) -> BTreeMap<(u32, IpAddr), u32> {
    let _ = policy;
    BTreeMap::new()
}
