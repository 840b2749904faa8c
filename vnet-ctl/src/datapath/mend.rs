//! What somebody took away from the running datapath, and how it is told.
//!
//! Programs are mended by [`super::links`], [`super::sockets`] and [`super::early`]; here are the maps' pins. A map is held as long as the controller
//! runs, so that a pin that is removed takes nothing along and is only made again.

use std::{fmt, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use aya::maps::MapData;

use super::{
    memory,
    names::{Hook, MAPS, Pins, SocketHook, UPLINK_XDP},
    sys,
};

/// Index and name of a device, and a program there.
pub type Place = (u32, String, Hook);

/// Something that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// A program on a device.
    Program {
        /// Where.
        place: Place,
        /// What was wrong.
        what: What,
    },
    /// A program of the host's sockets.
    Sockets {
        /// Which.
        hook: SocketHook,
        /// What was wrong.
        what: What,
    },
    /// The XDP program of an uplink.
    Early {
        /// The uplink.
        device: String,
        /// What was wrong.
        what: What,
    },
    /// The pin of a map.
    Map(&'static str),
}

/// What was wrong with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was detached.
    Detached,
    /// Another program ran in its place.
    Replaced,
    /// Its pin was removed, which detaches it when the controller ends.
    Unpinned,
}

/// A program that should run and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmended {
    /// On a device.
    Program {
        /// Where.
        place: Place,
        /// Why not.
        error: String,
    },
    /// On the host's sockets.
    Sockets {
        /// Which.
        hook: SocketHook,
        /// Why not.
        error: String,
    },
    /// XDP on an uplink.
    Early {
        /// The uplink.
        device: String,
        /// Why not.
        error: String,
    },
}

impl Unmended {
    /// In a sentence; `name` tells what people call a device.
    #[must_use]
    pub fn describe(&self, name: &dyn Fn(u32, &str) -> String) -> String {
        match self {
            Self::Program { place: (ifindex, device, hook), error } => {
                format!("{hook} of {} is not attached: {error}", name(*ifindex, device))
            }
            Self::Sockets { hook, error } => format!("{hook} of the host's sockets is not attached: {error}"),
            Self::Early { device, error } => format!("{UPLINK_XDP} of {device} is not attached: {error}"),
        }
    }

    /// The device that lacks a program.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Program { place, .. } => Some(place),
            Self::Sockets { .. } | Self::Early { .. } => None,
        }
    }
}

impl Mended {
    /// In a sentence; `name` tells what people call a device.
    #[must_use]
    pub fn describe(&self, name: &dyn Fn(u32, &str) -> String) -> String {
        match self {
            Self::Program { place: (ifindex, device, hook), what } => {
                what.of(&format!("{hook} of {}", name(*ifindex, device)))
            }
            Self::Sockets { hook, what } => what.of(&format!("{hook} of the host's sockets")),
            Self::Early { device, what } => what.of(&format!("{UPLINK_XDP} of {device}")),
            Self::Map(map) => format!("the pin of the map {map} had been removed: pinned again"),
        }
    }
}

impl What {
    /// In a sentence about `program`.
    fn of(self, program: &str) -> String {
        match self {
            Self::Detached => format!("{program} had been detached: attached again"),
            Self::Replaced => format!("{program} had been replaced: put back"),
            Self::Unpinned => format!("the pin of {program} had been removed: pinned again"),
        }
    }
}

/// Every pinned map, held.
pub(super) struct HeldMaps(Vec<(&'static str, MapData)>);

impl fmt::Debug for HeldMaps {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl HeldMaps {
    /// Holds what is pinned.
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        let open = |name: &&'static str| {
            let pin = pins.map(name);
            let map = MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
            Ok((*name, map))
        };
        MAPS.iter().map(open).collect::<Result<_>>().map(Self)
    }

    /// Bytes of kernel memory that they take.
    pub(super) fn memory(&self) -> Result<u64> {
        self.0.iter().map(|(_, map)| memory::of_map(map.fd().as_fd())).sum()
    }

    /// Pins again what is not pinned any more.
    pub(super) fn look_after(&self, pins: &Pins) -> Result<Vec<Mended>> {
        let mut mended = Vec::new();
        for (name, map) in &self.0 {
            let pin = pins.map(name);
            if !pin.try_exists().with_context(|| format!("look for {}", pin.display()))? {
                super::make_folders(pins)?;
                sys::pin(map.fd().as_fd(), &pin).with_context(|| format!("pin {}", pin.display()))?;
                mended.push(Mended::Map(name));
            }
        }
        Ok(mended)
    }
}
