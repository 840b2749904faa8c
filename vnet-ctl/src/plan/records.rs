//! What the state must say about the host before a plan is carried out, and after.

use std::collections::BTreeSet;

use super::{Action, Attach, Namespace, NetnsRef, Observed, Plan, leftovers::is_in, planner::Planner};
use crate::state::State;

impl Planner<'_> {
    pub(super) fn records(&mut self) {
        let ports = || self.desired.places();
        let coming = self.plan.prepare.iter().filter_map(|step| match &step.action {
            Action::CreateNamespace(netns) => Some(netns.to_string()),
            _ => None,
        });
        let is_ours = |netns: &&String| self.observed.is_made_by_us(&NetnsRef::parse(netns), self.state);
        let made = self.state.namespaces.iter().filter(is_ours).cloned().chain(coming);
        let namespaces =
            made.filter(|netns| ports().any(|attach| is_in(attach, &NetnsRef::parse(netns)))).collect();
        let borrowed = |attach: &&Attach| !matches!(attach, Attach::Tap { create: true, .. });
        let devices: BTreeSet<String> =
            ports().filter(borrowed).filter_map(Attach::device).map(str::to_owned).collect();
        let is_down = |device: &&String| self.observed.by_name(device).is_some_and(|link| !link.up);
        let borrowed = devices.iter().filter(|device| !self.state.devices.contains(*device));
        let lowered = borrowed.filter(is_down).chain(self.state.lowered.intersection(&devices));
        let lowered = lowered.cloned().collect();
        (self.plan.namespaces, self.plan.devices, self.plan.lowered) = (namespaces, devices, lowered);
    }
}

impl Plan {
    /// `state` with everything that the plan may have touched when it is interrupted: to save before
    /// [`Plan::prepare`].
    #[must_use]
    pub fn intended(&self, state: &State) -> State {
        let mut state = state.clone();
        state.namespaces.extend(self.namespaces.iter().cloned());
        for step in &self.prepare {
            if let Action::CreateNamespace(netns) = &step.action {
                state.namespace_ids.remove(&netns.to_string());
            }
        }
        state.devices.extend(self.devices.iter().cloned());
        state.lowered.extend(self.lowered.iter().cloned());
        for (device, frames) in &self.receptions {
            state.groups.entry(device.clone()).or_default().extend(frames.iter().cloned());
        }
        state
    }

    /// `state` with what the plan leaves: to save when every part of it has succeeded.
    #[must_use]
    pub fn settled(&self, state: &State) -> State {
        let mut state = state.clone();
        state.namespaces.clone_from(&self.namespaces);
        state.namespace_ids.retain(|name, _| self.namespaces.contains(name));
        state.devices.clone_from(&self.devices);
        state.lowered.clone_from(&self.lowered);
        state.groups.clone_from(&self.receptions);
        state
    }
}

/// `state` with the identities of the namespaces that vnet has just made.
#[must_use]
pub fn with_namespace_ids(mut state: State, observed: &Observed) -> State {
    for name in &state.namespaces {
        if let Some(Namespace::Present(inside)) = observed.namespaces.get(&NetnsRef::parse(name)) {
            state.namespace_ids.entry(name.clone()).or_insert_with(|| inside.id.clone());
        }
    }
    state
}
