//! `eip associate`: a public address for a port.

use std::net::IpAddr;

use clap::ValueEnum;
use vnet_ctl::{
    edit::{self, Setting},
    policy::OnChange,
};

use super::Context;
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl eip associate 198.51.100.20 web-1
  vnet-ctl eip associate 198.51.100.20 web-2                     moves it there
  vnet-ctl eip associate 198.51.100.20 web-2 --on-change keep    flows of before stay where they are
  vnet-ctl eip associate 2001:db8::20 web-1 --dry-run            show the diff only

An elastic IP opens nothing by itself: a group of the port has to admit what it brings. What no rule admits
is warned of.";

/// What becomes of flows, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Then {
    /// They stay
    Keep,
    /// They end
    Cut,
}

impl From<Then> for OnChange {
    fn from(then: Then) -> Self {
        match then {
            Then::Keep => Self::Keep,
            Then::Cut => Self::Cut,
        }
    }
}

/// Let a public address stand for a port, at once and in the policy file.
///
/// Both ways and for every protocol: what is sent to the address reaches the port, what the port sends outside
/// comes from the address. One that stands for another port moves. Edits the policy file, comments and layout
/// kept, and has the daemon apply it; if the daemon refuses, the file stays as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The public address
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
    /// The port, in a network of type nat
    #[arg(value_name = "PORT")]
    port: String,
    /// What becomes of established flows when the address goes to another port: keep or cut [default: as it is
    /// in the file, else cut]
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    on_change: Option<Then>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let Self { address, port, on_change } = self;
        let on_change = Setting::of(on_change.map(OnChange::from));
        let associate = |text: &str| edit::associate(text, address, &port, on_change.clone());
        let verb = format!("port {port} has");
        let name = address.to_string();
        Named { noun: "elastic_ip", name: &name }.change(context, &verb, Tolerate::Nothing, associate).await
    }
}
