use std::fmt;

use ipnet::IpNet;
use vnet_common::MacAddr;

use super::{NetnsRef, Owner, Reception, Role, Workload};

/// One change of the host. Devices are links of the host's namespace, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a namespace.
    CreateNamespace(NetnsRef),
    /// Removes the file that holds a namespace; processes inside keep it alive.
    DeleteNamespace(NetnsRef),
    /// Makes a network's bridge, down.
    CreateBridge {
        /// The network.
        network: String,
        /// Name of the bridge.
        device: String,
        /// Its MAC.
        mac: MacAddr,
        /// Its MTU in bytes.
        mtu: u32,
    },
    /// Makes a port's veth, both ends down, the other end inside the namespace.
    CreateVeth {
        /// The port.
        port: String,
        /// Name of the host side.
        device: String,
        /// Where the other end is, and its MAC and MTU; the MTU is the host side's too.
        workload: Workload,
    },
    /// Makes a tap, down.
    CreateTap {
        /// The port.
        port: String,
        /// Name of the tap.
        device: String,
        /// The number of the user who may open it.
        user: u32,
        /// Its MTU.
        mtu: u32,
    },
    /// Says who may open a tap.
    SetTapUser {
        /// Its name.
        device: String,
        /// The number of the user.
        user: u32,
    },
    /// Makes the VXLAN device of overlays, down.
    CreateOverlay {
        /// Its name.
        device: String,
        /// Its MTU.
        mtu: u32,
    },
    /// Removes a device that vnet made.
    DeleteLink {
        /// Its name.
        device: String,
        /// Whose it was when the plan was made; if it is another's by now, it stays.
        owner: Option<Owner>,
    },
    /// Says whose a device is.
    SetOwner {
        /// Its name.
        device: String,
        /// Whose.
        owner: Owner,
    },
    /// Turns off what vnet's bridges do without: spanning tree and multicast snooping.
    SimplifyBridge {
        /// Its name.
        device: String,
    },
    /// Stops the kernel from making link-local addresses by itself.
    SetQuiet {
        /// Its name.
        device: String,
    },
    /// Takes the host's own stack off a bridge that it has no address on: no ARP, no IPv6.
    Mute {
        /// Its name.
        device: String,
    },
    /// Gives it back.
    Unmute {
        /// Its name.
        device: String,
    },
    /// Sets the MAC.
    SetMac {
        /// Name of the device.
        device: String,
        /// The MAC.
        mac: MacAddr,
    },
    /// Sets the MTU.
    SetMtu {
        /// Name of the device.
        device: String,
        /// Bytes.
        mtu: u32,
    },
    /// Makes these the addresses of a bridge, and no others.
    SetAddresses {
        /// Its name.
        device: String,
        /// The addresses.
        addresses: Vec<IpNet>,
    },
    /// Puts a device on a bridge.
    Enslave {
        /// Name of the device.
        device: String,
        /// Name of the bridge.
        bridge: String,
    },
    /// Takes a device off its bridge.
    Release {
        /// Its name.
        device: String,
    },
    /// Attaches the programs of a port.
    AttachPort {
        /// Name of its device.
        device: String,
    },
    /// Attaches the program of a network.
    AttachBridge {
        /// Name of its bridge.
        device: String,
    },
    /// Attaches the program for what a device leads to.
    AttachOutside {
        /// Its name.
        device: String,
        /// What it leads to.
        role: Role,
    },
    /// Detaches the programs of a port or a network from a device.
    Detach(Target),
    /// Detaches the program for what a device leads to.
    DetachOutside(Target, Role),
    /// Has a device take frames that are not for the host.
    Accept {
        /// Its name.
        device: String,
        /// The frames.
        frames: Reception,
    },
    /// Leaves it to a device whether it takes them.
    Decline {
        /// Its name.
        device: String,
        /// The frames.
        frames: Reception,
    },
    /// Brings a device up.
    Up {
        /// Its name.
        device: String,
    },
    /// Brings a device down.
    Down {
        /// Its name.
        device: String,
    },
    /// Gives a workload's interface its settings, addresses and routes.
    Configure(Workload),
}

