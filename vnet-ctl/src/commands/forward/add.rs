//! `forward add`: one more port of the host that leads to a workload.

use vnet_ctl::{
    edit::{self, ForwardSpec, IfExists},
    policy::{Affinity, BackendSpec, Listen},
};

use super::{AffinityArg, Context, WithPorts};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl forward add --listen 0.0.0.0:8080 -p tcp --to web-1:80
  vnet-ctl forward add --listen [::]:8080 -p tcp --to web-1:80           the same for IPv6
  vnet-ctl forward add --listen 192.0.2.1:8000-8010 -p udp --to web-1:9000
  vnet-ctl forward add --listen 0.0.0.0:53 -p udp --to dns-1             the port stays what it is
  vnet-ctl forward add --listen 0.0.0.0:8080 -p tcp --to web-1:80 --to web-2:80=3
                                                                         web-2 gets three of four connections
  vnet-ctl forward add --listen 0.0.0.0:8080 -p tcp --to web-1:80 --to web-2:80 --affinity client
                                                                         all those of a client go to the same
  vnet-ctl forward add --listen 0.0.0.0:8080 -p tcp --to web-1:80 --if-not-exists
  vnet-ctl forward add --listen 0.0.0.0:8080 -p tcp --to web-1:80 --dry-run    show the diff only

A forward opens nothing by itself: a group of the port has to admit what it brings, with the client's own
address and the workload's own port. What no rule admits is warned of.";

/// Forward a port of the host to workloads, at once and in the policy file.
///
/// Edits the policy file, comments and layout kept, and has the daemon apply it; if the daemon refuses,
/// the file stays as it is. The workload sees the client's address.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// An address of the host, 0.0.0.0 or [::] for all, or 127.0.0.1; and a port or a range of ports
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Listen,
    /// tcp, udp or sctp
    #[arg(short, long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    protocol: WithPorts,
    /// The workload's port and its port number, of a range the first one; give several to spread connections over
    /// them, =WEIGHT (1 unless given, 0 for none) for the part of each
    #[arg(long, value_name = "PORT:NUMBER[=WEIGHT]", required = true)]
    to: Vec<BackendSpec>,
    /// What goes to the same one of several: each connection (flow, unless given), or all of a client
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    affinity: Option<AffinityArg>,
    /// Succeed if the same forward is there already
    #[arg(long)]
    if_not_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let affinity = self.affinity.map(Affinity::from);
        let spec = ForwardSpec { listen: self.listen, protocol: self.protocol.into(), to: self.to, affinity };
        let if_exists = if self.if_not_exists { IfExists::Keep } else { IfExists::Fail };
        let add = |text: &str| edit::add_forward(text, &spec, if_exists);
        Named { noun: "forward", name: &spec.name() }.change(context, "added", Tolerate::Nothing, add).await
    }
}
