//! `network show`.

use serde::Serialize;
use vnet_ctl::api::types::{NetworkInfo, PortInfo};

use super::{Context, gateways, require, subnets};
use crate::{
    commands::port,
    failure::{Done, Outcome},
    output::{View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl network show web
  vnet-ctl network show web -o json";

/// Show one network and its ports.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The network's name
    #[arg(value_name = "NETWORK")]
    name: String,
}

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    network: NetworkInfo,
    members: Vec<PortInfo>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let network = require(context, &self.name).await?;
        let mut members = port::ports(context).await?;
        members.retain(|port| port.network == self.name);
        let answer = Answer { network, members };
        context.output.show(&answer, &view(&answer))?;
        Ok(Done::Success)
    }
}

/// Which addresses and source ports its packets get outside.
fn leaves_with(network: &NetworkInfo) -> String {
    let Some(ports) = &network.snat_ports else { return String::new() };
    if network.exit_addresses.is_empty() {
        return String::new();
    }
    format!("{}, ports {ports}", listed(&network.exit_addresses))
}

/// How large packets are, and whether connections that are routed begin with segments that fit.
fn mtu(network: &NetworkInfo) -> String {
    let clamped = if network.clamp_mss { ", TCP segments clamped to the way" } else { "" };
    format!("{}{clamped}", network.mtu)
}

fn view(answer: &Answer) -> View {
    let network = &answer.network;
    let fields = [
        ("Name", network.name.clone()),
        ("Type", network.kind.clone()),
        ("Subnets", subnets(network)),
        ("Gateways", gateways(network)),
        ("Uplink", network.uplink.clone().unwrap_or_default()),
        ("Leaves with", leaves_with(network)),
        ("Mapping", network.mapping.clone().unwrap_or_default()),
        ("Untranslated", listed(&network.no_snat)),
        ("Connected", listed(&network.connected)),
        ("Host", if network.host { "may reach it" } else { "kept out" }.to_owned()),
        ("MTU", mtu(network)),
        ("Bridge", format!("{} (index {})", network.bridge, network.ifindex)),
        ("MAC", network.mac.clone()),
    ];
    let ports = port::list::table(&answer.members).empty("The network has no ports.");
    View::of(&network.name).fields(fields).table(ports)
}
