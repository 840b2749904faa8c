//! `acl`: the ordered rules that come before the groups, as the policy file declares them.

mod add;
mod list;
mod remove;

use clap::ValueEnum;
use vnet_ctl::policy::AclAction;

use super::Context;
use crate::failure::Outcome;

/// The commands about the acl.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(add::Command),
    #[command(visible_alias = "rm")]
    Remove(remove::Command),
    #[command(visible_alias = "ls")]
    List(list::Command),
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Add(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
        }
    }
}

/// What becomes of a packet, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Drop it, whatever the groups say
    Deny,
    /// Admit it, without a rule of a group
    Allow,
}

impl From<Action> for AclAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Deny => Self::Deny,
            Action::Allow => Self::Allow,
        }
    }
}
