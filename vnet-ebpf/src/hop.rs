//! The last step of a packet's way through vnet, as the route stage hands it to the others.

use vnet_common::{Delivery, DropReason, Flow, MacPair, Ops, Tuple};

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop<A> {
    /// To which device.
    pub device: u32,
    /// A [`Delivery`], as the byte in a flow's entry.
    pub delivery: u8,
    /// [`Ops::ROUTE`] if it is routed, [`Ops::TRANSLATE`] if addresses or ports are replaced.
    pub ops: Ops,
    /// The MACs that a routed packet leaves with.
    pub sent: MacPair,
    /// The tuple that a translated packet leaves with.
    pub leaves: Tuple<A>,
    /// The longest IP packet in bytes that passes, if it is routed or encapsulated; 0: whatever comes.
    pub mtu: u16,
    /// The tag that it leaves with, as in [`vnet_common::Link::vlan`]; 0: none.
    pub vlan: u16,
    /// The service tag around it, or the number of the overlay's peer that it goes to; 0: none.
    pub outer: u16,
    /// Where answers arrive: the device, or the link that it is the device of.
    pub far: u32,
}

impl<A: Copy> Hop<A> {
    /// That of the packets of a flow's direction.
    #[inline(always)]
    #[must_use]
    pub fn of(flow: &Flow<A>) -> Self
    where
        A: Default,
    {
        let leaves = if flow.ops.get().has(Ops::TRANSLATE) { flow.leaves.get() } else { Tuple::default() };
        Self { leaves, ..Self::untranslated(flow) }
    }

    /// The same, but for the tuple.
    #[inline(always)]
    #[must_use]
    pub fn untranslated(flow: &Flow<A>) -> Self
    where
        A: Default,
    {
        Self {
            device: flow.device.get(),
            delivery: flow.delivery.get(),
            ops: flow.ops.get(),
            sent: flow.sent.get(),
            leaves: Tuple::default(),
            mtu: flow.mtu.get(),
            vlan: flow.vlan.get(),
            outer: flow.outer.get(),
            far: flow.pair_device.get(),
        }
    }

    /// The number of the overlay's peer that it goes to; 0: to none.
    #[inline(always)]
    #[must_use]
    pub const fn peer(&self) -> u16 {
        if self.vlan == 0 { self.outer } else { 0 }
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
