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
mod attach;
mod chore;
mod clock;
mod declared;
mod desired;
mod devices;
mod dhcp;
mod differences;
mod engine;
mod error;
mod events;
mod file_watch;
mod grace;
mod herald;
mod history;
mod ipam;
mod learned;
mod lock;
mod lock_file;
mod newcomers;
mod notify;
mod outcome;
mod own_addresses;
mod pressure;
mod progress;
mod reconcile;
mod reload;
mod run;
mod runtime;
mod snoop;
mod table_maker;
mod teardown;
mod view;
mod ways_out;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError},
    time::Instant,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::watch,
    task::block_in_place,
};

pub use error::DaemonError;
pub use run::{run, text_to_begin_with};
pub use teardown::{imagined_teardown, teardown};

use self::{
    engine::Engine, events::Events, history::History, notify::Notify, progress::Progress, runtime::Queue,
    view::View,
};
use crate::{
    api::AccessOptions,
    datapath::{Capacity, Datapath},
    host::Host,
};

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
    /// How many flows have room, where none are tracked yet; what suits the machine if this is not said.
    pub capacity: Option<Capacity>,
    /// Who is let in besides root and the user that it runs as.
    pub access: AccessOptions,
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
    /// See [`Engine::in_doubt`].
    in_doubt: Arc<tokio::sync::Notify>,
    datapath: SharedDatapath,
    host: Arc<Host>,
    /// What is in force, for questions that need not wait for a change to finish.
    view: RwLock<Arc<View>>,
    events: Events,
    notify: Notify,
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
        let (networks, ports) = (view.policy.networks.len(), view.policy.ports.len());
        self.notify
            .status(&format!("networks {networks}, ports {ports}, rules {}", view.policy.rule_count()));
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
        match self.0.try_lock() {
            Ok(datapath) => datapath,
            Err(TryLockError::Poisoned(left)) => left.into_inner(),
            Err(TryLockError::WouldBlock) => {
                at_length(|| self.0.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

/// Does what takes its time, or waits for a lock, while another thread goes on with the runtime's tasks: a
/// large change or a long list must not keep others from being answered, nor the watchdog from its pings.
fn at_length<T>(work: impl FnOnce() -> T) -> T {
    // The other kind of runtime, which unit tests use, has no other thread.
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}
