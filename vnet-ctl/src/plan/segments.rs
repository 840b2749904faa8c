//! The devices by which networks go beyond this host: trunks and bridged uplinks, which are somebody else's, and vnet's
//! own VXLAN device, one for all overlays.
//!
//! To those of others vnet attaches programs, and has them take what is for its ports; it does not bring them up or down,
//! nor puts them on a bridge, and they keep their addresses. The VXLAN device has no address: what comes by it is for
//! networks, or dropped.

use std::collections::BTreeMap;

use super::{
    Action, Desired, Kind, Link, LocatedSegment, Network, Observed, Obstacle, Owner, Ownership, Role,
    Segment, Source, Uplink,
    planner::Planner,
    receptions::Reception,
    uplinks::{Outside, Unfit, device_called, uplink_of},
};

/// The VXLAN device of all overlays.
pub const OVERLAY_DEVICE: &str = "vnet-vxlan";
/// The UDP port that VXLAN is received on: RFC 7348 section 5.
pub const VXLAN_PORT: u16 = 4789;

impl<'a> Planner<'a> {
    /// Makes the VXLAN device if there is an overlay.
    pub(super) fn overlay(&mut self) {
        let (observed, networks) = (self.observed, &self.desired.networks);
        let overlays = || networks.iter().filter(|(_, network)| is_overlay(network));
        let (Some((name, _)), Some(mtu)) =
            (overlays().next(), overlays().map(|(_, network)| network.mtu).max())
        else {
            return;
        };
        let found = observed.by_name(OVERLAY_DEVICE);
        let others = observed.links.values().filter(|link| link.name != OVERLAY_DEVICE);
        let is_rival = |link: &&Link| matches!(link.kind, Kind::Vxlan { port: VXLAN_PORT, .. });
        match (found, others.filter(|link| !link.is_ours()).find(is_rival)) {
            (Some(link), None) if is_device(link) => self.repair_overlay(link, mtu),
            (None, None) if !self.created.contains(OVERLAY_DEVICE) => self.create_overlay(mtu),
            (_, Some(rival)) => self
                .obstacles
                .push(Obstacle::VxlanPortTaken { network: name.clone(), device: rival.name.clone() }),
            _ => self.obstacles.push(Obstacle::OverlayInTheWay { network: name.clone() }),
        }
    }

    fn create_overlay(&mut self, mtu: u32) {
        let device = || OVERLAY_DEVICE.to_owned();
        self.created.insert(device());
        self.prepare(
            Action::CreateOverlay { device: device(), mtu },
            Action::DeleteLink { device: device(), owner: Some(Owner::Overlay) },
        );
        self.attach_outside(OVERLAY_DEVICE, Role::Segment);
        self.up(None, OVERLAY_DEVICE);
    }

    fn repair_overlay(&mut self, link: &Link, mtu: u32) {
        self.taken.insert(link.ifindex);
        self.owner(link, Owner::Overlay);
        if link.makes_link_local {
            self.prepare(Action::SetQuiet { device: link.name.clone() }, None);
        }
        self.mtu(link, mtu);
        self.up(Some(link), &link.name);
    }

    /// What networks want of the devices by which they go beyond this host.
    pub(super) fn segments(&mut self, outside: &mut Outside<'a>) {
        let (desired, observed) = (self.desired, self.observed);
        for (name, network) in &desired.networks {
            match &network.segment {
                None => {}
                Some(Segment::Lan { trunk, shared }) => match device_called(desired, observed, trunk) {
                    Ok(link) => {
                        let stations = network.stations.iter().copied().map(Reception::Mac);
                        outside.add(link, Role::Segment, stations.chain([Reception::AllMulticast]));
                        if *shared {
                            outside.add(link, Role::Lan, []);
                        }
                        self.check_trunk(name, network, link);
                    }
                    Err(unfit) => self.unfit_trunk(name, trunk, &unfit),
                },
                Some(Segment::Overlay { uplink, .. }) => {
                    if let Some(link) = device_of_overlays(observed) {
                        outside.add(link, Role::Segment, []);
                    }
                    match uplink_of(desired, observed, uplink) {
                        Ok(Some(link)) => outside.add(link, Role::Underlay, []),
                        Ok(None) => {}
                        Err(unfit) => self.unfit_underlay(name, uplink, &unfit),
                    }
                }
            }
        }
    }

