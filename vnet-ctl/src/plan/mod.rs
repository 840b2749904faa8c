//! What has to change on the host: a pure comparison of what should be there with what is.
//!
//! A plan has three parts. [`Plan::prepare`] makes devices, down, and attaches the programs; then the
//! daemon commits the tables; [`Plan::finish`] brings the devices up; [`Plan::remove`] takes away what
//! is no longer wanted. So no device is ever up without default deny, and nothing is taken away before
//! its replacement works. A device that vnet made is told by its alias alone, and a port's veth by the
//! place of its other end, so that what a crash left half made is completed by the next plan.
//!
//! How the steps are carried out is [`crate::host`]'s business.

mod action;
mod desired;
mod leftovers;
mod networks;
mod observed;
mod obstacle;
mod planner;
mod ports;
mod receptions;
mod records;
mod restore;
mod segments;
mod taps;
#[cfg(test)]
mod tests;
mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vnet_common::{Delivery, MacAddr};

use self::planner::Planner;
pub(crate) use self::ports::is_link_local;
pub use self::{
    action::{Action, Step, Target},
    desired::{
        Addressing, Attach, Desired, NETNS_DIR, NetnsRef, Network, Port, Segment, Uplink, Workload,
        port_device,
    },
    leftovers::spared,
    observed::{
        DefaultRoute, Inside, Kind, Link, NEWBORN_GROUP, Namespace, Observed, Owner, Ownership, Peer, Role,
        Routers, Source,
    },
    obstacle::{Absent, Obstacle, Obstacles},
    receptions::{Reception, filters_stations},
    records::with_namespace_ids,
    segments::{OVERLAY_DEVICE, VXLAN_PORT},
};
use crate::state::State;

/// The way from what is there to what should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Before the tables are committed; all or nothing.
    pub prepare: Vec<Step>,
    /// After the tables are committed; all or nothing.
    pub finish: Vec<Step>,
    /// Last; each is tried whatever becomes of the others.
    pub remove: Vec<Action>,
    /// What people should know.
    pub warnings: Vec<String>,
    namespaces: BTreeSet<String>,
    devices: BTreeSet<String>,
    lowered: BTreeSet<String>,
    receptions: BTreeMap<String, BTreeSet<String>>,
}

impl Plan {
    /// Nothing to do.
    pub const NOTHING: Self = Self {
        prepare: Vec::new(),
        finish: Vec::new(),
        remove: Vec::new(),
        warnings: Vec::new(),
        namespaces: BTreeSet::new(),
        devices: BTreeSet::new(),
        lowered: BTreeSet::new(),
        receptions: BTreeMap::new(),
    };

    /// Whether nothing has to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prepare.is_empty() && self.finish.is_empty() && self.remove.is_empty()
    }

    /// The changes in words, in order.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let steps = self.prepare.iter().chain(&self.finish).map(|step| &step.action);
        steps.chain(&self.remove).map(ToString::to_string).collect()
    }
}

/// Compares what should be there with what is.
///
/// # Errors
/// [`Obstacles`], all that are found, when something is in the way that is not vnet's.
pub fn plan(desired: &Desired, observed: &Observed, state: &State) -> Result<Plan, Obstacles> {
    match Planner::new(desired, observed, state).run() {
        (plan, obstacles) if obstacles.is_empty() => Ok(plan),
        (_, obstacles) => Err(Obstacles(obstacles)),
    }
}

/// How to remove everything that vnet made.
#[must_use]
pub fn teardown(observed: &Observed, state: &State) -> Plan {
    // Obstacles are in the way of what is desired, which is nothing.
    Planner::new(&Desired::default(), observed, state).run().0
}

