//! `eip disassociate`: a public address stands for no port any more.

use std::net::IpAddr;

use vnet_ctl::edit;

use super::Context;
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl eip disassociate 198.51.100.20
  vnet-ctl eip rm 198.51.100.20 --if-exists";

/// Take a public address from its port, at once and in the policy file.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The public address
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
    /// Succeed if there is no such elastic IP
    #[arg(long)]
    if_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let name = self.address.to_string();
        let tolerate = Tolerate::Missing.when(self.if_exists);
        let disassociate = |text: &str| edit::disassociate(text, self.address).map(|(text, _)| text);
        let named = Named { noun: "elastic_ip", name: &name };
        named.change(context, "disassociated", tolerate, disassociate).await
    }
}
