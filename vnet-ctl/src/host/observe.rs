//! What is on the host, as [`crate::plan`] wants to know it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::Ordering,
};

use anyhow::{Context as _, Result};
use rtnetlink::{
    packet_core::Nla as _,
    packet_route::{
        RouteNetlinkMessage,
        address::AddressMessage,
        link::{
            AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoData, InfoKind,
            InfoTun, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
        },
    },
};
use vnet_common::MacAddr;

use super::{
    Host, addresses,
    ask::Asker,
    links::ownership,
    namespace::{Netns, Opened, on_thread},
    receptions, routes,
};
use crate::{
    plan::{Attach, Desired, Inside, Kind, Link, Namespace, NetnsRef, Observed, Peer, filters_stations},
    state::State,
};

impl Host {
    /// Looks at the host's links, and into the namespaces that `desired` and `state` name.
    /// [`Observed::attached`] and [`Observed::outside`] are left to the caller.
    ///
    /// # Errors
    /// When the kernel does not answer, or a namespace cannot be entered.
    pub async fn observe(&self, desired: &Desired, state: &State) -> Result<Observed> {
        self.insides.forget_all();
        self.observe_again(desired, state).await
    }

    /// The same, but looks only into those namespaces that nothing is known of since [`Host::observe`] or
    /// [`Host::forget_inside`], or where this host changed something. For the second look at what one has in
    /// hand, or when a monitor tells of every change.
    ///
    /// # Errors
    /// As [`Host::observe`].
    pub async fn observe_again(&self, desired: &Desired, state: &State) -> Result<Observed> {
        let used = desired.ports.values().filter_map(|port| match &port.attach {
            Attach::Netns { netns, .. } => Some(netns.clone()),
            Attach::Device { .. } | Attach::Tap { .. } => None,
        });
        let used: BTreeSet<_> = used.collect();
        // Of those that are not used any more, it only matters whether they are there.
        let made = state.namespaces.iter().map(|netns| NetnsRef::parse(netns));
        let made: Vec<_> = made.filter(|netns| !used.contains(netns)).collect();
        let (own, insides) = (self.own.another()?, self.insides.clone());
        let leads_outside = desired.leads_outside();
        let peers = desired.peers();
        let joins_groups = desired.joins_groups() || !state.groups.is_empty();
        let filters_stations = desired.filters_stations() || filters_stations(state);
        on_thread(move || {
            // The links first: listing them gives an id to each namespace that one of them leads to.
            let mut host = Asker::open()?;
            let links = links(&mut host).context("look at the host's links")?;
            let is_ours = |ifindex: u32| links.get(&ifindex).is_some_and(Link::is_ours);
            let (default_routes, routers) = if leads_outside {
                routes::of_host(&mut host, is_ours).context("look at the host's routes")?
            } else {
                Default::default()
            };
            let mut sources = BTreeMap::new();
            for peer in peers {
                sources.extend(routes::source(&mut host, peer)?.map(|source| (IpAddr::V4(peer), source)));
            }
            let mut macs = if joins_groups { receptions::groups()? } else { BTreeMap::new() };
            if filters_stations {
                for (ifindex, stations) in receptions::stations(&mut host)? {
                    macs.entry(ifindex).or_default().extend(stations);
                }
            }
            let used: Vec<_> = used.into_iter().collect();
            let mut namespaces: BTreeMap<_, _> = insides.look(&used, &own)?.into_iter().collect();
            for netns in made {
                let found = identity(&netns)?;
                namespaces.insert(netns, found);
            }
            Ok(Observed { links, namespaces, default_routes, routers, sources, macs, ..Observed::default() })
        })
        .await
    }

    /// The one or the other, as far as what was seen before is good for another change.
    ///
    /// # Errors
    /// As [`Host::observe`].
    pub async fn look(&self, desired: &Desired, state: &State) -> Result<Observed> {
        if self.is_watched() {
            self.observe_again(desired, state).await
        } else {
            self.observe(desired, state).await
        }
    }

    /// Says whether a monitor tells of every change by others, in namespaces too, through
    /// [`Host::forget_inside`]: only then is what was seen once good for another change.
    pub fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Release);
    }

    /// Whether a monitor tells of every change by others.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// Forgets what was seen in all namespaces.
    pub fn forget_insides(&self) {
        self.insides.forget_all();
    }

    /// Forgets what was seen inside the namespace that the host calls by the id `nsid`.
    pub fn forget_inside(&self, nsid: i32) {
        self.insides.forget_nsid(nsid);
    }
}

/// Whether a namespace is there, and which one.
fn identity(netns: &NetnsRef) -> Result<Namespace> {
    Ok(match Netns::open(netns)? {
        Opened::Missing => Namespace::Missing,
        Opened::NotANamespace => Namespace::NotANamespace,
        Opened::Netns(netns) => Namespace::Present(Inside { id: netns.id()?, ..Inside::default() }),
    })
}