/// Where the desired objects are, for the compiled tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The bridges, by network.
    pub bridges: BTreeMap<String, LocatedBridge>,
    /// The host-side devices, by port.
    pub ports: BTreeMap<String, LocatedPort>,
    /// The devices that networks leave by, by network.
    pub uplinks: BTreeMap<String, LocatedUplink>,
    /// The devices by which networks go beyond this host, by network.
    pub segments: BTreeMap<String, LocatedSegment>,
    /// The host's own addresses, with the device of each.
    pub addresses: BTreeMap<IpAddr, String>,
    /// The next hops of the host's default routes, as far as a network leads outside or is a LAN of the host's.
    pub routers: BTreeSet<IpAddr>,
}

/// The device by which a network goes beyond this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedSegment {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub device: String,
    /// Its MAC.
    pub mac: MacAddr,
    /// The longest IP packet in bytes that passes, encapsulation taken off.
    pub mtu: u32,
    /// The links with a part in it, and which: the device, and in an overlay what leads to the other hosts.
    pub roles: BTreeSet<(u32, Role)>,
    /// The name of what leads to the other hosts of an overlay.
    pub underlay: Option<String>,
    /// How the host speaks to those of them that it reaches by that link.
    pub sources: BTreeMap<IpAddr, Source>,
}

/// The device that a network leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedUplink {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub device: String,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its addresses that are of use beyond the link; see [`Link::global`].
    pub addresses: Vec<IpAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is a veth.
    pub is_veth: bool,
    /// Where it leads, as far as that is known.
    pub routers: Routers,
}

/// Where a network's bridge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedBridge {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub device: String,
    /// Its MAC.
    pub mac: MacAddr,
}

/// Where a port's device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedPort {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub device: String,
    /// How to get a packet to the workload.
    pub delivery: Delivery,
    /// Whether it is up.
    pub up: bool,
    /// The host's id of the namespace that it leads to.
    pub nsid: Option<i32>,
}

impl Located {
    /// Whether everything is where it is in `other`, and reached in the same way.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let ports = |located: &Self| -> Vec<_> {
            let place = |(name, port): (&String, &LocatedPort)| (name.clone(), port.ifindex, port.delivery);
            located.ports.iter().map(place).collect()
        };
        self.bridges == other.bridges
            && ports(self) == ports(other)
            && self.uplinks == other.uplinks
            && self.segments == other.segments
            && self.addresses == other.addresses
    }
}

/// Finds the desired objects among what is there. What is missing is left out: after the prepare steps
/// nothing is.
#[must_use]
pub fn locate(desired: &Desired, observed: &Observed) -> Located {
    let bridges = desired.networks.iter().filter_map(|(name, network)| {
        let link = networks::bridge_of(observed, network)?;
        Some((
            name.clone(),
            LocatedBridge { ifindex: link.ifindex, device: link.name.clone(), mac: network.mac },
        ))
    });
    let ports = desired.ports.iter().filter_map(|(name, port)| {
        let link = ports::device_of(observed, port)?;
        Some((
            name.clone(),
            LocatedPort {
                ifindex: link.ifindex,
                device: link.name.clone(),
                delivery: link.delivery(),
                up: link.up,
                nsid: link.peer.and_then(|peer| peer.nsid),
            },
        ))
    });
    let uplinks = desired.networks.iter().filter_map(|(name, network)| {
        let link = uplinks::uplink_of(desired, observed, &network.uplink).ok()??;
        let located = LocatedUplink {
            ifindex: link.ifindex,
            device: link.name.clone(),
            mac: link.mac?,
            addresses: link.global.clone(),
            mtu: link.mtu,
            is_veth: link.kind == Kind::Veth,
            routers: observed.routers.get(&link.ifindex).cloned().unwrap_or_default(),
        };
        Some((name.clone(), located))
    });
    let segments = desired
        .networks
        .iter()
        .filter_map(|(name, network)| Some((name.clone(), segments::locate(desired, observed, network)?)));
    Located {
        segments: segments.collect(),
        bridges: bridges.collect(),
        ports: ports.collect(),
        uplinks: uplinks.collect(),
        addresses: observed.host_addresses(),
        routers: observed.routers.values().flat_map(|of_link| of_link.gateways.iter().copied()).collect(),
    }
}
