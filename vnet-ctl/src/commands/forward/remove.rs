//! `forward remove`: one forward less.

use vnet_ctl::{
    edit::{self, ForwardSpec},
    policy::{BackendSpec, Listen},
};

use super::{Context, WithPorts};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl forward remove --listen 0.0.0.0:8080 -p tcp
  vnet-ctl forward rm --listen 0.0.0.0:8080 -p tcp --to web-1:80      only if it leads there
  vnet-ctl forward rm --listen 0.0.0.0:8080 -p tcp --if-exists

`vnet-ctl forward list` shows them.";

/// Remove a forward, at once and in the policy file.
///
/// The forward is described as it was added. Flows that it brought are cut.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The address and the port, or the range of ports, as it was added
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Listen,
    /// tcp, udp or sctp
    #[arg(short, long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    protocol: WithPorts,
    /// Where it leads, all of it [default: wherever that is]
    #[arg(long, value_name = "PORT:NUMBER[=WEIGHT]")]
    to: Vec<BackendSpec>,
    /// Succeed if there is no such forward
    #[arg(long)]
    if_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let (listen, protocol) = (self.listen, self.protocol.into());
        let spec = ForwardSpec { listen, protocol, to: self.to, affinity: None };
        let tolerate = Tolerate::Missing.when(self.if_exists);
        let remove = |text: &str| edit::remove_forward(text, &spec).map(|(text, _)| text);
        Named { noun: "forward", name: &spec.name() }.change(context, "removed", tolerate, remove).await
    }
}
