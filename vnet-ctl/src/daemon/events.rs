//! What happened, for whoever asks later: the last events, numbered.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::api::types::{Event, EventKind};

/// Events that are kept. Older ones are in the journal.
const KEPT: usize = 1024;

/// The last events of this daemon.
#[derive(Debug)]
pub(super) struct Events {
    kept: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { kept: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Events {
    /// Records an event, and logs it.
    pub(super) fn tell(&self, kind: EventKind, message: impl Into<String>) {
        let message = message.into();
        match kind {
            EventKind::Problem => warn!("{message}"),
            _ => info!("{message}"),
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *self.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Event { id, kind, message });
        self.last.send_replace(id);
    }

    /// The events after the one numbered `id`.
    pub(super) fn after(&self, id: u64) -> Vec<Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.id > id).cloned().collect()
    }

    /// Waits until there is an event after the one numbered `id`.
    pub(super) async fn wait_after(&self, id: u64) {
        // An error means that the daemon is gone.
        let _ = self.last.subscribe().wait_for(|&last| last > id).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_in_order() {
        let events = Events::default();
        for n in 0..KEPT + 2 {
            events.tell(EventKind::Applied, format!("event {n}"));
        }
        let kept = events.after(0);
        assert_eq!((kept.len(), kept[0].id), (KEPT, 3));
        assert_eq!(events.after(KEPT as u64 + 1).len(), 1);
    }
}
