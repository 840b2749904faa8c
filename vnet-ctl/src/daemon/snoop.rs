//! Learns the addresses of ports of bridged networks from what the datapath has seen of them.
//!
//! Decides when to listen: what is seen comes in groups, and is waited for a few milliseconds. Which of the addresses
//! are whose is told by [`super::learned`]; each change of them is a commit like any other, of the tables alone.
//! Whatever workloads send, listening to them takes at most a tenth of the time; what finds no room meanwhile is lost,
//! and comes again.

use std::{
    collections::BTreeSet,
    mem,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};
use vnet_common::{MacAddr, link};

use super::{
    Daemon,
    apply::Occasion,
    clock::Now,
    dhcp::{self, Dhcp},
    engine::Engine,
    error::ApplyError,
    learned::{Book, Heard, Owners},
    outcome::Outcome,
    view::View,
};
use crate::{
    api::types::EventKind,
    compile::Assigned,
    datapath::{Seen, Snoop},
};

/// What is seen comes in groups; how long to wait for the rest.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// Listening takes at most this part of the time.
const SHARE: u32 = 10;
/// However long it takes, the next time is not further away.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Records that are taken in at once.
const AT_ONCE: usize = 1024;
/// A sleeping machine's time is not seen by a timer: the clock is read again after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After a commit that failed, the time until it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Learns addresses until the daemon ends.
pub(super) async fn learn(daemon: Arc<Daemon>) {
    let Some(snoop) = daemon.datapath.lock().take_snoop() else { return };
    // SAFETY: `Snoop` owns the map's descriptor, never closes or replaces it, and is not taken out of the `AsyncFd`.
    match unsafe { AsyncFd::register_with_interest(snoop, Interest::READABLE) } {
        Ok(snoop) => {
            Listener { daemon, snoop, seen: Vec::new(), next_end: Some(0), problem: None }.run().await
        }
        Err(error) => {
            let message = format!("addresses of ports are not learned: {error}");
            daemon.events.tell(EventKind::Problem, message);
        }
    }
}

/// The task's memory.
struct Listener {
    daemon: Arc<Daemon>,
    snoop: AsyncFd<Snoop>,
    /// What was read of it, and is not taken in.
    seen: Vec<Seen>,
    /// When the next lease is over, in seconds since the boot.
    next_end: Option<u64>,
    /// What keeps learned addresses from being put in force, as it was told.
    problem: Option<String>,
}

impl Listener {
    async fn run(mut self) {
        loop {
            let heard = tokio::select! {
                heard = next(&mut self.snoop, &mut self.seen) => heard,
                () = until(self.next_end), if self.next_end.is_some() => Ok(()),
                () = sleep(RETRY), if self.problem.is_some() => Ok(()),
            };
            let begun = Instant::now();
            let seen = mem::take(&mut self.seen);
            let outcome = match heard {
                Ok(()) => self.daemon.learn(&seen, self.problem.is_some()).await,
                Err(error) => Err(error.into()),
            };
            match outcome {
                Ok(next_end) => (self.next_end, self.problem) = (next_end, None),
                Err(ApplyError::Stopping) => return,
                Err(error) => self.tell(error.to_string()),
            }
            sleep((begun.elapsed() * SHARE).min(LONGEST_PAUSE)).await;
        }
    }

    fn tell(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            let message = format!("learned addresses are not in force, and tried again: {problem}");
            self.daemon.events.tell(EventKind::Problem, message);
        }
        self.problem = Some(problem);
    }
}

/// Adds what is seen next, and what comes a moment later, to `seen`. Nothing is lost if nobody waits for the end.
async fn next(snoop: &mut AsyncFd<Snoop>, seen: &mut Vec<Seen>) -> Result<()> {
    while seen.is_empty() {
        let mut ready = snoop.readable_mut().await.context("wait for what ports say")?;
        seen.extend(ready.get_inner_mut().read(AT_ONCE));
        // What is none of this version's is taken out, and leaves nothing.
        if seen.is_empty() {
            ready.clear_ready();
        }
    }
    sleep(DEBOUNCE).await;
    seen.extend(snoop.get_mut().read(AT_ONCE));
    Ok(())
}

