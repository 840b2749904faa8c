//! Tells the service manager how the daemon stands, if one started it: the protocol of sd_notify(3).
//!
//! A few lines of it, as the address is an argument here and the environment's affair there. A watchdog's
//! ping proves that the runtime turns, that whoever wants to change something gets their turn, and that the
//! datapath answers. A large change may take its time: only one that is stuck keeps the pings back.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tracing::{debug, warn};

use super::Daemon;

/// A change that takes longer is stuck: 100,000 rules and 1,000 ports take a small part of this.
const STUCK: Duration = Duration::from_mins(5);
/// How often it is tried whether changes get their turn, unless the watchdog is quicker.
const LONGEST_PROBE_PERIOD: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    pub(super) fn from_env() -> Self {
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&usec| for_us && usec > 0).map(Duration::from_micros);
        let Ok(address) = env::var("NOTIFY_SOCKET") else { return Self::default() };
        Self::new(&address, watchdog).unwrap_or_else(|error| {
            warn!("the service manager cannot be told anything at {address}: {error}");
            Self::default()
        })
    }

    fn new(address: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { manager: Some((socket, address)), watchdog })
    }

    /// The daemon answers.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// A sentence for `systemctl status`.
    pub(super) fn status(&self, status: &str) {
        // A line break would begin another field of the message.
        self.send(&format!("STATUS={}", status.replace('\n', " ")));
    }

    /// The daemon is about to end.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.manager else { return };
        // A manager that does not listen is no reason to do anything else differently.
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            debug!("tell the service manager {message:?}: {error}");
        }
    }

    /// Pings the watchdog, if there is one, for as long as `probe` gets to its end again and again.
    ///
    /// `probe` takes what a change takes.
    async fn watch<P: Future<Output = ()> + Send>(
        &self,
        probe: impl Fn() -> P + Send + 'static,
        stuck: Duration,
    ) {
        let Some(watchdog) = self.watchdog else { return };
        let period = watchdog / 2;
        let (begun, healthy) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let millis = move || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = healthy.clone();
        let probing = async move {
            loop {
                probe().await;
                last.store(millis(), Ordering::Relaxed);
                sleep(period.min(LONGEST_PROBE_PERIOD)).await;
            }
        };
        let pinging = async {
            loop {
                let silent = Duration::from_millis(millis().saturating_sub(healthy.load(Ordering::Relaxed)));
                if silent <= stuck.max(watchdog) {
                    self.send("WATCHDOG=1");
                } else {
                    warn!(
                        "a change has been stuck for {} seconds: the watchdog gets no ping",
                        silent.as_secs()
                    );
                }
                sleep(period).await;
            }
        };
        tokio::join!(probing, pinging);
    }
}

/// Pings the watchdog for as long as the daemon is well.
pub(super) async fn watch(daemon: Arc<Daemon>) {
    let probed = daemon.clone();
    let probe = move || {
        let daemon = probed.clone();
        async move {
            drop(daemon.engine.lock().await);
            let datapath = daemon.datapath.clone();
            // A failure is a panic, which whoever caused it has told of.
            let _ = tokio::task::spawn_blocking(move || drop(datapath.lock())).await;
        }
    };
    daemon.notify.watch(probe, STUCK).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (tempfile::TempDir, UnixDatagram, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (dir, socket, path.to_str().unwrap().to_owned())
    }

    fn message(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn the_manager_hears_what_happens() {
        let (_dir, socket, path) = manager();
        let notify = Notify::new(&path, None).unwrap();
        notify.status("2 ports\n1 network");
        notify.ready();
        notify.stopping();
        assert_eq!(message(&socket), "STATUS=2 ports 1 network");
        assert_eq!(message(&socket), "READY=1");
        assert_eq!(message(&socket), "STOPPING=1");
    }

    #[test]
    fn a_socket_without_a_file_is_found_by_its_name() {
        let name = format!("vnet-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::new(&format!("@{name}"), None).unwrap().stopping();
        assert_eq!(message(&socket), "STOPPING=1");
    }

    #[test]
    fn without_a_manager_nothing_is_told() {
        Notify::default().ready();
        let (_, socket, path) = manager();
        drop(socket);
        Notify::new(&path, None).unwrap().stopping();
    }

    #[tokio::test]
    async fn the_watchdog_is_pinged_until_a_change_is_stuck() {
        let (_dir, socket, path) = manager();
        socket.set_nonblocking(true).unwrap();
        let pings = || std::iter::from_fn(|| socket.recv(&mut [0; 64]).ok()).count();
        let notify = Notify::new(&path, Some(Duration::from_millis(100))).unwrap();
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        let probed = turn.clone();
        let probe = move || {
            let turn = probed.clone();
            async move { drop(turn.lock().await) }
        };
        let watching = tokio::spawn(async move { notify.watch(probe, Duration::from_millis(600)).await });
        sleep(Duration::from_millis(300)).await;
        assert!(pings() >= 2);

        let change = turn.lock().await;
        sleep(Duration::from_millis(400)).await;
        assert!(pings() >= 2, "a change may take its time");
        sleep(Duration::from_millis(600)).await;
        pings();
        sleep(Duration::from_millis(300)).await;
        assert_eq!(pings(), 0, "a stuck one may not");

        drop(change);
        sleep(Duration::from_millis(300)).await;
        assert!(pings() >= 1);
        watching.abort();
    }
}
