//! The flags that say where a port's workload is.

use vnet_ctl::{api::types::RuntimeAttach, edit::AttachEdit};

/// A namespace or a device.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Where the workload is")]
pub(super) struct AttachArgs {
    /// A network namespace: its name, as `ip netns` shows it, or a path
    #[arg(long, value_name = "NETNS", groups = ["where", "what"])]
    netns: Option<String>,
    /// Make that namespace if it is not there, and remove it with the port
    #[arg(long, requires = "netns", conflicts_with = "device")]
    create: bool,
    /// The name of the interface that vnet makes in there [default: eth0]
    #[arg(long, value_name = "NAME", requires = "netns", conflicts_with = "device")]
    interface: Option<String>,
    /// A veth or tap that exists
    #[arg(long, value_name = "DEVICE", groups = ["where", "what"])]
    device: Option<String>,
}

impl AttachArgs {
    /// For the policy file, if anything is given.
    pub(super) fn edit(&self) -> Option<AttachEdit> {
        let Self { netns, create, interface, device } = self.clone();
        match (netns, device) {
            (Some(netns), _) => Some(AttachEdit::Netns { netns, create, interface }),
            (None, device) => device.map(AttachEdit::Device),
        }
    }

    /// For the API, if anything is given.
    pub(super) fn runtime(&self) -> Option<RuntimeAttach> {
        let Self { netns, create, interface, device } = self.clone();
        let is_given = netns.is_some() || device.is_some();
        is_given.then_some(RuntimeAttach {
            netns,
            create: create.then_some(true),
            name: interface,
            device,
            ..RuntimeAttach::default()
        })
    }
}
