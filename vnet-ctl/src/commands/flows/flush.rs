//! `flows flush`.

use serde::Serialize;
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

/// What is told to programs.
#[derive(Serialize)]
struct Answer {
    /// How many flows are, or would be, removed.
    removed: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let dry_run = context.globals.dry_run;
        let (done, removed) = if dry_run {
            ("would remove", self.filter.flows(context).await?.len() as u64)
        } else {
            let removed = context.client.delete::<FlowsRemoved>(&self.filter.path()).await?.removed;
            if removed == 0 {
                self.filter.check(context).await?;
            }
            ("removed", removed)
        };
        if context.output.is_for_people() {
            let count = counted(usize::try_from(removed).unwrap_or(usize::MAX), "flow");
            context.output.print(&format!("{done} {count}\n"))?;
        } else {
            context.output.show(&Answer { removed, dry_run }, &View::default())?;
        }
        Ok(Done::Success)
    }
}
