//! `ipam check`.

use vnet_ctl::api::types::IpamFinding;

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl ipam check
  vnet-ctl ipam check -q || vnet-ctl ipam show

Exit code 0 if nothing was found, 1 if something was.";

/// Compare the addresses that are given out with the workloads that are there.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let findings: Vec<IpamFinding> = context.client.post("/v1/ipam/check", &()).await?;
        let row = |finding: &IpamFinding| {
            let IpamFinding { address, port, problem, help } = finding;
            [address.to_string(), port.clone(), problem.clone(), help.clone()]
        };
        let table = Table::new(["ADDRESS", "PORT", "PROBLEM", "WHAT TO DO"])
            .empty("All addresses are as they should be.")
            .rows(findings.iter().map(row));
        context.output.show(&findings, &View::list(table))?;
        Ok(if findings.is_empty() { Done::Success } else { Done::No })
    }
}