    /// Says what of somebody else's device keeps frames from passing.
    fn check_trunk(&mut self, network: &str, wanted: &Network, link: &Link) {
        let Link { name, mtu, .. } = link;
        if !link.up {
            self.plan.warnings.push(format!(
                "network {network}: {name} is down, and nothing passes; bring it up with `ip link set {name} up`"
            ));
        }
        if *mtu < wanted.mtu {
            self.plan.warnings.push(format!(
                "network {network}: {name} has an MTU of {mtu}, the network {}; larger packets are lost. \
                 Set one of them with `ip link set {name} mtu {}` or mtu = {mtu} in the policy",
                wanted.mtu, wanted.mtu
            ));
        }
    }

    fn unfit_trunk(&mut self, network: &str, trunk: &str, unfit: &Unfit<'_>) {
        let (network, device) = (network.to_owned(), trunk.to_owned());
        self.obstacles.push(match unfit {
            Unfit::Missing => Obstacle::TrunkMissing { network, device },
            Unfit::Is(what, _) => Obstacle::NotATrunk { network, device, what },
        });
    }

    fn unfit_underlay(&mut self, network: &str, uplink: &Uplink, unfit: &Unfit<'_>) {
        let network = network.to_owned();
        match (uplink, unfit) {
            (Uplink::Device(device), Unfit::Missing) => {
                let device = device.clone();
                self.obstacles.push(Obstacle::UnderlayMissing { network, device });
            }
            (Uplink::Device(device), Unfit::Is(what, _)) => {
                let device = device.clone();
                self.obstacles.push(Obstacle::NotAnUplink { network, device, what });
            }
            (_, Unfit::Is(what, link)) => self.plan.warnings.push(format!(
                "network {network}: the host's default route leaves by {}, {what}: what other hosts send to the \
                 network is dropped. Name another device with uplink = \"…\" in the policy",
                link.name
            )),
            (_, Unfit::Missing) => {}
        }
    }
}

fn is_overlay(network: &Network) -> bool {
    matches!(network.segment, Some(Segment::Overlay { .. }))
}

/// Whether `link` is vnet's VXLAN device, or was made to be it.
fn is_device(link: &Link) -> bool {
    link.name == OVERLAY_DEVICE
        && link.kind == Kind::Vxlan { port: VXLAN_PORT, is_external: true }
        && matches!(link.ownership, Ownership::Ours(Owner::Overlay) | Ownership::Newborn)
}

/// vnet's VXLAN device, if it is there.
pub(super) fn device_of_overlays(observed: &Observed) -> Option<&Link> {
    observed.by_name(OVERLAY_DEVICE).filter(|link| is_device(link))
}

/// Where the device is by which `network` goes beyond this host.
pub(super) fn locate(desired: &Desired, observed: &Observed, network: &Network) -> Option<LocatedSegment> {
    let mut sources = BTreeMap::new();
    let (link, mtu, others) = match network.segment.as_ref()? {
        Segment::Lan { trunk, shared } => {
            let link = device_called(desired, observed, trunk).ok()?;
            (link, link.mtu, shared.then_some((link, Role::Lan)))
        }
        Segment::Overlay { uplink, peers } => {
            let underlay = uplink_of(desired, observed, uplink).ok().flatten();
            let leads_there = |source: &Source| underlay.is_some_and(|link| link.ifindex == source.ifindex);
            let of_peers = observed.sources.iter().filter(|(peer, _)| peers.contains(peer));
            sources.extend(
                of_peers.filter(|(_, source)| leads_there(source)).map(|(peer, source)| (*peer, *source)),
            );
            (device_of_overlays(observed)?, network.mtu, underlay.map(|link| (link, Role::Underlay)))
        }
    };
    let roles = [(link, Role::Segment)].into_iter().chain(others).map(|(link, role)| (link.ifindex, role));
    Some(LocatedSegment {
        ifindex: link.ifindex,
        device: link.name.clone(),
        mac: link.mac?,
        mtu,
        roles: roles.collect(),
        sources,
        underlay: others.filter(|(_, role)| *role == Role::Underlay).map(|(link, _)| link.name.clone()),
    })
}
