//! What the eBPF programs and the controller share: the layouts of map keys and values, the drop
//! reasons, the limits. No packet logic lives here.
//!
//! Every type that crosses the boundary is `repr(C)`, has no implicit padding, and has its size
//! asserted. A change of any layout bumps [`ABI_VERSION`].
#![no_std]

mod addr;
mod be;
mod budget;
mod drop_reason;
mod endpoint;
mod expiry;
mod flow;
pub mod limits;
pub mod mark;
mod policy;
mod pressure;
mod segment;
mod snooped;
mod translation;

pub use addr::{Address, Ip, MacAddr, MacPair, V4, V6, digest};
pub use be::{Be16, Be32};
pub use budget::{Budget, Genuine};
pub use drop_reason::DropReason;
pub use endpoint::{
    Control, Delivery, Endpoint, EndpointKey, EndpointKind, JOIN_OUTSIDE, JoinPrefix, NetworkFlags,
    NetworkKey, NetworkRecord, PeerPrefix, PortDropKey, PortFlags, PortKey, PortRecord,
};
pub use expiry::{ExpireAnswer, ExpireHeader, ExpireQuestion};
pub use flow::{
    FLOW_LAYOUT, Flow, FlowImage4, FlowImage6, FlowKey, FlowState, Ops, Origin, Ports, Tuple, ticks_from_ns,
    ticks_from_secs,
};
pub use policy::{
    AclAction, Direction, GATE_EGRESS_ACL, GATE_INGRESS_ACL, GROUP_SET_ACL, GROUP_SET_HOST, GroupSet,
    Identity, OnChange, PolicyEntry, PolicyKey, RuleId, has_acl,
};
pub use pressure::Pressure;
pub use segment::{Heard, Link, LinkFlags, LinkKey, Station, StationKey, VtepKey, link, tag_of};
pub use snooped::{Snooped, SnoopedKind, SnoopedMessage};
pub use translation::{
    ElasticIp, Exit, ExitKey, Forward, ForwardKey, ForwardKind, SocketAddress, SocketKey, UplinkKey,
    UplinkRecord,
};

/// Version of every layout in this crate; the pin folder carries it.
///
/// For tests of upgrades only, `VNET_TEST_ABI` in the environment of a build gives it another number.
pub const ABI_VERSION: u32 = match option_env!("VNET_TEST_ABI") {
    None => 5,
    Some(number) => decimal(number.as_bytes()),
};

const fn decimal(mut digits: &[u8]) -> u32 {
    let mut number = 0;
    while let [digit, rest @ ..] = digits {
        assert!(digit.is_ascii_digit(), "VNET_TEST_ABI is a number");
        number = number * 10 + (*digit - b'0') as u32;
        digits = rest;
    }
    number
}

/// Which of the two complete copies of the policy tables a key belongs to: 0 or 1.
///
/// A generation is read from its parity's side, so that a commit prepares the idle side while
/// packets read the other.
pub type Side = u32;

/// The side that holds `generation`.
#[inline(always)]
#[must_use]
pub const fn side_of(generation: u32) -> Side {
    generation & 1
}

/// What all sets of bits can do.
macro_rules! bits {
    ($set:ty) => {
        impl $set {
            /// The bits of both.
            #[inline(always)]
            #[must_use]
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all bits of `other` are set.
            #[inline(always)]
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }
    };
}
use bits;

/// Asserts the size of a shared type, and lets the controller use it in maps.
macro_rules! shared {
    ($($type:ty = $size:expr),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: the type is repr(C), made of integers and arrays of integers alone, and its
        // fields fill its asserted size, so any bytes of that length are a valid value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    )+};
}
use shared;
