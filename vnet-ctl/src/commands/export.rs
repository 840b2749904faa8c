//! `export`: the policy in force, as it was written.

use vnet_ctl::api::types::PolicyInForce;

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl export > policy.toml                         the exact text, comments and all
  vnet-ctl export -o json | jq .effective.ports         with assigned addresses and ports of runtimes";

/// Print the policy in force.
///
/// As text it is what the policy file said when it was put in force. With -o json or yaml it comes with the
/// policy that is in effect: defaults filled in, addresses assigned, ports of runtimes included.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let policy: PolicyInForce = context.client.get("/v1/policy").await?;
        if context.output.is_for_people() {
            context.output.print(&policy.text)?;
        } else {
            context.output.show(&policy, &View::of(policy.origin.display().to_string()))?;
        }
        Ok(Done::Success)
    }
}
