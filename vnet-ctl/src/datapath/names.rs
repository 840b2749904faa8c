//! What the eBPF object calls its maps and programs, and where they are pinned.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use aya::programs::TcAttachType;
use aya_obj::generated::bpf_attach_type;
use vnet_common::ABI_VERSION;

/// The policy generation in force.
pub const CONTROL: &str = "CONTROL";
/// Records of ports.
pub const PORTS: &str = "PORTS";
/// Records of networks.
pub const NETWORKS: &str = "NETWORKS";
/// Who has an address.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// Prefixes that rules name.
pub const PEERS: &str = "PEERS";
/// Prefixes of networks that are joined to others.
pub const JOINS: &str = "JOINS";
/// Compiled rules.
pub const POLICY: &str = "POLICY";
/// Devices that lead outside.
pub const UPLINKS: &str = "UPLINKS";
/// The addresses that networks leave with.
pub const EXITS: &str = "EXITS";
/// Elastic IPs by private address.
pub const ELASTIC_IPS: &str = "ELASTIC_IPS";
/// What stands behind addresses and ports that are translated.
pub const FORWARDS: &str = "FORWARDS";
/// By which links networks go beyond this host.
pub const LINKS: &str = "LINKS";
/// Who has a MAC.
pub const STATIONS: &str = "STATIONS";
/// Peers of overlays.
pub const VTEPS: &str = "VTEPS";
/// Tracked flows over IPv4.
pub const FLOWS4: &str = "FLOWS4";
/// Tracked flows over IPv6.
pub const FLOWS6: &str = "FLOWS6";
/// Drops by reason.
pub const DROPS: &str = "DROPS";
/// Drops by device and reason.
pub const PORT_DROPS: &str = "PORT_DROPS";
/// The cookie of the host's network namespace.
pub const HOST: &str = "HOST";
/// Whom the host's sockets asked for.
pub const SOCKETS: &str = "SOCKETS";
/// What is seen of ports whose addresses are learned. It outlives the controller: what comes while there is none is
/// read by the next.
pub const SNOOPED: &str = "SNOOPED";
/// ICMP errors of vnet's own that may still be sent, by device.
pub const BUDGETS: &str = "BUDGETS";

/// Every map that outlives the controller.
pub const MAPS: &[&str] = &[
    CONTROL,
    PORTS,
    NETWORKS,
    ENDPOINTS,
    PEERS,
    JOINS,
    POLICY,
    UPLINKS,
    EXITS,
    ELASTIC_IPS,
    FORWARDS,
    LINKS,
    STATIONS,
    VTEPS,
    FLOWS4,
    FLOWS6,
    DROPS,
    PORT_DROPS,
    HOST,
    SOCKETS,
    SNOOPED,
    BUDGETS,
];

/// The program that removes an expired flow; it is run, never attached.
pub const EXPIRE: &str = "expire";

/// The program that sees what comes from outside before there is a socket buffer.
pub const UPLINK_XDP: &str = "uplink_xdp";

/// By whom XDP programs are run on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// By its driver.
    Native,
    /// By the kernel, which has a socket buffer by then.
    Generic,
}

