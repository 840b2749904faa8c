//! A policy on its way into force, and what came of it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    absent::Waiting,
    devices::devices,
    learned::{fitting, joined},
    view::View,
};
use crate::{
    compile::{Assigned, network_of},
    datapath::Committed,
    plan::{Desired, Located, Observed, Plan, Role},
    policy::Policy,
    state::{LearnedAddresses, Places, State},
};

/// A policy on its way into force.
#[derive(Default)]
pub(super) struct Change {
    pub(super) policy: Arc<Policy>,
    pub(super) origins: BTreeMap<String, String>,
    /// The addresses of ports that are declared or assigned.
    pub(super) assigned: Assigned,
    /// Those that they were heard with.
    pub(super) learned: LearnedAddresses,
    /// All of them.
    pub(super) addresses: Assigned,
    /// What should be on the host.
    pub(super) wanted: Desired,
    /// The same without what has to wait.
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    /// `None` if the host is as it should be.
    pub(super) plan: Option<Plan>,
    pub(super) waiting: Waiting,
}

impl Change {
    /// The same, whose ports have the addresses `assigned`, and what still fits of those that were `learned`.
    pub(super) fn with_addresses(self, assigned: Assigned, learned: &LearnedAddresses) -> Self {
        let learned = fitting(&self.policy, &assigned, learned);
        let addresses = joined(&assigned, &learned);
        Self { assigned, learned, addresses, ..self }
    }

    pub(super) fn steps(&self) -> &Plan {
        static NOTHING: Plan = Plan::NOTHING;
        self.plan.as_ref().unwrap_or(&NOTHING)
    }

    /// In which networks ports have their addresses.
    fn places(&self) -> Places {
        let places_of = |(name, addresses): (&String, &Vec<IpAddr>)| {
            let port = self.policy.ports.get(name)?;
            let place = |addr: &IpAddr| (*addr, network_of(&self.policy, port, *addr).to_owned());
            Some((name.clone(), addresses.iter().map(place).collect()))
        };
        self.assigned.iter().filter_map(places_of).collect()
    }

    /// `state` with the addresses of all ports; those that wait keep theirs.
    pub(super) fn record(&self, mut state: State) -> State {
        let mut assigned = self.assigned.clone();
        let mut places = self.places();
        for name in self.waiting.names() {
            if let (None, Some(kept)) = (assigned.get(name), state.addresses.get(name)) {
                assigned.insert(name.clone(), kept.clone());
                places.extend(state.places.get(name).map(|places| (name.clone(), places.clone())));
            }
        }
        state.set_addresses(&assigned, places);
        state.learned.clone_from(&self.learned);
        state
    }
}

/// What came of a change.
pub(super) struct Outcome {
    pub(super) generation: u32,
    pub(super) view: Arc<View>,
    pub(super) changes: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// Which ports have to wait, and for what.
    pub(super) waiting: Vec<String>,
    /// What of it was not so before.
    pub(super) news: Vec<String>,
    /// What was put right, in words.
    pub(super) repairs: Vec<String>,
}

impl Outcome {
    pub(super) fn of(
        committed: Committed,
        change: Change,
        located: &Located,
        member_links: BTreeMap<u32, u32>,
    ) -> Self {
        let mut changes = change.plan.as_ref().map(Plan::changes).unwrap_or_default();
        changes.extend(committed.changes.describe());
        let warnings = change.plan.as_ref().map(|plan| plan.warnings.clone()).unwrap_or_default();
        let repairs = change.plan.as_ref().map(Plan::repairs).unwrap_or_default();
        let bridges = located.bridges.values().map(|bridge| (bridge.ifindex, bridge.device.clone()));
        let ports = located.ports.values().map(|port| (port.ifindex, port.device.clone()));
        let uplinks = located.uplinks.values().map(|uplink| (uplink.ifindex, uplink.device.clone()));
        let view = View {
            policy: change.policy,
            origins: change.origins,
            assigned: change.addresses,
            learned: change.learned,
            devices: devices(located),
            member_links,
            device_names: bridges.chain(ports).chain(uplinks).chain(segments(located)).collect(),
            namespaces: located.ports.values().filter_map(|port| port.nsid).collect(),
        };
        let (generation, view) = (committed.generation, Arc::new(view));
        Self { generation, view, changes, warnings, waiting: Vec::new(), news: Vec::new(), repairs }
    }

    /// Adds what was done besides, or that it could not be, which leaves the policy in force.
    pub(super) fn add(&mut self, done: anyhow::Result<Vec<String>>) {
        match done {
            Ok(changes) => self.changes.extend(changes),
            Err(error) => self.warnings.push(format!("{error:#}")),
        }
    }
}

/// The devices by which networks go beyond this host, and those that lead to other hosts of overlays, with their names.
fn segments(located: &Located) -> impl Iterator<Item = (u32, String)> {
    located.segments.values().flat_map(|segment| {
        let underlay = segment.roles.iter().find(|(_, role)| *role == Role::Underlay);
        let underlay = underlay.and_then(|(ifindex, _)| Some((*ifindex, segment.underlay.clone()?)));
        [Some((segment.ifindex, segment.device.clone())), underlay].into_iter().flatten()
    })
}
