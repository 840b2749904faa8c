//! The devices that networks leave by: somebody else's, to which vnet attaches a program, and which it has take the
//! multicast that is for what it answers for; nothing more. [`super::segments`] adds those by which networks go on
//! beyond this host.

use std::collections::BTreeSet;

use vnet_common::limits::MAX_IFINDEX;

use super::{
    Action, Attach, Desired, Kind, Link, Network, Observed, Obstacle, Role, Target, Uplink,
    planner::Planner,
    receptions::{Reception, Receptions},
};

/// What is wanted of the devices that lead somewhere.
#[derive(Default)]
pub(super) struct Outside<'a> {
    /// Which of them are attached to, and for what.
    pub(super) roles: BTreeSet<(u32, Role)>,
    /// What they take.
    pub(super) receptions: Receptions<'a>,
}

impl<'a> Outside<'a> {
    /// Attaches to `link` as `role`, and has it take `frames`.
    pub(super) fn add(&mut self, link: &'a Link, role: Role, frames: impl IntoIterator<Item = Reception>) {
        self.roles.insert((link.ifindex, role));
        let (_, of_link) = self.receptions.entry(&link.name).or_insert_with(|| (link, BTreeSet::new()));
        of_link.extend(frames);
    }
}

impl<'a> Planner<'a> {
    /// Attaches to the devices that lead somewhere, and detaches from those that do not any more.
    pub(super) fn outside(&mut self) {
        let mut outside = Outside::default();
        self.uplinks(&mut outside);
        self.segments(&mut outside);
        let (observed, wanted, attached) = (self.observed, &outside.roles, &self.observed.outside);
        for &(ifindex, role) in wanted.difference(attached) {
            if let Some(link) = observed.links.get(&ifindex) {
                self.attach_outside(&link.name, role);
            }
        }
        let detach = attached.difference(wanted).map(|&(ifindex, role)| {
            // One of vnet's own is gone by then.
            let target = match observed.links.get(&ifindex).filter(|link| !link.is_ours()) {
                Some(link) => Target::Device(link.name.clone()),
                None => Target::Ifindex(ifindex),
            };
            Action::DetachOutside(target, role)
        });
        self.plan.remove.extend(detach);
        self.receptions(&outside.receptions);
    }

    /// Attaches to `device` as `role`.
    pub(super) fn attach_outside(&mut self, device: &str, role: Role) {
        let undo = Action::DetachOutside(Target::Device(device.to_owned()), role);
        self.prepare(Action::AttachOutside { device: device.to_owned(), role }, undo);
    }

    fn uplinks(&mut self, outside: &mut Outside<'a>) {
        for (name, network) in &self.desired.networks {
            match uplink_of(self.desired, self.observed, &network.uplink) {
                Ok(Some(link)) => {
                    let groups = network.groups.iter().copied().map(Reception::Mac);
                    outside.add(link, Role::Uplink, groups);
                }
                Ok(None) => {}
                Err(unfit) => self.unfit_uplink(name, network, unfit),
            }
        }
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

/// The device that `uplink` means: none if nothing leaves, or the host itself has no way out.
pub(super) fn uplink_of<'a>(
    desired: &Desired,
    observed: &'a Observed,
    uplink: &Uplink,
) -> Result<Option<&'a Link>, Unfit<'a>> {
    let found = match uplink {
        Uplink::None => return Ok(None),
        Uplink::DefaultRoute => match observed.way_out() {
            Some(link) => link,
            None => return Ok(None),
        },
        Uplink::Device(device) => return device_called(desired, observed, device).map(Some),
    };
    fit(desired, found).map(Some)
}

/// The device of that name, if it can lead somewhere.
pub(super) fn device_called<'a>(
    desired: &Desired,
    observed: &'a Observed,
    device: &str,
) -> Result<&'a Link, Unfit<'a>> {
    fit(desired, observed.by_name(device).ok_or(Unfit::Missing)?)
}

fn fit<'a>(desired: &Desired, link: &'a Link) -> Result<&'a Link, Unfit<'a>> {
    what_else(desired, link).map_or(Ok(link), |what| Err(Unfit::Is(what, link)))
}

/// What a device is if it is nothing that leads outside.
fn what_else(desired: &Desired, link: &Link) -> Option<&'static str> {
    let is_port = |attach: &Attach| attach.device() == Some(&link.name);
    match link.kind {
        _ if link.is_ours() => Some("one of vnet's own devices"),
        _ if desired.places().any(is_port) => Some("the device of a port"),
        Kind::Loopback => Some("the loopback device"),
        _ if link.mac.is_none() => Some("no Ethernet device"),
        _ if link.ifindex > MAX_IFINDEX => Some("a device with too high an interface index"),
        _ => None,
    }
}
