//! `forward list`.

use vnet_ctl::api::types::{BackendInfo, ForwardInfo};

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl forward list
  vnet-ctl forward ls -o wide                   with affinity, networks and addresses
  vnet-ctl forward ls -o name                   as in tcp/0.0.0.0:8080
  vnet-ctl forward ls -o json | jq -r '.[] | select(any(.backends[]; .port == \"web-1\")).listen'";

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

/// A row for each workload that a forward leads to.
fn table(forwards: &[ForwardInfo]) -> Table {
    let row = |forward: &ForwardInfo, backend: &BackendInfo| {
        [
            forward.listen.clone(),
            forward.protocol.clone(),
            backend.to.clone(),
            backend.weight.to_string(),
            forward.affinity.to_string(),
            backend.network.clone(),
            backend.address.map(|addr| addr.to_string()).unwrap_or_default(),
        ]
    };
    let rows =
        forwards.iter().flat_map(|forward| forward.backends.iter().map(move |backend| row(forward, backend)));
    Table::new(["LISTEN", "PROTOCOL", "TO", "WEIGHT"])
        .wide(["AFFINITY", "NETWORK", "ADDRESS"])
        .empty("The policy in force forwards nothing.")
        .rows(rows)
}
