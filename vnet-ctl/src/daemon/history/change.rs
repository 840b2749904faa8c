//! The ways to change the text in force: put in force, installed, confirmed, rolled back.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;

use super::{
    InForce, Now, Pending,
    reading::Parsed,
    texts::{Aside, Staged as StagedText},
};
use crate::{
    api::types::{Applied, Confirmed, EventKind},
    daemon::{Daemon, apply::Occasion, error::ApplyError},
    policy_file::{FileError, Lock, Staged as StagedFile, read_settled},
};

/// Why a text gets in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Somebody wants it.
    Applied,
    /// It was in force before.
    RolledBack,
}

/// What is ready before a text gets in force that then goes into the policy file.
#[derive(Default)]
struct Prepared<'a> {
    file: Option<StagedFile<'a>>,
    /// What the file says, saved where nothing else keeps it.
    aside: Option<Aside>,
}

impl Daemon {
    /// Puts `text` in force, and leaves the policy file to whoever asks.
    pub(crate) async fn apply(&self, text: &str, origin: &Path) -> Result<Applied, ApplyError> {
        let parsed = self.history.read(text, origin)?;
        let _turn = self.history.turn().await;
        self.history.refuse_while_pending()?;
        let kept = self.stage_text(&parsed)?;
        let applied = self.enforce_text(parsed).await?;
        self.keep_text(kept, Cause::Applied, applied.generation);
        Ok(applied)
    }

    /// Puts `text` in force and in the policy file; with `confirm_secs`, for so long unless it is confirmed.
    pub(crate) async fn install(
        &self,
        text: &str,
        origin: &Path,
        confirm_secs: Option<u64>,
    ) -> Result<Applied, ApplyError> {
        let mut parsed = self.history.read(text, origin)?;
        parsed.file.origin.clone_from(&self.history.file);
        let lock = self.lock_file().await?;
        let _turn = self.history.turn().await;
        self.history.refuse_while_pending()?;
        let before = self.history.in_force();
        let prepared = self.prepare(&lock, text, Some(&before.text)).await?;
        match confirm_secs {
            Some(secs) if text != &*before.text => self.install_for(secs, parsed, prepared, &before).await,
            _ => self.install_for_good(parsed, prepared, (&before, Cause::Applied)).await,
        }
    }

    async fn install_for_good(
        &self,
        parsed: Parsed,
        prepared: Prepared<'_>,
        (before, cause): (&InForce, Cause),
    ) -> Result<Applied, ApplyError> {
        let kept = self.stage_text(&parsed)?;
        let applied = self.enforce_text(parsed).await?;
        let applied = self.replace_or_return(prepared, before, applied).await?;
        self.keep_text(kept, cause, applied.generation);
        Ok(applied)
    }

