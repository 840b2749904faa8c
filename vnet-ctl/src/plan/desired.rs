use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv6Net};
use vnet_common::MacAddr;

use super::OVERLAY_DEVICE;
use crate::policy::fnv1a;
pub use crate::policy::{NETNS_DIR, NetnsRef};

/// What should be on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The networks, by name.
    pub networks: BTreeMap<String, Network>,
    /// The ports, by name.
    pub ports: BTreeMap<String, Port>,
    /// Where ports are that are left out for now: what they have stays as it is, and closed.
    pub spared: BTreeMap<String, Attach>,
}

impl Desired {
    /// Whether it matters where the host's default route leads.
    #[must_use]
    pub fn follows_default_route(&self) -> bool {
        self.networks.values().any(Network::follows_default_route)
    }

    /// Whether any network leads outside, to other hosts over IP, or is a LAN of the host's.
    #[must_use]
    pub fn leads_outside(&self) -> bool {
        self.networks.values().any(Network::leads_outside)
    }

    /// Whether it matters which multicast groups devices have been told to take.
    #[must_use]
    pub fn joins_groups(&self) -> bool {
        self.networks.values().any(|network| !network.groups.is_empty())
    }

    /// Whether it matters which stations' frames devices have been told to take.
    #[must_use]
    pub fn filters_stations(&self) -> bool {
        self.networks.values().any(|network| matches!(network.segment, Some(Segment::Lan { .. })))
    }

    /// The other hosts of overlays that have IPv4 addresses.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<Ipv4Addr> {
        let of = |network: &Network| match &network.segment {
            Some(Segment::Overlay { peers, .. }) => peers.clone(),
            Some(Segment::Lan { .. }) | None => BTreeSet::new(),
        };
        let of_version = |peer| if let IpAddr::V4(peer) = peer { Some(peer) } else { None };
        self.networks.values().flat_map(of).filter_map(of_version).collect()
    }

    /// Where ports are, those included that are left out for now.
    pub(super) fn places(&self) -> impl Iterator<Item = &Attach> {
        self.ports.values().map(|port| &port.attach).chain(self.spared.values())
    }
}

/// A network as a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Name of the bridge.
    pub bridge: String,
    /// The gateway's MAC.
    pub mac: MacAddr,
    /// Bytes of IP packet that a frame carries.
    pub mtu: u32,
    /// The gateway's addresses with the length of their subnets, in as far as they are the host's.
    pub gateways: Vec<IpNet>,
    /// The device that its packets leave by.
    pub uplink: Uplink,
    /// The multicast MACs to which neighbours ask there for what vnet answers for.
    pub groups: BTreeSet<MacAddr>,
    /// How it goes beyond this host.
    pub segment: Option<Segment>,
    /// The MACs that it has here, for which frames may come from beyond: those of its ports, and the gateway's.
    pub stations: BTreeSet<MacAddr>,
}

/// How a network goes beyond this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// By a device that carries its frames.
    Lan {
        /// Its name.
        trunk: String,
        /// Whether the host takes part in it by the same device, with an address of its own.
        shared: bool,
    },
    /// Over IP: by vnet's own VXLAN device.
    Overlay {
        /// The device that leads to the other hosts.
        uplink: Uplink,
        /// The addresses of the other hosts.
        peers: BTreeSet<IpAddr>,
    },
}

/// Which device a network leaves by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Uplink {
    /// None: it is closed, or has to wait.
    #[default]
    None,
    /// The one that the host's default route leads to.
    DefaultRoute,
    /// The one of this name.
    Device(String),
}

impl Network {
    /// Whether its packets leave, in whatever form, where the host's default route leads.
    #[must_use]
    pub fn follows_default_route(&self) -> bool {
        self.ways().any(|way| *way == Uplink::DefaultRoute)
    }

    /// Whether its packets leave, in whatever form, by any device that routes are for.
    #[must_use]
    pub fn leads_outside(&self) -> bool {
        self.shares_lan() || self.ways().any(|way| *way != Uplink::None)
    }

    /// Whether the host has its own addresses and routes on the LAN that the network is.
    #[must_use]
    pub const fn shares_lan(&self) -> bool {
        matches!(self.segment, Some(Segment::Lan { shared: true, .. }))
    }

