//! The devices that networks leave by: somebody else's, to which vnet attaches a program, and which it has take the
//! multicast that is for what it answers for; nothing more.

use std::collections::BTreeSet;

use vnet_common::limits::MAX_IFINDEX;

use super::{
    Action, Attach, Desired, Kind, Link, Network, Observed, Obstacle, Target, Uplink, groups::Groups,
    planner::Planner,
};

impl Planner<'_> {
    /// Attaches to the uplinks in use, and detaches from those that are not any more.
    pub(super) fn uplinks(&mut self) {
        let mut wanted = BTreeSet::new();
        let mut groups = Groups::new();
        for (name, network) in &self.desired.networks {
            match uplink_of(self.desired, self.observed, network) {
                Ok(Some(link)) => {
                    wanted.insert(link.ifindex);
                    let (_, of_link) = groups.entry(&link.name).or_insert_with(|| (link, BTreeSet::new()));
                    of_link.extend(&network.groups);
                }
                Ok(None) => {}
                Err(unfit) => self.unfit_uplink(name, network, unfit),
            }
        }
        let (observed, attached) = (self.observed, &self.observed.uplinks);
        for link in wanted.difference(attached).filter_map(|ifindex| observed.links.get(ifindex)) {
            let device = link.name.clone();
            let undo = Action::DetachUplink(Target::Device(device.clone()));
            self.prepare(Action::AttachUplink { device }, undo);
        }
        let detach = attached.difference(&wanted).map(|&ifindex| {
            let target = match observed.links.get(&ifindex) {
                Some(link) => Target::Device(link.name.clone()),
                None => Target::Ifindex(ifindex),
            };
            Action::DetachUplink(target)
        });
        self.plan.remove.extend(detach);
        self.groups(&groups);
    }

    /// What a person named is in the way if it will not do; where the host's default route leads is not.
    fn unfit_uplink(&mut self, network: &str, wanted: &Network, unfit: Unfit<'_>) {
        let network = network.to_owned();
        match (&wanted.uplink, unfit) {
            (Uplink::Device(device), Unfit::Missing) => {
                let device = device.clone();
                self.obstacles.push(Obstacle::UplinkMissing { network, device });
            }
            (Uplink::Device(device), Unfit::Is(what, _)) => {
                let device = device.clone();
                self.obstacles.push(Obstacle::NotAnUplink { network, device, what });
            }
            (_, Unfit::Is(what, link)) => self.plan.warnings.push(format!(
                "network {network}: the host's default route leaves by {}, {what}: what the network sends \
                 outside is dropped. Name another device with uplink = \"…\" in the policy",
                link.name
            )),
            (_, Unfit::Missing) => {}
        }
    }
}

/// Why a device cannot be an uplink.
pub(super) enum Unfit<'a> {
    /// It is not there.
    Missing,
    /// It is something else.
    Is(&'static str, &'a Link),
}

/// The device that `network` leaves by: none if it does not leave, or the host itself has no way out.
pub(super) fn uplink_of<'a>(
    desired: &Desired,
    observed: &'a Observed,
    network: &Network,
) -> Result<Option<&'a Link>, Unfit<'a>> {
    let found = match &network.uplink {
        Uplink::None => return Ok(None),
        Uplink::DefaultRoute => match observed.way_out() {
            Some(link) => link,
            None => return Ok(None),
        },
        Uplink::Device(device) => observed.by_name(device).ok_or(Unfit::Missing)?,
    };
    match what_else(desired, found) {
        Some(what) => Err(Unfit::Is(what, found)),
        None => Ok(Some(found)),
    }
}

/// What a device is if it is nothing that leads outside.
fn what_else(desired: &Desired, link: &Link) -> Option<&'static str> {
    let is_port = |attach: &Attach| matches!(attach, Attach::Device { device } if *device == link.name);
    match link.kind {
        _ if link.is_ours() => Some("one of vnet's own devices"),
        _ if desired.places().any(is_port) => Some("the device of a port"),
        Kind::Loopback => Some("the loopback device"),
        _ if link.mac.is_none() => Some("no Ethernet device"),
        _ if link.ifindex > MAX_IFINDEX => Some("a device with too high an interface index"),
        _ => None,
    }
}
