//! `rollback`: returns to the policy before the one in force.

use vnet_ctl::api::types::Applied;

use super::{Context, apply::told};
use crate::{
    failure::{Done, Failure, Kind, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl rollback      back to the policy before the last change
  vnet-ctl rollback      and forth again

A policy that waits for its confirmation is taken back at once. The policy file changes as well; what
it says is kept in the state folder if it was not in force. Ports that runtimes made stay.
Exit code 5 if there is no previous policy, or if ports of runtimes need what it lacks.";

/// Return to the previous policy, in the policy file as well.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        if context.globals.dry_run {
            return Err(Failure::new(Kind::Invalid, "rollback has no dry run")
                .help("another `vnet-ctl rollback` takes it back"));
        }
        let applied: Applied = context.client.post("/v1/policy/rollback", &()).await?;
        applied.warnings.iter().for_each(|warning| context.output.warn(warning));
        if context.output.is_for_people() {
            context.output.print(&format!("rolled back; {}", told(&applied)))?;
        } else {
            context.output.show(&applied, &View::of(applied.generation.to_string()))?;
        }
        Ok(Done::Success)
    }
}
