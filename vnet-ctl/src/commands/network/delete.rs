//! `network delete`: takes a network out of the policy file.

use vnet_ctl::edit;

use super::Context;
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl network delete backend
  vnet-ctl network rm backend --if-exists

A network that ports are in, that another one is connected with, or that rules name as net:NETWORK,
cannot be deleted; the error tells which.";

/// Delete a network, with its bridge.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The network
    #[arg(value_name = "NETWORK")]
    name: String,
    /// Succeed if there is no such network
    #[arg(long)]
    if_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let name = self.name.as_str();
        let tolerate = Tolerate::Missing.when(self.if_exists);
        let delete = |text: &str| edit::delete_network(text, name);
        Named { noun: "network", name }.change(context, "deleted", tolerate, delete).await
    }
}
