//! A policy on its way into force, and what came of it.

use std::{collections::BTreeMap, sync::Arc};

use super::{absent::Waiting, devices::devices, view::View};
use crate::{
    compile::Assigned,
    datapath::Committed,
    plan::{Desired, Located, Observed, Plan},
    policy::Policy,
    state::State,
};

/// A policy on its way into force.
#[derive(Default)]
pub(super) struct Change {
    pub(super) policy: Arc<Policy>,
    pub(super) origins: BTreeMap<String, String>,
    pub(super) assigned: Assigned,
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
    pub(super) fn steps(&self) -> &Plan {
        static NOTHING: Plan = Plan::NOTHING;
        self.plan.as_ref().unwrap_or(&NOTHING)
    }

    /// `state` with the addresses of all ports; those that wait keep theirs.
    pub(super) fn record(&self, mut state: State) -> State {
        let mut assigned = self.assigned.clone();
        let ports = self.policy.ports.iter();
        let mut networks: BTreeMap<_, _> =
            ports.map(|(name, port)| (name.clone(), port.network.clone())).collect();
        for name in self.waiting.names() {
            if let (None, Some(kept)) = (assigned.get(name), state.addresses.get(name)) {
                assigned.insert(name.clone(), kept.clone());
                networks.extend(state.networks.get(name).map(|network| (name.clone(), network.clone())));
            }
        }
        state.set_addresses(&assigned, networks);
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
    pub(super) fn of(committed: Committed, change: Change, located: &Located) -> Self {
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
            assigned: change.assigned,
            devices: devices(located),
            device_names: bridges.chain(ports).chain(uplinks).collect(),
            namespaces: located.ports.values().filter_map(|port| port.nsid).collect(),
        };
        let (generation, view) = (committed.generation, Arc::new(view));
        Self { generation, view, changes, warnings, waiting: Vec::new(), news: Vec::new(), repairs }
    }
}
