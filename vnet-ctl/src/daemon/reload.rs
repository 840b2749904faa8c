//! Puts the policy file in force when it has changed, and when somebody asks for it (SIGHUP).
//!
//! A file that is being written is waited for; one that is broken, or gone, is told of once and changes
//! nothing. While a policy waits for its confirmation the file is not read: what it says then comes after.

use std::{sync::Arc, time::Duration};

use super::{Daemon, error::ApplyError, file_watch::FileWatch, history::read_file};
use crate::{
    api::types::EventKind,
    policy::ReadError,
    policy_file::{FileError, Lock},
};

/// Editors and copies write in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// While a policy waits for its confirmation, nothing comes of the file.
const UNCONFIRMED: &str = "it is read once the policy in force is confirmed or rolled back";

/// Why the file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It may have changed.
    Changed,
    /// Somebody asks for it.
    Asked,
}

/// Follows the policy file, as long as the daemon runs.
pub(super) async fn follow_file(daemon: Arc<Daemon>, mut watch: FileWatch) {
    let mut told = None;
    loop {
        let cause = tokio::select! {
            () = watch.changed(QUIET) => Cause::Changed,
            () = daemon.history.reload_asked() => Cause::Asked,
        };
        let problem = daemon.reload(cause).await.err();
        if let Some(problem) = &problem
            && (told.as_ref() != Some(problem) || cause == Cause::Asked)
        {
            daemon.events.tell(EventKind::Problem, problem);
        }
        told = problem;
    }
}

impl Daemon {
    /// Puts the policy file in force if it says something else; the error is what to tell.
    async fn reload(&self, cause: Cause) -> Result<(), String> {
        let file = self.options.policy.display();
        if self.history.is_pending() {
            let unchanged = read_file(&self.options.policy).await.is_ok_and(|text| self.is_in_force(&text));
            return if unchanged { Ok(()) } else { Err(format!("{file} has changed; {UNCONFIRMED}")) };
        }
        match self.try_reload(cause).await {
            Ok(()) => Ok(()),
            Err(ApplyError::File(FileError::Unreadable(ReadError::NotFound(_)))) => {
                Err(format!("the policy file {file} is gone; the policy in force stays"))
            }
            Err(ApplyError::Policy(errors)) => {
                let errors: Vec<_> = errors.iter().map(|error| error.to_string()).collect();
                Err(format!("not valid, so the policy in force stays: {}", errors.join("; ")))
            }
            Err(error) => Err(format!("{file} is not put in force: {error}; the policy in force stays")),
        }
    }

    async fn try_reload(&self, cause: Cause) -> Result<(), ApplyError> {
        // Whoever changes the file through vnet holds the lock until file and kernel agree.
        let lock = match self.lock_file().await {
            Ok(lock) => Some(lock),
            // Then nobody changes it that way here.
            Err(ApplyError::File(error)) if error.is_read_only() => None,
            Err(error) => return Err(error),
        };
        let text = read_file(&self.options.policy).await?;
        if cause == Cause::Asked || !self.is_in_force(&text) {
            let applied = self.apply(&text, &self.options.policy).await?;
            applied.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        drop::<Option<Lock>>(lock);
        Ok(())
    }

    fn is_in_force(&self, text: &str) -> bool {
        *self.history.in_force().text == *text
    }
}
