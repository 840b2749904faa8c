//! The host's links, addresses and namespaces, by netlink.
//!
//! A [`Host`] works in the network namespace of the thread that opens it. It looks ([`Host::observe`]),
//! carries out what [`crate::plan`] decided ([`Host::apply`], [`Host::undo`], [`Host::remove`]), tells workloads of
//! new neighbours ([`Host::announce`]) and counts ([`Host::counters`]). Inside another namespace it works through a socket that a short-lived thread opens
//! there, so no thread of the runtime ever changes its namespace, and nothing forks.
//!
//! What should be done is [`crate::plan`]'s to decide, the programs and tables are the datapath's: it
//! takes part through [`Attach`].

mod addresses;
mod announce;
mod apply;
mod ask;
mod counters;
mod ifreq;
mod inside;
mod links;
pub mod monitor;
mod namespace;
mod observe;
mod receptions;
mod routers;
mod routes;
mod taps;
mod workload;

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context as _, Result};
use rtnetlink::Handle;

pub use self::{
    announce::{Announcement, Claim},
    apply::{ApplyError, Attach, Done, Failure},
    counters::{Counters, PortCounters},
};
use self::{inside::Insides, namespace::Netns};

/// The host, in one network namespace.
#[derive(Debug)]
pub struct Host {
    netlink: Handle,
    own: Netns,
    insides: Arc<Insides>,
    watched: AtomicBool,
}

impl Host {
    /// Opens the calling thread's network namespace. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses a netlink socket.
    pub fn open() -> Result<Self> {
        let own = Netns::of_this_thread()?;
        let (connection, netlink, _) = rtnetlink::new_connection().context("open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { netlink, own, insides: Arc::default(), watched: AtomicBool::new(false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Desired, Role},
        state::State,
    };

    struct Nothing;

    impl Attach for Nothing {
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

    /// The daemon awaits them in tasks that move between threads.
    #[tokio::test]
    async fn the_futures_can_be_sent() {
        fn assert_send(_: &impl Send) {}
        fn assert_sync<T: Send + Sync>() {}
        assert_sync::<Host>();
        let host = Host::open().unwrap();
        let (desired, state, mut attach) = (Desired::default(), State::default(), Nothing);
        assert_send(&host.observe(&desired, &state));
        assert_send(&host.counters("lo"));
        assert_send(&host.announce(&[]));
        assert_send(&host.apply(&[], &mut attach));
        assert_send(&host.undo(Done::default(), &mut attach));
        assert_send(&host.remove(&[], &mut attach));
    }
}
