//! The last step of a packet's way through vnet, as the route stage hands it to the others.

use vnet_common::{Delivery, DropReason, Flow, MacPair, Ops};

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// To which device.
    pub device: u32,
    /// A [`Delivery`], as the byte in a flow's entry.
    pub delivery: u8,
    /// [`Ops::ROUTE`] if it is routed.
    pub ops: Ops,
    /// The MACs that a routed packet leaves with.
    pub sent: MacPair,
}

impl Hop {
    /// That of the packets of a flow's direction.
    #[inline(always)]
    #[must_use]
    pub fn of<A: Copy>(flow: &Flow<A>) -> Self {
        Self {
            device: flow.device.get(),
            delivery: flow.delivery.get(),
            ops: flow.ops.get(),
            sent: flow.sent.get(),
        }
    }

    /// How it gets to `device`.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when the byte is none of the known ways.
    #[inline(always)]
    pub const fn delivery(&self) -> Result<Delivery, DropReason> {
        Delivery::from_byte(self.delivery)
    }
}
