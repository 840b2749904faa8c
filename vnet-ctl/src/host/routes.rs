//! Default routes: those of workloads, which vnet makes, and those of the host, which it follows.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
    },
};

use super::{
    ask::Asker,
    links::{is_errno, kernel},
    routers::routers,
};
use crate::plan;

/// `IP6_RT_PRIO_USER` of linux/ipv6_route.h: the metric of an IPv6 route that names none.
const IPV6_METRIC: u32 = 1024;

/// A default route of the main table with a next hop.
#[derive(Debug)]
pub(super) struct DefaultRoute {
    pub(super) ifindex: u32,
    pub(super) gateway: IpAddr,
    metric: u32,
    message: RouteMessage,
}

/// Every default route with a next hop in the socket's namespace.
pub(super) async fn defaults(netlink: &Handle) -> Result<Vec<DefaultRoute>> {
    let mut routes = Vec::new();
    for request in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        let messages: Vec<_> = netlink
            .route()
            .get(request)
            .execute()
            .try_collect()
            .await
            .map_err(kernel)
            .context("list routes")?;
        routes.extend(messages.into_iter().filter_map(default_route));
    }
    Ok(routes)
}

/// The same, from a thread in the namespace.
pub(super) fn list(netlink: &mut Asker) -> Result<Vec<DefaultRoute>> {
    Ok(messages(netlink)?.into_iter().filter_map(default_route).collect())
}

/// Where the default routes in the socket's namespace lead, with a next hop or straight out of a link, and the
/// routers there; `is_ours` tells vnet's own links.
pub(super) fn of_host(
    netlink: &mut Asker,
    is_ours: impl Fn(u32) -> bool,
) -> Result<(Vec<plan::DefaultRoute>, BTreeMap<u32, plan::Routers>)> {
    let messages = messages(netlink)?;
    let routers = routers(netlink, &messages, is_ours)?;
    Ok((messages.iter().filter_map(way_out).collect(), routers))
}

/// By which link, and with which address, the host of the socket's namespace speaks to `peer`; nothing if it does not.
pub(super) fn source(netlink: &mut Asker, peer: Ipv4Addr) -> Result<Option<plan::Source>> {
    const ALL_BITS: u8 = 32;
    let question = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(peer, ALL_BITS).build();
    let answers = match netlink.ask(RouteNetlinkMessage::GetRoute(question)) {
        // Whatever the reason, there is no way.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_unreachable) => return Ok(None),
        answers => answers.with_context(|| format!("look up the route to {peer}"))?,
    };
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(message) => source_of(message),
        _ => None,
    }))
}

fn is_unreachable(error: &io::Error) -> bool {
    let reasons = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EACCES, Errno::EINVAL];
    error.raw_os_error().is_some_and(|code| reasons.contains(&Errno::from_raw(code)))
}

fn source_of(message: &RouteMessage) -> Option<plan::Source> {
    let (mut ifindex, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => address = Some(*addr),
            _ => {}
        }
    }
    let is_unicast = message.header.kind == RouteType::Unicast;
    Some(plan::Source { ifindex: ifindex.filter(|_| is_unicast)?, address: address? })
}

fn messages(netlink: &mut Asker) -> Result<Vec<RouteMessage>> {
    let mut routes = Vec::new();
    for question in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        let answers = netlink.list(RouteNetlinkMessage::GetRoute(question)).context("list routes")?;
        routes.extend(answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        }));
    }
    Ok(routes)
}

/// Makes `wanted` the next hops of the default routes out of a link that has `addresses`. Where another
/// link has a default route already, that one stays the preferred one.
pub(super) async fn set(
    netlink: &Handle,
    ifindex: u32,
    wanted: &[IpAddr],
    addresses: &[IpNet],
) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) =
        defaults(netlink).await?.into_iter().partition(|route| route.ifindex == ifindex);
    for gateway in wanted {
        if own.iter().any(|route| route.gateway == *gateway) {
            continue;
        }
        let is_taken = |metric: u32| {
            others.iter().any(|route| route.gateway.is_ipv4() == gateway.is_ipv4() && route.metric == metric)
        };
        let first = if gateway.is_ipv4() { 0 } else { IPV6_METRIC };
        let metric = (first..).find(|metric| !is_taken(*metric)).unwrap_or(first);
        let is_on_link = addresses.iter().any(|net| net.contains(gateway));
        let message = message(ifindex, *gateway, metric, is_on_link);
        match netlink.route().add(message).execute().await {
            Err(error) if is_errno(&error, Errno::EEXIST) => {}
            result => result.map_err(kernel).with_context(|| format!("add default route via {gateway}"))?,
        }
    }
    for route in own.into_iter().filter(|route| !wanted.contains(&route.gateway)) {
        match netlink.route().del(route.message).execute().await {
            // It went with its address.
            Err(error) if is_errno(&error, Errno::ESRCH) => {}
            result => {
                result.map_err(kernel).with_context(|| format!("remove route via {}", route.gateway))?
            }
        }
    }
    Ok(())
}

fn message(ifindex: u32, gateway: IpAddr, metric: u32, is_on_link: bool) -> RouteMessage {
    match gateway {
        IpAddr::V4(gateway) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .output_interface(ifindex)
                .gateway(gateway)
                .priority(metric);
            if is_on_link { route } else { route.onlink() }.build()
        }
        IpAddr::V6(gateway) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .output_interface(ifindex)
                .gateway(gateway)
                .priority(metric);
            if is_on_link { route } else { route.onlink() }.build()
        }
    }
}

fn is_default(message: &RouteMessage) -> bool {
    let header = &message.header;
    header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN
}

/// Of several next hops with one metric, the first counts.
fn way_out(message: &RouteMessage) -> Option<plan::DefaultRoute> {
    let is_ipv4 = message.header.address_family == AddressFamily::Inet;
    let (mut ifindex, mut metric) = (None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::MultiPath(hops) => ifindex = hops.first().map(|hop| hop.interface_index),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let ifindex = ifindex.filter(|_| is_default(message))?;
    Some(plan::DefaultRoute { ifindex, is_ipv4, metric })
}

fn default_route(message: RouteMessage) -> Option<DefaultRoute> {
    let (mut ifindex, mut gateway, mut metric) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => gateway = Some(IpAddr::V4(*addr)),
            RouteAttribute::Gateway(RouteAddress::Inet6(addr)) => gateway = Some(IpAddr::V6(*addr)),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let (ifindex, gateway) = (ifindex.filter(|_| is_default(&message))?, gateway?);
    Some(DefaultRoute { ifindex, gateway, metric, message })
}