    async fn install_for(
        &self,
        secs: u64,
        parsed: Parsed,
        prepared: Prepared<'_>,
        before: &InForce,
    ) -> Result<Applied, ApplyError> {
        let history = &self.history;
        let texts = [&*before.text, &*parsed.file.text];
        let pending = Pending::new(texts, &history.file, secs, &Now::read()?);
        pending.save(&history.dir)?;
        let applied = match self.enforce_text(parsed).await {
            Ok(applied) => self.replace_or_return(prepared, before, applied).await,
            Err(error) => Err(error),
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                self.forget_pending();
                return Err(error);
            }
        };
        let pending = pending.in_force(applied.generation, secs, &Now::read()?);
        if let Err(error) = pending.save(&history.dir) {
            // What is there already is a little earlier.
            tracing::warn!("{error:#}");
        }
        history.pending.send_replace(Some(pending));
        let message = format!(
            "a policy is in force as generation {} for {secs} s, unless it is confirmed",
            applied.generation
        );
        self.events.tell(EventKind::Applied, message);
        Ok(Applied { confirm_within_secs: Some(secs), ..applied })
    }

    /// Keeps the policy that waits for its confirmation.
    pub(crate) async fn confirm(&self) -> Result<Confirmed, ApplyError> {
        let history = &self.history;
        let _turn = history.turn().await;
        let refused = |message: &str, help: &str| {
            Err(ApplyError::Refused { message: message.to_owned(), help: help.to_owned() })
        };
        let Some(pending) = history.pending() else {
            return refused(
                "no policy waits for a confirmation",
                "`vnet-ctl apply --confirm 60s` starts one; `vnet-ctl status` shows it",
            );
        };
        if pending.left_secs(&Now::read()?) == 0 {
            return refused("it is too late: the policy is being rolled back", "apply it again");
        }
        // A full disk must not keep anybody from confirming: only the way back is lost.
        let kept = history.texts.stage([&pending.previous, &pending.text]).and_then(StagedText::keep);
        if let Err(error) = kept {
            self.events.tell(EventKind::Problem, format!("there will be nothing to roll back to: {error:#}"));
        }
        Pending::remove(&history.dir)?;
        history.pending.send_replace(None);
        let generation = self.datapath.lock().generation();
        self.events.tell(EventKind::Applied, format!("the policy of generation {generation} is confirmed"));
        // What was written into the file meanwhile has waited.
        history.ask_for_reload();
        Ok(Confirmed { generation })
    }

    /// Returns to the policy before the one in force, in the policy file too.
    pub(crate) async fn rollback(&self) -> Result<Applied, ApplyError> {
        let history = &self.history;
        let lock = self.lock_file().await?;
        let _turn = history.turn().await;
        let before = history.in_force();
        if let Some(pending) = history.pending() {
            let mut parsed = history.read(&pending.previous, &history.file)?;
            parsed.warnings.clear();
            let prepared = self.prepare(&lock, &pending.previous, None).await?;
            // As at the deadline: what others did meanwhile keeps nobody from the way back.
            let applied = self.enforce_text_on(&Occasion::Upkeep, parsed).await?;
            self.mark_expired(pending);
            let applied = self.replace(prepared, applied)?;
            self.forget_pending();
            self.tell_rolled_back(applied.generation, "as asked");
            return Ok(applied);
        }
        let previous = history.texts.previous()?.filter(|previous| **previous != *before.text);
        let Some(previous) = previous else {
            let message = "there is no previous policy to return to".to_owned();
            let help = "the daemon keeps one from the first change of the policy on".to_owned();
            return Err(ApplyError::Refused { message, help });
        };
        let parsed = history.read(&previous, &history.file)?;
        let prepared = self.prepare(&lock, &previous, Some(&before.text)).await?;
        self.install_for_good(parsed, prepared, (&before, Cause::RolledBack)).await
    }

    pub(super) fn tell_rolled_back(&self, generation: u32, why: &str) {
        let message = format!("rolled back to the previous policy as generation {generation}, {why}");
        self.events.tell(EventKind::Applied, message);
    }

    /// Waits for the lock of the policy file.
    pub(in crate::daemon) async fn lock_file(&self) -> Result<Lock, ApplyError> {
        let path = self.history.file.clone();
        let lock = tokio::task::spawn_blocking(move || Lock::acquire(&path)).await;
        Ok(lock.context("lock the policy file")??)
    }

    /// Has `text` ready to take the file's place, and saves what gives way there, unless it is `kept`.
    async fn prepare<'a>(
        &self,
        lock: &'a Lock,
        text: &str,
        kept: Option<&str>,
    ) -> Result<Prepared<'a>, ApplyError> {
        let file_text = match read_file(lock.target()).await {
            Ok(text) => text.into_bytes(),
            Err(error @ ApplyError::File(FileError::BeingWritten(_))) => return Err(error),
            // What is no text gives way as well.
            Err(_) => fs::read(lock.target()).with_context(|| format!("read {}", lock.target().display()))?,
        };
        if file_text == text.as_bytes() {
            return Ok(Prepared::default());
        }
        let file = Some(lock.stage(text)?);
        if kept.is_some_and(|kept| kept.as_bytes() == file_text) {
            return Ok(Prepared { file, aside: None });
        }
        let generation = self.datapath.lock().generation();
        Ok(Prepared { file, aside: Some(self.history.texts.put_aside(generation, &file_text)?) })
    }

    /// Puts the text in the file's place; if that fails, `before` is in force again.
    async fn replace_or_return(
        &self,
        prepared: Prepared<'_>,
        before: &InForce,
        applied: Applied,
    ) -> Result<Applied, ApplyError> {
        let error = match self.replace(prepared, applied) {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        let returned = self.history.read(&before.text, &before.origin)?;
        match self.enforce_text(returned).await {
            Ok(_) => Err(error),
            Err(second) => {
                let message = format!("the new policy is in force, the file has the old one: {second}");
                Err(anyhow::Error::new(error).context(message).into())
            }
        }
    }

    fn replace(&self, prepared: Prepared<'_>, mut applied: Applied) -> Result<Applied, ApplyError> {
        let Some(file) = prepared.file else { return Ok(applied) };
        file.replace()?;
        if let Some(aside) = prepared.aside {
            let (file, saved) = (self.history.file.display(), aside.keep());
            applied.warnings.push(format!("what {file} said is kept as {}", saved.display()));
        }
        Ok(applied)
    }

    /// Writes a text down that is about to be in force, unless it is already.
    fn stage_text(&self, parsed: &Parsed) -> Result<Option<StagedText>, ApplyError> {
        let before = self.history.in_force();
        if parsed.file.text == before.text {
            return Ok(None);
        }
        Ok(Some(self.history.texts.stage([&before.text, &parsed.file.text])?))
    }

    /// Tells of a text that is in force now, and keeps the one before it.
    fn keep_text(&self, staged: Option<StagedText>, cause: Cause, generation: u32) {
        let Some(staged) = staged else { return };
        if let Err(error) = staged.keep() {
            let message = format!("`vnet-ctl rollback` will not return to the policy of before: {error:#}");
            self.events.tell(EventKind::Problem, message);
        }
        match cause {
            Cause::Applied => {
                let origin = self.history.in_force().origin.display().to_string();
                self.events
                    .tell(EventKind::Applied, format!("{origin} is in force as generation {generation}"));
            }
            Cause::RolledBack => self.tell_rolled_back(generation, "as asked"),
        }
    }

    /// Puts a policy in force, and keeps nothing.
    async fn enforce_text(&self, parsed: Parsed) -> Result<Applied, ApplyError> {
        self.enforce_text_on(&Occasion::Edit, parsed).await
    }

    /// The same on `occasion`: what was in force before, or is at the start, is not refused for what others did.
    async fn enforce_text_on(&self, occasion: &Occasion, parsed: Parsed) -> Result<Applied, ApplyError> {
        let Parsed { file, warnings, took } = parsed;
        let in_force = InForce { text: Arc::clone(&file.text), origin: file.origin.clone() };
        let mut applied = self.declare_on(occasion, |declared| declared.file = file.into()).await?;
        self.history.set_in_force(in_force);
        applied.warnings.splice(..0, warnings);
        applied.stages.insert(0, took);
        Ok(applied)
    }

    /// Puts `text`, which has been in force before, in force again.
    pub(super) async fn return_to(&self, text: &str) -> Result<(), ApplyError> {
        if *self.history.in_force().text != *text {
            self.enforce_text_on(&Occasion::Upkeep, self.history.read(text, &self.history.file)?).await?;
        }
        Ok(())
    }

    /// Puts `text` in force as the first of this daemon.
    pub(in crate::daemon) async fn begin(&self, text: &str) -> Result<Applied, ApplyError> {
        let _turn = self.history.turn().await;
        self.enforce_text_on(&Occasion::Upkeep, self.history.read(text, &self.history.file)?).await
    }

    /// From now on the policy that waits is on its way out, whoever asks.
    pub(super) fn mark_expired(&self, pending: Pending) {
        let expired = pending.expired();
        if let Err(error) = expired.save(&self.history.dir) {
            tracing::warn!("{error:#}");
        }
        self.history.pending.send_replace(Some(expired));
    }

    /// Nothing waits any more.
    pub(super) fn forget_pending(&self) {
        if let Err(error) = Pending::remove(&self.history.dir) {
            self.events.tell(EventKind::Problem, format!("{error:#}; remove it by hand"));
        }
        self.history.pending.send_replace(None);
    }
}

/// The text of the policy file at `path`, once nobody is writing it.
pub(in crate::daemon) async fn read_file(path: &Path) -> Result<String, ApplyError> {
    let path = path.to_owned();
    Ok(tokio::task::spawn_blocking(move || read_settled(&path)).await.context("read the policy file")??)
}
