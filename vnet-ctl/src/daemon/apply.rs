//! Puts a policy in force, whole or not at all.
//!
//! The order keeps every device closed until its rules are there: devices are made, down; programs are
//! attached; the tables are committed; only then links come up. What is no longer wanted loses its tables
//! first and its device last. When a step fails, those before it are taken back, and the old tables are
//! put in force again.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};

use super::{
    Daemon, SharedDatapath,
    declared::Declared,
    desired::{bridge_mac, desired},
    error::ApplyError,
    newcomers::announcements,
    progress::Progress,
    view::View,
};
use crate::{
    api::types::Applied,
    compile::{self, Assigned, Bridge, Devices, PortDevice},
    datapath::{Committed, names::Hook},
    host::{ApplyError as HostError, Attach, Host},
    plan::{self, Desired, Located, Observed, Plan},
    policy::Policy,
    state::State,
};

impl Daemon {
    /// Changes what is declared, and puts it in force; on failure, neither is changed.
    pub(super) async fn declare(&self, change: impl FnOnce(&mut Declared)) -> Result<Applied, ApplyError> {
        let mut engine = self.engine.lock().await;
        let engine = engine.as_mut().ok_or(ApplyError::Stopping)?;
        let mut declared = engine.declared.clone();
        change(&mut declared);
        let outcome = engine.enforce(declared.joined()).await?;
        engine.declared = declared;
        self.show(outcome.view);
        let Outcome { generation, changes, warnings, .. } = outcome;
        Ok(Applied { generation, changes, warnings, confirm_within_secs: None })
    }

    /// What [`Daemon::declare`] would do.
    pub(super) async fn preview(&self, change: impl FnOnce(&mut Declared)) -> Result<Preview, ApplyError> {
        let engine = self.engine.lock().await;
        let engine = engine.as_ref().ok_or(ApplyError::Stopping)?;
        let before = engine.declared.clone();
        let mut after = before.clone();
        change(&mut after);
        let _under_way = engine.progress.under_way();
        let steps = engine.plan(after.joined()).await?.plan.changes();
        Ok(Preview { before, after, steps })
    }
}

/// A change that is not made.
pub(super) struct Preview {
    /// What is declared.
    pub(super) before: Declared,
    /// What would be.
    pub(super) after: Declared,
    /// What would be done on the host.
    pub(super) steps: Vec<String>,
}

/// All that a change takes.
#[derive(Debug)]
pub(super) struct Engine {
    host: Arc<Host>,
    state: State,
    state_dir: PathBuf,
    datapath: SharedDatapath,
    declared: Declared,
    progress: Progress,
}

/// What came of a change.
struct Outcome {
    generation: u32,
    view: View,
    changes: Vec<String>,
    warnings: Vec<String>,
}

impl Engine {
    /// Nothing is changed yet.
    pub(super) fn new(
        state_dir: &Path,
        host: Arc<Host>,
        datapath: SharedDatapath,
        progress: Progress,
    ) -> Result<Self> {
        let state = load_state(state_dir)?;
        let state_dir = state_dir.to_owned();
        Ok(Self { host, state, state_dir, datapath, declared: Declared::default(), progress })
    }

    /// Brings the host and the datapath to what `policy` says.
    async fn enforce(&mut self, policy: Policy) -> Result<Outcome, ApplyError> {
        let _under_way = self.progress.under_way();
        let change = self.plan(policy).await?;
        let before = self.state.clone();
        // A crash from here on leaves nothing that the state does not know.
        self.save(with_addresses(change.plan.intended(&self.state), &change.assigned))?;
        match self.carry_out(change).await {
            Ok(outcome) => Ok(outcome),
            Err(failed) => {
                go_back(&mut self.state, &self.state_dir, before, &failed);
                Err(failed.error.into())
            }
        }
    }

    /// What has to be done for `policy`; nothing is changed yet.
    async fn plan(&self, policy: Policy) -> Result<Change, ApplyError> {
        self.progress.stage("checking the policy", 0);
        let unfit = |error: &dyn std::error::Error| ApplyError::Unfit(error.to_string());
        let assigned = compile::assign(&policy, &self.state.addresses).map_err(|error| unfit(&error))?;
        compile::compile(&policy, &assigned, &imagined(&policy)).map_err(|error| unfit(&error))?;
        let desired = desired(&policy, &assigned);
        self.progress.stage("looking at the host", 0);
        let observed = self.observe(&desired).await?;
        let plan = plan::plan(&desired, &observed, &self.state).map_err(|error| unfit(&error))?;
        Ok(Change { policy, assigned, desired, plan })
    }

