//! What somebody took away from the running datapath, and how it is told.
//!
//! Programs are mended by [`super::links`]; here are the maps' pins. A map is held as long as the controller
//! runs, so that a pin that is removed takes nothing along and is only made again.

use std::{fmt, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use aya::maps::MapData;

use super::{
    names::{Hook, MAPS, Pins},
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
    /// The pin of a map.
    Map(&'static str),
}

/// What was wrong with a program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was detached.
    Detached,
    /// Another program ran in its place.
    Replaced,
    /// Its pin was removed, which detaches it when the controller ends.
    Unpinned,
}

/// A program that should run on a device and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmended {
    /// Where.
    pub place: Place,
    /// Why not.
    pub error: String,
}

impl Mended {
    /// In a sentence; `name` tells what people call a device.
    #[must_use]
    pub fn describe(&self, name: &dyn Fn(u32, &str) -> String) -> String {
        match self {
            Self::Program { place: (ifindex, device, hook), what } => {
                let device = name(*ifindex, device);
                match what {
                    What::Detached => format!("{hook} of {device} had been detached: attached again"),
                    What::Replaced => format!("{hook} of {device} had been replaced: put back"),
                    What::Unpinned => format!("the pin of {hook} of {device} had been removed: pinned again"),
                }
            }
            Self::Map(map) => format!("the pin of the map {map} had been removed: pinned again"),
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
