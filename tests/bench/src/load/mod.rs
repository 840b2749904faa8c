//! The load: datagrams, requests, connections, a stream. Client and server are threads (or iperf3) in their
//! namespaces, both on the same CPU: on two, waking an idle one up swings the same set-up by a factor of three.

mod datagrams;
pub(crate) mod flows;
mod requests;
mod stream;

use std::{ops::RangeInclusive, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::place::Ends;
pub(crate) use datagrams::{answered, refused};
pub(crate) use requests::attempts as connections_if_possible;

/// The server's UDP port.
pub(crate) const UDP: u16 = 7000;
/// The server's TCP port for requests on one connection.
pub(crate) const REQUESTS: u16 = 7001;
/// The server's TCP port for a connection per request.
pub(crate) const CONNECTIONS: u16 = 7002;
/// iperf3's port.
pub(crate) const STREAM: u16 = 7003;
/// The server's UDP ports for many flows.
pub(crate) const MANY: RangeInclusive<u16> = 8000..=8999;
/// A port on which the server listens and which no rule opens.
pub(crate) const SHUT: u16 = 7050;

/// A real-time priority, the lowest: a shared machine has other things to do, which wait meanwhile. The
/// kernel leaves them a twentieth (`sched_rt_runtime_us`), and works off received packets in the sender's time.
const PRIORITY: i32 = 1;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Datagrams of 18 bytes that arrive, per second, of a flow that has been answered; or of many, see [`flows`].
    Packets,
    /// Requests of one byte and their answers on one TCP connection, per second.
    Requests,
    /// TCP connections with one request, closed by FIN, per second.
    Connections,
    /// The same, closed by RST.
    Resets,
    /// Bits per second of one TCP stream.
    Stream,
    /// Datagrams of 18 bytes to a port that no rule opens, dropped per second; where there are no rules, those that arrive.
    Refused,
}

impl Load {
    /// Measures it for about `time`.
    pub(crate) fn measure(self, ends: &Ends, time: Duration) -> Result<f64> {
        match self {
            Self::Packets => datagrams::per_second(ends, time),
            Self::Requests => requests::on_one_connection(ends, time),
            Self::Connections => requests::with_connections(ends, time, requests::Close::Fin),
            Self::Resets => requests::with_connections(ends, time, requests::Close::Reset),
            Self::Stream => stream::bits_per_second(ends, time),
            Self::Refused => refused(ends, None, time),
        }
        .with_context(|| format!("{self:?}"))
    }
}

/// The CPU of both ends: the last one, as interrupts like the first.
pub(crate) fn cpu() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) - 1
}

/// Keeps the calling thread, and those that it starts, on the CPU number `cpu`.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("stay on CPU {cpu}"))
}

/// Keeps the calling thread on [`cpu`], before everybody else there who may have something to do.
fn pin() -> Result<()> {
    stay_on(cpu())?;
    let parameters = nix::libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the parameters are read during the call only; 0 is the calling thread.
    let failed =
        unsafe { nix::libc::sched_setscheduler(0, nix::libc::SCHED_FIFO, &raw const parameters) } != 0;
    ensure!(!failed, "go first: {}", std::io::Error::last_os_error());
    Ok(())
}
