//! A time that goes on while the machine sleeps and no person can set, and the boot that it counts from.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// Which boot.
    pub(super) boot_id: String,
    /// Seconds since it.
    pub(super) secs: u64,
}

impl Now {
    /// This one.
    pub(super) fn read() -> Result<Self> {
        let boot_id = fs::read_to_string(BOOT_ID).with_context(|| format!("read {BOOT_ID}"))?;
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).context("read the clock")?;
        Ok(Self { boot_id: boot_id.trim().to_owned(), secs: Duration::from(since_boot).as_secs() })
    }
}
