//! The ports that runtimes created, one record each, in a small database.
//!
//! A record is on disk when a call returns, and after a crash either all of a change is there or nothing.
//! The file is made by the first port, so that nobody has it who needs none. A file that is damaged or from a
//! newer vnet is never written.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use crate::api::types::RuntimePort;

/// The file's name in the state directory.
pub const PORTS_FILE: &str = "ports.redb";

/// The layout that this vnet writes, and the newest that it reads.
const VERSION: u64 = 1;
/// Port by name, as JSON.
const PORTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ports");
/// What there is to know about the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Bytes; the database is small, and read once.
const CACHE: usize = 4 << 20;

/// What becomes of some ports: `None` forgets one.
pub type PortChanges = BTreeMap<String, Option<RuntimePort>>;

/// The database in its place, which may not have been made yet.
pub struct PortStore {
    path: PathBuf,
    database: Option<Database>,
}

impl fmt::Debug for PortStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PortStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl PortStore {
    /// Opens the database in `dir`, and reads it.
    ///
    /// # Errors
    /// [`StoreError`] when it is there and cannot be read or understood; it is left as it is.
    pub fn open(dir: &Path) -> Result<(Self, BTreeMap<String, RuntimePort>), StoreError> {
        let path = dir.join(PORTS_FILE);
        if !path.exists() {
            return Ok((Self { path, database: None }, BTreeMap::new()));
        }
        let database = builder().open(&path).map_err(|error| StoreError::open(&path, error))?;
        let ports = read(&database, &path)?;
        Ok((Self { path, database: Some(database) }, ports))
    }

    /// Makes `changes`, all or none; they are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Write`]; nothing has changed then.
    pub fn change(&mut self, changes: &PortChanges) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let failed = |error: redb::Error| StoreError::Write { path: self.path.clone(), error };
        let database = match self.database.take() {
            Some(database) => database,
            None => make(&self.path).map_err(failed)?,
        };
        let result = write(&database, changes).map_err(failed);
        self.database = Some(database);
        result
    }

    /// Removes the database of `dir`, as after a teardown.
    ///
    /// # Errors
    /// [`StoreError::Write`] when it is there and cannot be removed.
    pub fn remove(dir: &Path) -> Result<(), StoreError> {
        for path in [dir.join(PORTS_FILE), unfinished(&dir.join(PORTS_FILE))] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::Write { path, error: error.into() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

fn read(database: &Database, path: &Path) -> Result<BTreeMap<String, RuntimePort>, StoreError> {
    let corrupt =
        |error: &dyn fmt::Display| StoreError::Corrupt { path: path.to_owned(), what: error.to_string() };
    let look = |error: redb::Error| corrupt(&error);
    let view = database.begin_read().map_err(|error| look(error.into()))?;
    let meta = view.open_table(META).map_err(|error| look(error.into()))?;
    let version = meta.get("version").map_err(|error| look(error.into()))?.map(|entry| entry.value());
    match version {
        Some(version) if version > VERSION => {
            return Err(StoreError::TooNew { path: path.to_owned(), version });
        }
        Some(_) => {}
        None => return Err(corrupt(&"it does not tell its version")),
    }
    let table = match view.open_table(PORTS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(look(error.into())),
    };
    let mut ports = BTreeMap::new();
    for entry in table.iter().map_err(|error| look(error.into()))? {
        let (name, port) = entry.map_err(|error| look(error.into()))?;
        let port = serde_json::from_slice(port.value())
            .map_err(|error| corrupt(&format!("port {}: {error}", name.value())))?;
        ports.insert(name.value().to_owned(), port);
    }
    Ok(ports)
}

fn write(database: &Database, changes: &PortChanges) -> Result<(), redb::Error> {
    let change = database.begin_write()?;
    {
        let mut table = change.open_table(PORTS)?;
        for (name, port) in changes {
            match port {
                Some(port) => {
                    let json = serde_json::to_vec(port)
                        .map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
                    table.insert(name.as_str(), json.as_slice())?;
                }
                None => {
                    table.remove(name.as_str())?;
                }
            }
        }
    }
    change.commit()?;
    Ok(())
}

/// A new database gets its name only when it is complete: a crash leaves none that is half made.
fn make(path: &Path) -> Result<Database, redb::Error> {
    let unfinished = unfinished(path);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = builder().create(&unfinished)?;
    let change = database.begin_write()?;
    change.open_table(META)?.insert("version", VERSION)?;
    change.commit()?;
    fs::rename(&unfinished, path)?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(database)
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// Why the database could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the ports of runtimes in {path}: {error}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: redb::Error,
    },
    /// It is not what vnet writes.
    #[error("the ports of runtimes in {path} are damaged: {what}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not make sense.
        what: String,
    },
    /// A newer vnet wrote it.
    #[error(
        "the ports of runtimes in {path} have layout {version}, which this vnet does not know",
        path = .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The layout that it announces.
        version: u64,
    },
    /// It cannot be written.
    #[error("cannot write the ports of runtimes to {path}: {error}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: redb::Error,
    },
}

