//! `sg create`: a new group without rules.

use vnet_ctl::edit::{self, EditError, GroupEdit, Setting};

use super::{Context, GroupChange, refused};
use crate::{
    commands::change::change,
    failure::{Done, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg create web --description 'public web tier'
  vnet-ctl sg create web --if-not-exists

Then `vnet-ctl sg add web …`, and security_groups = [\"web\"] at the ports that are to be in it.";

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
    /// Succeed if the group is there already, and leave it as it is
    #[arg(long)]
    if_not_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let group = self.group.as_str();
        let description = self.description.clone().map_or(Setting::Keep, Setting::Set);
        let settings = GroupEdit { description, ..GroupEdit::default() };
        let create = |text: &str| match edit::create_group(text, group, &settings) {
            Ok(text) => Ok((text, GroupChange { group })),
            Err(EditError::Conflict(_)) if self.if_not_exists => Ok((text.to_owned(), GroupChange { group })),
            Err(error) => Err(refused(context.output, error)),
        };
        let change = change(context, &create).await?;
        let answer =
            if change.changed { format!("created {group}") } else { format!("{group} is there already") };
        change.report(context, &answer)?;
        Ok(Done::Success)
    }
}
