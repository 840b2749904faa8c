//! Where packets arrive and leave.

use vnet_common::link;

/// A device of the world; its ifindex is the runner's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// The bridge of network W.
    W,
    /// The bridge of network X.
    X,
    /// Port A's device, a veth.
    A,
    /// Port B's device, a veth.
    B,
    /// Port T's device, a tap.
    T,
    /// Port C's device, a veth.
    C,
    /// The uplink.
    U,
    /// A device that the policy does not know.
    Stranger,
    /// The trunk, or the device for overlays.
    K,
    /// No device but a link: that of network W's segment.
    BeyondW,
    /// The same for network X.
    BeyondX,
    /// The link by which T takes part in network X.
    MemberT,
}

/// The ifindex of each device, those of links aside.
#[derive(Clone, Debug)]
pub struct Devices(pub [u32; 9]);

impl Devices {
    /// All devices, in the order of [`Devices`].
    pub const ALL: [Device; 9] = {
        use Device::{A, B, C, K, Stranger, T, U, W, X};
        [W, X, A, B, T, C, U, Stranger, K]
    };

    /// The ifindex of `device`, or the number of the link that it is.
    #[must_use]
    pub const fn index(&self, device: Device) -> u32 {
        match device {
            Device::BeyondW => link::segment(self.0[Device::W as usize]),
            Device::BeyondX => link::segment(self.0[Device::X as usize]),
            Device::MemberT => link::member(0),
            device => self.0[device as usize],
        }
    }

    /// The device that has `ifindex`, or the link with that number.
    #[must_use]
    pub fn device(&self, ifindex: u32) -> Option<Device> {
        let links = [Device::BeyondW, Device::BeyondX, Device::MemberT];
        Self::ALL.into_iter().chain(links).find(|device| self.index(*device) == ifindex)
    }
}
