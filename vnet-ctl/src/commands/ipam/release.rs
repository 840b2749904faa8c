//! `ipam release`.

use std::net::IpAddr;

use vnet_ctl::api::types::{Lease, Pool, PortRemoved};

use super::Context;
use crate::{
    failure::{Done, Failure, Kind, Outcome},
    output::{View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl ipam release 10.10.0.20
  vnet-ctl ipam release fd00:10::14 --if-exists
  vnet-ctl ipam release 10.10.0.20 --dry-run";

/// Free the address of a port whose workload is gone.
///
/// Removes that port, with all of its addresses. Only ports that a runtime created are removed this way, and
/// only when their namespace or device is gone; `vnet-ctl port delete` removes any.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The address
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
    /// Succeed if no port has it
    #[arg(long)]
    if_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let (output, address) = (context.output, self.address);
        if context.globals.dry_run {
            return self.would(context).await;
        }
        let removed = match context.client.delete::<PortRemoved>(&format!("/v1/ipam/{address}")).await {
            Err(failure) if failure.kind == Kind::NotFound && self.if_exists => {
                output.note("nothing to release");
                return Ok(Done::Success);
            }
            removed => removed?,
        };
        removed.warnings.iter().for_each(|warning| output.warn(warning));
        if output.is_for_people() {
            output.print(&format!(
                "released {}, port {} is gone\n",
                listed(&removed.addresses),
                removed.port
            ))?;
        } else {
            output.show(&removed, &View::of(&removed.port))?;
        }
        Ok(Done::Success)
    }

    /// Tells whose address it is.
    async fn would(&self, context: &Context<'_>) -> Outcome {
        let pools: Vec<Pool> = context.client.get("/v1/ipam").await?;
        let leases = pools.into_iter().flat_map(|pool| pool.leases);
        let found: Option<Lease> = leases.into_iter().find(|lease| lease.address == self.address);
        let Some(lease) = found else {
            if self.if_exists {
                context.output.note("nothing to release");
                return Ok(Done::Success);
            }
            return Err(Failure::new(Kind::NotFound, format!("no port has the address {}", self.address))
                .help("`vnet-ctl ipam show` lists those in use"));
        };
        if context.output.is_for_people() {
            context.output.print(&format!("would remove port {} of {}\n", lease.port, lease.origin))?;
        } else {
            context.output.show(&lease, &View::of(&lease.port))?;
        }
        Ok(Done::Success)
    }
}
