//! `eip`: public addresses that stand for a port each, as the policy file declares them.

mod associate;
mod disassociate;
mod list;

use super::Context;
use crate::failure::Outcome;

/// The commands about elastic IPs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Associate(associate::Command),
    #[command(visible_alias = "rm")]
    Disassociate(disassociate::Command),
    #[command(visible_alias = "ls")]
    List(list::Command),
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Associate(command) => command.run(context).await,
            Self::Disassociate(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
        }
    }
}
