//! Puts a policy in force, whole or not at all.
//!
//! The order keeps every device closed until its rules are there: devices are made, down; programs are
//! attached; the tables are committed; only then links come up. What is no longer wanted loses its tables
//! first and its device last. When a step fails, those before it are taken back, and the old tables are
//! put in force again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};
use tokio::sync::Notify;

use super::{
    SharedDatapath,
    absent::{Waiting, leave_out, rested},
    answers::troubles,
    apply::Occasion,
    at_length,
    attach::hooks_of,
    clock::Now,
    declared::{Conflicts, Declared, Joined},
    desired::{desired, place},
    devices::{attached, attached_outside, devices, earlies, imagined, indexes, outside},
    error::ApplyError,
    grace::Grace,
    herald::Herald,
    outcome::{Change, Outcome},
    own_addresses::misfits,
    progress::Progress,
    table_maker::TableMaker,
};
use crate::{
    api::types::EventKind,
    compile,
    datapath::Committed,
    host::{ApplyError as HostError, Host},
    plan::{self, Absent, Desired, Located, Observed},
    policy::Policy,
    state::{PortStore, State},
};

/// All that a change takes.
#[derive(Debug)]
pub(super) struct Engine {
    host: Arc<Host>,
    pub(super) state: State,
    state_dir: PathBuf,
    pub(super) store: PortStore,
    datapath: SharedDatapath,
    tables: TableMaker,
    herald: Herald,
    grace: Mutex<Grace>,
    pub(super) declared: Declared,
    /// The ports that are not in force, and why.
    pub(super) waiting: Waiting,
    /// What is on the host, as long as all of it is as it should be.
    settled: Option<Settled>,
    pub(super) progress: Progress,
    /// That a change failed on its way: what is in force is to be looked at.
    in_doubt: Arc<Notify>,
}

/// What a change left on the host.
#[derive(Debug)]
struct Settled {
    /// What should be there, workloads included that were missing.
    wanted: Desired,
    located: Located,
}

impl Engine {
    /// Nothing is changed yet.
    pub(super) fn new(
        state_dir: &Path,
        host: Arc<Host>,
        datapath: SharedDatapath,
        progress: Progress,
    ) -> Result<Self> {
        let mut state = load_state(state_dir)?;
        state.learn_in(&Now::read()?.boot_id);
        let (store, ports) =
            PortStore::open(state_dir).map_err(|error| anyhow::anyhow!("{error}; {}", error.help()))?;
        Ok(Self {
            herald: Herald::new(host.clone()),
            grace: Mutex::default(),
            host,
            state,
            state_dir: state_dir.to_owned(),
            store,
            tables: TableMaker::new(datapath.clone()),
            datapath,
            declared: Declared::default().with_runtime(ports),
            waiting: Waiting::default(),
            settled: None,
            progress,
            in_doubt: Arc::default(),
        })
    }

    /// What became of the host's default route since this was asked last, and when a way out ends that lasts without
    /// one.
    pub(super) fn take_grace_news(&self) -> (Vec<(EventKind, String)>, Option<Instant>) {
        let mut grace = self.grace_mut();
        (grace.take_news(), grace.ends())
    }

    fn grace_mut(&self) -> MutexGuard<'_, Grace> {
        self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notified when a change has failed on its way. What could not be taken back is then put right.
    pub(super) fn in_doubt(&self) -> Arc<Notify> {
        self.in_doubt.clone()
    }

    /// Brings the host and the datapath to what is declared.
    pub(super) async fn enforce(
        &mut self,
        declared: &mut Declared,
        occasion: &Occasion,
    ) -> Result<Outcome, ApplyError> {
        let _under_way = self.progress.under_way();
        let change = self.plan(declared, occasion).await?;
        let waiting = change.waiting.clone();
        let news = waiting.news(&self.waiting);
        let result = match &change.plan {
            Some(_) => self.put_in_force(change).await,
            None => self.commit_alone(change).await,
        };
        let mut outcome = result.inspect_err(|_| self.in_doubt.notify_one())?;
        outcome.waiting = waiting.messages();
        outcome.news = news;
        outcome.warnings.extend(troubles(&self.datapath.lock()));
        declared.settle(waiting.conflicting());
        self.waiting = waiting;
        Ok(outcome)
    }

