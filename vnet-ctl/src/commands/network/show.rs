//! `network show`.

use serde::Serialize;
use vnet_ctl::{
    api::types::{NetworkInfo, PortInfo},
    policy::Segment,
};

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
        members.retain(|port| port.is_in(&self.name));
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

/// How it goes beyond this host, with all that there is to say of that.
fn segment_of(network: &NetworkInfo) -> String {
    match &network.segment {
        Some(Segment::Overlay { vni, peers, .. }) => format!("vni {vni} to {}", listed(peers)),
        Some(lan @ Segment::Lan { priority: Some(priority), .. }) => format!("{lan}, priority {priority}"),
        Some(lan @ Segment::Lan { priority: None, .. }) => lan.to_string(),
        None => String::new(),
    }
}

fn view(answer: &Answer) -> View {
    let network = &answer.network;
    let fields = [
        ("Name", network.name.clone()),
        ("Type", network.kind.clone()),
        ("Subnets", subnets(network)),
        ("Gateways", gateways(network)),
        ("Segment", segment_of(network)),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(segment: &Value) -> (String, String) {
        let network = json!({
            "name": "red", "type": "private", "bridge": "vnet-red", "ifindex": 3, "mac": "", "mtu": 1500,
            "subnets": [], "connected": [], "host": true, "ports": 0, "segment": segment
        });
        let network: NetworkInfo = serde_json::from_value(network).expect("a network");
        (super::super::segment(&network), segment_of(&network))
    }

    #[test]
    fn a_segment_is_shown_in_a_few_words_and_in_full() {
        let both = |segment: Value, short: &str, full: &str| {
            assert_eq!(shown(&segment), (short.to_owned(), full.to_owned()));
        };
        both(Value::Null, "", "");
        let lan = json!({"trunk": "eth1", "vlan": [10], "priority": 5});
        both(lan, "vlan 10 on eth1", "vlan 10 on eth1, priority 5");
        let pair = json!({"trunk": "eth1", "vlan": [100, 10], "priority": null});
        both(pair, "vlan 10 in 100 on eth1", "vlan 10 in 100 on eth1");
        both(json!({"trunk": "eth0", "vlan": [], "priority": null}), "bridged to eth0", "bridged to eth0");
        let overlay = json!({"vni": 5001, "peers": ["192.0.2.12", "192.0.2.13"], "uplink": null});
        both(overlay, "vni 5001 to 2 peers", "vni 5001 to 192.0.2.12, 192.0.2.13");
    }
}
