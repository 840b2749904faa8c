//! Who must be told that an address has a new owner.
//!
//! Decides it from the tables after a change and what changed in them: an address that is new or has another MAC is told
//! to the ports that its network had before, since only they can remember the last owner. An address that vnet answers for
//! at an uplink, an elastic IP or one of `snat`, and that is new, or behind another device or port, is told beyond that
//! uplink: whoever is there may remember another host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vnet_common::{EndpointKey, UplinkRecord, link};

use crate::{
    compile::{Difference, Tables},
    host::{Announcement, Claim},
};

/// Whom to tell of what once tables are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// What is told on bridges, where nothing gets lost.
    pub(super) inside: Vec<Announcement>,
    /// What is told beyond uplinks.
    pub(super) outside: Vec<Announcement>,
    /// What was known beyond an uplink, and is not any more or not as it was: the uplink and the address.
    pub(super) withdrawn: BTreeSet<(u32, IpAddr)>,
}

/// What to tell once `after` is in force, which differs in `difference` from what is.
pub(super) fn news(difference: &Difference, after: &Tables) -> News {
    let gone = difference.elastic_ips.values().filter_map(|change| change.before);
    News {
        inside: inside(difference, after),
        outside: outside(difference, after),
        withdrawn: gone.map(|elastic| (elastic.uplink, elastic.addr.to_std())).collect(),
    }
}

/// The addresses that are to be known beyond their uplinks.
fn outside(difference: &Difference, after: &Tables) -> Vec<Announcement> {
    let mac = |record: Option<UplinkRecord>| record.map(|record| record.mac);
    let is_another_device = |uplink: u32| {
        difference.uplinks.get(&uplink).is_some_and(|change| mac(change.before) != mac(change.after))
    };
    let moved = after.elastic_ips.iter().filter(|(place, elastic)| {
        let own = difference.elastic_ips.get(*place);
        own.is_some_and(|change| change.before != change.after) || is_another_device(elastic.uplink)
    });
    // A port with several private addresses has it once for each.
    let moved: BTreeSet<_> = moved.map(|(_, elastic)| (elastic.uplink, elastic.addr.to_std())).collect();
    let announcement = |(uplink, addr)| {
        let mac = after.uplinks.get(&uplink)?.mac;
        Some(Announcement { claim: Claim { bridge: uplink, addr, mac }, listeners: vec![uplink] })
    };
    moved.into_iter().filter_map(announcement).collect()
}

