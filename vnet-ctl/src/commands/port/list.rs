//! `port list`.

use vnet_ctl::api::types::PortInfo;

use super::{Context, attach, note_missing, ports, state, vlans};
use crate::{
    commands::{network, sg},
    failure::{Done, Outcome},
    output::{Table, View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl port list
  vnet-ctl port ls -o wide
  vnet-ctl port ls --network web -o name";

/// List the ports in force.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Only the ports of this network
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Only the ports of this security group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut ports = ports(context).await?;
        note_missing(context, &ports);
        ports.retain(|port| self.network.as_ref().is_none_or(|network| port.is_in(network)));
        if let Some(name) = &self.network
            && ports.is_empty()
        {
            network::require(context, name).await?;
        }
        ports.retain(|port| self.group.as_ref().is_none_or(|group| port.security_groups.contains(group)));
        if let Some(group) = &self.group
            && ports.is_empty()
        {
            sg::require(context, group).await?;
        }
        let empty = match (&self.network, &self.group) {
            (None, None) => "The policy in force has no ports.",
            _ => "No port matches.",
        };
        context.output.show(&ports, &View::list(table(&ports).empty(empty)))?;
        Ok(Done::Success)
    }
}

/// A table of ports.
pub(crate) fn table(ports: &[PortInfo]) -> Table {
    let row = |port: &PortInfo| {
        [
            port.name.clone(),
            port.network.clone(),
            listed(&port.addresses),
            listed(&port.security_groups),
            state(port.state).to_owned(),
            port.mac.clone(),
            port.device.clone(),
            port.ifindex.to_string(),
            attach(&port.attach),
            vlans(port),
            port.origin.clone(),
        ]
    };
    Table::new(["NAME", "NETWORK", "ADDRESSES", "GROUPS", "STATE"])
        .wide(["MAC", "DEVICE", "IFINDEX", "ATTACHED TO", "VLANS", "ORIGIN"])
        .rows(ports.iter().map(row))
}
