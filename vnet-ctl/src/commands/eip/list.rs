//! `eip list`.

use vnet_ctl::api::types::ElasticIpInfo;

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl eip list
  vnet-ctl eip ls -o wide                       with networks and uplinks
  vnet-ctl eip ls -o json | jq -r '.[] | select(.port == \"web-1\").elastic_ip'";

/// List the elastic IPs in force.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let elastic_ips: Vec<ElasticIpInfo> = context.client.get("/v1/elastic_ips").await?;
        context.output.show(&elastic_ips, &View::list(table(&elastic_ips)))?;
        Ok(Done::Success)
    }
}

fn table(elastic_ips: &[ElasticIpInfo]) -> Table {
    let row = |info: &ElasticIpInfo| {
        [
            info.elastic_ip.to_string(),
            info.port.clone(),
            info.address.map(|addr| addr.to_string()).unwrap_or_default(),
            info.network.clone(),
            info.uplink.clone().unwrap_or_default(),
            info.on_change.to_string(),
        ]
    };
    Table::new(["ELASTIC IP", "PORT", "ADDRESS"])
        .wide(["NETWORK", "UPLINK", "ON CHANGE"])
        .empty("The policy in force has no elastic IPs.")
        .rows(elastic_ips.iter().map(row))
}
