//! From start to end: checks, take-over, the first apply, the socket, and what is left behind.

use std::{
    io::Write as _,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{
    Daemon, DaemonError, RunOptions, SharedDatapath,
    chore::Chore,
    engine::Engine,
    events::Events,
    file_watch::FileWatch,
    history::{History, Opening, keep_deadline},
    lock::Lock,
    notify::{self, Notify},
    pressure,
    progress::Progress,
    reconcile,
    reload::follow_file,
    runtime::Queue,
    snoop,
    view::View,
};
use crate::{
    api::{self, Socket},
    datapath::{Capacity, Datapath, Preflight, has_links, make_folders, names::Pins, remove_own_pins},
    host::Host,
    state::{self, State},
};

/// How often silent flows are looked for. The shortest timeout is 10 s.
const EXPIRY_PERIOD: Duration = Duration::from_secs(2);
/// Looking takes at most this part of the time: a full table is looked through less often.
const EXPIRY_SHARE: u32 = 20;
/// The same while a table fills up. Nothing is forgotten before it has been silent for a second.
const PRESSED_PERIOD: Duration = Duration::from_millis(500);
/// As `EXPIRY_SHARE`, then.
const PRESSED_SHARE: u32 = 3;
/// How long requests under way may take once the daemon is to end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop by SIGINT, SIGTERM or the API; SIGHUP has it read the policy file
/// again, or ends it if it is ephemeral.
///
/// It must run in the network namespace that it is to serve, and so must the threads of its runtime.
///
/// # Errors
/// [`DaemonError`], whose [`DaemonError::exit_code`] is the process's.
pub async fn run(mut options: RunOptions) -> Result<(), DaemonError> {
    for path in [&mut options.policy, &mut options.socket, &mut options.state_dir, &mut options.bpffs] {
        *path = std::path::absolute(&*path).with_context(|| format!("find {}", path.display()))?;
    }
    Preflight::new(&options.bpffs).check().map_err(anyhow::Error::from)?;
    // A policy with an error changes nothing, not even a folder.
    Opening::look(&options)?.check(&options)?;
    let signals = Signals::new().context("listen for signals")?;
    let mut lock = Lock::alone(&options.socket)?;
    let pins = Pins::new(&options.bpffs);
    let before = Before::look(&options, &pins);
    let started = async {
        // Before anything is touched; nobody connects until all is in force.
        let (socket, listener) = Socket::bind(&options.socket, &options.access)?;
        // From here on no change of the file is missed.
        let watch = FileWatch::new(&options.policy);
        let daemon = start(options.clone(), &mut lock).await?;
        Ok((daemon, watch, socket, listener))
    };
    let (daemon, watch, socket, listener) = match started.await {
        Ok(started) => started,
        Err(error) => {
            before.restore(&options, &pins, lock);
            return Err(error);
        }
    };
    let served = serve(&daemon, watch, (&socket, listener), signals).await;
    drop(socket);
    let left = if options.ephemeral { daemon.stop(true).await.problems } else { Vec::new() };
    if daemon.is_torn_down().await {
        lock.remove();
    }
    served?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("not everything is removed: {}", left.join("; ")).into())
    }
}

/// What was there before a start, so that one that fails leaves nothing new.
struct Before {
    pins: bool,
    state: bool,
}

impl Before {
    fn look(options: &RunOptions, pins: &Pins) -> Self {
        Self { pins: pins.root().exists(), state: options.state_dir.join(state::FILE_NAME).exists() }
    }

    /// The host's devices are as before already.
    fn restore(&self, options: &RunOptions, pins: &Pins, lock: Lock) {
        if !self.state
            && lock.holds_state()
            && let Err(error) = State::remove(&options.state_dir)
        {
            warn!("{error}");
        }
        if self.pins {
            return;
        }
        // A program that is attached nonetheless is better than an open device.
        if lock.holds_pins() && !has_links(pins) {
            remove_own_pins(pins).problems.iter().for_each(|problem| warn!("{problem}"));
        }
        lock.remove();
    }
}

/// The text that a daemon would begin with, and the file that errors in it are told of: the policy file's,
/// unless another waits for its confirmation.
///
/// # Errors
/// When the policy file cannot be read.
pub fn text_to_begin_with(options: &RunOptions) -> Result<String, DaemonError> {
    Ok(Opening::look(options)?.text)
}

