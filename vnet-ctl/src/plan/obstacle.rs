use std::fmt;

use vnet_common::limits::MAX_IFINDEX;

use super::{OVERLAY_DEVICE, VXLAN_PORT};

/// Something in the way that is not vnet's to move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Somebody else's link has the bridge's name.
    #[error("network {network}: the host already has a link {device} that is not vnet's")]
    LinkInTheWay {
        /// The network.
        network: String,
        /// The link.
        device: String,
    },
    /// A port of a network that is not there.
    #[error("port {port}: there is no network {network}")]
    UnknownNetwork {
        /// The port.
        port: String,
        /// The network.
        network: String,
    },
    /// The interface's name is taken inside the namespace.
    #[error("port {port}: namespace {netns} already has an interface {interface} that is not vnet's")]
    InterfaceInTheWay {
        /// The port.
        port: String,
        /// The namespace.
        netns: String,
        /// The interface.
        interface: String,
    },
    /// The namespace is not there, and vnet is not to make it.
    #[error("port {port}: there is no namespace {netns}")]
    NamespaceMissing {
        /// The port.
        port: String,
        /// The namespace.
        netns: String,
    },
    /// The file is no namespace.
    #[error("port {port}: {path} is not a network namespace")]
    NotANamespace {
        /// The port.
        port: String,
        /// The file.
        path: String,
    },
    /// The namespace is the host's own.
    #[error("port {port}: {netns} is the host's own namespace")]
    OwnNamespace {
        /// The port.
        port: String,
        /// The namespace.
        netns: String,
    },
    /// The device is not there.
    #[error("port {port}: there is no device {device}")]
    DeviceMissing {
        /// The port.
        port: String,
        /// The device.
        device: String,
    },
    /// The device is none that can be a port.
    #[error("port {port}: {device} is {what}, which cannot be a port")]
    NotAPort {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// What it is instead.
        what: &'static str,
    },
    /// The host itself has addresses on the device.
    #[error("port {port}: the host has the address {address} on {device} and would lose it")]
    DeviceInUse {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// One of the addresses.
        address: String,
    },
    /// The device belongs to somebody else's bridge.
    #[error("port {port}: {device} already belongs to {master}")]
    ForeignMaster {
        /// The port.
        port: String,
        /// The device.
        device: String,
        /// The bridge or bond.
        master: String,
    },
    /// The uplink is not there.
    #[error("network {network}: there is no device {device}")]
    UplinkMissing {
        /// The network.
        network: String,
        /// The device.
        device: String,
    },
    /// The device is none that leads outside.
    #[error("network {network}: {device} is {what}, which cannot be an uplink")]
    NotAnUplink {
        /// The network.
        network: String,
        /// The device.
        device: String,
        /// What it is instead.
        what: &'static str,
    },
    /// The device that leads to a network's LAN is not there.
    #[error("network {network}: there is no device {device}")]
    TrunkMissing {
        /// The network.
        network: String,
        /// The device.
        device: String,
    },
    /// The device is none that leads to a LAN.
    #[error("network {network}: {device} is {what}, which cannot lead to a LAN")]
    NotATrunk {
        /// The network.
        network: String,
        /// The device.
        device: String,
        /// What it is instead.
        what: &'static str,
    },
    /// The device that leads to the other hosts of an overlay is not there.
    #[error("network {network}: there is no device {device}")]
    UnderlayMissing {
        /// The network.
        network: String,
        /// The device.
        device: String,
    },
    /// The name of the VXLAN device is taken.
    #[error(
        "network {network}: the host already has a link {OVERLAY_DEVICE} that is not vnet's VXLAN device"
    )]
    OverlayInTheWay {
        /// One of the overlays.
        network: String,
    },
    /// Another device receives what is for overlays.
    #[error("network {network}: {device} already receives VXLAN at UDP port {VXLAN_PORT}")]
    VxlanPortTaken {
        /// One of the overlays.
        network: String,
        /// The device.
        device: String,
    },
    /// The name of a tap that vnet is to make is taken.
    #[error("port {port}: the host already has a device {device} that is not a tap of vnet's")]
    TapInTheWay {
        /// The port.
        port: String,
        /// The device.
        device: String,
    },
    /// Two ports want the same place.
    #[error("port {port}: port {other} already has {place}")]
    PlaceTaken {
        /// The port.
        port: String,
        /// The port that comes first.
        other: String,
        /// What both want.
        place: String,
    },
    /// The index does not fit a flow key.
    #[error("{device} has or would get an interface index above {MAX_IFINDEX}")]
    IfindexTooLarge {
        /// The device.
        device: String,
    },
}

