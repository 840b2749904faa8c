//! The routers that the host leaves by, and what they do not lead to.
//!
//! The datapath names a router for what nothing else of the routing table says something about. Where that is not
//! plain to see (rules of other tables, several next hops, routes by type of service), none is known, and the kernel
//! looks for each packet's way.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType},
    rule::{RuleAttribute, RuleMessage},
};

use super::ask::Asker;
use crate::plan::Routers;

/// More prefixes than this are not worth their room: the kernel looks.
const MOST_ASIDE: usize = 256;

/// The tables of every host: local, main, default.
const USUAL_TABLES: [u8; 3] = [255, 254, 253];

/// Those of each link that the routes `messages` lead out of, in the namespace of `netlink`; `is_ours` tells vnet's own
/// links, whose prefixes nobody looks for outside.
pub(super) fn routers(
    netlink: &mut Asker,
    messages: &[RouteMessage],
    is_ours: impl Fn(u32) -> bool,
) -> Result<BTreeMap<u32, Routers>> {
    let mut routers = BTreeMap::new();
    for is_ipv4 in [true, false] {
        if are_rules_usual(netlink, is_ipv4)? {
            of_version(messages, is_ipv4, &is_ours, &mut routers);
        }
    }
    Ok(routers)
}

/// Whether no rule leads to tables that others have not.
fn are_rules_usual(netlink: &mut Asker, is_ipv4: bool) -> Result<bool> {
    let mut question = RuleMessage::default();
    question.header.family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let answers = netlink.list(RouteNetlinkMessage::GetRule(question)).context("list routing rules")?;
    let is_usual = |answer: &RouteNetlinkMessage| {
        let RouteNetlinkMessage::NewRule(rule) = answer else { return true };
        let is_plain = rule.attributes.iter().all(|attribute| {
            matches!(
                attribute,
                RuleAttribute::Table(_)
                    | RuleAttribute::Priority(_)
                    | RuleAttribute::Protocol(_)
                    | RuleAttribute::SuppressPrefixLen(u32::MAX)
            )
        });
        is_plain && USUAL_TABLES.contains(&rule.header.table)
    };
    Ok(answers.iter().all(is_usual))
}

fn of_version(
    messages: &[RouteMessage],
    is_ipv4: bool,
    is_ours: impl Fn(u32) -> bool,
    routers: &mut BTreeMap<u32, Routers>,
) {
    let family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let routes = messages.iter().filter(|route| {
        route.header.address_family == family && route.header.table == RouteHeader::RT_TABLE_MAIN
    });
    let (defaults, aside): (Vec<_>, Vec<_>) =
        routes.partition(|route| route.header.destination_prefix_length == 0);
    // Whoever looks at more than the destination sees other ways.
    if aside
        .iter()
        .chain(&defaults)
        .any(|route| route.header.tos != 0 || route.header.source_prefix_length != 0)
    {
        return;
    }
    let aside = aside.into_iter().filter(|route| !oif(route).is_some_and(&is_ours));
    let aside: Option<Vec<IpNet>> = aside.map(prefix).collect();
    let aside = aside.map(|mut aside| {
        aside.retain(|net| !is_local(net.addr()));
        aside
    });
    let Some(aside) = aside.filter(|aside| aside.len() <= MOST_ASIDE) else { return };
    for (ifindex, gateway) in gateways(&defaults) {
        let of_link: &mut Routers = routers.entry(ifindex).or_default();
        of_link.gateways.insert(gateway);
        of_link.aside.extend(&aside);
    }
}

/// The router of each link's best default route, if it is the only one as good.
fn gateways(defaults: &[&RouteMessage]) -> BTreeMap<u32, IpAddr> {
    let mut best: BTreeMap<u32, (u32, Option<IpAddr>)> = BTreeMap::new();
    for route in defaults {
        let (mut oif, mut gateway, mut metric) = (None, None, 0);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(ifindex) => oif = Some(*ifindex),
                RouteAttribute::Gateway(RouteAddress::Inet(addr)) => gateway = Some(IpAddr::V4(*addr)),
                RouteAttribute::Gateway(RouteAddress::Inet6(addr)) => gateway = Some(IpAddr::V6(*addr)),
                RouteAttribute::Priority(priority) => metric = *priority,
                // Several next hops, or one that this version does not understand.
                RouteAttribute::MultiPath(_) | RouteAttribute::NhId(_) | RouteAttribute::Encap(_) => {
                    return BTreeMap::new();
                }
                _ => {}
            }
        }
        let is_of_use =
            route.header.kind == RouteType::Unicast && !route.header.flags.contains(RouteFlags::Dead);
        let gateway = gateway.filter(|_| is_of_use);
        let Some(oif) = oif else { return BTreeMap::new() };
        let found = best.entry(oif).or_insert((metric, gateway));
        if metric < found.0 {
            *found = (metric, gateway);
        } else if metric == found.0 && gateway != found.1 {
            found.1 = None;
        }
    }
    best.into_iter().filter_map(|(oif, (_, gateway))| Some((oif, gateway?))).collect()
}

