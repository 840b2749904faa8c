//! `confirm`: keeps a policy that would be rolled back otherwise.

use vnet_ctl::api::types::Confirmed;

use super::Context;
use crate::{
    failure::{Done, Failure, Kind, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl apply -f new-policy.toml --confirm 60s
  vnet-ctl confirm

Exit code 5 if no policy waits for a confirmation.";

/// Keep the policy that `apply --confirm` has put in force for a while.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        if context.globals.dry_run {
            return Err(Failure::new(Kind::Invalid, "confirm has no dry run")
                .help("`vnet-ctl status` shows what waits for a confirmation"));
        }
        let confirmed: Confirmed = context.client.post("/v1/policy/confirm", &()).await?;
        let generation = confirmed.generation;
        if context.output.is_for_people() {
            context.output.print(&format!("confirmed: generation {generation} stays in force\n"))?;
        } else {
            context.output.show(&confirmed, &View::of(generation.to_string()))?;
        }
        Ok(Done::Success)
    }
}
