//! What became of the ways out of networks, and of those to the rest of their segments, while nobody changed the
//! policy: in words.
//!
//! Pure: what was in force and what is, in; sentences out. Bringing it about is [`super::engine`]'s affair.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::MacAddr;

use super::view::View;
use crate::{
    api::types::EventKind,
    compile::{SegmentDevice, UplinkDevice, exit_addresses},
};

/// What is to be told of the way from `before` to `after`.
pub(super) fn news(before: &View, after: &View) -> Vec<(EventKind, String)> {
    let mut told: BTreeMap<(bool, String), BTreeSet<&str>> = BTreeMap::new();
    for (name, network) in &after.policy.networks {
        // A network that was declared otherwise is no news.
        if before.policy.networks.get(name) != Some(network) {
            continue;
        }
        let mut tell = |is_lost, what| _ = told.entry((is_lost, what)).or_default().insert(name);
        let way = |segment: &SegmentDevice| (segment.ifindex, segment.mac, segment.mtu);
        let [was, is] = [before, after].map(|view| view.devices.segments.get(name).map(way));
        follow("the way to the rest of the segment", (before, was), (after, is), &mut tell);
        let (was, is) = (before.devices.uplinks.get(name), after.devices.uplinks.get(name));
        let way = |uplink: &UplinkDevice| (uplink.ifindex, uplink.mac, uplink.mtu);
        follow("the way out", (before, was.map(way)), (after, is.map(way)), &mut tell);
        let addresses = |uplink: Option<&UplinkDevice>, is_ipv4| {
            let uplink = uplink.filter(|_| is.is_some());
            uplink.map(|uplink| exit_addresses(network, uplink, is_ipv4)).unwrap_or_default()
        };
        for (is_ipv4, version) in [(true, "IPv4"), (false, "IPv6")] {
            let (was, now) = (addresses(was, is_ipv4), addresses(is, is_ipv4));
            let Some(is) = is.filter(|_| was != now) else { continue };
            let device = after.device(is.ifindex);
            match now.first() {
                Some(addr) => tell(false, format!("the address of {device} is now {addr}")),
                None => tell(true, format!("{device} has no {version} address any more")),
            }
        }
    }
    told.into_iter().map(|((is_lost, what), networks)| sentence(is_lost, &what, &networks)).collect()
}

/// Index, MAC and MTU of a device.
type Way = (u32, MacAddr, u32);

/// Tells what became of a way, and whether it was lost.
fn follow(
    what: &str,
    (before, was): (&View, Option<Way>),
    (after, is): (&View, Option<Way>),
    tell: &mut impl FnMut(bool, String),
) {
    match (was, is) {
        (_, Some((ifindex, ..))) if was.is_none_or(|(before, ..)| before != ifindex) => {
            tell(false, format!("{what} is {} now", after.device(ifindex)));
        }
        (Some((ifindex, ..)), None) => tell(true, format!("{what} by {} is gone", before.device(ifindex))),
        (Some((_, old_mac, old_mtu)), Some((ifindex, mac, mtu))) => {
            let device = after.device(ifindex);
            if old_mac != mac {
                tell(false, format!("the MAC of {device} is now {mac}"));
            }
            if old_mtu != mtu {
                tell(false, format!("the MTU of {device} is now {mtu} bytes"));
            }
        }
        (None, _) => {}
    }
}