/// The link that a route leads out of.
fn oif(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    })
}

/// Whether nothing is routed that goes there.
fn is_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local() || addr.is_multicast(),
        IpAddr::V6(addr) => addr.is_unicast_link_local() || addr.is_multicast(),
    }
}

/// The prefix that a route is for; `None` if that is not understood.
fn prefix(route: &RouteMessage) -> Option<IpNet> {
    let len = route.header.destination_prefix_length;
    let addr = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Destination(RouteAddress::Inet6(addr)) => Some(IpAddr::V6(*addr)),
        _ => None,
    })?;
    IpNet::new(addr, len).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rtnetlink::RouteMessageBuilder;

    use super::*;

    /// The index of a bridge of vnet's.
    const OURS: u32 = 9;

    fn v4(prefix: &str, oif: u32, gateway: Option<[u8; 4]>, metric: u32) -> RouteMessage {
        let (addr, len) = prefix.split_once('/').unwrap();
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(addr.parse().unwrap(), len.parse().unwrap())
            .output_interface(oif)
            .priority(metric);
        match gateway {
            Some(gateway) => route.gateway(gateway.into()).build(),
            None => route.build(),
        }
    }

    fn found(messages: &[RouteMessage]) -> BTreeMap<u32, Routers> {
        let mut routers = BTreeMap::new();
        let is_ours = |ifindex| ifindex == OURS;
        of_version(messages, true, is_ours, &mut routers);
        of_version(messages, false, is_ours, &mut routers);
        routers
    }

    fn routers(gateways: &[&str], aside: &[&str]) -> Routers {
        Routers {
            gateways: gateways.iter().map(|addr| addr.parse().unwrap()).collect(),
            aside: aside.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_router_leads_to_what_no_other_route_is_for() {
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(4)
            .gateway("fe80::fe".parse().unwrap())
            .build();
        let messages = [
            v4("0.0.0.0/0", 4, Some([198, 51, 100, 254]), 100),
            v4("198.51.100.0/24", 4, None, 100),
            v4("192.0.2.0/24", 5, Some([203, 0, 113, 1]), 0),
            v4("10.10.0.0/24", OURS, None, 0),
            v4("169.254.0.0/16", 4, None, 1000),
            v6,
        ];
        let expected = routers(&["198.51.100.254", "fe80::fe"], &["198.51.100.0/24", "192.0.2.0/24"]);
        assert_eq!(found(&messages), [(4, expected)].into());
    }

    #[test]
    fn the_best_default_route_of_a_link_counts_unless_another_is_as_good() {
        let first = v4("0.0.0.0/0", 4, Some([198, 51, 100, 254]), 100);
        let worse = v4("0.0.0.0/0", 4, Some([198, 51, 100, 253]), 200);
        let as_good = v4("0.0.0.0/0", 4, Some([198, 51, 100, 253]), 100);
        let other_link = v4("0.0.0.0/0", 5, Some([203, 0, 113, 1]), 100);
        let of = |messages: &[RouteMessage], ifindex| found(messages).remove(&ifindex);
        let expected = Some(routers(&["198.51.100.254"], &[]));
        assert_eq!(of(&[worse.clone(), first.clone()], 4), expected);
        assert_eq!(of(&[first.clone(), worse], 4), expected);
        assert_eq!(of(&[first.clone(), as_good], 4), None);
        assert_eq!(of(&[first, other_link], 5), Some(routers(&["203.0.113.1"], &[])));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_kernel() {
        let default = v4("0.0.0.0/0", 4, Some([198, 51, 100, 254]), 100);
        assert_eq!(found(&[v4("0.0.0.0/0", 4, None, 0)]), BTreeMap::new());
        let mut by_service = v4("192.0.2.0/24", 4, None, 0);
        by_service.header.tos = 16;
        assert_eq!(found(&[default.clone(), by_service]), BTreeMap::new());
        let mut dead = default.clone();
        dead.header.flags = RouteFlags::Dead;
        assert_eq!(found(&[dead]), BTreeMap::new());
        let many: Vec<_> = (0..=MOST_ASIDE as u32)
            .map(|n| v4(&format!("10.{}.{}.0/24", n >> 8, n & 255), 4, None, 0))
            .chain([default])
            .collect();
        assert_eq!(found(&many), BTreeMap::new());
    }
}
