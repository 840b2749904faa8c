//! Waits until no packet reads any longer what it could have read before.
//!
//! A tc program runs with bottom halves disabled, so nothing takes its CPU from it before it ends. A thread
//! that has run on every CPU after a change has therefore seen every packet out that began before it. That
//! takes half a millisecond where `membarrier` takes ten to twenty, for that waits for a whole grace period
//! of RCU (both measured on 6.18, two busy CPUs). A realtime kernel does preempt such programs, and a control
//! group may keep the daemon off some CPUs: then `membarrier` it is.

use std::{fs, io, ops::RangeInclusive, thread, time::Duration};

use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    sys::utsname::uname,
    unistd::Pid,
};

/// The CPUs that run anything at all, as ranges.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// `MEMBARRIER_CMD_GLOBAL` (linux/membarrier.h).
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until every packet that is being handled now has been handled.
pub(super) fn wait() {
    if is_realtime() || visit_every_cpu().is_err() {
        wait_for_grace_period();
    }
}

/// Whether the kernel preempts what has bottom halves disabled.
fn is_realtime() -> bool {
    uname().map_or(true, |kernel| kernel.version().to_string_lossy().contains("PREEMPT_RT"))
}

/// Runs on each CPU in turn, in a thread of its own: that one's affinity goes with it.
///
/// A CPU that comes online meanwhile has no packet from before.
fn visit_every_cpu() -> io::Result<()> {
    let online = fs::read_to_string(ONLINE)?;
    let visits = move || {
        for cpu in ranges(&online)?.into_iter().flatten() {
            let mut only = CpuSet::new();
            only.set(cpu)?;
            // It returns on that CPU.
            sched_setaffinity(Pid::from_raw(0), &only)?;
        }
        Ok(())
    };
    let thread = thread::Builder::new().name("readers".to_owned()).spawn(visits)?;
    thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// The ranges of a list such as `0-3,8`.
fn ranges(list: &str) -> io::Result<Vec<RangeInclusive<usize>>> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok(number(first)?..=number(last)?)
    };
    list.trim().split(',').map(range).collect()
}

/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is `synchronize_rcu` in the kernel, and eBPF programs run in an
/// RCU read section. Where the kernel refuses it (`nohz_full` CPUs), a second is far more than a packet
/// takes.
fn wait_for_grace_period() {
    // SAFETY: the call takes three integers and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 {
        thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_online_cpu_is_visited() {
        assert_eq!(ranges("0-3,8\n").unwrap(), [0..=3, 8..=8]);
        assert!(ranges("").is_err() && ranges("0-x").is_err());
        visit_every_cpu().unwrap();
    }
}