/// Waits until `end`, in seconds since the boot, but not for long.
async fn until(end: Option<u64>) {
    let now = Now::read().map_or(0, |now| now.secs);
    let left = end.unwrap_or(u64::MAX).saturating_sub(now);
    sleep(Duration::from_secs(left).clamp(DEBOUNCE, LONGEST_WAIT)).await;
}

impl Daemon {
    /// Takes in what was seen, and puts it in force; `again` also if nothing is new. Tells when the next lease is over.
    async fn learn(&self, seen: &[Seen], again: bool) -> Result<Option<u64>, ApplyError> {
        let mut engine = self.engine.lock().await;
        let engine = engine.as_mut().ok_or(ApplyError::Stopping)?;
        let now = Now::read()?.secs;
        let book = take_in(&self.view(), Book::new(engine.state.learned.clone()), seen, now);
        if again || book.known != engine.state.learned {
            let is_told = !book.news.is_empty();
            engine.keep_learned(&book)?;
            book.news.into_iter().for_each(|news| self.events.tell(EventKind::Followed, news));
            if again || is_told {
                self.publish(&engine.put_learned_in_force().await?);
            }
        }
        Ok(Book::next_end(&engine.state.learned))
    }
}

impl Engine {
    /// Remembers what was learned, before it is in force.
    fn keep_learned(&mut self, book: &Book) -> Result<()> {
        let mut state = self.state.clone();
        state.learned.clone_from(&book.known);
        self.save(state)
    }

    /// Nobody's workload has to be there for it.
    async fn put_learned_in_force(&mut self) -> Result<Outcome, ApplyError> {
        let mut declared = self.declared.clone();
        let outcome = self.enforce(&mut declared, &Occasion::Ports(BTreeSet::new())).await?;
        self.declared = declared;
        Ok(outcome)
    }
}

/// What is known at `now` after what was `seen`, where `view` is in force.
fn take_in(view: &View, mut book: Book, seen: &[Seen], now: u64) -> Book {
    book.expire(now);
    if seen.is_empty() {
        return book;
    }
    let owners = Owners::of(&view.policy, &not_learned(view)).with(&view.devices);
    let mut before = None;
    for seen in seen {
        // A workload that is not answered repeats itself.
        if before.replace(seen) == Some(seen) {
            continue;
        }
        let Some((network, mac, heard)) = heard(view, seen) else { continue };
        if let Some(port) = owners.port_with(network, mac) {
            book.hear(&owners, (port, network), heard, now);
        }
    }
    book
}

/// What something seen says: of which port, by network and MAC.
fn heard<'a>(view: &'a View, seen: &Seen) -> Option<(&'a str, MacAddr, Heard)> {
    let of = |device: u32| {
        let is_it = |bridge: u32| bridge == device || link::segment(bridge) == device;
        let found = view.devices.bridges.iter().find(|(_, bridge)| is_it(bridge.ifindex));
        found.map(|(name, _)| name.as_str())
    };
    let (network, said, own) = match seen {
        Seen::Claim { network, mac, addr } => return Some((of(*network)?, *mac, Heard::Claim(*addr))),
        Seen::DhcpToPort { network, message } => (network, dhcp::read(message)?, None),
        Seen::DhcpFromPort { network, mac, message } => (network, dhcp::read(message)?, Some(*mac)),
    };
    let network = of(*network)?;
    match (said, own) {
        (Dhcp::Granted { client, addr, secs }, None) => {
            Some((network, client, Heard::Lease(IpAddr::V4(addr), secs)))
        }
        (Dhcp::Denied { client }, None) => Some((network, client, Heard::Denial)),
        // Nobody gives up what another has.
        (Dhcp::GivenUp { client, addr }, Some(own)) if client == own => {
            Some((network, client, Heard::GivenUp(IpAddr::V4(addr))))
        }
        _ => None,
    }
}

/// The addresses of ports that are declared or assigned.
fn not_learned(view: &View) -> Assigned {
    let mut assigned = view.assigned.clone();
    for (name, learned) in &view.learned {
        if let Some(own) = assigned.get_mut(name) {
            own.retain(|addr| !learned.iter().any(|learned| learned.address == *addr));
        }
    }
    assigned
}

#[cfg(test)]
#[path = "snoop_tests.rs"]
mod tests;