    /// Carries a plan out. On failure, what it did is undone.
    async fn carry_out(&mut self, change: Change) -> Result<Outcome, Failed> {
        self.progress.stage("preparing devices", change.plan.prepare.len());
        let mut attach = self.progress.counting(self.datapath.clone());
        let prepared = self.host.apply(&change.plan.prepare, &mut attach).await?;
        let (committed, located) = match self.commit_and_finish(&change).await {
            Ok(done) => done,
            Err(error) => {
                let not_undone = self.host.undo(prepared, &mut attach).await;
                let undone = not_undone.is_empty();
                let error = not_undone.iter().fold(error, |error, left| error.context(left.to_string()));
                return Err(Failed { error, undone });
            }
        };
        let mut warnings = change.plan.warnings.clone();
        warnings.extend(self.clean_up(&change, &located).await);
        let mut changes = change.plan.changes();
        changes.extend(committed.changes.describe());
        let view = view(change, &located);
        Ok(Outcome { generation: committed.generation, view, changes, warnings })
    }

    /// Puts the tables in force, then brings the devices up.
    async fn commit_and_finish(&mut self, change: &Change) -> Result<(Committed, Located)> {
        let observed = self.observe(&change.desired).await?;
        self.save(plan::with_namespace_ids(self.state.clone(), &observed))?;
        let located = plan::locate(&change.desired, &observed);
        let tables = Arc::new(compile::compile(&change.policy, &change.assigned, &devices(&located))?);
        self.progress.stage("writing the tables", 0);
        let (before, committed) = {
            let mut datapath = self.datapath.lock();
            (datapath.in_force()?.clone(), datapath.commit(&tables)?)
        };
        self.progress.stage("bringing devices up", change.plan.finish.len());
        let mut attach = self.progress.counting(self.datapath.clone());
        match self.host.apply(&change.plan.finish, &mut attach).await {
            // What is in force now is not taken back.
            Ok(_) => {
                if let Err(error) = self.host.announce(&announcements(&before, &tables)).await {
                    tracing::warn!("tell the workloads of new neighbours: {error:#}");
                }
                Ok((committed, located))
            }
            Err(error) => {
                self.datapath.lock().commit(&before).context("put the old policy in force again")?;
                Err(error).context("the old policy is in force again")
            }
        }
    }

    /// Takes away what is no longer wanted; what stays behind is told, and tried again by the next change.
    async fn clean_up(&mut self, change: &Change, located: &Located) -> Vec<String> {
        self.progress.stage("cleaning up", change.plan.remove.len());
        let mut attach = self.progress.counting(self.datapath.clone());
        let failures = self.host.remove(&change.plan.remove, &mut attach).await;
        let mut problems: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let wanted = wanted_devices(located);
        if let Err(error) = self.datapath.lock().retain_devices(&wanted) {
            problems.push(format!("{error:#}"));
        }
        if problems.is_empty() {
            let settled = with_addresses(change.plan.settled(&self.state), &change.assigned);
            if let Err(error) = self.save(settled) {
                problems.push(format!("{error:#}"));
            }
        }
        problems
    }

    /// What is on the host, as far as `desired` and the state are concerned.
    async fn observe(&self, desired: &Desired) -> Result<Observed> {
        let mut observed = self.host.observe(desired, &self.state).await.context("look at the host")?;
        let mut datapath = self.datapath.lock();
        datapath.forget_stale()?;
        observed.attached = attached(datapath.attached());
        drop(datapath);
        Ok(observed)
    }

    fn save(&mut self, state: State) -> Result<()> {
        save(&mut self.state, &self.state_dir, state)
    }
}

/// Keeps `new` in `dir`, where `state` is now.
fn save(state: &mut State, dir: &Path, new: State) -> Result<()> {
    if new != *state {
        new.save(dir).map_err(|error| anyhow::anyhow!("{error}; {}", error.help()))?;
        *state = new;
    }
    Ok(())
}

/// The state is again as before the change that failed, unless something of the change is still there.
fn go_back(state: &mut State, dir: &Path, before: State, failed: &Failed) {
    if !failed.undone {
        return;
    }
    // The intended one stays in place otherwise, which names too much rather than too little.
    if let Err(error) = save(state, dir, before) {
        tracing::warn!("forget the change that failed: {error:#}");
    }
}

