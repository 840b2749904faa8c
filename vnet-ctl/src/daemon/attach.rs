//! The datapath's part in the steps of a plan.

use anyhow::Result;

use super::SharedDatapath;
use crate::{datapath::names::Hook, host::Attach};

impl Attach for SharedDatapath {
    fn attach_port(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_port(ifindex)
    }

    fn attach_bridge(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_bridge(ifindex)
    }

    fn attach_uplink(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_uplink(ifindex)
    }

    fn detach(&mut self, ifindex: u32) -> Result<()> {
        self.lock().detach(ifindex, &Hook::INSIDE)
    }

    fn detach_uplink(&mut self, ifindex: u32) -> Result<()> {
        self.lock().detach(ifindex, &[Hook::FromUplink])
    }
}