    /// Puts right what somebody else changed. `None` if nothing was to be done, which costs a look at the host.
    pub(super) async fn restore(&mut self) -> Result<Option<Outcome>, ApplyError> {
        if let Some(Settled { wanted, located }) = &self.settled {
            let mut desired = wanted.clone();
            let observed = self.observe(&desired, &Occasion::Repair).await?;
            let left_out = leave_out(&mut desired, &observed, &self.state, &|_| true);
            let is_as_it_was = left_out.is_ok_and(|(plan, absent)| {
                plan.restoring().is_empty()
                    && plan::locate(&desired, &observed).is_same_place(located)
                    && absent.iter().all(|obstacle| self.waiting.knows(obstacle))
            });
            if is_as_it_was {
                return Ok(None);
            }
        }
        // Whatever comes of the repair: a change that comes before the next one must look.
        self.settled = None;
        let mut declared = self.declared.clone();
        let outcome = self.enforce(&mut declared, &Occasion::Repair).await?;
        self.declared = declared;
        Ok(Some(outcome))
    }

    /// Whether the ports `names` are where the last change left them. If not, the next one looks at the host.
    pub(super) async fn check_in_place(&mut self, names: &BTreeSet<String>) -> Result<()> {
        let Some(Settled { wanted, located }) = &self.settled else { return Ok(()) };
        let mut desired = wanted.clone();
        desired.ports.retain(|name, _| names.contains(name));
        let observed = self.host.observe_again(&desired, &State::default()).await?;
        let found = plan::locate(&desired, &observed);
        let is_there = |name| {
            let [found, before] = [&found, located].map(|located| located.ports.get(name));
            found.is_some_and(|found| before.is_some_and(|before| before.ifindex == found.ifindex))
        };
        if !names.iter().all(is_there) {
            self.host.forget_insides();
            self.settled = None;
        }
        Ok(())
    }

    /// Whether the host is as the last change left it, as far as is known.
    pub(super) const fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// What would be done on the host for what is declared.
    pub(super) async fn preview(
        &self,
        declared: &mut Declared,
        occasion: &Occasion,
    ) -> Result<Vec<String>, ApplyError> {
        let _under_way = self.progress.under_way();
        Ok(self.plan(declared, occasion).await?.steps().changes())
    }

