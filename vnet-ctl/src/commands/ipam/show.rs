//! `ipam show`.

use vnet_ctl::api::types::{Lease, LeaseState, Pool};

use super::Context;
use crate::{
    commands::network,
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl ipam show
  vnet-ctl ipam show --network web
  vnet-ctl ipam show -o json | jq '.[] | {subnet, free}'
  vnet-ctl ipam show -o name                    the addresses in use";

/// Show the address pools: how full they are, and which port has which address.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Only the subnets of this network
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut pools: Vec<Pool> = context.client.get("/v1/ipam").await?;
        if let Some(name) = &self.network {
            pools.retain(|pool| pool.network == *name);
            if pools.is_empty() {
                network::require(context, name).await?;
            }
        }
        context.output.show(&pools, &view(&pools))?;
        Ok(Done::Success)
    }
}

fn view(pools: &[Pool]) -> View {
    let row = |pool: &Pool| {
        [
            pool.network.clone(),
            pool.subnet.clone(),
            pool.gateway.to_string(),
            amount(pool.size),
            pool.used.to_string(),
            if pool.size == u64::MAX { amount(pool.size) } else { amount(pool.free) },
        ]
    };
    let table = Table::new(["NETWORK", "SUBNET", "GATEWAY", "SIZE", "USED", "FREE"])
        .empty("The policy in force has no networks.")
        .rows(pools.iter().map(row));
    let leases = pools.iter().flat_map(|pool| pool.leases.iter().map(move |lease| (pool, lease)));
    let row = |(pool, lease): (&Pool, &Lease)| {
        [
            lease.address.to_string(),
            lease.port.clone(),
            pool.network.clone(),
            lease.origin.clone(),
            state(lease.state).to_owned(),
        ]
    };
    let leases = Table::new(["ADDRESS", "PORT", "NETWORK", "ORIGIN", "STATE"]).rows(leases.map(row));
    View::list(leases).above(table)
}

/// The daemon's largest number stands for more than it can say.
fn amount(count: u64) -> String {
    if count == u64::MAX { "many".to_owned() } else { count.to_string() }
}

fn state(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Live => "live",
        LeaseState::Gone => "gone",
    }
}
