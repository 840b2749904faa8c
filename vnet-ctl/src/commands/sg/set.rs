//! `sg set`: what a group says besides its rules.

use vnet_ctl::edit::{self, GroupEdit, Setting};

use super::{Context, OnChange};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg set web --description 'public web tier'
  vnet-ctl sg set db --on-change keep
  vnet-ctl sg set web --no-description

Flows that `keep` has kept stay after `cut` too: `vnet-ctl flows flush --filter port=NAME` ends them.
`vnet-ctl sg add` and `vnet-ctl sg remove` change its rules.";

/// Change a security group's description, and what a change of policy does to its flows.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Command {
    /// The security group
    #[arg(value_name = "GROUP")]
    group: String,
    /// What the group is for
    #[arg(long, value_name = "TEXT", group = "what")]
    description: Option<String>,
    /// Take the description out
    #[arg(long, conflicts_with = "description", group = "what")]
    no_description: bool,
    /// What becomes of flows that no rule allows any more after a change: cut or keep
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true, group = "what")]
    on_change: Option<OnChange>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let group = self.group.as_str();
        let settings = GroupEdit {
            description: Setting::of(self.description.clone()).or_unset(self.no_description),
            on_change: Setting::of(self.on_change.map(OnChange::key)),
        };
        let set = |text: &str| edit::set_group(text, group, &settings);
        Named { noun: "group", name: group }.change(context, "changed", Tolerate::Nothing, set).await
    }
}