impl Action {
    /// Whether it makes something new, all of it or nothing.
    #[must_use]
    pub const fn creates(&self) -> bool {
        matches!(
            self,
            Self::CreateNamespace(_)
                | Self::CreateBridge { .. }
                | Self::CreateVeth { .. }
                | Self::CreateTap { .. }
                | Self::CreateOverlay { .. }
        )
    }
}

/// What to detach from: a device that may be gone has its index only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A device that is there.
    Device(String),
    /// A device that was there.
    Ifindex(u32),
}

/// An action and what takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// What undoes it; nothing where undoing an earlier step does that as well.
    pub undo: Option<Action>,
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNamespace(netns) => write!(out, "create namespace {netns}"),
            Self::DeleteNamespace(netns) => write!(out, "remove namespace {netns}"),
            Self::CreateBridge { network, device, .. } => {
                write!(out, "create bridge {device} of network {network}")
            }
            Self::CreateVeth { port, device, workload } => {
                let Workload { netns, interface, .. } = workload;
                write!(out, "create {device} of port {port}, {interface} in namespace {netns}")
            }
            Self::CreateTap { port, device, .. } => write!(out, "create tap {device} of port {port}"),
            Self::SetTapUser { device, user } => write!(out, "give tap {device} to user {user}"),
            Self::CreateOverlay { device, .. } => write!(out, "create {device} for overlays"),
            Self::DeleteLink { device, owner: Some(owner) } => write!(out, "remove {device} of {owner}"),
            Self::DeleteLink { device, owner: None } => write!(out, "remove the unfinished {device}"),
            Self::SetOwner { device, owner } => write!(out, "mark {device} as that of {owner}"),
            Self::SimplifyBridge { device } => {
                write!(out, "turn spanning tree and multicast snooping off on {device}")
            }
            Self::SetQuiet { device } => write!(out, "turn automatic link-local addresses off on {device}"),
            Self::Mute { device } => write!(out, "turn ARP and IPv6 of the host off on {device}"),
            Self::Unmute { device } => write!(out, "turn ARP and IPv6 of the host on again on {device}"),
            Self::SetMac { device, mac } => write!(out, "set the MAC of {device} to {mac}"),
            Self::SetMtu { device, mtu } => write!(out, "set the MTU of {device} to {mtu}"),
            Self::SetAddresses { device, addresses } => {
                write!(out, "set the addresses of {device} to {}", list(addresses))
            }
            Self::Enslave { device, bridge } => write!(out, "put {device} on {bridge}"),
            Self::Release { device } => write!(out, "take {device} off its bridge"),
            Self::AttachPort { device } | Self::AttachBridge { device } => {
                write!(out, "attach the datapath to {device}")
            }
            Self::AttachOutside { device, role } => write!(out, "attach to {role} {device}"),
            Self::DetachOutside(Target::Device(device), role) => write!(out, "detach from {role} {device}"),
            Self::DetachOutside(Target::Ifindex(ifindex), role) => {
                write!(out, "detach from the {role} that was device {ifindex}")
            }
            Self::Detach(Target::Device(device)) => write!(out, "detach the datapath from {device}"),
            Self::Detach(Target::Ifindex(ifindex)) => {
                write!(out, "detach the datapath from device {ifindex}")
            }
            Self::Accept { device, frames } => write!(out, "have {device} take {}", of(*frames)),
            Self::Decline { device, frames } => write!(out, "have {device} take no more {}", of(*frames)),
            Self::Up { device } => write!(out, "bring {device} up"),
            Self::Down { device } => write!(out, "bring {device} down"),
            Self::Configure(workload) => {
                let Workload { netns, interface, addresses, .. } = workload;
                write!(out, "configure {interface} in namespace {netns} with {}", list(addresses))
            }
        }
    }
}

/// Frames in words.
pub(super) fn of(frames: Reception) -> String {
    match frames {
        Reception::Mac(mac) if mac.is_multicast() => format!("frames for multicast group {mac}"),
        Reception::Mac(mac) => format!("frames for {mac}"),
        Reception::AllMulticast => "all multicast".to_owned(),
    }
}

fn list(addresses: &[IpNet]) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
