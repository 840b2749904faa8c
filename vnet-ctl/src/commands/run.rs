//! `run`: the daemon itself.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use tracing_subscriber::EnvFilter;
use vnet_ctl::{
    api::AccessOptions,
    daemon::{self, DaemonError, RunOptions},
    datapath::Capacity,
};

use super::{Context, source::Source};
use crate::{
    cli::{DEFAULT_POLICY, Places},
    failure::{Done, Failure, Kind, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl run                                              on /etc/vnet/policy.toml
  vnet-ctl run --ephemeral --policy examples/quickstart.toml
  VNET_LOG=debug vnet-ctl run                               with more in the log
  vnet-ctl run --flows 1000000                              room for more flows
  vnet-ctl run --group admins --read-group any              who else may use it

Needs root. When it ends, by a signal or a crash, traffic and policy stay as they are; starting it
again takes them over. `vnet-ctl teardown` removes everything, as --ephemeral does at exit.";

/// Run the daemon: put the policy file in force and keep it there.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Remove everything at exit: networks, ports, namespaces it created, pins
    #[arg(long)]
    ephemeral: bool,
    /// Flows over IPv4 that are tracked at once, half as many over IPv6 [default: as the machine has memory,
    /// 131072 with up to 8 GB]
    #[arg(long, value_name = "NUMBER", env = "VNET_FLOWS", hide_env_values = true, value_parser = capacity)]
    flows: Option<Capacity>,
    /// Group that may ask and change things, besides root [default: vnet, if there is one]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Group that may ask, and change nothing; may be repeated; `any` is everybody on this host
    #[arg(long = "read-group", value_name = "NAME")]
    read_groups: Vec<String>,
    #[command(flatten)]
    places: Places,
}

impl Command {
    /// Runs it until a signal or the API stops it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let policy = context.globals.policy.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_POLICY));
        let options = RunOptions {
            // Clients ask for it, and have working directories of their own.
            policy: std::path::absolute(&policy).unwrap_or_else(|_| policy.clone()),
            socket: context.globals.socket.clone(),
            state_dir: self.places.state_dir,
            bpffs: self.places.bpffs,
            ephemeral: self.ephemeral,
            capacity: self.flows,
            access: AccessOptions { group: self.group, read_groups: self.read_groups },
        };
        // The daemon would refuse a wrong file as well; here its errors become diagnostics.
        let text = daemon::text_to_begin_with(&options).map_err(failure)?;
        Source { text, origin: policy.clone() }.parse(context.output)?;
        if context.globals.dry_run {
            context.output.note(&format!("{}: valid; the daemon is not started", policy.display()));
            return Ok(Done::Success);
        }
        log(context);
        daemon::run(options).await.map_err(failure)?;
        Ok(Done::Success)
    }
}

/// Reads how many flows have room.
fn capacity(text: &str) -> Result<Capacity, String> {
    let number = text.parse().ok();
    number.and_then(Capacity::of_flows).ok_or_else(|| {
        let (least, most) = (Capacity::RANGE.start(), Capacity::RANGE.end());
        format!("give a number of flows from {least} to {most}, as in `--flows 500000`")
    })
}

/// The daemon's log goes to stderr; the journal adds the time, and a person at a terminal has one.
fn log(context: &Context<'_>) {
    let level = if context.globals.quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("VNET_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(context.output.colors_stderr())
        .with_writer(io::stderr);
    let has_reader_or_clock = io::stderr().is_terminal() || std::env::var_os("JOURNAL_STREAM").is_some();
    if has_reader_or_clock { builder.without_time().init() } else { builder.init() }
}

/// What made the daemon end.
pub(crate) fn failure(error: DaemonError) -> Failure {
    match error {
        DaemonError::Invalid(message) => Failure::new(Kind::Invalid, message),
        DaemonError::Conflict(message) => Failure::new(Kind::Conflict, message),
        DaemonError::Failed(error) => Failure::from(error),
    }
}