fn sentence(is_lost: bool, what: &str, networks: &BTreeSet<&str>) -> (EventKind, String) {
    let networks = networks.iter().copied().collect::<Vec<_>>().join(", ");
    if is_lost {
        return (EventKind::Problem, format!("{what}: what networks {networks} send there is dropped"));
    }
    (EventKind::Followed, format!("{what}: networks {networks} leave with it"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compile::Devices;

    const TEXT: &str = "version = 1\nnetworks.db = { type = \"nat\", subnets = [\"10.20.0.0/24\"] }\n\
                        networks.web = { type = \"nat\", subnets = [\"10.10.0.0/24\", \"fd00::/64\"] }\n";

    /// Both networks leave by a device with this index and these addresses.
    fn view(uplink: Option<(u32, &[&str])>) -> View {
        let (policy, _) = crate::policy::parse(TEXT, Path::new("policy.toml")).unwrap();
        let mut devices = Devices::default();
        if let Some((ifindex, addresses)) = uplink {
            let addresses = addresses.iter().map(|addr| addr.parse().unwrap()).collect();
            let uplink = UplinkDevice::new(ifindex, MacAddr([2; 6]), addresses, 1500);
            devices.uplinks = ["db", "web"].map(|network| (network.to_owned(), uplink.clone())).into();
        }
        let device_names = [(4, "eth0".to_owned()), (5, "eth1".to_owned())].into();
        View { policy: policy.into(), devices, device_names, ..View::default() }
    }

    fn told(before: Option<(u32, &[&str])>, after: Option<(u32, &[&str])>) -> Vec<String> {
        news(&view(before), &view(after)).into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn another_address_is_told_once_for_all_networks() {
        assert_eq!(
            told(Some((4, &["198.51.100.2"])), Some((4, &["198.51.100.7", "198.51.100.2"]))),
            ["the address of eth0 is now 198.51.100.7: networks db, web leave with it"]
        );
        assert!(told(Some((4, &["198.51.100.2"])), Some((4, &["198.51.100.2", "198.51.100.3"]))).is_empty());
        assert_eq!(
            told(Some((4, &["198.51.100.2"])), Some((4, &[]))),
            ["eth0 has no IPv4 address any more: what networks db, web send there is dropped"]
        );
    }

    #[test]
    fn another_way_out_is_told_with_its_addresses() {
        assert_eq!(
            told(Some((4, &["198.51.100.2"])), Some((5, &["203.0.113.2"]))),
            [
                "the address of eth1 is now 203.0.113.2: networks db, web leave with it",
                "the way out is eth1 now: networks db, web leave with it",
            ]
        );
        let lost = news(&view(Some((4, &["198.51.100.2"]))), &view(None));
        let words = "the way out by eth0 is gone: what networks db, web send there is dropped";
        assert_eq!(lost, [(EventKind::Problem, words.to_owned())]);
        assert_eq!(
            told(None, Some((4, &["2001:db8::2"]))),
            [
                "the address of eth0 is now 2001:db8::2: networks web leave with it",
                "the way out is eth0 now: networks db, web leave with it",
            ]
        );
    }

    #[test]
    fn another_mtu_is_told() {
        let (before, mut after) = (view(Some((4, &["198.51.100.2"]))), view(Some((4, &["198.51.100.2"]))));
        after.devices.uplinks.values_mut().for_each(|uplink| uplink.mtu = 1400);
        let words = "the MTU of eth0 is now 1400 bytes: networks db, web leave with it";
        assert_eq!(news(&before, &after), [(EventKind::Followed, words.to_owned())]);
    }

    #[test]
    fn another_way_to_the_rest_of_a_segment_is_told() {
        let beyond = |segment: Option<SegmentDevice>| {
            let mut view = view(None);
            view.devices.segments = segment.map(|segment| ("web".to_owned(), segment)).into_iter().collect();
            view
        };
        let trunk = SegmentDevice { ifindex: 4, mac: MacAddr([2; 6]), mtu: 1500 };
        let told = |before, after| {
            let news = news(&beyond(before), &beyond(after));
            news.into_iter().map(|(_, words)| words).collect::<Vec<_>>()
        };
        assert_eq!(
            told(Some(trunk), None),
            ["the way to the rest of the segment by eth0 is gone: what networks web send there is dropped"]
        );
        let came = "the way to the rest of the segment is eth0 now: networks web leave with it";
        assert_eq!(told(None, Some(trunk)), [came]);
        let replaced = SegmentDevice { mac: MacAddr([4; 6]), mtu: 9000, ..trunk };
        assert_eq!(
            told(Some(trunk), Some(replaced)),
            [
                "the MAC of eth0 is now 04:04:04:04:04:04: networks web leave with it",
                "the MTU of eth0 is now 9000 bytes: networks web leave with it",
            ]
        );
        assert!(told(Some(trunk), Some(trunk)).is_empty());
    }

    #[test]
    fn what_a_person_changed_is_no_news() {
        let (before, mut after) = (view(None), view(Some((4, &["198.51.100.2"]))));
        let mut policy = crate::policy::Policy::clone(&after.policy);
        for network in policy.networks.values_mut() {
            network.mtu = 1400;
        }
        after.policy = policy.into();
        assert!(news(&before, &after).is_empty());
    }
}