/// Whom something is missing for that may come, or come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent<'a> {
    /// This port's workload.
    Workload(&'a str),
    /// This network's uplink.
    Uplink(&'a str),
    /// What leads to the rest of this network's segment.
    Segment(&'a str),
}

impl Obstacle {
    /// What is not there, if that is what is in the way.
    #[must_use]
    pub fn absent(&self) -> Option<Absent<'_>> {
        match self {
            Self::NamespaceMissing { port, .. }
            | Self::NotANamespace { port, .. }
            | Self::DeviceMissing { port, .. } => Some(Absent::Workload(port)),
            Self::UplinkMissing { network, .. } => Some(Absent::Uplink(network)),
            Self::TrunkMissing { network, .. } | Self::UnderlayMissing { network, .. } => {
                Some(Absent::Segment(network))
            }
            _ => None,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::LinkInTheWay { device, .. } => {
                format!("rename the network, or the link with `ip link set {device} name NEW`")
            }
            Self::UnknownNetwork { network, .. } => format!("declare [networks.{network}]"),
            Self::InterfaceInTheWay { .. } => {
                "give the port another interface with attach = { ..., name = \"eth1\" }".to_owned()
            }
            Self::NamespaceMissing { netns, .. } => {
                let by_hand = if netns.starts_with('/') {
                    "start what holds it".to_owned()
                } else {
                    format!("run `ip netns add {netns}`")
                };
                format!(
                    "{by_hand}, or let vnet make it: --create, in the policy file attach = {{ ..., create = true }}"
                )
            }
            Self::NotANamespace { .. } => {
                "name a file such as /proc/PID/ns/net or one that `ip netns add` made".to_owned()
            }
            Self::OwnNamespace { .. } => "attach the port to a namespace of its own".to_owned(),
            Self::DeviceMissing { device, .. } => {
                format!("create it first, for instance with `ip tuntap add {device} mode tap`")
            }
            Self::NotAPort { .. } => "name a tap or the host side of a veth".to_owned(),
            Self::DeviceInUse { device, .. } => {
                format!(
                    "choose a device that the host does not use itself, or run `ip address flush dev {device}`"
                )
            }
            Self::ForeignMaster { device, .. } => {
                format!("take it off with `ip link set {device} nomaster`, or choose another device")
            }
            Self::UplinkMissing { .. } => {
                "name a device of the host that leads outside, or none to follow its default route".to_owned()
            }
            Self::NotAnUplink { .. } => {
                "name a device of the host that leads outside, such as \"eth0\"".to_owned()
            }
            Self::TrunkMissing { .. } | Self::NotATrunk { .. } => {
                "name a device of the host that leads to the LAN, such as \"eth1\"".to_owned()
            }
            Self::UnderlayMissing { .. } => {
                "name a device of the host that leads to the other hosts, or none to follow its default route"
                    .to_owned()
            }
            Self::OverlayInTheWay { .. } => format!(
                "rename that link with `ip link set {OVERLAY_DEVICE} name NEW`, or the network that it belongs to"
            ),
            Self::VxlanPortTaken { device, .. } => {
                format!("give {device} another port (dstport), or remove it with `ip link delete {device}`")
            }
            Self::TapInTheWay { device, .. } => {
                format!("remove it with `ip link delete {device}`, or use it as it is: without create = true")
            }
            Self::PlaceTaken { .. } => "give each port an interface or device of its own".to_owned(),
            Self::IfindexTooLarge { .. } => {
                "the kernel starts counting again after a reboot, or in a new network namespace".to_owned()
            }
        }
    }
}

/// Everything that is in the way; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacles(pub Vec<Obstacle>);

impl fmt::Display for Obstacles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, obstacle) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{obstacle}; {}", obstacle.help())?;
        }
        Ok(())
    }
}

impl std::error::Error for Obstacles {}
