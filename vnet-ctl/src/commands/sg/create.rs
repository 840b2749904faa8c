//! `sg create`: a new group without rules.

use vnet_ctl::edit::{self, GroupEdit, Setting};

use super::{Context, OnChange};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg create web --description 'public web tier'
  vnet-ctl sg create web --if-not-exists
  vnet-ctl sg create db --on-change keep

Then `vnet-ctl sg add web …`, and `vnet-ctl port set PORT --group web` for the ports that are to be in it.";

/// Create a security group without rules.
///
/// Until it has rules, nothing may come in and everything may go out.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Its name: letters, digits, dot, dash and underscore
    #[arg(value_name = "GROUP")]
    group: String,
    /// What the group is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What becomes of flows that no rule allows any more after a change: cut (the default) or keep
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    on_change: Option<OnChange>,
    /// Succeed if the group is there already, and leave it as it is
    #[arg(long)]
    if_not_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let group = self.group.as_str();
        let settings = GroupEdit {
            description: Setting::of(self.description.clone()),
            on_change: Setting::of(self.on_change.map(OnChange::key)),
        };
        let tolerate = Tolerate::Existing.when(self.if_not_exists);
        let create = |text: &str| edit::create_group(text, group, &settings);
        Named { noun: "group", name: group }.change(context, "created", tolerate, create).await
    }
}
