//! Taps that last: made and given to a user by the one who has them open.
//!
//! A tap whose maker ends before it is marked and complete goes with its maker; only then is it told to stay.

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsRawFd as _, RawFd},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{errno::Errno, libc};

use super::ifreq;

const TUN: &str = "/dev/net/tun";

/// A virtual header before each frame lets segmentation and checksums be left to whoever receives it, as virtual machines
/// and vhost-net do. One queue: a machine with several could open no other tap, nor one with a single queue this.
const SHAPE: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// A tap that is held open; it goes with this, unless it was there before or is told to stay.
#[derive(Debug)]
pub(super) struct Tap(File);

impl Tap {
    /// Makes the tap `device` in the calling thread's namespace.
    pub(super) fn make(device: &str) -> Result<Self> {
        open(device, SHAPE | libc::IFF_TUN_EXCL).map_err(|error| match error.downcast_ref() {
            Some(Errno::EBUSY) => anyhow!("there is a device of that name by now"),
            _ => error,
        })
    }

    /// Opens one that is there. Nobody else may have it open.
    pub(super) fn open(device: &str) -> Result<Self> {
        open(device, SHAPE).map_err(|error| match error.downcast_ref() {
            Some(Errno::EBUSY) => anyhow!("somebody has it open; end the virtual machine behind it first"),
            _ => error,
        })
    }

    /// Lets the user with this number open it, and besides only who may administer the network.
    pub(super) fn give_to(&self, user: u32) -> Result<()> {
        // The kernel reads a number of 32 bits; how wide the argument is does not matter.
        set(self.0.as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(user)).context("say who may open it")
    }

    /// Lets it stay when nobody has it open.
    pub(super) fn persist(self) -> Result<()> {
        set(self.0.as_raw_fd(), libc::TUNSETPERSIST, 1).context("let it stay")
    }
}

fn open(device: &str, flags: libc::c_int) -> Result<Tap> {
    let queue = match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(queue) => queue,
        // The file may be there without the driver.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
            bail!(
                "there is no {TUN}, without which there are no taps; load the kernel's module with `modprobe tun`"
            )
        }
        Err(error) => return Err(error).with_context(|| format!("open {TUN}")),
    };
    let mut request = ifreq::about(device)?;
    // The upper half of the flags has the sign bit: they go as they are.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request reads and writes one ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result)?;
    Ok(Tap(queue))
}

fn set(queue: RawFd, what: libc::Ioctl, value: libc::c_ulong) -> nix::Result<()> {
    // SAFETY: the request takes its argument by value and reads no memory.
    let result = unsafe { libc::ioctl(queue, what, value) };
    Errno::result(result).map(drop)
}
