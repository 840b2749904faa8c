//! How long the way out lasts that the host's default route told of, once there is no such route.
//!
//! A DHCP client takes the route away before it has the next one, and one that router advertisements bring may lapse for
//! a moment. What leaves meanwhile is lost as it would be without vnet, but the flows need not end. So the device stays
//! the way out for a while, as long as it is up and has one of the addresses that it had. Another default route is
//! followed at once.
//!
//! Pure: what was seen and when in, what is to be taken as seen and when to look again out.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    api::types::EventKind,
    plan::{DefaultRoute, Desired, Link, Observed},
};

/// 5 s: what hosts take that ask once more. A DHCP client waits 4 s, give or take one, for its first answer (RFC 2131
/// section 4.1); routers are solicited every 4 s and answer within 0.5 s (RFC 4861 section 10).
const GRACE: Duration = Duration::from_secs(5);

/// The last way out that was seen.
#[derive(Debug, Default)]
pub(super) struct Grace {
    last: Option<Way>,
    ends: Option<Instant>,
    news: Vec<(EventKind, String)>,
}

#[derive(Debug)]
struct Way {
    ifindex: u32,
    addresses: Vec<IpAddr>,
}

impl Way {
    /// Whether packets may still leave by `link`.
    fn is_open(&self, link: &Link) -> bool {
        link.ifindex == self.ifindex
            && link.up
            && link.global.iter().any(|addr| self.addresses.contains(addr))
    }
}

impl Grace {
    /// Puts the last way out into what was `observed` at `now`, if none is there and its time is not over.
    pub(super) fn extend(&mut self, desired: &Desired, observed: &mut Observed, now: Instant) {
        if !desired.follows_default_route() {
            return;
        }
        if let Some(link) = observed.way_out() {
            let (ifindex, addresses) = (link.ifindex, link.global.clone());
            if self.ends.take().is_some() {
                let message = format!("the host has a default route again: {}", leaving(desired, &link.name));
                self.news.push((EventKind::Followed, message));
            }
            self.last = Some(Way { ifindex, addresses });
            return;
        }
        let open = |way: &Way| observed.links.get(&way.ifindex).filter(|link| way.is_open(link));
        let Some(link) = self.last.as_ref().and_then(open) else {
            (self.last, self.ends) = (None, None);
            return;
        };
        let ends = *self.ends.get_or_insert_with(|| {
            let (leaving, secs) = (leaving(desired, &link.name), GRACE.as_secs());
            let message = format!("the host has no default route any more: {leaving} for {secs} s yet");
            self.news.push((EventKind::Problem, message));
            now + GRACE
        });
        if now < ends {
            let route = DefaultRoute { ifindex: link.ifindex, is_ipv4: true, metric: u32::MAX };
            observed.default_routes.push(route);
        } else {
            (self.last, self.ends) = (None, None);
        }
    }

    /// When to look again.
    pub(super) const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// What is to be told of it.
    pub(super) fn take_news(&mut self) -> Vec<(EventKind, String)> {
        std::mem::take(&mut self.news)
    }
}

/// Who leaves by `device`.
fn leaving(desired: &Desired, device: &str) -> String {
    let follows = desired.networks.iter().filter(|(_, network)| network.follows_default_route());
    let names: Vec<_> = follows.map(|(name, _)| name.as_str()).collect();
    format!("networks {} leave by {device}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use vnet_common::MacAddr;

    use super::*;
    use crate::plan::{Network, Uplink};

    fn desired() -> Desired {
        let network = Network {
            bridge: "vnet-web".to_owned(),
            mac: MacAddr([2; 6]),
            mtu: 1500,
            gateways: Vec::new(),
            uplink: Uplink::DefaultRoute,
            groups: std::collections::BTreeSet::new(),
            segment: None,
            stations: std::collections::BTreeSet::new(),
        };
        Desired { networks: [("web".to_owned(), network)].into(), ..Desired::default() }
    }

    /// Two devices, with the default route by one of them.
    fn host(route: Option<u32>) -> Observed {
        let link = |ifindex: u32| Link {
            ifindex,
            name: format!("eth{ifindex}"),
            up: true,
            global: vec![[198, 51, 100, ifindex as u8].into(), [203, 0, 113, ifindex as u8].into()],
            ..Link::default()
        };
        let route = route.map(|ifindex| DefaultRoute { ifindex, is_ipv4: false, metric: 1 });
        Observed {
            links: [4, 5].map(|ifindex| (ifindex, link(ifindex))).into(),
            default_routes: route.into_iter().collect(),
            ..Observed::default()
        }
    }

    /// A host as it is after so many milliseconds, and the way out that is expected then.
    type Look = (u64, Observed, Option<u32>);

    fn looks(looks: Vec<Look>) -> Grace {
        let (mut grace, start) = (Grace::default(), Instant::now());
        for (ms, mut observed, expected) in looks {
            grace.extend(&desired(), &mut observed, start + Duration::from_millis(ms));
            assert_eq!(observed.way_out().map(|link| link.ifindex), expected, "after {ms} ms");
        }
        grace
    }

    #[test]
    fn a_way_out_lasts_for_a_while_without_a_route() {
        let mut grace = looks(vec![
            (0, host(Some(4)), Some(4)),
            (100, host(None), Some(4)),
            (5099, host(None), Some(4)),
            (5100, host(None), None),
            (5200, host(None), None),
        ]);
        assert_eq!(grace.ends(), None);
        let words = "the host has no default route any more: networks web leave by eth4 for 5 s yet";
        assert_eq!(grace.take_news(), [(EventKind::Problem, words.to_owned())]);
    }

    #[test]
    fn a_route_that_comes_back_ends_the_waiting() {
        let mut grace = looks(vec![
            (0, host(Some(4)), Some(4)),
            (100, host(None), Some(4)),
            (1000, host(Some(4)), Some(4)),
            (8000, host(None), Some(4)),
        ]);
        assert!(grace.ends().is_some());
        let kinds: Vec<_> = grace.take_news().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [EventKind::Problem, EventKind::Followed, EventKind::Problem]);
        assert!(grace.take_news().is_empty());
    }

    #[test]
    fn another_route_is_followed_at_once() {
        looks(vec![
            (0, host(Some(4)), Some(4)),
            (100, host(None), Some(4)),
            (200, host(Some(5)), Some(5)),
            (300, host(None), Some(5)),
        ]);
    }

    #[test]
    fn a_device_that_is_down_or_gone_or_has_another_address_is_no_way_out() {
        let changed = |change: fn(&mut Observed)| {
            let mut observed = host(None);
            change(&mut observed);
            observed
        };
        let gone = || changed(|host| _ = host.links.remove(&4));
        let down = || changed(|host| host.links.get_mut(&4).unwrap().up = false);
        let moved = || changed(|host| host.links.get_mut(&4).unwrap().global = vec![[192, 0, 2, 1].into()]);
        let fewer = || changed(|host| _ = host.links.get_mut(&4).unwrap().global.pop());
        for closed in [gone(), down(), moved()] {
            let grace =
                looks(vec![(0, host(Some(4)), Some(4)), (100, closed, None), (200, host(None), None)]);
            assert_eq!(grace.ends(), None);
        }
        looks(vec![(0, host(Some(4)), Some(4)), (100, fewer(), Some(4)), (200, gone(), None)]);
    }

    #[test]
    fn who_begins_without_a_route_has_no_way_out() {
        looks(vec![(0, host(None), None)]);
    }
}
