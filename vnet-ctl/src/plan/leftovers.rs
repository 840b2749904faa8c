//! What vnet made and is no longer wanted.

use std::collections::BTreeSet;

use super::{
    Action, Attach, Desired, Link, Namespace, NetnsRef, Observed, Owner, Ownership, Target, planner::Planner,
};

impl Planner<'_> {
    pub(super) fn leftovers(&mut self) {
        let observed = self.observed;
        let spared = spared(self.desired, observed);
        let is_wanted = |ifindex: &u32| self.taken.contains(ifindex) || spared.contains(ifindex);
        let unwanted = |link: &&Link| !is_wanted(&link.ifindex);
        let released = observed.links.values().filter(unwanted).filter(|link| self.is_borrowed(link));
        // A device that was down before it was borrowed is down again.
        let give_back = |link: &Link| {
            let device = link.name.clone();
            let was_down = self.state.lowered.contains(&device);
            let down = was_down.then(|| Action::Down { device: device.clone() });
            [Some(Action::Release { device }), down].into_iter().flatten()
        };
        let release = released.flat_map(give_back);

        let (bridges, ports): (Vec<_>, Vec<_>) = observed
            .links
            .values()
            .filter(unwanted)
            .filter(|link| link.is_ours())
            .partition(|link| matches!(link.ownership, Ownership::Ours(Owner::Network(_))));
        let delete = ports.into_iter().chain(bridges).map(|link| Action::DeleteLink {
            device: link.name.clone(),
            owner: link.ownership.owner().cloned(),
        });

        // Only when a device is off its bridge may the programs go.
        let detached = observed.attached.iter().filter(|ifindex| !is_wanted(ifindex));
        let detach = detached.map(|&ifindex| Action::Detach(Target::Ifindex(ifindex)));

        let namespaces = self.unwanted_namespaces().into_iter().map(Action::DeleteNamespace);
        let remove = release.chain(delete).chain(detach).chain(namespaces).collect();
        self.plan.remove = remove;
    }

    /// Whether `link` is somebody else's device that vnet put on one of its bridges.
    fn is_borrowed(&self, link: &Link) -> bool {
        let on_our_bridge = link
            .master
            .and_then(|master| self.observed.links.get(&master))
            .is_some_and(|master| matches!(master.ownership, Ownership::Ours(Owner::Network(_))));
        let is_known =
            self.observed.attached.contains(&link.ifindex) || self.state.devices.contains(&link.name);
        !link.is_ours() && on_our_bridge && is_known
    }

    fn unwanted_namespaces(&self) -> BTreeSet<NetnsRef> {
        let made = self.state.namespaces.iter().map(|netns| NetnsRef::parse(netns));
        made.filter(|netns| {
            let is_there = !matches!(self.observed.namespaces.get(netns), None | Some(Namespace::Missing));
            let is_ours = self.observed.is_made_by_us(netns, self.state);
            is_there && is_ours && !self.desired.places().any(|attach| is_in(attach, netns))
        })
        .collect()
    }
}

/// The host's devices of the ports that are left out for now.
#[must_use]
pub fn spared(desired: &Desired, observed: &Observed) -> BTreeSet<u32> {
    if desired.spared.is_empty() {
        return BTreeSet::new();
    }
    let of_spared = |link: &&Link| match link.ownership.owner() {
        Some(Owner::Port(port)) => desired.spared.contains_key(port),
        Some(Owner::Network(_) | Owner::Overlay) => false,
        None => {
            let is_there = |attach: &Attach| attach.device() == Some(&link.name) && !link.is_ours();
            desired.spared.values().any(is_there)
        }
    };
    observed.links.values().filter(of_spared).map(|link| link.ifindex).collect()
}

/// Whether a port attached so is in `netns`.
pub(super) fn is_in(attach: &Attach, netns: &NetnsRef) -> bool {
    matches!(attach, Attach::Netns { netns: of, .. } if of == netns)
}
