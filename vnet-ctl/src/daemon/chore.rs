//! Work that is done again and again, whether or not it failed before.

use anyhow::{Result, anyhow};
use tokio::task::spawn_blocking;
use tracing::warn;

/// Such work.
pub(super) struct Chore {
    /// What is the matter while it fails.
    complaint: &'static str,
    failing: bool,
}

impl Chore {
    pub(super) const fn new(complaint: &'static str) -> Self {
        Self { complaint, failing: false }
    }

    /// Does it once, on a thread that may block. The first of several failures in a row is told.
    pub(super) async fn run<T: Send + 'static>(&mut self, work: impl FnOnce() -> Result<T> + Send + 'static) {
        let done = spawn_blocking(work).await.unwrap_or_else(|error| Err(anyhow!("it broke off: {error}")));
        if let Err(error) = &done
            && !self.failing
        {
            warn!("{}: {error:#}", self.complaint);
        }
        self.failing = done.is_err();
    }
}
