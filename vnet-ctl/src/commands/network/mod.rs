//! `network`: the networks in force, as the daemon knows them, and those that the policy file declares.

mod create;
mod delete;
mod list;
mod segment_args;
mod set;
mod show;

use clap::ValueEnum;
use vnet_ctl::{
    api::types::NetworkInfo,
    policy::{Mapping, NetworkKind},
};

use super::Context;
use crate::{
    failure::{Failure, Outcome},
    output::listed,
};

/// The commands about networks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(create::Command),
    #[command(visible_alias = "rm")]
    Delete(delete::Command),
    #[command(visible_alias = "ls")]
    List(list::Command),
    Show(show::Command),
    Set(set::Command),
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
        }
    }
}

/// What a network's way out is, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkType {
    /// Leads outside behind the host's address
    Nat,
    /// Closed
    Private,
    /// Leads outside with its own addresses
    Routed,
    /// The LAN of its uplink
    Bridged,
}

impl NetworkType {
    /// As the policy file has it.
    fn key(self) -> String {
        let kind = match self {
            Self::Nat => NetworkKind::Nat,
            Self::Private => NetworkKind::Private,
            Self::Routed => NetworkKind::Routed,
            Self::Bridged => NetworkKind::Bridged,
        };
        kind.to_string()
    }
}

/// For whom the source port holds that a workload's port becomes outside, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MappingType {
    /// For one destination
    EndpointDependent,
    /// For every destination
    EndpointIndependent,
}

impl MappingType {
    /// As the policy file has it.
    fn key(self) -> String {
        let mapping = match self {
            Self::EndpointDependent => Mapping::EndpointDependent,
            Self::EndpointIndependent => Mapping::EndpointIndependent,
        };
        mapping.to_string()
    }
}

async fn networks(context: &Context<'_>) -> Result<Vec<NetworkInfo>, Failure> {
    context.client.get("/v1/networks").await
}

/// The network of that name.
pub(crate) async fn require(context: &Context<'_>, name: &str) -> Result<NetworkInfo, Failure> {
    let networks = networks(context).await?;
    let names: Vec<String> = networks.iter().map(|network| network.name.clone()).collect();
    let found = networks.into_iter().find(|network| network.name == name);
    found.ok_or_else(|| super::no_such("network", name, &names))
}

fn subnets(network: &NetworkInfo) -> String {
    listed(network.subnets.iter().map(|subnet| &subnet.subnet))
}

/// How it goes beyond this host, as in `vlan 10 on eth1`.
fn segment(network: &NetworkInfo) -> String {
    network.segment.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn gateways(network: &NetworkInfo) -> String {
    listed(network.subnets.iter().map(|subnet| subnet.gateway))
}