impl XdpMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// What it is called, in pins and elsewhere.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// A program that is attached to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// What a workload sends: ingress of a port's host-side device.
    FromPort,
    /// What reaches a port past the datapath: egress of the same device.
    ToPort,
    /// What the host sends to workloads: egress of a network's bridge.
    FromHost,
    /// What reaches the host: ingress of a network's bridge.
    ToHost,
    /// What comes from outside: ingress of an uplink.
    FromUplink,
    /// What comes from networks' segments: ingress of a trunk, of an uplink that is bridged, of vnet's VXLAN device.
    FromSegment,
    /// What the host sends to the LAN that it shares with a network: egress of an uplink that is bridged.
    ToSegment,
    /// What may be an overlay's: ingress of an overlay's uplink.
    FromUnderlay,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FromPort,
        Self::ToPort,
        Self::FromHost,
        Self::ToHost,
        Self::FromUplink,
        Self::FromSegment,
        Self::ToSegment,
        Self::FromUnderlay,
    ];

    /// Those of a port.
    pub const OF_PORT: [Self; 2] = [Self::FromPort, Self::ToPort];

    /// Those of a network's bridge.
    pub const OF_BRIDGE: [Self; 2] = [Self::FromHost, Self::ToHost];

    /// Those of ports and networks.
    pub const INSIDE: [Self; 4] = [Self::FromPort, Self::ToPort, Self::FromHost, Self::ToHost];

    /// Those for what devices lead to.
    pub const OUTSIDE: [Self; 4] = [Self::FromUplink, Self::FromSegment, Self::ToSegment, Self::FromUnderlay];

    /// Whether flows stand under the device that it is attached to. Those of segments stand under their links.
    pub(super) const fn has_flows(self) -> bool {
        match self {
            Self::FromPort | Self::ToPort | Self::FromHost | Self::ToHost | Self::FromUplink => true,
            Self::FromSegment | Self::ToSegment | Self::FromUnderlay => false,
        }
    }

    /// What must see a packet first, where both are attached to a device. What is of a network's segment is nobody
    /// else's; what is an overlay's is marked before the program for uplinks takes it for the host's.
    pub(super) const fn predecessors(self) -> &'static [Self] {
        match self {
            Self::FromUplink => &[Self::FromSegment, Self::FromUnderlay],
            Self::FromUnderlay => &[Self::FromSegment],
            _ => &[],
        }
    }

    /// The program's name in the object, in pins and in messages.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::FromPort => "from_port",
            Self::ToPort => "to_port",
            Self::FromHost => "from_host",
            Self::ToHost => "to_host",
            Self::FromUplink => "from_uplink",
            Self::FromSegment => "from_segment",
            Self::ToSegment => "to_segment",
            Self::FromUnderlay => "from_underlay",
        }
    }

    pub(super) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::FromPort | Self::ToHost | Self::FromUplink | Self::FromSegment | Self::FromUnderlay => {
                TcAttachType::Ingress
            }
            Self::ToPort | Self::FromHost | Self::ToSegment => TcAttachType::Egress,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.program())
    }
}

/// A program that is attached to the host's sockets, at the root of the control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketHook {
    /// Who sent an IPv4 datagram.
    Recvmsg4,
    /// Who sent an IPv6 datagram.
    Recvmsg6,
    /// Whom an IPv4 socket speaks to.
    Peername4,
    /// Whom an IPv6 socket speaks to.
    Peername6,
    /// Whom an IPv4 datagram is sent to.
    Sendmsg4,
    /// Whom an IPv6 datagram is sent to.
    Sendmsg6,
    /// Whom an IPv4 socket is connected to.
    Connect4,
    /// Whom an IPv6 socket is connected to.
    Connect6,
}

impl SocketHook {
    /// All of them, in the order in which they are attached: what is translated can be told from the beginning.
    pub const ALL: [Self; 8] = [
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Peername4,
        Self::Peername6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Connect4,
        Self::Connect6,
    ];

    /// The program's name in the object, in pins and in messages.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Recvmsg4 => "host_recvmsg4",
            Self::Recvmsg6 => "host_recvmsg6",
            Self::Peername4 => "host_peername4",
            Self::Peername6 => "host_peername6",
            Self::Sendmsg4 => "host_sendmsg4",
            Self::Sendmsg6 => "host_sendmsg6",
            Self::Connect4 => "host_connect4",
            Self::Connect6 => "host_connect6",
        }
    }

    pub(super) const fn attach_type(self) -> bpf_attach_type {
        match self {
            Self::Recvmsg4 => bpf_attach_type::BPF_CGROUP_UDP4_RECVMSG,
            Self::Recvmsg6 => bpf_attach_type::BPF_CGROUP_UDP6_RECVMSG,
            Self::Peername4 => bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME,
            Self::Peername6 => bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME,
            Self::Sendmsg4 => bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG,
            Self::Sendmsg6 => bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG,
            Self::Connect4 => bpf_attach_type::BPF_CGROUP_INET4_CONNECT,
            Self::Connect6 => bpf_attach_type::BPF_CGROUP_INET6_CONNECT,
        }
    }
}

impl fmt::Display for SocketHook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.program())
    }
}

/// The folder of maps among a version's pins.
pub(super) const MAPS_FOLDER: &str = "maps";
/// The folder of links.
pub(super) const LINKS_FOLDER: &str = "links";

/// The folders of pins below one bpf filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    bpffs: PathBuf,
    abi: u32,
}

impl Pins {
    /// Below `bpffs`; nothing is opened or made.
    #[must_use]
    pub fn new(bpffs: &Path) -> Self {
        Self::of_abi(bpffs, ABI_VERSION)
    }

    /// Those of another ABI.
    #[must_use]
    pub fn of_abi(bpffs: &Path, abi: u32) -> Self {
        Self { bpffs: bpffs.to_owned(), abi }
    }

