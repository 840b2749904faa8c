//! `teardown`: removes everything that vnet made, whether a daemon runs or not.

use vnet_ctl::daemon::{self, TeardownOptions};

use super::{Context, run};
use crate::{
    cli::Places,
    failure::{Done, Failure, Kind, Outcome},
    output::{View, counted},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl teardown
  vnet-ctl teardown --dry-run                       tell what it would do, and do nothing
  vnet-ctl teardown --state-dir /tmp/vnet-state     of a daemon that was started with it

Stops the daemon if one runs. Removes vnet's bridges, ports, namespaces, maps and pins, and nothing
that it did not make. The policy file stays. Needs root.";

/// Remove everything that vnet made on this host.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    places: Places,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let socket = context.globals.socket.clone();
        let Places { state_dir, bpffs } = self.places;
        let options = TeardownOptions { socket, state_dir, bpffs };
        let report = if context.globals.dry_run {
            daemon::imagined_teardown(&options).await
        } else {
            daemon::teardown(options).await
        };
        let report = report.map_err(run::failure)?;
        if context.output.is_for_people() {
            let lines: String = report.removed.iter().map(|line| format!("{line}\n")).collect();
            context.output.print(&lines)?;
            if report.removed.is_empty() && report.problems.is_empty() {
                context.output.note("Nothing of vnet is on this host.");
            }
        } else {
            context.output.show(&report, &View::default())?;
        }
        report.problems.iter().for_each(|problem| context.output.warn(problem));
        if report.problems.is_empty() {
            return Ok(Done::Success);
        }
        let left = counted(report.problems.len(), "thing");
        let message = format!("{left} could not be removed: {}", report.problems.join("; "));
        Err(Failure::new(Kind::Failed, message))
    }
}
