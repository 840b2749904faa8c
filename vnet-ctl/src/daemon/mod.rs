//! The daemon: keeps one policy in force.
//!
//! Decides the order of things: what is checked before anything is touched, what is in place before a link
//! comes up, what is undone when a step fails. What the steps are is told by [`crate::plan`], how they are
//! done by [`crate::host`] and [`crate::datapath`].
//!
//! Ending it changes nothing for traffic, unless it is ephemeral or told to tear down.

mod absent;
mod answers;
mod apply;
mod declared;
mod desired;
mod devices;
mod differences;
mod error;
mod events;
mod file_watch;
mod history;
mod ipam;
mod lock;
mod lock_file;
mod newcomers;
mod progress;
mod reconcile;
mod reload;
mod run;
mod runtime;
mod teardown;
mod view;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Instant,
};

use tokio::sync::watch;

pub use error::DaemonError;
pub use run::{run, text_to_begin_with};
pub use teardown::teardown;

use self::{apply::Engine, events::Events, history::History, progress::Progress, runtime::Queue, view::View};
use crate::{datapath::Datapath, host::Host};

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

impl RunOptions {
    fn teardown_options(&self) -> TeardownOptions {
        TeardownOptions {
            socket: self.socket.clone(),
            state_dir: self.state_dir.clone(),
            bpffs: self.bpffs.clone(),
        }
    }
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

/// The running daemon, as its API sees it.
#[derive(Debug)]
pub(crate) struct Daemon {
    options: RunOptions,
    started: Instant,
    /// Changes things; whoever holds it is the only one who does. `None` once all is torn down.
    engine: tokio::sync::Mutex<Option<Engine>>,
    datapath: SharedDatapath,
    host: Arc<Host>,
    /// What is in force, for questions that need not wait for a change to finish.
    view: RwLock<Arc<View>>,
    events: Events,
    history: History,
    /// Changes of ports that runtimes wait for.
    queue: Queue,
    progress: Progress,
    stopping: watch::Sender<bool>,
}

impl Daemon {
    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, view: Arc<View>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

/// The datapath, for one at a time.
#[derive(Clone, Debug)]
struct SharedDatapath(Arc<Mutex<Datapath>>);

impl SharedDatapath {
    fn new(datapath: Datapath) -> Self {
        Self(Arc::new(Mutex::new(datapath)))
    }

    /// Whoever panicked with it left maps and links, which the kernel keeps whole.
    fn lock(&self) -> MutexGuard<'_, Datapath> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
