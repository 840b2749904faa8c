//! Rolls back a policy that nobody confirms in time.
//!
//! What is in force comes first, for somebody may be cut off. Then the policy file gets its old text back; as
//! long as that cannot be done (its folder is read-only, say), it is tried again, and the file is not read.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::{Now, Pending, opening::restore_file};
use crate::{
    api::types::EventKind,
    daemon::{Daemon, error::ApplyError},
    policy::ReadError,
    policy_file::FileError,
};

/// A sleeping machine's time is not seen by a timer: the clock is read again after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Why it goes.
const UNCONFIRMED: &str = "for nobody confirmed the new one";
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(2);

/// Rolls back whatever is not confirmed in time, as long as the daemon runs.
pub(in crate::daemon) async fn keep_deadline(daemon: Arc<Daemon>) {
    let mut changed = daemon.history.pending.subscribe();
    let mut told = None;
    loop {
        let pending = changed.borrow_and_update().clone();
        let Some(pending) = pending else {
            told = None;
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        };
        let left = Now::read().map_or(0, |now| pending.left_secs(&now));
        if left > 0 {
            // Whatever ends the wait, everything is looked at again.
            let _ = timeout(Duration::from_secs(left).min(LONGEST_WAIT), changed.changed()).await;
            continue;
        }
        if let Err(error) = daemon.withdraw(&pending).await {
            let message = format!("roll back the policy that nobody confirmed: {error}");
            if told.as_ref() != Some(&message) {
                daemon.events.tell(EventKind::Problem, format!("{message}; vnet goes on trying"));
                told = Some(message);
            }
            sleep(RETRY).await;
        }
    }
}

impl Daemon {
    /// Returns to the text before `pending`, in the kernel and then in the policy file.
    async fn withdraw(&self, pending: &Pending) -> Result<(), ApplyError> {
        {
            let _turn = self.history.turn().await;
            if self.history.pending().as_ref() != Some(pending) {
                return Ok(());
            }
            self.return_to(&pending.previous).await?;
        }
        // Not under the turn: whoever holds the file's lock may be waiting for that.
        let lock = match self.lock_file().await {
            Ok(lock) => Some(lock),
            // Nobody can run it, then.
            Err(ApplyError::File(FileError::Unreadable(ReadError::NotFound(_)))) => None,
            Err(error) => return Err(error),
        };
        let _turn = self.history.turn().await;
        if self.history.pending().as_ref() != Some(pending) {
            return Ok(());
        }
        let saved = match &lock {
            Some(lock) => restore_file(lock, pending, &self.history.texts)?,
            None => None,
        };
        self.forget_pending();
        let why = match saved {
            Some(saved) => format!("{UNCONFIRMED}; what the file said is kept as {}", saved.display()),
            None => UNCONFIRMED.to_owned(),
        };
        let generation = self.datapath.lock().generation();
        self.tell_rolled_back(generation, &why);
        Ok(())
    }
}
