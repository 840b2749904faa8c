//! `forward list`.

use vnet_ctl::api::types::ForwardInfo;

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl forward list
  vnet-ctl forward ls -o wide                   with networks and addresses
  vnet-ctl forward ls -o name                   as in tcp/0.0.0.0:8080
  vnet-ctl forward ls -o json | jq -r '.[] | select(.port == \"web-1\").listen'";

/// List the forwards in force.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let forwards: Vec<ForwardInfo> = context.client.get("/v1/forwards").await?;
        let names = forwards.iter().map(|forward| forward.name.clone());
        context.output.show(&forwards, &View::list(table(&forwards)).named(names))?;
        Ok(Done::Success)
    }
}

fn table(forwards: &[ForwardInfo]) -> Table {
    let row = |forward: &ForwardInfo| {
        [
            forward.listen.clone(),
            forward.protocol.clone(),
            forward.to.clone(),
            forward.network.clone(),
            forward.address.map(|addr| addr.to_string()).unwrap_or_default(),
        ]
    };
    Table::new(["LISTEN", "PROTOCOL", "TO"])
        .wide(["NETWORK", "ADDRESS"])
        .empty("The policy in force forwards nothing.")
        .rows(forwards.iter().map(row))
}
