//! `sg delete`: a group goes, with its rules.

use vnet_ctl::edit;

use super::Context;
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg delete web
  vnet-ctl sg rm web --if-exists

A group that ports are in, or that rules name as sg:GROUP, cannot be deleted. `vnet-ctl sg remove` takes
a single rule out of a group.";

/// Delete a security group with all of its rules.
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
        let tolerate = Tolerate::Missing.when(self.if_exists);
        let delete = |text: &str| edit::delete_group(text, group);
        Named { noun: "group", name: group }.change(context, "deleted", tolerate, delete).await
    }
}
