//! The life of a policy: which text is in force, which was before it, and which waits for its confirmation.
//!
//! Whoever changes the text takes these in this order: the lock of the policy file (unless a client holds it,
//! as `sg add` does), the *turn*, the engine. So the file, the texts that are kept and what is in force
//! change together, one change after another. The ways to change it are in `change`, what happens at the
//! deadline in `deadline`, what a start makes of what it finds in `opening`.

mod change;
mod deadline;
mod opening;
mod pending;
mod preview;
mod reading;
mod texts;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::Result;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};

pub(super) use self::{
    change::read_file,
    deadline::keep_deadline,
    opening::{Opening, forget},
};
use self::{pending::Pending, texts::Texts};
use super::{Daemon, at_length, clock::Now, error::ApplyError};
use crate::{
    api::types::{PendingInfo, PolicyInForce},
    policy::Parser,
};

/// What is known of the policy's texts.
#[derive(Debug)]
pub(super) struct History {
    dir: PathBuf,
    /// The policy file.
    file: PathBuf,
    texts: Texts,
    parser: std::sync::Mutex<Parser>,
    /// For whoever changes the text.
    turn: Mutex<()>,
    in_force: RwLock<Arc<InForce>>,
    pending: watch::Sender<Option<Pending>>,
    /// That the policy file should be looked at.
    reload: Notify,
}

/// The text in force.
#[derive(Debug, Default)]
pub(super) struct InForce {
    pub(super) text: Arc<str>,
    pub(super) origin: PathBuf,
}

impl History {
    /// Of the policy file `file`, kept in `dir`; nothing is in force yet.
    pub(super) fn new(dir: &Path, file: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            file: file.to_owned(),
            texts: Texts::new(dir),
            parser: std::sync::Mutex::default(),
            turn: Mutex::default(),
            in_force: RwLock::default(),
            pending: watch::Sender::new(None),
            reload: Notify::new(),
        }
    }

    /// The text in force.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_in_force(&self, in_force: InForce) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(in_force);
    }

    /// Has the policy file looked at, whether it has changed or not.
    pub(super) fn ask_for_reload(&self) {
        self.reload.notify_one();
    }

    /// Waits until somebody asks for that.
    pub(super) async fn reload_asked(&self) {
        self.reload.notified().await;
    }

    /// Waits for one's turn to change the text.
    async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn pending(&self) -> Option<Pending> {
        self.pending.borrow().clone()
    }

    /// Whether a policy waits for its confirmation, or for its way out of the file.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.borrow().is_some()
    }

    /// That nothing waits for its confirmation.
    fn refuse_while_pending(&self) -> Result<(), ApplyError> {
        let Some(pending) = self.pending() else { return Ok(()) };
        let (message, help) = match pending.left_secs(&Now::read()?) {
            0 => (
                "a policy that nobody confirmed is being rolled back".to_owned(),
                "try again in a moment; `vnet-ctl status` and the daemon's log tell what keeps it",
            ),
            left => (
                format!("the policy in force waits {left} s more for its confirmation"),
                "`vnet-ctl confirm` keeps it, `vnet-ctl rollback` returns to the one before; then try again",
            ),
        };
        Err(ApplyError::Refused { message, help: help.to_owned() })
    }

    /// The policy that waits for its confirmation, for the status.
    pub(super) fn pending_info(&self) -> Result<Option<PendingInfo>> {
        let Some(pending) = self.pending() else { return Ok(None) };
        let seconds_left = pending.left_secs(&Now::read()?);
        Ok(Some(PendingInfo { seconds_left, generation: pending.generation }))
    }
}

impl Daemon {
    /// The text in force, and the policy that it and the runtimes' ports make.
    pub(crate) fn policy_in_force(&self) -> Result<PolicyInForce> {
        let (view, in_force) = (self.view(), self.history.in_force());
        let mut effective = crate::policy::Policy::clone(&view.policy);
        for (name, port) in &mut effective.ports {
            if let Some(addresses) = view.assigned.get(name) {
                port.addresses.clone_from(addresses);
            }
        }
        Ok(PolicyInForce {
            text: in_force.text.to_string(),
            origin: in_force.origin.clone(),
            generation: self.datapath.lock().generation(),
            effective: at_length(|| serde_json::to_value(&effective))?,
        })
    }
}