    /// What has to be done for what is declared; nothing is changed yet.
    async fn plan(&self, declared: &mut Declared, occasion: &Occasion) -> Result<Change, ApplyError> {
        self.progress.stage("checking the policy", 0);
        let unfit = |error: &dyn std::error::Error| ApplyError::Unfit(error.to_string());
        let Joined { policy, conflicts } = declared.join(&self.state.addresses);
        if !matches!(occasion, Occasion::Upkeep | Occasion::Repair) {
            // Those that conflict already stand in nobody's way.
            let new = conflicts.clone().without(self.waiting.conflicting());
            if !new.0.is_empty() {
                return Err(ApplyError::Conflict { help: new.help(), conflicts: new.to_string() });
            }
        }
        let assigned =
            compile::assign_rested(&policy, &self.state.addresses, &rested(&self.state, &conflicts))
                .map_err(|error| unfit(&error))?;
        let mut wanted = desired(&policy, &assigned);
        wanted.spared = spared(&conflicts);
        let origins = declared.origins();
        let change = Change { policy, origins, desired: wanted.clone(), wanted, ..Change::default() };
        let change = change.with_addresses(assigned, &self.state.learned);
        if let Some(Settled { located, .. }) = self.needs_no_look(&change, occasion) {
            let waiting = self.waiting.clone().with_misfits(misfits(&declared.file, located, occasion)?);
            return Ok(Change { waiting, ..change });
        }
        at_length(|| compile::compile(&change.policy, &change.addresses, &imagined(&change.policy)))
            .map_err(|error| unfit(&error))?;
        self.progress.stage("looking at the host", 0);
        let observed = self.observe(&change.desired, occasion).await?;
        let mut desired = change.desired;
        let may_wait = |absent: Absent<'_>| match (occasion, absent) {
            (Occasion::Upkeep | Occasion::Repair, _) => true,
            (Occasion::Edit, Absent::Workload(port)) => change.origins.contains_key(port),
            (Occasion::Edit, Absent::Uplink(_) | Absent::Segment(_)) => false,
            (Occasion::Ports(changed), Absent::Workload(port)) => !changed.contains(port),
            (Occasion::Ports(_), Absent::Uplink(_) | Absent::Segment(_)) => true,
        };
        let (mut plan, absent) = leave_out(&mut desired, &observed, &self.state, &may_wait)
            .map_err(|obstacles| unfit(&obstacles))?;
        if *occasion == Occasion::Repair {
            plan = plan.restoring();
        }
        let misfits = misfits(&declared.file, &plan::locate(&desired, &observed), occasion)?;
        let waiting = Waiting::new(&conflicts, &absent, misfits);
        Ok(Change { desired, observed, plan: Some(plan), waiting, ..change })
    }

    /// Whether the host is as `change` wants it, as far as one can know without looking: then only rules are
    /// changed. Tells where everything is.
    fn needs_no_look(&self, change: &Change, occasion: &Occasion) -> Option<&Settled> {
        let settled = self.settled.as_ref().filter(|_| self.host.is_watched())?;
        let is_known = settled.wanted == change.wanted
            && match occasion {
                Occasion::Upkeep | Occasion::Repair => false,
                Occasion::Edit => self.waiting.is_empty(),
                Occasion::Ports(changed) => self.waiting.names().is_disjoint(changed),
            };
        is_known.then_some(settled)
    }

    /// Changes the tables alone.
    async fn commit_alone(&mut self, change: Change) -> Result<Outcome, ApplyError> {
        let located = self.settled.as_ref().map(|settled| settled.located.clone()).unwrap_or_default();
        self.progress.stage("compiling the rules", 0);
        self.tables
            .compile(&change.policy, &change.addresses, &devices(&located))
            .map_err(|error| ApplyError::Unfit(error.to_string()))?;
        self.progress.stage("writing the tables", 0);
        let (committed, news) = self.tables.commit()?;
        self.herald.withdraw(&news.withdrawn);
        self.tables.settle();
        self.herald.announce(news).await;
        let settled = self.settle_earlies(&change.policy, &located);
        let mut outcome = Outcome::of(committed, change, &located, self.tables.member_links());
        outcome.add(settled);
        Ok(outcome)
    }

    async fn put_in_force(&mut self, change: Change) -> Result<Outcome, ApplyError> {
        let before = self.state.clone();
        // Until it is known to be done.
        self.settled = None;
        // A crash from here on leaves nothing that the state does not know.
        self.save(change.record(change.steps().intended(&self.state)))?;
        match self.carry_out(change).await {
            Ok(outcome) => Ok(outcome),
            Err(failed) => {
                go_back(&mut self.state, &self.state_dir, before, &failed);
                Err(failed.error.into())
            }
        }
    }

    /// Carries a plan out. On failure, what it did is undone.
    async fn carry_out(&mut self, change: Change) -> Result<Outcome, Failed> {
        let hooks = hooks_of(change.steps());
        self.progress.stage("loading programs", 0);
        at_length(|| self.datapath.lock().load(&hooks)).map_err(|error| Failed { error, undone: true })?;
        self.progress.stage("preparing devices", change.steps().prepare.len());
        let mut attach = self.progress.counting(self.datapath.clone());
        let prepared = self.host.apply(&change.steps().prepare, &mut attach).await?;
        let (committed, located) = match self.commit_and_finish(&change).await {
            Ok(done) => done,
            Err(error) => {
                let not_undone = self.host.undo(prepared, &mut attach).await;
                let undone = not_undone.is_empty();
                let error = not_undone.iter().fold(error, |error, left| error.context(left.to_string()));
                return Err(Failed { error, undone });
            }
        };
        let problems = self.clean_up(&change, &located).await;
        if problems.is_empty() {
            self.settled = Some(Settled { wanted: change.wanted.clone(), located: located.clone() });
        }
        let settled = self.settle_earlies(&change.policy, &located);
        let mut outcome = Outcome::of(committed, change, &located, self.tables.member_links());
        outcome.warnings.extend(problems);
        outcome.add(settled);
        Ok(outcome)
    }

    /// Has the uplinks drop early what they can; what was done for it.
    fn settle_earlies(&self, policy: &Policy, located: &Located) -> Result<Vec<String>> {
        self.datapath.lock().settle_earlies(&earlies(policy, located))
    }

    /// Puts the tables in force, then brings the devices up.
    async fn commit_and_finish(&mut self, change: &Change) -> Result<(Committed, Located)> {
        let located = self.locate(change).await?;
        self.progress.stage("compiling the rules", 0);
        self.tables.compile(&change.policy, &change.addresses, &devices(&located))?;
        self.progress.stage("writing the tables", 0);
        let (committed, news) = self.tables.commit()?;
        self.herald.withdraw(&news.withdrawn);
        self.progress.stage("bringing devices up", change.steps().finish.len());
        let mut attach = self.progress.counting(self.datapath.clone());
        match self.host.apply(&change.steps().finish, &mut attach).await {
            // What is in force now is not taken back.
            Ok(_) => {
                self.tables.settle();
                self.herald.announce(news).await;
                Ok((committed, located))
            }
            Err(error) => {
                self.tables.take_back(&committed).context("put the old policy in force again")?;
                Err(error).context("the old policy is in force again")
            }
        }
    }

    /// Where everything is once the plan is prepared.
    async fn locate(&mut self, change: &Change) -> Result<Located> {
        if change.steps().prepare.is_empty() {
            return Ok(plan::locate(&change.desired, &change.observed));
        }
        let again = self.host.observe_again(&change.desired, &self.state);
        let mut observed = again.await.context("look at the host")?;
        self.grace_mut().extend(&change.desired, &mut observed, Instant::now());
        self.save(plan::with_namespace_ids(self.state.clone(), &observed))?;
        Ok(plan::locate(&change.desired, &observed))
    }

    /// Takes away what is no longer wanted; what stays behind is told, and tried again by the next change.
    async fn clean_up(&mut self, change: &Change, located: &Located) -> Vec<String> {
        self.progress.stage("cleaning up", change.steps().remove.len());
        let mut attach = self.progress.counting(self.datapath.clone());
        let failures = self.host.remove(&change.steps().remove, &mut attach).await;
        let mut problems: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let mut wanted = indexes(located);
        wanted.extend(plan::spared(&change.desired, &change.observed));
        if let Err(error) = self.datapath.lock().retain_devices(&wanted, &outside(located)) {
            problems.push(format!("{error:#}"));
        }
        if problems.is_empty() {
            let settled = change.record(change.steps().settled(&self.state));
            if let Err(error) = self.save(settled) {
                problems.push(format!("{error:#}"));
            }
        }
        problems
    }

    /// What is on the host, as far as `desired` and the state are concerned.
    async fn observe(&self, desired: &Desired, occasion: &Occasion) -> Result<Observed> {
        let is_watched = self.host.is_watched();
        let mut observed = self.host.look(desired, &self.state).await.context("look at the host")?;
        self.grace_mut().extend(desired, &mut observed, Instant::now());
        let mut datapath = self.datapath.lock();
        // Each program is asked after, which takes its time.
        if !is_watched || matches!(occasion, Occasion::Upkeep | Occasion::Repair) {
            datapath.look_after()?;
        }
        let hooks = datapath.attached();
        drop(datapath);
        (observed.attached, observed.outside) = (attached(&hooks), attached_outside(&hooks));
        Ok(observed)
    }

    /// Keeps `state` in the place of the one that is kept.
    pub(super) fn save(&mut self, state: State) -> Result<()> {
        save(&mut self.state, &self.state_dir, state)
    }
}

/// Where the ports are that do not go with the policy file.
fn spared(conflicts: &Conflicts) -> BTreeMap<String, plan::Attach> {
    let places = conflicts.0.iter();
    places.filter_map(|conflict| Some((conflict.port.clone(), place(conflict.attach.as_ref()?)?))).collect()
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

/// The state, with what to do if it cannot be read.
pub(super) fn load_state(dir: &Path) -> Result<State> {
    State::load(dir).map_err(|error| anyhow::anyhow!("{error}; {}", error.help()))
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
