use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use vnet_common::{Delivery, MacAddr};

use super::NetnsRef;
use crate::state::State;

/// Group number that marks a device between its creation and the alias that says whose it is: the kernel
/// takes a group when it makes a device, but an alias only later. "vnet" in ASCII.
pub const NEWBORN_GROUP: u32 = 0x766e_6574;

/// What is on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The links of the host's namespace, by ifindex.
    pub links: BTreeMap<u32, Link>,
    /// The namespaces that were asked about.
    pub namespaces: BTreeMap<NetnsRef, Namespace>,
    /// The links that vnet's programs for ports or networks are attached to, by ifindex. Netlink does not tell;
    /// the daemon fills it in from the datapath.
    pub attached: BTreeSet<u32>,
    /// The links that vnet's programs for what they lead to are attached to; the same holds for them.
    pub outside: BTreeSet<(u32, Role)>,
    /// The host's default routes; looked up only if a network follows them.
    pub default_routes: Vec<DefaultRoute>,
    /// The routers of the host's links, by ifindex; looked up only if a network leads outside.
    pub routers: BTreeMap<u32, Routers>,
    /// By which link, and with which address, the host speaks to the other hosts of overlays.
    pub sources: BTreeMap<IpAddr, Source>,
    /// The MACs that somebody has told links to take, by ifindex; looked up only if vnet does such a thing.
    pub macs: BTreeMap<u32, BTreeSet<MacAddr>>,
}

/// What a link leads to, in the eyes of the program that is attached for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The outside.
    Uplink,
    /// Networks' segments beyond this host.
    Segment,
    /// A segment that the host takes part in itself by the same link: what it sends there.
    Lan,
    /// The other hosts of overlays.
    Underlay,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Uplink => "uplink",
            Self::Segment => "segment",
            Self::Lan => "shared LAN",
            Self::Underlay => "underlay",
        })
    }
}

/// How the host speaks to somebody outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The link that its packets leave by.
    pub ifindex: u32,
    /// The address that they come from.
    pub address: Ipv4Addr,
}

/// A default route of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The link that it leaves by.
    pub ifindex: u32,
    /// Whether it is one of IPv4.
    pub is_ipv4: bool,
    /// The lowest is the one in use.
    pub metric: u32,
}

/// Where a link leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routers {
    /// To whom go packets that no other route speaks of; one of an IP version at most.
    pub gateways: BTreeSet<IpAddr>,
    /// What they do not lead to: all prefixes that other routes are for.
    pub aside: BTreeSet<IpNet>,
}

impl Observed {
    /// Whether what is at `netns` is the namespace that `state` says vnet made, or may be.
    #[must_use]
    pub fn is_made_by_us(&self, netns: &NetnsRef, state: &State) -> bool {
        let name = netns.to_string();
        let is_same = match (self.namespaces.get(netns), state.namespace_ids.get(&name)) {
            (Some(Namespace::Present(inside)), Some(id)) => inside.id == *id,
            _ => true,
        };
        state.namespaces.contains(&name) && is_same
    }

    /// The link that the host itself leaves by: that of its IPv4 default route, else of that of IPv6.
    #[must_use]
    pub fn way_out(&self) -> Option<&Link> {
        let routes = self.default_routes.iter().filter(|route| self.links.contains_key(&route.ifindex));
        let best = routes.min_by_key(|route| (!route.is_ipv4, route.metric))?;
        self.links.get(&best.ifindex)
    }

    /// The addresses that the host has, with the device of each; those of vnet's own devices aside.
    #[must_use]
    pub fn host_addresses(&self) -> BTreeMap<IpAddr, String> {
        let links = self.links.values().filter(|link| !link.is_ours());
        links.flat_map(|link| link.global.iter().map(|addr| (*addr, link.name.clone()))).collect()
    }

