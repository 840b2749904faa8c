//! Gets the text of a policy file.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// More bytes than any policy that fits the datapath's tables has.
const MAX_BYTES: u64 = 64 << 20;

/// Why a policy file could not be read; the message says what to do next.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no such file.
    #[error(
        "there is no policy file {}; write one (examples/quickstart.toml is a start), \
         or name another with -f or --policy", .0.display()
    )]
    NotFound(PathBuf),
    /// It is a directory.
    #[error("{} is a directory; name the policy file in it", .0.display())]
    Directory(PathBuf),
    /// It is a device, a socket or a pipe.
    #[error("{} is not a regular file; name one that is", .0.display())]
    NotAFile(PathBuf),
    /// Its permissions forbid it.
    #[error("may not read the policy file {}; check its permissions, or run as root", .0.display())]
    PermissionDenied(PathBuf),
    /// It is not text.
    #[error("{}:{line}: the policy file is not UTF-8 text; save it as UTF-8", path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// The first line that is wrong, from 1.
        line: usize,
    },
    /// It is far larger than any policy.
    #[error("the policy file {} has more than {} MiB; is it the right file?", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
    /// The system could not read it.
    #[error("cannot read the policy file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl ReadError {
    /// Why the file at `path` could not be opened or read.
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound(path),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(path),
            _ => Self::Io { path, source },
        }
    }
}

/// The text of the policy file `path`.
///
/// # Errors
/// When there is none, or none that can be read as text.
pub fn read(path: &Path) -> Result<String, ReadError> {
    read_open(&open(path)?, path)
}

/// Opens the policy file `path`, if it is a file.
pub(crate) fn open(path: &Path) -> Result<File, ReadError> {
    let failed = |source| ReadError::new(path, source);
    // Before opening: that alone would wait for a writer of a pipe.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(ReadError::Directory(path.to_owned()));
    }
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(path.to_owned()));
    }
    File::open(path).map_err(failed)
}

/// The text of the open policy file, called `path`.
pub(crate) fn read_open(file: &File, path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|source| ReadError::new(path, source))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(valid).filter(|&&byte| byte == b'\n').count();
        ReadError::NotUtf8 { path: path.to_owned(), line }
    })
}