    /// The bpf filesystem, or the folder in it that takes its place.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The folder of all of vnet's pins, whatever their version.
    #[must_use]
    pub fn vnet(&self) -> PathBuf {
        self.bpffs.join("vnet")
    }

    /// The folder of this version's pins.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.vnet().join(format!("v{}", self.abi))
    }

    /// The folders of the versions that have left pins, this one's among them.
    pub(crate) fn versions(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.vnet()).into_iter().flatten().flatten();
        let is_version = |name: &str| name.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(is_version))
            .map(|entry| entry.path())
            .collect()
    }

    /// The folder of maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root().join(MAPS_FOLDER)
    }

    /// The folder of links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root().join(LINKS_FOLDER)
    }

    /// The pin of the map called `name`.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of `hook` on the device `ifindex`.
    #[must_use]
    pub fn link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.links().join(link_name(ifindex, hook))
    }

    /// The pin of [`UPLINK_XDP`] on the device `ifindex`.
    #[must_use]
    pub fn xdp_link(&self, ifindex: u32, mode: XdpMode) -> PathBuf {
        self.links().join(xdp_link_name(ifindex, mode))
    }

    /// The pin of `hook` at the root of the control groups.
    #[must_use]
    pub fn socket_link(&self, hook: SocketHook) -> PathBuf {
        Self::socket_link_in(&self.links(), hook)
    }

    /// The same in another folder of links.
    pub(super) fn socket_link_in(links: &Path, hook: SocketHook) -> PathBuf {
        links.join(socket_link_name(hook))
    }
}

fn link_name(ifindex: u32, hook: Hook) -> String {
    format!("{ifindex}-{hook}")
}

fn socket_link_name(hook: SocketHook) -> String {
    format!("cgroup-{hook}")
}

fn xdp_link_name(ifindex: u32, mode: XdpMode) -> String {
    format!("{ifindex}-{UPLINK_XDP}-{}", mode.label())
}

/// The device whose link for [`UPLINK_XDP`] is pinned under `name`, and its mode.
pub(super) fn parse_xdp_link_name(name: &str) -> Option<(u32, XdpMode)> {
    let ifindex = name.split_once('-')?.0.parse().ok()?;
    let mode = XdpMode::ALL.into_iter().find(|mode| xdp_link_name(ifindex, *mode) == name)?;
    Some((ifindex, mode))
}

/// Whether a link of the host's sockets is pinned under `name`.
pub(super) fn is_socket_link_name(name: &str) -> bool {
    SocketHook::ALL.into_iter().any(|hook| socket_link_name(hook) == name)
}

/// The device and program whose link is pinned under `name`; `None` if the name is not of vnet's making.
pub(super) fn parse_link_name(name: &str) -> Option<(u32, Hook)> {
    let (ifindex, program) = name.split_once('-')?;
    let hook = Hook::ALL.into_iter().find(|hook| hook.program() == program)?;
    let ifindex = ifindex.parse().ok()?;
    (link_name(ifindex, hook) == name).then_some((ifindex, hook))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_tell_device_and_program() {
        for hook in Hook::ALL {
            assert_eq!(parse_link_name(&link_name(17, hook)), Some((17, hook)));
        }
        for foreign in ["17", "17-expire", "x-from_port", "017-from_port", "+7-from_port", "-from_port"] {
            assert_eq!(parse_link_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn links_of_xdp_tell_device_and_mode() {
        for mode in XdpMode::ALL {
            let name = xdp_link_name(17, mode);
            assert_eq!(parse_xdp_link_name(&name), Some((17, mode)));
            assert!(parse_link_name(&name).is_none() && !is_socket_link_name(&name));
        }
        for foreign in ["17-uplink_xdp", "017-uplink_xdp-native", "17-from_port"] {
            assert_eq!(parse_xdp_link_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn links_of_sockets_are_told_from_those_of_devices() {
        for hook in SocketHook::ALL {
            let name = socket_link_name(hook);
            assert!(is_socket_link_name(&name) && parse_link_name(&name).is_none(), "{name}");
        }
        assert!(!is_socket_link_name("cgroup-from_port") && !is_socket_link_name("3-from_port"));
    }

    #[test]
    fn pins_carry_the_abi() {
        let pins = Pins::new(Path::new("/sys/fs/bpf"));
        assert_eq!(pins.map(PORTS), Path::new("/sys/fs/bpf/vnet/v5/maps/PORTS"));
        assert_eq!(pins.link(3, Hook::ToPort), Path::new("/sys/fs/bpf/vnet/v5/links/3-to_port"));
    }
}