    /// The devices that it has or names, those of its ports aside.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let own = match &self.segment {
            Some(Segment::Lan { trunk, .. }) => Some(trunk.as_str()),
            Some(Segment::Overlay { .. }) => Some(OVERLAY_DEVICE),
            None => None,
        };
        let named = self.ways().filter_map(|way| match way {
            Uplink::Device(device) => Some(device.as_str()),
            Uplink::None | Uplink::DefaultRoute => None,
        });
        [self.bridge.as_str()].into_iter().chain(own).chain(named)
    }

    /// By which devices IP packets leave: its own, and those that carry them to other hosts.
    fn ways(&self) -> impl Iterator<Item = &Uplink> {
        let underlay = match &self.segment {
            Some(Segment::Overlay { uplink, .. }) => Some(uplink),
            Some(Segment::Lan { .. }) | None => None,
        };
        [&self.uplink].into_iter().chain(underlay)
    }

    /// Whether the host has no part in it: it is not the gateway.
    #[must_use]
    pub const fn is_mute(&self) -> bool {
        self.gateways.is_empty()
    }

    /// Every address of the bridge: the gateway's, and the link-local one where there is IPv6.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpNet> {
        with_link_local(&self.gateways, self.mac)
    }
}

/// A port as a device on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the network.
    pub network: String,
    /// The workload's MAC.
    pub mac: MacAddr,
    /// Bytes of IP packet that a frame carries.
    pub mtu: u32,
    /// The workload's addresses with the length of their subnets.
    pub addresses: Vec<IpNet>,
    /// The next hops of the workload's default routes, at most one for each IP version.
    pub gateways: Vec<IpAddr>,
    /// Whether those are all that it has.
    pub addressing: Addressing,
    /// Where the workload is.
    pub attach: Attach,
}

/// Who gives a workload its addresses and default routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// vnet: it has those that it should have, and no others.
    #[default]
    Given,
    /// Itself, by DHCP or otherwise: vnet leaves them alone.
    Own,
}

/// How a port reaches its workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    /// By an interface inside a namespace, the other end of a veth that vnet makes.
    Netns {
        /// Which namespace.
        netns: NetnsRef,
        /// Whether vnet makes the namespace if it is missing.
        create: bool,
        /// The interface's name inside.
        interface: String,
    },
    /// By a device of somebody else: a tap, or the host side of a veth.
    Device {
        /// Its name.
        device: String,
    },
    /// By a tap.
    Tap {
        /// Its name.
        device: String,
        /// Whether vnet makes it.
        create: bool,
        /// The number of the user who may open it.
        owner: Option<u32>,
    },
}

impl Attach {
    /// The host's device that the policy names.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Device { device } | Self::Tap { device, .. } => Some(device),
            Self::Netns { .. } => None,
        }
    }
}

/// The inside of a port in a namespace, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The namespace.
    pub netns: NetnsRef,
    /// The interface's name inside.
    pub interface: String,
    /// The interface's MAC.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses, the link-local one included.
    pub addresses: Vec<IpNet>,
    /// The next hops of its default routes.
    pub gateways: Vec<IpAddr>,
    /// Whether those are all that it has.
    pub addressing: Addressing,
    /// Whether it is up.
    pub up: bool,
}

impl Workload {
    /// Whether addresses and routes are its own affair, as where a LAN gives them.
    #[must_use]
    pub fn configures_itself(&self) -> bool {
        self.addressing == Addressing::Own
    }

    /// The inside of `port` at `interface` in `netns`.
    #[must_use]
    pub fn new(port: &Port, netns: &NetnsRef, interface: &str) -> Self {
        Self {
            netns: netns.clone(),
            interface: interface.to_owned(),
            mac: port.mac,
            mtu: port.mtu,
            addresses: with_link_local(&port.addresses, port.mac),
            gateways: port.gateways.clone(),
            addressing: port.addressing,
            up: true,
        }
    }
}

/// The kernel makes no link-local address on vnet's interfaces: its own would be tentative for a second
/// and might not be the one that the datapath expects.
fn with_link_local(addresses: &[IpNet], mac: MacAddr) -> Vec<IpNet> {
    let mut all = addresses.to_vec();
    if addresses.iter().any(|net| net.addr().is_ipv6())
        && let IpAddr::V6(addr) = mac.link_local().to_std()
        && let Ok(net) = Ipv6Net::new(addr, 64)
        && !all.contains(&net.into())
    {
        all.push(net.into());
    }
    all
}

/// Name of the host-side device of a port, at most 15 characters. A higher `attempt` gives another name,
/// for when the first is taken.
#[must_use]
pub fn port_device(port: &str, attempt: u32) -> String {
    let seed = if attempt == 0 { String::new() } else { format!("\0{attempt}") };
    format!("vp-{:012x}", fnv1a(port.bytes().chain(seed.bytes())) >> 16)
}
