//! `forward set`: whom a forward leads to from now on.

use vnet_ctl::{
    edit::{self, ForwardEdit, ForwardSpec, Setting},
    policy::{Affinity, BackendSpec, Listen},
};

use super::{AffinityArg, Context, WithPorts};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl forward set --listen 0.0.0.0:8080 -p tcp --to web-1:80 --to web-2:80 --to web-3:80
  vnet-ctl forward set --listen 0.0.0.0:8080 -p tcp --to web-1=0 --to web-2       web-1 drains: no new connections
  vnet-ctl forward set --listen 0.0.0.0:8080 -p tcp --affinity client

Connections stay with the workload that has them for as long as it is among those that are named.";

/// Lead a forward elsewhere, at once and in the policy file.
///
/// The workloads that are given replace those of before; numbers and weights that are not given stay.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Command {
    /// The address and the port, or the range of ports, as it was added
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Listen,
    /// tcp, udp or sctp
    #[arg(short, long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    protocol: WithPorts,
    /// Where it leads, all of it
    #[arg(long, value_name = "PORT:NUMBER[=WEIGHT]", group = "what")]
    to: Vec<BackendSpec>,
    /// What goes to the same one of several: each connection (flow), or all of a client
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true, group = "what")]
    affinity: Option<AffinityArg>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let (listen, protocol) = (self.listen, self.protocol.into());
        let spec = ForwardSpec { listen, protocol, to: Vec::new(), affinity: None };
        let edit = ForwardEdit { to: self.to, affinity: Setting::of(self.affinity.map(Affinity::from)) };
        let set = |text: &str| edit::set_forward(text, &spec, &edit);
        Named { noun: "forward", name: &spec.name() }.change(context, "changed", Tolerate::Nothing, set).await
    }
}
