//! `flows flush`.

use vnet_ctl::api::types::FlowsRemoved;

use super::{Context, FilterArg};
use crate::{
    failure::{Done, Outcome},
    output::{View, counted},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl flows flush --filter port=web-1
  vnet-ctl flows flush                         all of them
  vnet-ctl flows flush --dry-run               only say how many

An open TCP connection does not survive this: its next packet opens nothing, and is dropped.";

/// Forget flows: their next packet is judged as if it were the first.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    filter: FilterArg,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let (done, removed) = if context.globals.dry_run {
            ("would remove", self.filter.flows(context).await?.len() as u64)
        } else {
            ("removed", context.client.delete::<FlowsRemoved>(&self.filter.path()).await?.removed)
        };
        if context.output.is_for_people() {
            let count = counted(usize::try_from(removed).unwrap_or(usize::MAX), "flow");
            context.output.print(&format!("{done} {count}\n"))?;
        } else {
            context.output.show(&FlowsRemoved { removed }, &View::default())?;
        }
        Ok(Done::Success)
    }
}
