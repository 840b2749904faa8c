//! What the change under way is doing, for whoever waits for it.
//!
//! Whoever makes a change names its stages and counts its steps; the API reads them at any time. One
//! change is under way at a time.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::Result;

use super::Daemon;
use crate::{
    api::types::{ProgressInfo, StageTime},
    host::Attach,
    plan::Role,
};

/// How far the change under way is; all clones tell the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Mutex<Stages>>);

/// The stage that is under way, and those before it.
#[derive(Debug, Default)]
struct Stages {
    now: Option<(ProgressInfo, Instant)>,
    over: Vec<StageTime>,
}

impl StageTime {
    /// Of `stage`, which began at `begin` and is over.
    pub(super) fn since(stage: &str, begin: Instant) -> Self {
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Self { stage: stage.to_owned(), micros }
    }
}

impl Stages {
    fn end(&mut self) {
        if let Some((ProgressInfo { stage, .. }, begin)) = self.now.take() {
            self.over.push(StageTime::since(&stage, begin));
        }
    }
}

impl Progress {
    /// Says that a change is under way until what this returns is dropped.
    #[must_use = "the change is under way until it is dropped"]
    pub(super) fn under_way(&self) -> UnderWay {
        self.cell().over.clear();
        UnderWay(self.clone())
    }

    /// A new stage begins, of `total` steps; 0 where nobody can count them.
    pub(super) fn stage(&self, stage: &'static str, total: usize) {
        let mut stages = self.cell();
        stages.end();
        let info = ProgressInfo { stage: stage.to_owned(), done: 0, total: total as u64 };
        stages.now = Some((info, Instant::now()));
    }

    /// `steps` more steps of the stage are done.
    pub(super) fn advance(&self, steps: usize) {
        if let Some((now, _)) = &mut self.cell().now {
            now.done += steps as u64;
        }
    }

    /// No change is under way any more.
    pub(super) fn finish(&self) {
        self.cell().end();
    }

    /// How long the stages of the last change took.
    pub(super) fn take_times(&self) -> Vec<StageTime> {
        let mut stages = self.cell();
        stages.end();
        mem::take(&mut stages.over)
    }

    /// Where it stands; `None` while nothing changes.
    pub(super) fn now(&self) -> Option<ProgressInfo> {
        self.cell().now.as_ref().map(|(info, _)| info.clone())
    }

    /// `attach`, with each step counted that it has a part in.
    pub(super) fn counting<A>(&self, attach: A) -> Counting<A> {
        Counting { attach, progress: self.clone() }
    }

    fn cell(&self) -> MutexGuard<'_, Stages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way, however it ends.
#[derive(Debug)]
pub(super) struct UnderWay(Progress);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Counts the steps of a plan.
#[derive(Debug)]
pub(super) struct Counting<A> {
    attach: A,
    progress: Progress,
}

impl<A: Attach> Attach for Counting<A> {
    fn attach_port(&mut self, ifindex: u32, device: &str) -> Result<()> {
        self.attach.attach_port(ifindex, device)
    }

    fn attach_bridge(&mut self, ifindex: u32, device: &str) -> Result<()> {
        self.attach.attach_bridge(ifindex, device)
    }

    fn attach_outside(&mut self, ifindex: u32, device: &str, role: Role) -> Result<()> {
        self.attach.attach_outside(ifindex, device, role)
    }

    fn detach(&mut self, ifindex: u32) -> Result<()> {
        self.attach.detach(ifindex)
    }

    fn detach_outside(&mut self, ifindex: u32, role: Role) -> Result<()> {
        self.attach.detach_outside(ifindex, role)
    }

    fn carried_out(&mut self) {
        self.progress.advance(1);
    }
}

impl Daemon {
    /// What the change under way is doing.
    pub(crate) fn progress(&self) -> Option<ProgressInfo> {
        self.progress.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_until_it_ends() {
        let progress = Progress::default();
        let seen = progress.clone();
        assert_eq!(seen.now(), None);
        {
            let _under_way = progress.under_way();
            progress.stage("preparing devices", 3);
            progress.advance(2);
            let now = ProgressInfo { stage: "preparing devices".to_owned(), done: 2, total: 3 };
            assert_eq!(seen.now(), Some(now));
            progress.stage("writing tables", 0);
            assert_eq!(seen.now().map(|now| now.done), Some(0));
        }
        assert_eq!(seen.now(), None);
        let stages: Vec<_> = seen.take_times().into_iter().map(|time| time.stage).collect();
        assert_eq!(stages, ["preparing devices", "writing tables"]);
    }
}
