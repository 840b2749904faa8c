//! `network list`.

use vnet_ctl::api::types::NetworkInfo;

use super::{Context, gateways, networks, segment, subnets};
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl network list
  vnet-ctl network ls -o wide";

/// List the networks in force.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let networks = networks(context).await?;
        context.output.show(&networks, &View::list(table(&networks)))?;
        Ok(Done::Success)
    }
}

fn table(networks: &[NetworkInfo]) -> Table {
    let row = |network: &NetworkInfo| {
        [
            network.name.clone(),
            network.kind.clone(),
            subnets(network),
            segment(network),
            network.ports.to_string(),
            gateways(network),
            network.mtu.to_string(),
            network.bridge.clone(),
            network.mac.clone(),
            network.uplink.clone().unwrap_or_default(),
        ]
    };
    Table::new(["NAME", "TYPE", "SUBNETS", "SEGMENT", "PORTS"])
        .wide(["GATEWAYS", "MTU", "BRIDGE", "MAC", "UPLINK"])
        .empty("The policy in force has no networks.")
        .rows(networks.iter().map(row))
}