impl StoreError {
    fn open(path: &Path, error: DatabaseError) -> Self {
        let path = path.to_owned();
        match error {
            DatabaseError::UpgradeRequired(version) => {
                Self::Corrupt { path, what: format!("file format {version} of the database is not known") }
            }
            DatabaseError::Storage(redb::StorageError::Corrupted(what)) => Self::Corrupt { path, what },
            DatabaseError::Storage(redb::StorageError::Io(error))
                if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Self::Corrupt { path, what: error.to_string() }
            }
            error => Self::Open { path, error: error.into() },
        }
    }

    /// What to do next.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Open { .. } | Self::Write { .. } => {
                "see that the disk has room and that nobody else uses the file, or choose another directory \
                 with --state-dir"
                    .to_owned()
            }
            Self::Corrupt { path, .. } => format!(
                "restore {path} from a backup, or move it away with `mv {path} {path}.damaged`: the runtimes \
                 then have to create their ports again",
                path = path.display()
            ),
            Self::TooNew { .. } => {
                format!(
                    "run the newer vnet again, or keep this one's {PORTS_FILE} elsewhere with --state-dir"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::RuntimeAttach;

    fn port(netns: &str) -> RuntimePort {
        RuntimePort {
            network: "web".to_owned(),
            vlans: Vec::new(),
            addresses: vec!["10.0.0.2".to_owned()],
            mac: None,
            security_groups: Vec::new(),
            origin: "cni".to_owned(),
            attach: RuntimeAttach { netns: Some(netns.to_owned()), ..RuntimeAttach::default() },
        }
    }

    fn put(store: &mut PortStore, name: &str) {
        store.change(&[(name.to_owned(), Some(port(name)))].into()).unwrap();
    }

    #[test]
    fn what_was_put_is_there_again_and_what_was_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, ports) = PortStore::open(dir.path()).unwrap();
        assert!(ports.is_empty() && !dir.path().join(PORTS_FILE).exists(), "no port, no file");
        put(&mut store, "a");
        put(&mut store, "b");
        store.change(&[("a".to_owned(), None)].into()).unwrap();
        drop(store);

        let (_, ports) = PortStore::open(dir.path()).unwrap();

        assert_eq!(ports, [("b".to_owned(), port("b"))].into());
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, [PORTS_FILE]);
        PortStore::remove(dir.path()).unwrap();
        PortStore::remove(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_told_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PORTS_FILE);
        let (mut store, _) = PortStore::open(dir.path()).unwrap();
        put(&mut store, "a");
        drop(store);
        let whole = fs::read(&path).unwrap();
        let mut garbled = whole.clone();
        garbled[..64].fill(7);
        for bytes in [&b""[..], b"not a database", &whole[..100], &garbled] {
            fs::write(&path, bytes).unwrap();
            let error = PortStore::open(dir.path()).unwrap_err();
            assert!(error.to_string().contains(PORTS_FILE), "{error}");
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
            assert!(error.help().contains("mv "), "{}", error.help());
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let database = make(&dir.path().join(PORTS_FILE)).unwrap();
        let change = database.begin_write().unwrap();
        change.open_table(META).unwrap().insert("version", 2).unwrap();
        change.commit().unwrap();
        drop(database);
        assert!(matches!(PortStore::open(dir.path()), Err(StoreError::TooNew { version: 2, .. })));
    }
}
