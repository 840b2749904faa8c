//! How much memory the tables and the daemon take, as the kernel tells it.

use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use anyhow::{Context as _, Result};

/// Bytes of kernel memory of a map: what it has set aside, and of a table that grows what is in it (`memlock` of its
/// descriptor, Linux 4.10; what is in it, 6.4).
pub(super) fn of_map(map: BorrowedFd<'_>) -> Result<u64> {
    value(&format!("/proc/self/fdinfo/{}", map.as_raw_fd()), "memlock:")
}

/// Bytes of memory that this process has.
///
/// # Errors
/// When the kernel does not tell.
pub fn of_process() -> Result<u64> {
    Ok(value("/proc/self/status", "VmRSS:")? << 10)
}

/// Bytes of memory that the machine has.
pub(super) fn of_machine() -> Result<u64> {
    Ok(value("/proc/meminfo", "MemTotal:")? << 10)
}

/// The number behind `name` in a file of lines.
fn value(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no {name}"))
}
