//! What vnet must remember that neither the policy file nor the kernel tells: the addresses that it
//! assigned, the namespaces that it created, and what it did to devices of others.
//!
//! One JSON file, replaced atomically. The daemon saves an intention before it acts on it, so that
//! what a crash leaves behind is still known as vnet's own. When to save is the daemon's to decide.

mod error;
mod learned;
mod ports;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{ErrorKind, Write as _},
    net::IpAddr,
    path::Path,
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::compile::{Assigned, Released};

pub use self::{
    error::StateError,
    learned::{Learned, LearnedAddresses},
    ports::{PORTS_FILE, PortChanges, PortStore, StoreError},
};

/// The file's name in the state directory.
pub const FILE_NAME: &str = "state.json";

/// The layout that this vnet writes, and the newest that it reads.
const VERSION: u32 = 1;

/// Released addresses that are remembered: as many as a large host gives out in days.
const RELEASED: usize = 1024;

/// The network in which a port has an address, by the port's name and the address.
pub type Places = BTreeMap<String, BTreeMap<IpAddr, String>>;

/// The network in which `port` has `addr`, if `places` tells.
#[must_use]
pub fn place_of<'a>(places: &'a Places, port: &str, addr: IpAddr) -> Option<&'a str> {
    places.get(port)?.get(&addr).map(String::as_str)
}

/// What vnet remembers between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The addresses assigned to each port, so that it keeps them.
    #[serde(default)]
    pub addresses: Assigned,
    /// The networks in which ports have them; older files do not tell.
    #[serde(default)]
    pub places: Places,
    /// The namespaces that vnet created, by name or path.
    #[serde(default)]
    pub namespaces: BTreeSet<String>,
    /// Which namespaces those were: another may have the name by now. Older files do not tell.
    #[serde(default)]
    pub namespace_ids: BTreeMap<String, String>,
    /// The devices of others that vnet put on its bridges.
    #[serde(default)]
    pub devices: BTreeSet<String>,
    /// Those of them that were down before.
    #[serde(default)]
    pub lowered: BTreeSet<String>,
    /// What vnet had devices take that is not for the host, by the device's name: MACs of groups and stations, or all
    /// multicast.
    #[serde(default)]
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// Addresses that ports had and have no more, the longest ago first.
    #[serde(default)]
    pub released: Vec<Released>,
    /// The addresses that ports were heard with.
    #[serde(default)]
    pub learned: LearnedAddresses,
    /// In which boot that was.
    #[serde(default)]
    pub learned_in: String,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            addresses: BTreeMap::new(),
            places: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            namespace_ids: BTreeMap::new(),
            devices: BTreeSet::new(),
            lowered: BTreeSet::new(),
            groups: BTreeMap::new(),
            released: Vec::new(),
            learned: BTreeMap::new(),
            learned_in: String::new(),
        }
    }
}

impl State {
    /// Makes `assigned` the addresses of ports, in the networks that `places` tells. Those that ports lose are not
    /// forgotten at once.
    pub fn set_addresses(&mut self, assigned: &Assigned, places: Places) {
        let all =
            assigned.iter().flat_map(|(port, addresses)| addresses.iter().map(move |addr| (port, *addr)));
        let held: BTreeSet<_> = all.map(|(port, addr)| (place_of(&places, port, addr), addr)).collect();
        let is_held = |network: Option<&str>, addr| held.contains(&(network, addr));
        self.released.retain(|released| !is_held(released.network.as_deref(), released.address));
        for (port, addresses) in &self.addresses {
            for &address in addresses {
                let network = place_of(&self.places, port, address);
                if is_held(network, address) {
                    continue;
                }
                let is_it = |old: &Released| (old.address, old.network.as_deref()) == (address, network);
                self.released.retain(|released| !is_it(released));
                let network = network.map(str::to_owned);
                self.released.push(Released { address, port: port.clone(), network });
            }
        }
        self.released.drain(..self.released.len().saturating_sub(RELEASED));
        (self.addresses, self.places) = (assigned.clone(), places);
    }

    /// Forgets which addresses ports were heard with in another boot than `boot_id`: whoever still has one says so when
    /// it comes up.
    pub fn learn_in(&mut self, boot_id: &str) {
        if self.learned_in != boot_id {
            self.learned.clear();
            boot_id.clone_into(&mut self.learned_in);
        }
    }

    /// The state kept in `dir`; an empty one where none was kept yet.
    ///
    /// # Errors
    /// [`StateError`] when the file is there and cannot be read or understood.
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(StateError::Read { path, error }),
        };
        let state: Self = match serde_json::from_str(&text) {
            Ok(state) => state,
            Err(error) => return Err(StateError::Corrupt { path, error }),
        };
        if state.version > VERSION {
            return Err(StateError::TooNew { path, version: state.version });
        }
        Ok(Self { version: VERSION, ..state })
    }

    /// Keeps the state in `dir`, which is made if it is missing. After a crash at any instant the file
    /// holds either the old state or the new one.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old state is then still in place.
    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        self.write(dir).map_err(|error| StateError::Write { path: dir.join(FILE_NAME), error })
    }

    /// Forgets everything kept in `dir`, as after a teardown. The directory goes with the file when
    /// nothing else is in it.
    ///
    /// # Errors
    /// [`StateError::Write`] when the file is there and cannot be removed.
    pub fn remove(dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StateError::Write { path, error }),
            _ => Ok(()),
        }
    }

    fn write(&self, dir: &Path) -> std::io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut file = NamedTempFile::new_in(dir)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(dir.join(FILE_NAME))?;
        // The rename itself survives a power cut only once the directory is on disk.
        File::open(dir)?.sync_all()
    }
}
