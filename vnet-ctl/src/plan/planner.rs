//! The plan in the making.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::limits::MAX_IFINDEX;

use super::{Action, Desired, Link, Observed, Obstacle, Plan, Step, Target};
use crate::state::State;

/// Collects steps and obstacles; [`super::networks`], [`super::ports`], [`super::taps`], [`super::segments`],
/// [`super::uplinks`], [`super::receptions`] and [`super::leftovers`] add theirs.
pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) state: &'a State,
    pub(super) plan: Plan,
    pub(super) obstacles: Vec<Obstacle>,
    /// Links that are or become what is desired, by ifindex.
    pub(super) taken: BTreeSet<u32>,
    /// Names of links that the plan creates.
    pub(super) created: BTreeSet<String>,
    /// Who has each interface or device, in words.
    pub(super) places: BTreeMap<String, &'a str>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(desired: &'a Desired, observed: &'a Observed, state: &'a State) -> Self {
        Self {
            desired,
            observed,
            state,
            plan: Plan::default(),
            obstacles: Vec::new(),
            taken: BTreeSet::new(),
            created: BTreeSet::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self) -> (Plan, Vec<Obstacle>) {
        let desired = self.desired;
        for (name, network) in &desired.networks {
            self.network(name, network);
        }
        for (name, port) in &desired.ports {
            self.port(name, port);
        }
        self.overlay();
        self.check_indexes();
        self.leftovers();
        self.outside();
        self.records();
        (self.plan, self.obstacles)
    }

    pub(super) fn prepare(&mut self, action: Action, undo: impl Into<Option<Action>>) {
        self.plan.prepare.push(Step { action, undo: undo.into() });
    }

    pub(super) fn finish(&mut self, action: Action, undo: impl Into<Option<Action>>) {
        self.plan.finish.push(Step { action, undo: undo.into() });
    }

    /// Attaches the programs by `attach` if `link` lacks them.
    pub(super) fn attach(&mut self, link: Option<&Link>, attach: Action, device: &str) {
        if link.is_none_or(|link| !self.observed.attached.contains(&link.ifindex)) {
            self.prepare(attach, Action::Detach(Target::Device(device.to_owned())));
        }
    }

    pub(super) fn mtu(&mut self, link: &Link, mtu: u32) {
        if link.mtu != mtu {
            let set = |mtu| Action::SetMtu { device: link.name.clone(), mtu };
            self.prepare(set(mtu), set(link.mtu));
        }
    }

    pub(super) fn up(&mut self, link: Option<&Link>, device: &str) {
        if link.is_none_or(|link| !link.up) {
            let device = device.to_owned();
            self.finish(Action::Up { device: device.clone() }, Action::Down { device });
        }
    }

    /// The kernel counts indexes up, so the links to come get the next ones.
    fn check_indexes(&mut self) {
        let last = self.observed.links.keys().next_back().copied().unwrap_or(0);
        let coming = u32::try_from(self.created.len()).unwrap_or(u32::MAX);
        if coming > 0 && last.saturating_add(coming) > MAX_IFINDEX {
            let devices: Vec<_> = self.created.iter().cloned().collect();
            self.obstacles.push(Obstacle::IfindexTooLarge { device: devices.join(", ") });
        }
        let too_large = self.taken.iter().filter(|&&ifindex| ifindex > MAX_IFINDEX);
        let devices = too_large.filter_map(|ifindex| self.observed.links.get(ifindex));
        self.obstacles.extend(devices.map(|link| Obstacle::IfindexTooLarge { device: link.name.clone() }));
    }
}
