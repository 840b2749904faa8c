//! The flags that say where a port's workload is.

use vnet_ctl::{api::types::RuntimeAttach, edit::AttachEdit};

/// A namespace, a device or a tap.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Where the workload is")]
pub(super) struct AttachArgs {
    /// A network namespace: its name, as `ip netns` shows it, or a path
    #[arg(long, value_name = "NETNS", groups = ["where", "what", "made"])]
    netns: Option<String>,
    /// Make that namespace or tap if it is not there, and remove it with the port
    #[arg(long, requires = "made", conflicts_with = "device")]
    create: bool,
    /// The name of the interface that vnet makes in there [default: eth0]
    #[arg(long, value_name = "NAME", requires = "netns", conflicts_with_all = ["device", "tap"])]
    interface: Option<String>,
    /// A veth or tap that exists
    #[arg(long, value_name = "DEVICE", groups = ["where", "what"])]
    device: Option<String>,
    /// A tap, for a virtual machine
    #[arg(long, value_name = "TAP", groups = ["where", "what", "made"])]
    tap: Option<String>,
    /// Make that tap, for the user with this number
    #[arg(long, value_name = "UID", requires = "tap", conflicts_with_all = ["netns", "device"])]
    owner: Option<u32>,
}

impl AttachArgs {
    /// For the policy file, if anything is given.
    pub(super) fn edit(&self) -> Option<AttachEdit> {
        let Self { netns, interface, device, tap, owner, .. } = self.clone();
        let create = self.create();
        match (netns, device, tap) {
            (Some(netns), ..) => Some(AttachEdit::Netns { netns, create, interface }),
            (None, Some(device), _) => Some(AttachEdit::Device(device)),
            (None, None, tap) => tap.map(|tap| AttachEdit::Tap { tap, create, owner }),
        }
    }

    /// For the API, if anything is given.
    pub(super) fn runtime(&self) -> Option<RuntimeAttach> {
        let Self { netns, interface, device, tap, owner, .. } = self.clone();
        let is_given = netns.is_some() || device.is_some() || tap.is_some();
        is_given.then_some(RuntimeAttach {
            netns,
            create: self.create().then_some(true),
            name: interface,
            device,
            tap,
            owner,
        })
    }

    /// A tap that vnet does not make has whoever made it decide who may open it.
    const fn create(&self) -> bool {
        self.create || self.owner.is_some()
    }
}
