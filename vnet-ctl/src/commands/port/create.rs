//! `port create`: one more port, in the policy file or, with `--runtime`, in the daemon alone.

use vnet_ctl::{
    api::types::RuntimePort,
    edit::{self, PortEdit, Setting},
};

use super::{
    Context,
    attach_args::AttachArgs,
    ports,
    runtime::{self, Verb},
};
use crate::{
    commands::named::{Named, Tolerate},
    failure::{Failure, Kind, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl port create web-1 --network web --netns web-1 --create --group web
  vnet-ctl port create web-2 --network web --netns web-2 --address 10.10.0.20 --address fd00:10::14
  vnet-ctl port create vm-1 --network web --device tap0 --mac 02:00:00:00:00:0a
  vnet-ctl port create vm-2 --network web --tap tap-vm-2 --owner 1000          made for that user
  vnet-ctl port create vm-3 --network web --tap tap-vm-3 --create --vlan-of red,blue
  vnet-ctl port create job-7 --network web --netns job-7 --runtime --origin my-runner
  vnet-ctl port create web-1 --network web --netns web-1 --dry-run     show the diff only

A port of the policy file is there until it is taken out of the file. A port that is created with --runtime
is in no file: it is there, across restarts of the daemon, until `vnet-ctl port delete`.";

/// Create a port: a workload's network card.
///
/// Edits the policy file, comments and layout kept, and has the daemon apply it. With --runtime the port
/// is not declared in the file but kept by the daemon, as those are that CNI or Docker ask for.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub(crate) struct Command {
    /// Its name: letters, digits, dot, dash and underscore
    #[arg(value_name = "PORT")]
    name: String,
    /// The network that it is in
    #[arg(long, value_name = "NETWORK")]
    network: String,
    /// Networks with a VLAN that it takes part in as well, by tagged frames
    #[arg(long = "vlan-of", value_name = "NETWORK,…", value_delimiter = ',')]
    vlans: Vec<String>,
    #[command(flatten)]
    attach: AttachArgs,
    /// Its addresses [default: one of each subnet, assigned and kept; bridged: learned]
    #[arg(long = "address", value_name = "ADDRESS,…", value_delimiter = ',')]
    addresses: Vec<String>,
    /// Its MAC [default: derived from its name]
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// Its security groups [default: the group default]
    #[arg(long = "group", value_name = "GROUP,…", value_delimiter = ',')]
    groups: Vec<String>,
    /// Keep the port in the daemon, not in the policy file
    #[arg(long)]
    runtime: bool,
    /// Who creates it
    #[arg(long, value_name = "NAME", requires = "runtime", default_value = runtime::ORIGIN)]
    origin: String,
    /// Succeed if the port is there already, and leave it as it is
    #[arg(long)]
    if_not_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        if self.runtime {
            return self.create_in_daemon(context).await;
        }
        let name = self.name.as_str();
        let settings = PortEdit {
            network: Setting::Set(self.network),
            vlans: Setting::of_list(self.vlans),
            addresses: Setting::of_list(self.addresses),
            mac: Setting::of(self.mac),
            security_groups: Setting::of_list(self.groups),
            attach: self.attach.edit(),
        };
        let tolerate = Tolerate::Existing.when(self.if_not_exists);
        let create = |text: &str| edit::create_port(text, name, &settings);
        Named { noun: "port", name }.change(context, "created", tolerate, create).await
    }

    async fn create_in_daemon(self, context: &Context<'_>) -> Outcome {
        if let Some(port) = ports(context).await?.into_iter().find(|port| port.name == self.name) {
            if !self.if_not_exists {
                let message = format!("there is a port `{}` already, of {}", port.name, port.origin);
                return Err(Failure::new(Kind::Conflict, message).help(format!(
                    "`vnet-ctl port set {}` changes it; --if-not-exists accepts it as it is",
                    port.name
                )));
            }
            return runtime::Change::none(port).report(context, "nothing to do for");
        }
        let port = RuntimePort {
            network: self.network,
            vlans: self.vlans,
            addresses: self.addresses,
            mac: self.mac,
            security_groups: self.groups,
            origin: self.origin,
            attach: self.attach.runtime().unwrap_or_default(),
        };
        runtime::put(context, &self.name, &port, Verb::Create).await
    }
}
