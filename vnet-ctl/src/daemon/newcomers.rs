//! Who must be told that an address has a new owner.
//!
//! Decides it from the tables after a change and what changed in them: an address that is new or has another MAC is told
//! to the ports that its network had before, since only they can remember the last owner.

use std::collections::BTreeMap;

use crate::{
    compile::{Difference, Tables},
    host::{Announcement, Claim},
};

/// What to announce once `after` is in force, which differs in `difference` from what is.
pub(super) fn announcements(difference: &Difference, after: &Tables) -> Vec<Announcement> {
    let newcomers = difference.endpoints.iter().filter_map(|(place, change)| {
        let endpoint = change.after.filter(|now| change.before.is_none_or(|old| old.mac != now.mac))?;
        (!is_made_of_its_mac(place.1)).then_some((place, endpoint))
    });
    let newcomers: Vec<_> = newcomers.collect();
    let mut listeners: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    if newcomers.is_empty() {
        return Vec::new();
    }
    for (device, port) in &after.ports {
        let before = difference.ports.get(device).map_or(Some(*port), |change| change.before);
        if before.is_some_and(|old| old.network == port.network) {
            listeners.entry(port.network).or_default().push(*device);
        }
    }
    let announcement = |(&(bridge, addr), endpoint): (&(u32, _), vnet_common::Endpoint)| Announcement {
        claim: Claim { bridge, addr, mac: endpoint.mac },
        listeners: others(listeners.get(&bridge), endpoint.device),
    };
    newcomers.into_iter().map(announcement).collect()
}

fn others(listeners: Option<&Vec<u32>>, device: u32) -> Vec<u32> {
    listeners.into_iter().flatten().copied().filter(|listener| *listener != device).collect()
}

/// Whether another owner of the address would have the same MAC: it is link-local.
const fn is_made_of_its_mac(addr: std::net::IpAddr) -> bool {
    matches!(addr, std::net::IpAddr::V6(addr) if addr.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use vnet_common::{Delivery, Endpoint, MacAddr, PortRecord};

    use super::*;

    const BRIDGE: u32 = 1;

    /// Ports by device, each with the last byte of its address and MAC.
    fn tables(ports: &[(u32, u8)]) -> Tables {
        let mut tables = Tables::default();
        for &(device, n) in ports {
            let mac = MacAddr([2, 0, 0, 0, 0, device as u8]);
            let record = PortRecord { network: BRIDGE, group_set: 1, mac, gateway_mac: MacAddr([4; 6]) };
            tables.ports.insert(device, record);
            let endpoint = Endpoint::port(device, Delivery::Peer, mac, 4, 1);
            tables.endpoints.insert((BRIDGE, [10, 0, 0, n].into()), endpoint);
            tables.endpoints.insert((BRIDGE, mac.link_local().to_std()), endpoint);
        }
        tables
    }

    fn told(before: &[(u32, u8)], after: &[(u32, u8)]) -> Vec<(IpAddr, u8, Vec<u32>)> {
        let (before, after) = (tables(before), tables(after));
        let due = announcements(&Difference::between(&before, &after), &after);
        due.into_iter().map(|due| (due.claim.addr, due.claim.mac.0[5], due.listeners)).collect()
    }

    #[test]
    fn the_first_ports_have_nobody_to_tell() {
        assert!(told(&[], &[(7, 10), (8, 11)]).iter().all(|(_, _, listeners)| listeners.is_empty()));
    }

    #[test]
    fn what_stays_is_not_announced() {
        assert_eq!(told(&[(7, 10), (8, 11)], &[(7, 10)]), []);
    }

    #[test]
    fn those_who_were_there_are_told_of_a_new_owner() {
        assert_eq!(
            told(&[(7, 10), (8, 11)], &[(8, 11), (9, 10), (10, 12)]),
            [([10, 0, 0, 10].into(), 9, vec![8]), ([10, 0, 0, 12].into(), 10, vec![8])]
        );
    }

    #[test]
    fn ports_that_swap_their_addresses_are_told_of_each_other() {
        assert_eq!(
            told(&[(7, 10), (8, 11), (9, 12)], &[(7, 11), (8, 10), (9, 12)]),
            [([10, 0, 0, 10].into(), 8, vec![7, 9]), ([10, 0, 0, 11].into(), 7, vec![8, 9])]
        );
    }
}
