//! `flows list`.

use std::net::{IpAddr, SocketAddr};

use vnet_ctl::api::types::FlowInfo;

use super::{Context, FilterArg};
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl flows list
  vnet-ctl flows ls --filter port=web-1,protocol=tcp,dst_port=443
  vnet-ctl flows ls -o wide     with the rules that allowed them";

/// List the tracked flows.
///
/// One line per flow, both directions together; who opened it stands on the left.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    filter: FilterArg,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let flows = self.filter.flows(context).await?;
        context.output.show(&flows, &View::list(table(&flows)))?;
        Ok(Done::Success)
    }
}

fn table(flows: &[FlowInfo]) -> Table {
    let row = |flow: &FlowInfo| {
        [
            flow.protocol.clone(),
            flow.state.clone(),
            format!("{} {}", flow.from, end(flow, flow.src, flow.src_port)),
            format!("{} {}", flow.to, end(flow, flow.dst, flow.dst_port)),
            flow.original.bytes.to_string(),
            flow.reply.bytes.to_string(),
            format!("{}s/{}s", flow.idle_secs, flow.timeout_secs),
            flow.original.packets.to_string(),
            flow.reply.packets.to_string(),
            flow.egress_rule.clone().unwrap_or_default(),
            flow.ingress_rule.clone().unwrap_or_default(),
            flow.generation.to_string(),
            translated(flow),
        ]
    };
    Table::new(["PROTOCOL", "STATE", "FROM", "TO", "SENT", "RECEIVED", "IDLE"])
        .wide([
            "PACKETS SENT",
            "PACKETS RECEIVED",
            "EGRESS RULE",
            "INGRESS RULE",
            "GENERATION",
            "TRANSLATED TO",
        ])
        .empty("No flows.")
        .rows(flows.iter().map(row))
}

/// The other side of a translation.
fn translated(flow: &FlowInfo) -> String {
    let Some(leaves) = &flow.translated else { return String::new() };
    let [src, dst] = [(leaves.src, leaves.src_port), (leaves.dst, leaves.dst_port)];
    format!("{} to {}", end(flow, src.0, src.1), end(flow, dst.0, dst.1))
}

/// An address with its port, where the protocol has ports.
fn end(flow: &FlowInfo, addr: IpAddr, port: u16) -> String {
    match flow.protocol.as_str() {
        "tcp" | "udp" | "sctp" => SocketAddr::new(addr, port).to_string(),
        _ => addr.to_string(),
    }
}