/// The links of the socket's namespace with their addresses, by index.
pub(super) fn links(netlink: &mut Asker) -> Result<BTreeMap<u32, Link>> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let answers = netlink.list(RouteNetlinkMessage::GetLink(question)).context("list links")?;
    let messages = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(message),
        _ => None,
    });
    let mut links: BTreeMap<_, _> = messages.map(|message| (message.header.index, link(message))).collect();
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut global: BTreeMap<u32, Vec<addresses::Global>> = BTreeMap::new();
    for answer in netlink.list(question).context("list addresses")? {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        let ifindex = message.header.index;
        if let (Some(link), Some(net)) = (links.get_mut(&ifindex), addresses::net(&message)) {
            link.addresses.push(net);
            global.entry(ifindex).or_default().extend(addresses::Global::of(&message, net.addr()));
        }
    }
    for link in links.values_mut() {
        link.addresses.sort_unstable();
        link.global = addresses::in_order(global.remove(&link.ifindex).unwrap_or_default());
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        ifindex: message.header.index,
        up: flags.contains(LinkFlags::Up),
        all_multicast: flags.contains(LinkFlags::Allmulti),
        ownership: ownership(message),
        makes_link_local: true,
        ..Link::default()
    };
    let (mut other_end, mut nsid, mut has_carrier, mut has_ipv6) = (None, None, false, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(master) => link.master = Some(*master).filter(|&master| master != 0),
            LinkAttribute::Link(ifindex) => other_end = Some(*ifindex),
            LinkAttribute::LinkNetNsId(id) => nsid = Some(*id).filter(|&id| id >= 0),
            LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
            LinkAttribute::Carrier(carrier) => has_carrier = *carrier != 0,
            LinkAttribute::AfSpecUnspec(specs) => {
                link.makes_link_local = makes_link_local(specs);
                has_ipv6 = inet6(specs).any(is_enabled);
            }
            _ => {}
        }
    }
    if flags.contains(LinkFlags::Loopback) {
        link.kind = Kind::Loopback;
    }
    link.is_mute = flags.contains(LinkFlags::Noarp) && !has_ipv6;
    // The kernel takes the carrier of a tap for somebody who has it open.
    if let Kind::Tap { is_open, .. } = &mut link.kind {
        *is_open = has_carrier;
    }
    if link.kind == Kind::Veth {
        link.peer = other_end.map(|ifindex| Peer { ifindex, nsid });
    }
    link
}

fn kind(infos: &[LinkInfo]) -> Kind {
    let (mut kind, mut stp, mut mcast_snooping) = (Kind::Other, false, false);
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => kind = Kind::Bridge { stp, mcast_snooping },
            LinkInfo::Kind(InfoKind::Veth) => kind = Kind::Veth,
            LinkInfo::Data(InfoData::Tun(settings)) => kind = tap(settings),
            LinkInfo::Data(InfoData::Vxlan(settings)) => kind = vxlan(settings),
            LinkInfo::Data(InfoData::Bridge(settings)) => {
                for setting in settings {
                    match setting {
                        InfoBridge::StpState(state) => stp = *state != BridgeStpState::Disabled,
                        InfoBridge::MulticastSnooping(on) => mcast_snooping = *on,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if let Kind::Bridge { .. } = kind { Kind::Bridge { stp, mcast_snooping } } else { kind }
}

/// Attributes of a tun or tap, and the type of the latter (linux/if_link.h, linux/if_tun.h).
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
const IFF_TAP: u8 = 2;

/// The kernel has one kind of device for taps and for tunnels of IP packets.
fn tap(settings: &[InfoTun]) -> Kind {
    let value = |wanted| {
        let setting = settings.iter().find(|setting| setting.kind() == wanted)?;
        let mut bytes = vec![0; setting.value_len()];
        setting.emit_value(&mut bytes);
        Some(bytes)
    };
    let user = value(IFLA_TUN_OWNER).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    match value(IFLA_TUN_TYPE).as_deref() {
        Some([IFF_TAP]) => Kind::Tap { user, is_open: false },
        _ => Kind::Other,
    }
}

fn vxlan(settings: &[InfoVxlan]) -> Kind {
    let port = settings.iter().find_map(|setting| match setting {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    });
    let is_external = settings.contains(&InfoVxlan::CollectMetadata(true));
    Kind::Vxlan { port: port.unwrap_or_default(), is_external }
}

/// The IPv6 settings of a link; none where the kernel has no IPv6.
fn inet6(specs: &[AfSpecUnspec]) -> impl Iterator<Item = &AfSpecInet6> {
    let settings = specs.iter().filter_map(|spec| match spec {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    });
    settings.flatten()
}

/// Where the kernel has no IPv6, it makes no addresses either.
fn makes_link_local(specs: &[AfSpecUnspec]) -> bool {
    let mode = inet6(specs).find_map(|setting| match setting {
        AfSpecInet6::AddrGenMode(mode) => Some(*mode),
        _ => None,
    });
    mode.is_some_and(|mode| mode != In6AddrGenMode::None)
}

const fn is_enabled(setting: &AfSpecInet6) -> bool {
    matches!(setting, AfSpecInet6::DevConf(settings) if settings.disable_ipv6 == 0)
}
