//! `port stats`.

use vnet_ctl::api::types::{PortStats, Traffic};

use super::Context;
use crate::{
    client::segment,
    commands::drops,
    failure::{Done, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl port stats web-1
  vnet-ctl port stats web-1 -o json | jq .ingress.bytes

Ingress is what has reached the workload, egress what it has sent, dropped or not; both and the drops
are counted since the port's interface exists.";

/// Show what went through a port, and what was dropped there.
///
/// Ingress is to the workload, egress from it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The port's name
    #[arg(value_name = "PORT")]
    name: String,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let path = format!("/v1/ports/{}/stats", segment(&self.name));
        let stats: PortStats = context.client.get(&path).await?;
        context.output.show(&stats, &view(&stats))?;
        Ok(Done::Success)
    }
}

fn view(stats: &PortStats) -> View {
    let traffic = |traffic: &Traffic| format!("{} packets, {} bytes", traffic.packets, traffic.bytes);
    let fields = [
        ("Name", stats.name.clone()),
        ("Device", format!("{} (index {})", stats.device, stats.ifindex)),
        ("Flows", stats.flows.to_string()),
        ("Ingress", traffic(&stats.ingress)),
        ("Egress", traffic(&stats.egress)),
        ("Dropped", stats.drops.iter().map(|count| count.packets).sum::<u64>().to_string()),
    ];
    View::of(&stats.name).fields(fields).table(drops::by_reason(&stats.drops))
}