    /// The host's link of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub ownership: Ownership,
    /// What it is.
    pub kind: Kind,
    /// Its MAC, if it is Ethernet.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// The ifindex of the bridge (or other master) that it belongs to.
    pub master: Option<u32>,
    /// The other end of a veth.
    pub peer: Option<Peer>,
    /// Whether the host's own stack is off on it: no ARP, no IPv6.
    pub is_mute: bool,
    /// Whether somebody has told it to take all multicast.
    pub all_multicast: bool,
    /// Whether the kernel makes IPv6 link-local addresses on it by itself.
    pub makes_link_local: bool,
    /// Its addresses, in order.
    pub addresses: Vec<IpNet>,
    /// Those of them that are of use beyond the link, the one first that a stranger should know it by.
    pub global: Vec<IpAddr>,
    /// The next hops of default routes out of it; looked up in the workloads' namespaces only.
    pub gateways: Vec<IpAddr>,
}

impl Link {
    /// How a packet gets to what is behind the device.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        match self.peer {
            Some(Peer { nsid: Some(_), .. }) if self.kind == Kind::Veth => Delivery::Peer,
            _ => Delivery::Device,
        }
    }

    /// Whether vnet made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.ownership != Ownership::Foreign
    }
}

/// What a link is, as far as vnet cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge {
        /// Whether it runs the spanning tree protocol.
        stp: bool,
        /// Whether it snoops on multicast.
        mcast_snooping: bool,
    },
    /// One end of a veth.
    Veth,
    /// A tap.
    Tap {
        /// The number of the user who alone may open it, aside from root.
        user: Option<u32>,
        /// Whether somebody has it open.
        is_open: bool,
    },
    /// A VXLAN device.
    Vxlan {
        /// The UDP port that it receives on.
        port: u16,
        /// Whether programs tell it where packets go, for any network identifier.
        is_external: bool,
    },
    /// The loopback device.
    Loopback,
    /// Anything else.
    #[default]
    Other,
}

/// The other end of a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index in its own namespace.
    pub ifindex: u32,
    /// The host's id of that namespace, if it is another one.
    pub nsid: Option<i32>,
}

/// Whose a link is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Somebody else's: never touched.
    #[default]
    Foreign,
    /// vnet's, which was stopped before it could say what for.
    Newborn,
    /// vnet's.
    Ours(Owner),
}

impl Ownership {
    /// From a link's alias and group.
    #[must_use]
    pub fn from_marks(alias: Option<&str>, group: u32) -> Self {
        match alias {
            Some(alias) if !alias.is_empty() => Owner::from_alias(alias).map_or(Self::Foreign, Self::Ours),
            _ if group == NEWBORN_GROUP => Self::Newborn,
            _ => Self::Foreign,
        }
    }

    /// The owner, where one is known.
    #[must_use]
    pub const fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Ours(owner) => Some(owner),
            Self::Foreign | Self::Newborn => None,
        }
    }
}

/// What a link of vnet is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The bridge of the network.
    Network(String),
    /// The host side of the port.
    Port(String),
    /// The way of overlays.
    Overlay,
}

impl Owner {
    /// From a link's alias.
    #[must_use]
    pub fn from_alias(alias: &str) -> Option<Self> {
        let (kind, name) = alias.strip_prefix("vnet:")?.split_once(':')?;
        match kind {
            "network" => Some(Self::Network(name.to_owned())),
            "port" => Some(Self::Port(name.to_owned())),
            "overlay" => Some(Self::Overlay),
            _ => None,
        }
    }

    /// The alias that says so.
    #[must_use]
    pub fn alias(&self) -> String {
        match self {
            Self::Network(name) => format!("vnet:network:{name}"),
            Self::Port(name) => format!("vnet:port:{name}"),
            Self::Overlay => "vnet:overlay:vxlan".to_owned(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(name) => write!(out, "network {name}"),
            Self::Port(name) => write!(out, "port {name}"),
            Self::Overlay => out.write_str("all overlays"),
        }
    }
}

/// A namespace that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// There is no such file.
    Missing,
    /// The file is there and holds no network namespace.
    NotANamespace,
    /// It is the one that vnet runs in.
    Own,
    /// A namespace.
    Present(Inside),
}

/// What is inside a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// The host's id of it; none is given before a device of the host leads there.
    pub nsid: Option<i32>,
    /// Its links, by name.
    pub links: BTreeMap<String, Link>,
    /// What no other namespace of that name has.
    pub id: String,
}
