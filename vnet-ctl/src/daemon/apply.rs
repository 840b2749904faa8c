//! Changes of what is declared, one after the other, and why they are made.
//!
//! What is declared and what is in force change together, or neither does. How a change gets in force is
//! [`super::engine`]'s affair.

use std::collections::BTreeSet;

use super::{Daemon, declared::Declared, error::ApplyError, outcome::Outcome};
use crate::api::types::{Applied, EventKind};

/// Why something changes, and so what must be there for it to succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The daemon starts. What is missing is left out.
    Upkeep,
    /// Somebody changed the host, or a workload came: what is missing comes back (`plan::restore`).
    Repair,
    /// A person applies a policy: the workloads of all its ports must be there.
    Edit,
    /// Runtimes change these ports: their workloads must be there.
    Ports(BTreeSet<String>),
}

impl Daemon {
    /// Changes what is declared, and puts it in force on `occasion`; on failure, neither is changed.
    pub(super) async fn declare_on(
        &self,
        occasion: &Occasion,
        change: impl FnOnce(&mut Declared),
    ) -> Result<Applied, ApplyError> {
        let mut engine = self.engine.lock().await;
        let engine = engine.as_mut().ok_or(ApplyError::Stopping)?;
        let mut declared = engine.declared.clone();
        change(&mut declared);
        let outcome = engine.enforce(&mut declared, occasion).await?;
        engine.declared = declared;
        self.publish(&outcome);
        let Outcome { generation, changes, mut warnings, waiting, .. } = outcome;
        warnings.extend(waiting);
        let stages = engine.progress.take_times();
        Ok(Applied { generation, changes, warnings, confirm_within_secs: None, stages })
    }

    /// Shows what is in force now, and tells what has to wait that did not before.
    pub(super) fn publish(&self, outcome: &Outcome) {
        for message in &outcome.news {
            self.events.tell(EventKind::Problem, message);
        }
        self.show(outcome.view.clone());
    }

    /// What [`Daemon::declare_on`] would do when a person edits the policy.
    pub(super) async fn preview(&self, change: impl FnOnce(&mut Declared)) -> Result<Preview, ApplyError> {
        let engine = self.engine.lock().await;
        let engine = engine.as_ref().ok_or(ApplyError::Stopping)?;
        let before = engine.declared.clone();
        let mut after = before.clone();
        change(&mut after);
        let steps = engine.preview(&mut after, &Occasion::Edit).await?;
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
