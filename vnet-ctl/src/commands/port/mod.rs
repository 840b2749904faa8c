//! `port`: the ports in force, as the daemon knows them, and those that the policy file declares.

mod attach_args;
mod create;
mod delete;
pub(crate) mod list;
mod runtime;
mod set;
mod show;
mod stats;

use vnet_ctl::api::types::{AttachInfo, PortInfo, PortState};

use super::Context;
use crate::{
    failure::{Failure, Outcome},
    output::listed,
};

/// The commands about ports.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(create::Command),
    #[command(visible_alias = "rm")]
    Delete(delete::Command),
    #[command(visible_alias = "ls")]
    List(list::Command),
    Show(show::Command),
    Set(set::Command),
    Stats(stats::Command),
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Show(command) => command.run(context).await,
            Self::Set(command) => command.run(context).await,
            Self::Stats(command) => command.run(context).await,
        }
    }
}

/// The ports in force.
pub(crate) async fn ports(context: &Context<'_>) -> Result<Vec<PortInfo>, Failure> {
    context.client.get("/v1/ports").await
}

pub(crate) async fn port(context: &Context<'_>, name: &str) -> Result<PortInfo, Failure> {
    let ports = ports(context).await?;
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    let found = ports.into_iter().find(|port| port.name == name);
    found.ok_or_else(|| super::no_such("port", name, &names))
}

/// Says how ports come back whose device is gone.
fn note_missing(context: &Context<'_>, ports: &[PortInfo]) {
    let missing = ports.iter().filter(|port| port.state == PortState::Missing);
    let missing: Vec<&str> = missing.map(|port| port.name.as_str()).collect();
    if !missing.is_empty() && context.output.is_for_people() {
        let (names, device) =
            (listed(&missing), if missing.len() == 1 { "Its device" } else { "Their devices" });
        context.output.note(&format!(
            "{device} or the workload behind is gone: {names}. `vnet-ctl apply` puts back what vnet makes itself."
        ));
    }
}

fn state(state: PortState) -> &'static str {
    match state {
        PortState::Up => "up",
        PortState::Down => "down",
        PortState::Missing => "missing",
        PortState::Remote => "remote",
    }
}

/// `red (vlan 10), blue (vlan 20)`.
fn vlans(port: &PortInfo) -> String {
    listed(port.vlans.iter().map(|vlan| format!("{} (vlan {})", vlan.network, vlan.vlan)))
}

/// `netns web-1 eth0`, `device tap0`.
fn attach(attach: &AttachInfo) -> String {
    match attach {
        AttachInfo::Netns { netns, name, .. } => format!("netns {netns} {name}"),
        AttachInfo::Device { device } => format!("device {device}"),
        AttachInfo::Tap { tap, .. } => format!("tap {tap}"),
        AttachInfo::Remote { remote: Some(host) } => format!("on {host}"),
        AttachInfo::Remote { remote: None } => "on another host".to_owned(),
    }
}