/// A change that failed.
struct Failed {
    error: anyhow::Error,
    /// Whether the host is as it was before.
    undone: bool,
}

impl From<HostError> for Failed {
    fn from(error: HostError) -> Self {
        Self { undone: error.not_undone.is_empty(), error: error.into() }
    }
}

/// A policy on its way into force.
struct Change {
    policy: Policy,
    assigned: Assigned,
    desired: Desired,
    plan: Plan,
}

fn with_addresses(mut state: State, assigned: &Assigned) -> State {
    state.addresses.clone_from(assigned);
    state
}

/// The state, with what to do if it cannot be read.
pub(super) fn load_state(dir: &Path) -> Result<State> {
    State::load(dir).map_err(|error| anyhow::anyhow!("{error}; {}", error.help()))
}

/// Devices that do not exist, one for each network and port: the tables have the size that they will have.
fn imagined(policy: &Policy) -> Devices {
    let mut indexes = 1..;
    let mut next = || indexes.next().unwrap_or(u32::MAX);
    Devices {
        bridges: policy
            .networks
            .keys()
            .map(|name| (name.clone(), Bridge { ifindex: next(), mac: bridge_mac(name) }))
            .collect(),
        ports: policy
            .ports
            .keys()
            .map(|name| {
                (name.clone(), PortDevice { ifindex: next(), delivery: vnet_common::Delivery::Device })
            })
            .collect(),
    }
}

fn devices(located: &Located) -> Devices {
    let bridges = located.bridges.iter();
    let ports = located.ports.iter();
    Devices {
        bridges: bridges
            .map(|(name, bridge)| (name.clone(), Bridge { ifindex: bridge.ifindex, mac: bridge.mac }))
            .collect(),
        ports: ports
            .map(|(name, port)| (name.clone(), PortDevice { ifindex: port.ifindex, delivery: port.delivery }))
            .collect(),
    }
}

fn view(change: Change, located: &Located) -> View {
    let bridges = located.bridges.values().map(|bridge| (bridge.ifindex, bridge.device.clone()));
    let ports = located.ports.values().map(|port| (port.ifindex, port.device.clone()));
    View {
        policy: change.policy,
        assigned: change.assigned,
        devices: devices(located),
        device_names: bridges.chain(ports).collect(),
    }
}

fn wanted_devices(located: &Located) -> BTreeSet<u32> {
    let bridges = located.bridges.values().map(|bridge| bridge.ifindex);
    bridges.chain(located.ports.values().map(|port| port.ifindex)).collect()
}

/// The devices with all of a port's programs, or a network's. Half of them count as none.
fn attached(hooks: &BTreeSet<(u32, Hook)>) -> BTreeSet<u32> {
    let has = |ifindex, hook| hooks.contains(&(ifindex, hook));
    let complete = |ifindex: &u32| {
        has(*ifindex, Hook::FromHost) || (has(*ifindex, Hook::FromPort) && has(*ifindex, Hook::ToPort))
    };
    hooks.iter().map(|&(ifindex, _)| ifindex).filter(complete).collect()
}

impl Attach for SharedDatapath {
    fn attach_port(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_port(ifindex)
    }

    fn attach_bridge(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_bridge(ifindex)
    }

    fn detach(&mut self, ifindex: u32) -> Result<()> {
        self.lock().detach(ifindex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_left_something_behind_stays_in_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let mut intended = State::default();
        intended.devices.insert("tap0".to_owned());
        for undone in [true, false] {
            intended.save(dir.path()).unwrap();
            let mut known = intended.clone();
            let failed = Failed { error: anyhow::anyhow!("no"), undone };

            go_back(&mut known, dir.path(), State::default(), &failed);

            let expected = if undone { State::default() } else { intended.clone() };
            assert_eq!((&known, State::load(dir.path()).unwrap()), (&expected, expected.clone()));
        }
    }

    #[test]
    fn a_state_that_cannot_be_saved_does_not_hide_what_failed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut intended = State::default();
        intended.devices.insert("tap0".to_owned());
        let mut known = intended.clone();

        go_back(&mut known, &file, State::default(), &Failed { error: anyhow::anyhow!("no"), undone: true });

        assert_eq!(known, intended);
    }

    #[test]
    fn half_attached_devices_are_attached_again() {
        let hooks = [(3, Hook::FromHost), (5, Hook::FromPort), (5, Hook::ToPort), (7, Hook::FromPort)];
        assert_eq!(attached(&hooks.into()), [3, 5].into());
    }
}
