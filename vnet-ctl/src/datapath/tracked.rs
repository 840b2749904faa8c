//! The datapath's flows, as others ask for them.

use anyhow::Result;

use super::Datapath;
use crate::api::types::{FlowCounts, FlowInfo};

impl Datapath {
    /// The tracked flows that `wanted` accepts; `name` tells what people call a device.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn flows(
        &self,
        name: &dyn Fn(u32) -> String,
        wanted: &dyn Fn(&FlowInfo) -> bool,
    ) -> Result<Vec<FlowInfo>> {
        self.flows.list(name, wanted)
    }

    /// How many flows are tracked.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn flow_counts(&self) -> Result<FlowCounts> {
        self.flows.count()
    }

    /// How many flows have room over IPv4.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn capacity(&self) -> Result<u64> {
        let [v4, _] = self.flows.capacity()?;
        Ok(v4)
    }

    /// Forgets the flows that `wanted` accepts: their next packets are judged as new, and TCP connections
    /// end, which only a SYN may open. Returns how many.
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn flush_flows(
        &mut self,
        name: &dyn Fn(u32) -> String,
        wanted: &dyn Fn(&FlowInfo) -> bool,
    ) -> Result<u64> {
        self.flows.flush(&self.object, name, wanted)
    }

    /// Forgets the flows that have been silent for longer than their timeout. Returns how many.
    ///
    /// # Errors
    /// When the maps cannot be read, or the program that marks them does not run.
    pub fn expire_flows(&mut self) -> Result<u64> {
        let opened = self.pressure.opened()?;
        let expired = self.flows.expire(&self.object, self.pressure.count_openers())?;
        self.pressure.look(expired, opened)?;
        Ok(expired.iter().map(|expired| expired.removed).sum())
    }

    /// Looks whether a flow table fills up or has room again, and tells the programs; whether one does, if that has
    /// changed. To be asked several times a second.
    ///
    /// # Errors
    /// When a map cannot be read or written.
    pub fn judge_pressure(&mut self) -> Result<Option<bool>> {
        self.pressure.judge(&self.drops)
    }

    /// Whether a flow table fills up, as the programs were told last.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.pressure.is_pressed()
    }

    /// The devices, and links, at which the flows were opened that [`Datapath::expire_flows`] found last, and how many; who
    /// has most comes first. Without pressure it does not count them.
    #[must_use]
    pub fn openers(&self) -> Vec<(u32, u64)> {
        self.pressure.openers()
    }
}
