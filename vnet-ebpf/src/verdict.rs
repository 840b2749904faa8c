//! What becomes of a packet that is not dropped.

use vnet_common::{Delivery, DropReason};

/// A verdict, or the reason to drop the packet.
pub type Outcome = Result<Verdict, DropReason>;

/// Where a packet goes. Dropping is not a verdict but an `Err` with its reason.
///
/// A device and an option, rather than an enum, so that `Result<Verdict, DropReason>` is two words that are
/// always both written: LLVM copies the unused half of an enum, and the verifier refuses to read what
/// nobody wrote ("R5 !read_ok", 6.18, `from_port`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    device: u32,
    delivery: Option<Delivery>,
}

const _: () = assert!(size_of::<Outcome>() == 8);

impl Verdict {
    /// On, the way it was going: into the bridge, or out of the device.
    pub const PASS: Self = Self { device: 0, delivery: None };

    /// Nowhere now: vnet has kept it, or has sent it on its way again.
    pub const TAKEN: Self = Self { device: u32::MAX, delivery: None };

    /// Not decided yet: for the next stage.
    pub const OPEN: Self = Self { device: u32::MAX - 1, delivery: None };

    /// To another device.
    #[inline(always)]
    #[must_use]
    pub const fn send(device: u32, delivery: Delivery) -> Self {
        Self { device, delivery: Some(delivery) }
    }

    /// Above it are the numbers of reasons to drop.
    const DROPPED: u64 = 1 << 63;

    /// An outcome as a word: the device, then the delivery; or the number of a reason.
    #[inline(always)]
    #[must_use]
    pub fn word_of(outcome: Outcome) -> u64 {
        match outcome {
            Ok(Self { device, delivery }) => {
                u64::from(device) | u64::from(delivery.map_or(0, |delivery| delivery as u32)) << 32
            }
            Err(reason) => Self::DROPPED | u64::from(reason.number()),
        }
    }

    /// From [`Verdict::word_of`].
    ///
    /// # Errors
    /// What that was given.
    #[inline(always)]
    pub fn outcome_of(word: u64) -> Outcome {
        if word & Self::DROPPED != 0 {
            return Err(DropReason::try_from(word as u32).unwrap_or(DropReason::Internal));
        }
        Ok(Self { device: word as u32, delivery: Delivery::from_byte((word >> 32) as u8).ok() })
    }

    /// Whether it is [`Verdict::TAKEN`].
    #[inline(always)]
    #[must_use]
    pub const fn is_taken(self) -> bool {
        self.delivery.is_none() && self.device == Self::TAKEN.device
    }

    /// To which device and how, unless it passes or is taken.
    #[inline(always)]
    #[must_use]
    pub fn destination(self) -> Option<(u32, Delivery)> {
        self.delivery.map(|delivery| (self.device, delivery))
    }
}
