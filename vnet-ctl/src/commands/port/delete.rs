//! `port delete`: a port goes, wherever it was created.

use vnet_ctl::edit;

use super::{Context, runtime};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl port delete web-1
  vnet-ctl port rm web-1 --if-exists
  vnet-ctl port rm web-1 --dry-run     show the diff only

A port of the policy file is taken out of it; one that was created with --runtime, or by CNI or Docker, is
removed from the daemon.";

/// Delete a port, with the interface and the namespace that vnet made for it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The port
    #[arg(value_name = "PORT")]
    name: String,
    /// Succeed if there is no such port
    #[arg(long)]
    if_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let name = self.name.as_str();
        let tolerate = Tolerate::Missing.when(self.if_exists);
        if let Some(port) = runtime::find(context, name).await? {
            return runtime::delete(context, port, tolerate).await;
        }
        let delete = |text: &str| edit::delete_port(text, name);
        Named { noun: "port", name }.change(context, "deleted", tolerate, delete).await
    }
}
