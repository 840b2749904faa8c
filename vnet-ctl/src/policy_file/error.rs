use std::{
    io,
    path::{Path, PathBuf},
};

use crate::policy::ReadError;

/// Why the policy file could not be read, locked or replaced; it is as before.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read as text.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Somebody has it open for writing.
    #[error("the policy file {} is being written by another process", .0.display())]
    BeingWritten(PathBuf),
    /// Another command holds its lock.
    #[error("another command has been changing {} for too long", path.display())]
    Held {
        /// The policy file.
        path: PathBuf,
        /// The file that carries the lock.
        lock: PathBuf,
    },
    /// The file that carries its lock cannot be made.
    #[error("lock {}: {error}", path.display())]
    Unlockable {
        /// The file that carries the lock.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It may not be changed.
    #[error(
        "the policy file {} is read-only{}", path.display(),
        error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
    )]
    ReadOnly {
        /// The policy file.
        path: PathBuf,
        /// What the system says; nothing where the file's mode says it.
        error: Option<io::Error>,
    },
    /// Another cannot be put in its place.
    #[error("replace the policy file {}: {error}", path.display())]
    Unwritable {
        /// The policy file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl FileError {
    pub(super) fn unreadable(path: &Path, error: io::Error) -> Self {
        ReadError::new(path, error).into()
    }

    /// What to do next, where the message does not say it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unreadable(_) => None,
            Self::BeingWritten(path) => Some(format!(
                "save it in the editor, or find who writes it with `fuser -v {}`, and try again",
                path.display()
            )),
            Self::Held { lock, .. } => {
                Some(format!("find who holds {} (`fuser` tells) and try again", lock.display()))
            }
            Self::Unlockable { path, .. } => {
                let folder = path.parent().unwrap_or(path).display();
                Some(format!("changes of the policy are staged in {folder}, which must be writable"))
            }
            Self::ReadOnly { path, error: None } => {
                Some(format!("`chmod u+w {}` lets vnet change it", path.display()))
            }
            Self::ReadOnly { path, error: Some(_) } => Some(format!(
                "make {} writable; if it is a copy of another file, change that one: the daemon puts \
                 it in force when the copy changes",
                path.display()
            )),
            Self::Unwritable { .. } => Some(
                "the new text is written beside the file: its folder needs to be writable, with room".into(),
            ),
        }
    }

    /// Whether it is only a matter of when.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::BeingWritten(_) | Self::Held { .. })
    }

    /// Whether nobody can change the file here, neither this process nor another command.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let is_denied = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
        };
        match self {
            Self::ReadOnly { .. } => true,
            Self::Unlockable { error, .. } => is_denied(error),
            _ => false,
        }
    }
}
