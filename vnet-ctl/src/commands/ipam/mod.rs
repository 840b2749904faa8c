//! `ipam`: the pool of addresses, as the daemon gives them out.

mod check;
mod release;
mod show;

use super::Context;
use crate::failure::Outcome;

/// The commands about addresses.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    #[command(visible_aliases = ["list", "ls"])]
    Show(show::Command),
    Check(check::Command),
    Release(release::Command),
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Show(command) => command.run(context).await,
            Self::Check(command) => command.run(context).await,
            Self::Release(command) => command.run(context).await,
        }
    }
}
