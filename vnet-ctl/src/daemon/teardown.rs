//! Removes everything that vnet made, with a daemon's help or without.
//!
//! Devices go before the programs on them, so that nothing passes unjudged while they last. It goes on after
//! a failure, and tells what is left.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{sleep, timeout};

use super::{
    Daemon, DaemonError, TeardownOptions,
    engine::load_state,
    history::forget,
    lock::{Lock, holder},
};
use crate::{
    api::{Socket, post, types::TeardownReport},
    datapath::{Preflight, Removed, count_pins, names::Pins, remove_pins},
    host::{Attach, Host},
    plan::{self, Plan, Role},
    state::{PortStore, State},
};

/// How long a daemon that has torn everything down may take to end.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Removes everything that vnet made, whether a daemon runs or not.
///
/// It goes on after a failure; the report tells what is left.
///
/// # Errors
/// When nothing could be tried: no privileges, or a daemon that does not answer.
pub async fn teardown(options: TeardownOptions) -> Result<TeardownReport, DaemonError> {
    if holder(&options.socket).is_some() {
        return Ok(ask_daemon(&options).await?);
    }
    Preflight::new(&options.bpffs).check_privileges().map_err(anyhow::Error::from)?;
    let mut lock = Lock::alone(&options.socket)?;
    if options.state_dir.exists() {
        lock.lock_state(&options.state_dir)?;
    }
    let pins = Pins::new(&options.bpffs);
    for version in pins.versions() {
        lock.lock_pins(&version)?;
    }
    let report = remove_everything(&options).await;
    Socket::remove(&options.socket);
    lock.remove();
    Ok(report)
}

/// What [`teardown`] would remove now, as far as it can be seen beforehand. Changes nothing.
///
/// # Errors
/// When it cannot be seen: no privileges, or a state that cannot be read.
pub async fn imagined_teardown(options: &TeardownOptions) -> Result<TeardownReport, DaemonError> {
    Preflight::new(&options.bpffs).check_privileges().map_err(anyhow::Error::from)?;
    let (_, plan) = planned(options).await?;
    let pins = count_pins(&Pins::new(&options.bpffs));
    let mut report = TeardownReport { removed: plan.changes(), problems: pins.problems.clone() };
    report.removed.extend(pinned(&pins, ["detach", "remove"]));
    Ok(report)
}

/// Tells the daemon to tear down, and waits for its end.
async fn ask_daemon(options: &TeardownOptions) -> Result<TeardownReport> {
    let report = post(&options.socket, "/v1/shutdown?teardown=true").await.context(
        "a vnet daemon runs and does not do as it is told; end it with SIGTERM, then tear down again",
    )?;
    let ended = async {
        while holder(&options.socket).is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LAST_WORDS, ended).await.context("everything is removed, but the daemon does not end")?;
    Ok(report)
}

/// Removes the devices, the pins and the state, without the programs being loaded.
async fn remove_everything(options: &TeardownOptions) -> TeardownReport {
    let mut report = match remove_devices(options).await {
        Ok(done) => done,
        Err(error) => TeardownReport { problems: vec![format!("{error:#}")], ..TeardownReport::default() },
    };
    // Devices that are still there keep their filters.
    if !report.problems.is_empty() {
        return report;
    }
    let removed = remove_pins(&Pins::new(&options.bpffs));
    report.removed.extend(pinned(&removed, ["detached", "removed"]));
    report.problems.extend(removed.problems);
    // Whatever is left, the state is needed to find it again.
    if !report.problems.is_empty() {
        return report;
    }
    let forgotten = [
        PortStore::remove(&options.state_dir).map_err(|error| error.to_string()),
        State::remove(&options.state_dir).map_err(|error| error.to_string()),
    ];
    report.problems.extend(forgotten.into_iter().filter_map(Result::err));
    if !report.problems.is_empty() {
        return report;
    }
    match forget(&options.state_dir) {
        Ok(done) => report.removed.extend(done),
        Err(error) => report.problems.push(format!("{error:#}")),
    }
    report
}

/// The pins in words, of what becomes of programs and of maps.
fn pinned(pins: &Removed, [detached, removed]: [&str; 2]) -> impl Iterator<Item = String> {
    let programs = (pins.links > 0).then(|| format!("{detached} {} programs", pins.links));
    let maps = (pins.maps > 0).then(|| format!("{removed} {} maps", pins.maps));
    programs.into_iter().chain(maps)
}

/// The way to the host, and what is to be removed there.
async fn planned(options: &TeardownOptions) -> Result<(Host, Plan)> {
    let state = load_state(&options.state_dir)?;
    let host = Host::open()?;
    let observed = host.observe(&plan::Desired::default(), &state).await.context("look at the host")?;
    let plan = plan::teardown(&observed, &state);
    Ok((host, plan))
}

async fn remove_devices(options: &TeardownOptions) -> Result<TeardownReport> {
    let (host, plan) = planned(options).await?;
    let failures = host.remove(&plan.remove, &mut Later).await;
    let problems: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let failed = |change: &String| failures.iter().any(|failure| failure.action.to_string() == *change);
    let removed = plan.changes().into_iter().filter(|change| !failed(change)).collect();
    Ok(TeardownReport { removed, problems })
}

/// Programs are detached afterwards, all at once.
struct Later;

impl Attach for Later {
    fn attach_port(&mut self, _: u32, _: &str) -> Result<()> {
        Ok(())
    }

    fn attach_bridge(&mut self, _: u32, _: &str) -> Result<()> {
        Ok(())
    }

    fn attach_outside(&mut self, _: u32, _: &str, _: Role) -> Result<()> {
        Ok(())
    }

    fn detach(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn detach_outside(&mut self, _: u32, _: Role) -> Result<()> {
        Ok(())
    }
}

impl Daemon {
    /// Ends the daemon, after removing everything if `teardown`.
    pub(crate) async fn stop(&self, teardown: bool) -> TeardownReport {
        self.notify.stopping();
        let mut report = TeardownReport::default();
        if teardown {
            let mut engine = self.engine.lock().await;
            if engine.take().is_some() {
                report = remove_everything(&self.options.teardown_options()).await;
                self.datapath.lock().let_go();
            }
        }
        self.stopping.send_replace(true);
        report
    }

    /// Whether everything has been removed.
    pub(super) async fn is_torn_down(&self) -> bool {
        self.engine.lock().await.is_none()
    }
}
