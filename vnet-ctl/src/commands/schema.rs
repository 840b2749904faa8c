//! `schema`: prints the JSON Schema of the policy file.

use vnet_ctl::policy::JSON_SCHEMA;

use super::Context;
use crate::failure::{Done, Outcome};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl schema > policy.schema.json

Editors that use taplo (VS Code's Even Better TOML, Helix, Zed, Neovim) check a policy as it is written
when its first line names the schema:
  #:schema ./policy.schema.json

A policy in JSON names it with \"json.schemas\" in the editor's settings.";

/// Print the JSON Schema of the policy file, for editors.
///
/// What it cannot say (names that must exist, subnets that must not overlap) only validate checks.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    #[expect(clippy::unused_self, reason = "as every command")]
    pub(crate) fn run(self, context: &Context<'_>) -> Outcome {
        context.output.print(JSON_SCHEMA)?;
        Ok(Done::Success)
    }
}
