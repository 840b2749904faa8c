//! What is on the host, as [`crate::plan`] wants to know it.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{
            AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoData, InfoKind,
            LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
        },
        nsid::{NsidAttribute, NsidMessage},
    },
};
use vnet_common::MacAddr;

use super::{
    Host, addresses,
    links::{self, kernel},
    namespace::{Netns, Opened},
    routes,
};
use crate::{
    plan::{Attach, Desired, Inside, Kind, Link, Namespace, NetnsRef, Observed, Peer},
    state::State,
};

impl Host {
    /// Looks at the host's links, and into the namespaces that `desired` and `state` name.
    /// [`Observed::attached`] is left to the caller.
    ///
    /// # Errors
    /// When the kernel does not answer, or a namespace cannot be entered.
    pub async fn observe(&self, desired: &Desired, state: &State) -> Result<Observed> {
        // The links first: listing them gives an id to each namespace that one of them leads to.
        let links = links(&self.netlink).await.context("look at the host's links")?;
        let used = desired.ports.values().filter_map(|port| match &port.attach {
            Attach::Netns { netns, .. } => Some(netns.clone()),
            Attach::Device { .. } => None,
        });
        let mut namespaces = BTreeMap::new();
        for netns in used.collect::<BTreeSet<_>>() {
            let found =
                self.look_into(&netns).await.with_context(|| format!("look into namespace {netns}"))?;
            namespaces.insert(netns, found);
        }
        // Of those that are not used any more, it only matters whether they are there.
        for netns in state.namespaces.iter().map(|netns| NetnsRef::parse(netns)) {
            if let Entry::Vacant(entry) = namespaces.entry(netns) {
                let found = match Netns::open(entry.key())? {
                    Opened::Missing => Namespace::Missing,
                    Opened::NotANamespace => Namespace::NotANamespace,
                    Opened::Netns(netns) => {
                        Namespace::Present(Inside { id: netns.id()?, ..Inside::default() })
                    }
                };
                entry.insert(found);
            }
        }
        Ok(Observed { links, namespaces, attached: BTreeSet::new() })
    }

    async fn look_into(&self, netns: &NetnsRef) -> Result<Namespace> {
        let netns = match Netns::open(netns)? {
            Opened::Missing => return Ok(Namespace::Missing),
            Opened::NotANamespace => return Ok(Namespace::NotANamespace),
            Opened::Netns(netns) => netns,
        };
        if netns.is(&self.own)? {
            return Ok(Namespace::Own);
        }
        let nsid = nsid(&self.netlink, &netns).await?;
        let netlink = netns.connect().await?;
        let mut links = links(&netlink).await?;
        for route in routes::defaults(&netlink).await? {
            if let Some(link) = links.get_mut(&route.ifindex) {
                link.gateways.push(route.gateway);
            }
        }
        let links = links.into_values().map(|link| (link.name.clone(), link)).collect();
        Ok(Namespace::Present(Inside { nsid, links, id: netns.id()? }))
    }
}

async fn links(netlink: &Handle) -> Result<BTreeMap<u32, Link>> {
    let messages: Vec<_> =
        netlink.link().get().execute().try_collect().await.map_err(kernel).context("list links")?;
    let mut links: BTreeMap<_, _> =
        messages.iter().map(|message| (message.header.index, link(message))).collect();
    for message in addresses::dump(netlink).await? {
        if let (Some(link), Some(net)) = (links.get_mut(&message.header.index), addresses::net(&message)) {
            link.addresses.push(net);
        }
    }
    for link in links.values_mut() {
        link.addresses.sort_unstable();
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        ifindex: message.header.index,
        up: flags.contains(LinkFlags::Up),
        ownership: links::ownership(message),
        makes_link_local: true,
        ..Link::default()
    };
    let (mut other_end, mut nsid) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(master) => link.master = Some(*master).filter(|&master| master != 0),
            LinkAttribute::Link(ifindex) => other_end = Some(*ifindex),
            LinkAttribute::LinkNetNsId(id) => nsid = Some(*id).filter(|&id| id >= 0),
            LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
            LinkAttribute::AfSpecUnspec(specs) => link.makes_link_local = makes_link_local(specs),
            _ => {}
        }
    }
    if flags.contains(LinkFlags::Loopback) {
        link.kind = Kind::Loopback;
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

/// Where the kernel has no IPv6, it makes no addresses either.
fn makes_link_local(specs: &[AfSpecUnspec]) -> bool {
    let mut settings = specs.iter().filter_map(|spec| match spec {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    });
    let mode = settings.find_map(|settings| {
        settings.iter().find_map(|setting| match setting {
            AfSpecInet6::AddrGenMode(mode) => Some(*mode),
            _ => None,
        })
    });
    mode.is_some_and(|mode| mode != In6AddrGenMode::None)
}

/// The host's id of a namespace, if it has one.
async fn nsid(netlink: &Handle, netns: &Netns) -> Result<Option<i32>> {
    let mut request = NsidMessage::default();
    request.attributes.push(NsidAttribute::Fd(netns.raw_fd().cast_unsigned()));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(request));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut replies = netlink.clone().request(request).map_err(kernel)?;
    let mut nsid = None;
    while let Some(reply) = replies.next().await {
        match reply.payload {
            NetlinkPayload::Error(error) => return Err(error.to_io()).context("ask for the namespace's id"),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) => {
                nsid = nsid.or(message.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    Ok(nsid)
}
