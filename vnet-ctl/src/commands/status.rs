//! `status`: asks the daemon how it is.

use vnet_ctl::api::types::{FlowCounts, PendingInfo, Status, UplinkInfo};

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl status
  vnet-ctl status -o json | jq .generation
  vnet-ctl status -q >/dev/null || echo 'vnet is not running'    exit code 3";

/// Show whether the daemon runs, and on which policy.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let status: Status = context.client.get("/v1/status").await?;
        context.output.show(&status, &view(&status))?;
        Ok(Done::Success)
    }
}

fn view(status: &Status) -> View {
    View::of("vnet").fields([
        (
            "Daemon",
            format!(
                "running, version {}, pid {}, for {}",
                status.version,
                status.pid,
                duration(status.uptime_secs)
            ),
        ),
        ("Policy", status.policy_path.display().to_string()),
        ("State dir", status.state_dir.display().to_string()),
        ("Generation", status.generation.to_string()),
        ("To confirm", status.pending.as_ref().map(to_confirm).unwrap_or_default()),
        ("Networks", status.networks.to_string()),
        ("Ports", status.ports.to_string()),
        ("Rules", status.rules.to_string()),
        ("Flows", flows(status.flows)),
        (
            "Memory",
            format!(
                "{} MB in the kernel, {} MB daemon",
                megabytes(status.memory.tables),
                megabytes(status.memory.daemon)
            ),
        ),
        ("Uplinks", status.uplinks.iter().map(uplink).collect::<Vec<_>>().join("; ")),
        ("Layout ABI", status.abi.to_string()),
        ("Problems", status.problems.join("; ")),
    ])
}

/// An uplink, and by whom its XDP program is run.
fn uplink(UplinkInfo { device, xdp, reason }: &UplinkInfo) -> String {
    let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{device}, XDP {xdp}{why}")
}

/// How many flows there are, of how many that have room. A daemon of an earlier version does not tell the latter.
fn flows(FlowCounts { v4, v6, most_v4, most_v6 }: FlowCounts) -> String {
    let of = |most| if most == 0 { String::new() } else { format!(" of {most}") };
    format!("{v4}{} IPv4, {v6}{} IPv6", of(most_v4), of(most_v6))
}

/// Millions of bytes, rounded.
const fn megabytes(bytes: u64) -> u64 {
    (bytes + 500_000) / 1_000_000
}

/// What becomes of a policy that nobody has confirmed.
fn to_confirm(pending: &PendingInfo) -> String {
    match pending.seconds_left {
        0 => format!("generation {} was not, and is being rolled back", pending.generation),
        left => format!(
            "generation {}, within {}: `vnet-ctl confirm` keeps it",
            pending.generation,
            duration(left)
        ),
    }
}

/// The two largest units of a time: `3d 4h`, `5m 0s`.
pub(crate) fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m {}s", secs % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_name_two_units() {
        let texts = [0, 59, 61, 3_600, 90_061].map(duration);
        assert_eq!(texts, ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
    }
}
