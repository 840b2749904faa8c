//! What a start makes of what the daemon before it has left, and an end of what would be left.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Now, Pending,
    pending::{FILE_NAME, Fate},
    texts::Texts,
};
use crate::{
    api::types::EventKind,
    daemon::{Daemon, DaemonError, RunOptions, error::ApplyError},
    policy,
    policy_file::{FileError, Lock, read_settled},
};

/// How long an end waits for the policy file's lock.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// The text to begin with.
#[derive(Debug)]
pub(in crate::daemon) struct Opening {
    /// The text.
    pub(in crate::daemon) text: String,
    /// What still waits, or has to go from the policy file.
    pending: Option<Pending>,
    /// What waited and is settled, and so is to be forgotten.
    is_settled: bool,
}

impl Opening {
    /// Looks at the policy file and at what waited for a confirmation; changes nothing.
    pub(in crate::daemon) fn look(options: &RunOptions) -> Result<Self, DaemonError> {
        let file_text = read_settled(&options.policy);
        // Of another policy file, it is forgotten with its file's restoration, see `settle_elsewhere`.
        let pending = Pending::load(&options.state_dir)?.filter(|pending| pending.file == options.policy);
        let Some(pending) = pending else {
            let text = file_text.map_err(unreadable)?;
            return Ok(Self { text, pending: None, is_settled: false });
        };
        // Whatever became of the file, one of the two texts is in force.
        let file_text = file_text.unwrap_or_default();
        Ok(match pending.fate(&file_text, &Now::read()?) {
            Fate::Settled => Self { text: file_text, pending: None, is_settled: true },
            Fate::Waits => Self { text: pending.text.clone(), pending: Some(pending), is_settled: false },
            Fate::Expired => {
                let pending = pending.expired();
                Self { text: pending.previous.clone(), pending: Some(pending), is_settled: false }
            }
        })
    }

    /// That its text is a valid policy.
    pub(in crate::daemon) fn check(&self, options: &RunOptions) -> Result<(), DaemonError> {
        policy::parse(&self.text, &options.policy)
            .map_err(|errors| DaemonError::Invalid(errors.to_string()))?;
        Ok(())
    }
}

impl Daemon {
    /// Goes on with what waited, now that the text of `opening` is in force.
    pub(in crate::daemon) fn go_on(&self, opening: Opening) {
        let history = &self.history;
        match opening.pending {
            Some(pending) => {
                history.pending.send_replace(Some(pending));
            }
            None => {
                if opening.is_settled {
                    self.forget_pending();
                }
                self.settle_elsewhere();
                if let Err(error) = history.texts.begin(&opening.text) {
                    let message = format!("`vnet-ctl rollback` has no policy to return to: {error:#}");
                    self.events.tell(EventKind::Problem, message);
                }
            }
        }
    }

    /// What waited in another policy file than this daemon's goes: it is in force no more.
    fn settle_elsewhere(&self) {
        if let Err(error) = withdraw_from_file(&self.history.dir) {
            self.events
                .tell(EventKind::Problem, format!("roll back a policy that nobody confirmed: {error:#}"));
        }
    }
}

/// Forgets the texts kept in `state_dir`, as everything else has been removed. A policy that waits for its
/// confirmation leaves the policy file: the next daemon must not run it.
pub(in crate::daemon) fn forget(state_dir: &Path) -> Result<Option<String>> {
    let withdrawn = withdraw_from_file(state_dir)?;
    Texts::new(state_dir).remove()?;
    Ok(withdrawn.map(|file| format!("take the policy that nobody confirmed out of {}", file.display())))
}

/// Takes what waits out of its file, and forgets it; the file, if there was anything.
fn withdraw_from_file(state_dir: &Path) -> Result<Option<PathBuf>> {
    let Some(pending) = Pending::load(state_dir)? else { return Ok(None) };
    let file = pending.file.clone();
    let restored = match Lock::acquire_within(&file, LAST_PATIENCE) {
        Ok(lock) => restore_file(&lock, &pending, &Texts::new(state_dir)).map(drop),
        // Then nobody can run it.
        Err(FileError::Unreadable(_)) => Ok(()),
        Err(error) => Err(error.into()),
    };
    restored.with_context(|| {
        format!("{} says what to put into {}", state_dir.join(FILE_NAME).display(), file.display())
    })?;
    Pending::remove(state_dir)?;
    Ok(Some(file))
}

/// Puts the text before `pending` into the policy file; where what it said is kept now.
pub(super) fn restore_file(
    lock: &Lock,
    pending: &Pending,
    texts: &Texts,
) -> Result<Option<PathBuf>, ApplyError> {
    // Whether somebody is writing it or not: nothing may keep it there.
    let file_text = fs::read(lock.target()).with_context(|| format!("read {}", lock.target().display()))?;
    if file_text == pending.previous.as_bytes() {
        return Ok(None);
    }
    let staged = lock.stage(&pending.previous)?;
    let aside = texts.put_aside(pending.generation, &file_text)?;
    staged.replace()?;
    Ok(Some(aside.keep()))
}

fn unreadable(error: FileError) -> DaemonError {
    DaemonError::Invalid(match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    })
}
