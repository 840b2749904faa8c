//! Looks whether a flow table fills up, and tells it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use super::{Daemon, chore::Chore};
use crate::api::types::EventKind;

/// How often it is looked. A flood opens some 100,000 flows in that time.
const PERIOD: Duration = Duration::from_millis(250);
/// Of how many who open flows it is told.
const NAMED: usize = 3;

/// Looks again and again.
pub(super) async fn watch(daemon: Arc<Daemon>) {
    let mut chore = Chore::new("it is not looked whether flow tables fill up");
    loop {
        sleep(PERIOD).await;
        let follower = daemon.clone();
        chore.run(move || follower.follow_pressure()).await;
    }
}

impl Daemon {
    fn follow_pressure(&self) -> Result<()> {
        let changed = self.datapath.lock().judge_pressure()?;
        match changed {
            Some(true) => {
                // At once: what is full has no room for anybody else.
                let openers = {
                    let mut datapath = self.datapath.lock();
                    datapath.expire_flows()?;
                    datapath.openers()
                };
                let view = self.view();
                let named = openers.iter().take(NAMED);
                let named = named.map(|(ifindex, flows)| format!("{} ({flows})", view.party(*ifindex)));
                self.events.tell(
                    EventKind::Problem,
                    format!(
                        "a flow table fills up: who opens connections from outside has to show that they are there, \
                         and flows that do not come about are limited; most were opened by {}",
                        named.collect::<Vec<_>>().join(", ")
                    ),
                );
            }
            Some(false) => self.events.tell(EventKind::Repaired, "the flow tables have room again"),
            None => {}
        }
        Ok(())
    }
}
