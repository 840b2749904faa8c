//! `sg delete`: a group goes, with its rules.

use vnet_ctl::edit::{self, EditError};

use super::{Context, GroupChange, refused};
use crate::{
    commands::change::change,
    failure::{Done, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg delete web
  vnet-ctl sg rm web --if-exists

A group that ports are in, or that rules name as sg:GROUP, cannot be deleted.";

/// Delete a security group with its rules.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The security group
    #[arg(value_name = "GROUP")]
    group: String,
    /// Succeed if there is no such group
    #[arg(long)]
    if_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let group = self.group.as_str();
        let delete = |text: &str| match edit::delete_group(text, group) {
            Ok(text) => Ok((text, GroupChange { group })),
            Err(EditError::NotFound(_)) if self.if_exists => Ok((text.to_owned(), GroupChange { group })),
            Err(error) => Err(refused(context.output, error)),
        };
        let change = change(context, &delete).await?;
        let answer = if change.changed { format!("deleted {group}") } else { "nothing to delete".to_owned() };
        change.report(context, &answer)?;
        Ok(Done::Success)
    }
}