/// The addresses that are to be known inside their networks.
fn inside(difference: &Difference, after: &Tables) -> Vec<Announcement> {
    let newcomers = difference.endpoints.iter().filter_map(|(place, change)| {
        let endpoint = change.after.filter(|now| change.before.is_none_or(|old| old.mac != now.mac))?;
        let is_of_interest = place.0 & EndpointKey::ABROAD == 0 && !is_made_of_its_mac(place.1);
        is_of_interest.then_some((place, endpoint))
    });
    let newcomers: Vec<_> = newcomers.collect();
    let mut listeners: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    if newcomers.is_empty() {
        return Vec::new();
    }
    for (device, port) in &after.ports {
        let before = difference.ports.get(device).map_or(Some(*port), |change| change.before);
        // Who is beyond a link of a port has no device of its own.
        if !link::is_link(*device) && before.is_some_and(|old| old.network == port.network) {
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
const fn is_made_of_its_mac(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use vnet_common::{Delivery, ElasticIp, Endpoint, Ip, MacAddr, PortRecord};

    use super::*;

    const BRIDGE: u32 = 1;

    /// Ports by device, each with the last byte of its address and MAC.
    fn tables(ports: &[(u32, u8)]) -> Tables {
        let mut tables = Tables::default();
        for &(device, n) in ports {
            let mac = MacAddr([2, 0, 0, 0, 0, device as u8]);
            let record = PortRecord::new(BRIDGE, 1, mac, MacAddr([4; 6]));
            tables.ports.insert(device, record);
            let endpoint = Endpoint::port(device, Delivery::Peer, mac, 4, 1);
            tables.endpoints.insert((BRIDGE, [10, 0, 0, n].into()), endpoint);
            tables.endpoints.insert((BRIDGE, mac.link_local().to_std()), endpoint);
        }
        tables
    }

    fn told(before: &[(u32, u8)], after: &[(u32, u8)]) -> Vec<(IpAddr, u8, Vec<u32>)> {
        let (before, after) = (tables(before), tables(after));
        let news = news(&Difference::between(&before, &after), &after);
        assert!(news.outside.is_empty());
        news.inside.into_iter().map(|due| (due.claim.addr, due.claim.mac.0[5], due.listeners)).collect()
    }

    /// Elastic IPs that end in these bytes, behind uplinks with a MAC that ends in the index and `n`.
    fn public(elastic: &[(u8, u32)], n: u8) -> Tables {
        let mut tables = Tables::default();
        for &(last, uplink) in elastic {
            let mac = MacAddr([2, 0, 0, 0, uplink as u8, n]);
            tables.uplinks.insert(uplink, UplinkRecord::new(mac, 0));
            let addr = Ip::from_std([198, 51, 100, last].into());
            for private in [last, last + 100] {
                let place = (BRIDGE, [10, 0, 0, private].into());
                tables.elastic_ips.insert(place, ElasticIp { addr, uplink });
            }
        }
        tables
    }

    #[test]
    fn an_elastic_ip_is_announced_once_beyond_its_uplink() {
        let told = |before: &Tables, after: &Tables| {
            let news = news(&Difference::between(before, after), after);
            assert!(news.inside.is_empty());
            news.outside
                .into_iter()
                .map(|due| (due.claim.addr, due.claim.mac, due.listeners))
                .collect::<Vec<_>>()
        };
        let (none, one, both) = (Tables::default(), public(&[(1, 4)], 0), public(&[(1, 4), (2, 5)], 0));
        let announced = |last: u8, uplink: u8, n: u8| {
            let addr: IpAddr = [198, 51, 100, last].into();
            (addr, MacAddr([2, 0, 0, 0, uplink, n]), vec![u32::from(uplink)])
        };
        assert_eq!(told(&none, &both), [announced(1, 4, 0), announced(2, 5, 0)]);
        assert_eq!(told(&one, &both), [announced(2, 5, 0)]);
        assert_eq!(told(&both, &one), []);
        assert_eq!(told(&one, &public(&[(1, 5)], 0)), [announced(1, 5, 0)], "another uplink");
        assert_eq!(told(&one, &public(&[(1, 4)], 9)), [announced(1, 4, 9)], "another MAC");
        let mut smaller = one.clone();
        smaller.uplinks.values_mut().for_each(|record| record.mtu = 1400);
        assert_eq!(told(&one, &smaller), [], "another MTU");
        let mut moved = one.clone();
        let elastic = moved.elastic_ips.remove(&(BRIDGE, [10, 0, 0, 1].into())).unwrap();
        moved.elastic_ips.insert((BRIDGE, [10, 0, 0, 7].into()), elastic);
        assert_eq!(told(&one, &moved), [announced(1, 4, 0)], "another port");
    }

    #[test]
    fn what_an_uplinks_neighbours_know_no_more_is_withdrawn() {
        let withdrawn = |before: &Tables, after: &Tables| {
            news(&Difference::between(before, after), after).withdrawn.into_iter().collect::<Vec<_>>()
        };
        let (none, one, both) = (Tables::default(), public(&[(1, 4)], 0), public(&[(1, 4), (2, 5)], 0));
        assert_eq!(withdrawn(&none, &both), []);
        assert_eq!(withdrawn(&both, &one), [(5, [198, 51, 100, 2].into())]);
        assert_eq!(withdrawn(&one, &public(&[(1, 5)], 0)), [(4, [198, 51, 100, 1].into())], "another uplink");
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
