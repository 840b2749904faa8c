//! One TCP stream, by iperf3.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use vnet_tests::Running;

use super::{STREAM, cpu};
use crate::{place::Ends, shell::feed};

/// Bits per second that arrive.
///
/// Not at a real-time priority: iperf3 asks again and again whether something has come, and its other end, on
/// the same CPU, would never run.
pub(super) fn bits_per_second(ends: &Ends, time: Duration) -> Result<f64> {
    let mut server = ends.server.command("setsid");
    server.args(pinned(&["--server", "--one-off", "--forceflush"]).iter().skip(1));
    let mut server = Running::start(server);
    server.line_with("Server listening");
    let (target, seconds) = (ends.target.to_string(), time.as_secs_f64().ceil().to_string());
    let client = pinned(&["--client", &target, "--time", &seconds, "--congestion", "cubic", "--json"]);
    let argv: Vec<&str> = client.iter().map(String::as_str).collect();
    let output = feed(&ends.client, &argv, "")?;
    let result: Value = serde_json::from_str(&output).context("iperf3's result")?;
    result["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 received nothing")
}

/// Gives a program the best chances of ordinary ones: a session of its own is a group of its own, between which
/// the scheduler shares a CPU first (sched(7), autogroups, where the kernel has them).
const FIRST: &str =
    "[ ! -e /proc/self/autogroup ] || echo -20 > /proc/self/autogroup; exec nice -n -20 \"$@\"";

/// iperf3 with `args`, on one CPU, before other ordinary programs there.
fn pinned(args: &[&str]) -> Vec<String> {
    let (cpu, port) = (cpu().to_string(), STREAM.to_string());
    let before = ["setsid", "sh", "-c", FIRST, "sh", "taskset", "-c", &cpu, "iperf3", "--port", &port];
    before.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
}
