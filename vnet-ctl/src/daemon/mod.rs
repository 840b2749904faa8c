//! The daemon: keeps one policy in force.

use std::path::PathBuf;

use crate::api::types::TeardownReport;

/// How to run the daemon.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The policy file.
    pub policy: PathBuf,
    /// Where to listen.
    pub socket: PathBuf,
    /// Where to remember what was assigned.
    pub state_dir: PathBuf,
    /// The bpf filesystem that holds the pins.
    pub bpffs: PathBuf,
    /// Whether to remove everything at exit.
    pub ephemeral: bool,
}

/// What to remove everything from.
#[derive(Clone, Debug)]
pub struct TeardownOptions {
    /// Where a daemon may be listening.
    pub socket: PathBuf,
    /// Where it remembers what it assigned.
    pub state_dir: PathBuf,
    /// The bpf filesystem that holds the pins.
    pub bpffs: PathBuf,
}

/// Runs the daemon until it is told to stop by SIGINT, SIGTERM or the API.
///
/// # Errors
/// [`DaemonError`], whose [`DaemonError::exit_code`] is the process's.
pub async fn run(options: RunOptions) -> Result<(), DaemonError> {
    let _ = options;
    Err(DaemonError::Failed(anyhow::anyhow!("not written yet")))
}

/// Removes everything that vnet made, whether a daemon runs or not.
///
/// It goes on after a failure; the report tells what is left.
///
/// # Errors
/// When nothing could be tried: no privileges, or a daemon that does not answer.
pub async fn teardown(options: TeardownOptions) -> Result<TeardownReport, DaemonError> {
    let _ = options;
    Err(DaemonError::Failed(anyhow::anyhow!("not written yet")))
}

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The policy is not valid; the text shows where.
    #[error("{0}")]
    Invalid(String),
    /// Another daemon runs.
    #[error("{0}")]
    Conflict(String),
    /// Anything else.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl DaemonError {
    /// The exit code of the process: 1 failed, 2 invalid policy, 5 another daemon runs.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Invalid(_) => 2,
            Self::Conflict(_) => 5,
        }
    }
}
