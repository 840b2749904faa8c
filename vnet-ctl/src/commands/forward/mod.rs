//! `forward`: ports of the host that lead to workloads, as the policy file declares them.

mod add;
mod list;
mod remove;
mod set;

use clap::ValueEnum;
use vnet_ctl::policy::{Affinity, Protocol};

use super::Context;
use crate::failure::Outcome;

/// The commands about forwards.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(add::Command),
    Set(set::Command),
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
            Self::Set(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
        }
    }
}

/// A protocol with ports, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WithPorts {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP, which keeps its ports
    Sctp,
}

impl From<WithPorts> for Protocol {
    fn from(protocol: WithPorts) -> Self {
        match protocol {
            WithPorts::Tcp => Self::TCP,
            WithPorts::Udp => Self::UDP,
            WithPorts::Sctp => Self::SCTP,
        }
    }
}

/// What goes to the same of several workloads, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AffinityArg {
    /// Each connection
    Flow,
    /// All connections of a client
    Client,
}

impl From<AffinityArg> for Affinity {
    fn from(affinity: AffinityArg) -> Self {
        match affinity {
            AffinityArg::Flow => Self::Flow,
            AffinityArg::Client => Self::Client,
        }
    }
}