/// Takes over what is there, and puts the policy in force.
async fn start(options: RunOptions, lock: &mut Lock) -> Result<Arc<Daemon>, DaemonError> {
    lock.make_folder(&options.state_dir)?;
    lock.lock_state(&options.state_dir)?;
    // Nobody else changes it from now on.
    let opening = Opening::look(&options)?;
    let pins = Pins::new(&options.bpffs);
    make_folders(&pins)?;
    // Those of other versions as well: what another daemon runs on is not to be carried over.
    for version in pins.versions() {
        lock.lock_pins(&version)?;
    }
    raise_descriptor_limit();
    let capacity = options.capacity.map_or_else(Capacity::of_machine, Ok)?;
    let datapath = Datapath::open(&pins, capacity)?;
    if let Some(asked) = options.capacity {
        let most = datapath.capacity()?;
        if most != u64::from(asked.flows()) {
            warn!(
                "the tables that are in use have room for {most} flows, not for {}: \
                 they change after `vnet-ctl teardown` or when the machine starts again",
                asked.flows()
            );
        }
    }
    let adopted = datapath.attached().len();
    let datapath = SharedDatapath::new(datapath);
    let host = Arc::new(Host::open()?);
    let progress = Progress::default();
    let engine = Engine::new(&options.state_dir, host.clone(), datapath.clone(), progress.clone())?;
    let history = History::new(&options.state_dir, &options.policy);
    let daemon = Daemon {
        options,
        started: Instant::now(),
        in_doubt: engine.in_doubt(),
        engine: tokio::sync::Mutex::new(Some(engine)),
        datapath,
        host,
        view: RwLock::new(Arc::new(View::default())),
        events: Events::default(),
        notify: Notify::from_env(),
        history,
        queue: Queue::default(),
        progress,
        stopping: watch::Sender::new(false),
    };
    let applied = daemon.begin(&opening.text).await?;
    daemon.go_on(opening);
    applied.warnings.iter().for_each(|warning| warn!("{warning}"));
    applied.changes.iter().for_each(|change| debug!("{change}"));
    if adopted > 0 {
        let flows = daemon.datapath.lock().flow_counts()?;
        info!("took over {adopted} programs and {} flows", flows.v4 + flows.v6);
    }
    match applied.changes.len() {
        0 => info!("took over what was in force, as it was (generation {})", applied.generation),
        count => info!("{count} changes put in force; VNET_LOG=debug tells each"),
    }
    Ok(Arc::new(daemon))
}

/// A descriptor is held for each program that is attached, and the limit that processes start with is low for
/// the sake of programs that use `select`.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("raise the limit of open files: {error}");
    }
}

/// Answers requests until the daemon is to stop.
async fn serve(
    daemon: &Arc<Daemon>,
    watch: FileWatch,
    (socket, listener): (&Socket, UnixListener),
    signals: Signals,
) -> Result<()> {
    socket.publish()?;
    // What follows may wait for its turn, but misses nothing; and a manager hears of readiness first.
    announce(daemon);
    let tasks = [
        tokio::spawn(heed_signals(daemon.clone(), signals)),
        tokio::spawn(expire_flows(daemon.clone())),
        tokio::spawn(pressure::watch(daemon.clone())),
        tokio::spawn(keep_deadline(daemon.clone())),
        tokio::spawn(reconcile::keep(daemon.clone())),
        tokio::spawn(follow_file(daemon.clone(), watch)),
        tokio::spawn(notify::watch(daemon.clone())),
        tokio::spawn(snoop::learn(daemon.clone())),
    ];
    answer(daemon, socket, listener).await;
    tasks.iter().for_each(JoinHandle::abort);
    Ok(())
}

/// The one line that whoever starts the daemon waits for, if they still do.
fn announce(daemon: &Daemon) {
    let view = daemon.view();
    let (networks, ports) = (view.policy.networks.len(), view.policy.ports.len());
    daemon.notify.ready();
    let _ = writeln!(
        std::io::stdout(),
        "vnet is ready: networks {networks}, ports {ports}, policy {}, socket {}",
        daemon.options.policy.display(),
        daemon.options.socket.display()
    );
}

async fn answer(daemon: &Arc<Daemon>, socket: &Socket, listener: UnixListener) {
    let mut stopping = daemon.stopping.subscribe();
    let patience = async {
        // An error means that the daemon is gone, which is as good a reason.
        let _ = stopping.wait_for(|&stop| stop).await;
        sleep(LAST_REQUESTS).await;
    };
    tokio::select! {
        () = api::serve(daemon.clone(), socket, listener, daemon.stopping.subscribe()) => {}
        () = patience => {}
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn heed_signals(daemon: Arc<Daemon>, mut signals: Signals) {
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => break,
            _ = signals.terminate.recv() => break,
            _ = signals.hangup.recv() => {
                // The terminal is gone, and with it whoever tries things out there.
                if daemon.options.ephemeral {
                    break;
                }
                daemon.history.ask_for_reload();
            }
        }
    }
    daemon.stop(false).await;
}

async fn expire_flows(daemon: Arc<Daemon>) {
    let mut pause = EXPIRY_PERIOD;
    let mut chore = Chore::new("flows are not being expired");
    loop {
        sleep(pause).await;
        let datapath = daemon.datapath.clone();
        let begun = Instant::now();
        chore.run(move || datapath.lock().expire_flows()).await;
        pause = match daemon.datapath.lock().is_pressed() {
            true => PRESSED_PERIOD.max(begun.elapsed() * PRESSED_SHARE),
            false => EXPIRY_PERIOD.max(begun.elapsed() * EXPIRY_SHARE),
        };
    }
}
