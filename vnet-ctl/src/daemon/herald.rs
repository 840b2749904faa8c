//! Tells of addresses that have a new owner, and tells it twice beyond uplinks, where the first time may get lost.
//!
//! The second time is a matter of a task of its own, which nobody waits for. What was announced anew or withdrawn
//! meanwhile is not repeated, nor is anything once the [`Herald`] is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::newcomers::News;
use crate::host::{Announcement, Host};

/// 2 s: `ANNOUNCE_INTERVAL` of RFC 5227 section 1.1. RFC 4861 section 10 wants 1 s between advertisements at least.
const INTERVAL: Duration = Duration::from_secs(2);

/// Announces by a host.
#[derive(Debug)]
pub(super) struct Herald {
    host: Arc<Host>,
    due: Arc<Mutex<Due>>,
}

impl Herald {
    /// Nothing is announced yet.
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, due: Arc::default() }
    }

    /// What will not be repeated.
    pub(super) fn withdraw(&self, places: &BTreeSet<Place>) {
        lock(&self.due).withdraw(places);
    }

    /// Announces; what is for others beyond an uplink, once more later.
    pub(super) async fn announce(&self, News { inside, outside, .. }: News) {
        for announcements in [&inside, &outside] {
            if let Err(error) = self.host.announce(announcements).await {
                tracing::warn!("tell of new neighbours: {error:#}");
            }
        }
        if outside.is_empty() {
            return;
        }
        let number = lock(&self.due).add(outside);
        let (host, due) = (self.host.clone(), self.due.clone());
        drop(tokio::spawn(async move {
            sleep(INTERVAL).await;
            let again = lock(&due).take(number);
            if let Err(error) = host.tell(&again) {
                tracing::warn!("tell again of new neighbours: {error:#}");
            }
        }));
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        *lock(&self.due) = Due::default();
    }
}

fn lock(due: &Mutex<Due>) -> MutexGuard<'_, Due> {
    due.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An uplink and an address behind it.
type Place = (u32, IpAddr);

/// What is to be repeated, with the number of when it was announced.
#[derive(Debug, Default)]
struct Due {
    last: u64,
    announcements: BTreeMap<Place, (u64, Announcement)>,
}

impl Due {
    /// Has `announcements` repeated under a number of their own, and not what was announced of their addresses before.
    fn add(&mut self, announcements: Vec<Announcement>) -> u64 {
        self.last += 1;
        let number = self.last;
        let numbered = announcements.into_iter().map(|announcement| {
            let place = (announcement.claim.bridge, announcement.claim.addr);
            (place, (number, announcement))
        });
        self.announcements.extend(numbered);
        number
    }

    fn withdraw(&mut self, places: &BTreeSet<Place>) {
        self.announcements.retain(|place, _| !places.contains(place));
    }

    /// What is left to repeat of what has this number.
    fn take(&mut self, number: u64) -> Vec<Announcement> {
        let taken = self.announcements.extract_if(.., |_, (its, _)| *its == number);
        taken.map(|(_, (_, announcement))| announcement).collect()
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::MacAddr;

    use super::*;
    use crate::host::Claim;

    fn announcement(uplink: u32, last: u8, mac: u8) -> Announcement {
        let claim =
            Claim { bridge: uplink, addr: [198, 51, 100, last].into(), mac: MacAddr([2, 0, 0, 0, 0, mac]) };
        Announcement { claim, listeners: vec![uplink] }
    }

    #[test]
    fn what_still_holds_is_repeated_once() {
        let mut due = Due::default();
        let (first, second) = (due.add(vec![announcement(4, 1, 1)]), due.add(vec![announcement(4, 2, 1)]));
        assert_eq!(due.take(first), [announcement(4, 1, 1)]);
        assert_eq!(due.take(first), []);
        assert_eq!(due.take(second), [announcement(4, 2, 1)]);
    }

    #[test]
    fn what_is_announced_anew_or_withdrawn_is_not_repeated_as_it_was() {
        let mut due = Due::default();
        let first = due.add(vec![announcement(4, 1, 1), announcement(4, 2, 1), announcement(5, 2, 1)]);
        let second = due.add(vec![announcement(4, 1, 9)]);
        due.withdraw(&[(4, [198, 51, 100, 2].into())].into());
        assert_eq!(due.take(first), [announcement(5, 2, 1)]);
        assert_eq!(due.take(second), [announcement(4, 1, 9)]);
    }
}
