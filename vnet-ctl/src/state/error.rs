use std::{io, path::PathBuf};

use super::FILE_NAME;

/// Why the state could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is there but cannot be read.
    #[error("cannot read the state file {path}: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not the JSON that vnet writes.
    #[error("the state file {path} is damaged: {error}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        error: serde_json::Error,
    },
    /// A newer vnet wrote the file.
    #[error(
        "the state file {path} has layout {version}, which this vnet does not know",
        path = .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The layout that it announces.
        version: u32,
    },
    /// The file cannot be written.
    #[error("cannot write the state file {path}: {error}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl StateError {
    /// What to do next.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Read { .. } | Self::Write { .. } => {
                "run as root, or choose another directory with --state-dir".to_owned()
            }
            Self::Corrupt { path, .. } => format!(
                "restore {path} from a backup, or move it away with `mv {path} {path}.damaged`: vnet then \
                 assigns addresses anew, and no longer removes the namespaces that it created",
                path = path.display()
            ),
            Self::TooNew { .. } => {
                format!("run the newer vnet again, or keep this one's {FILE_NAME} elsewhere with --state-dir")
            }
        }
    }
}
