//! The validated policy, as the rest of the controller knows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use vnet_common::MacAddr;

use super::{Affinity, Backend, Peer, PortRange, Protocol, Rule};

/// Everything that a policy file declares; each name in it refers to something in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Policy {
    /// What holds for the host itself.
    pub host: HostPolicy,
    /// The networks, by name.
    pub networks: BTreeMap<String, Network>,
    /// Named sets of prefixes.
    pub prefix_lists: BTreeMap<String, Vec<IpNet>>,
    /// Allow and deny rules in their order, which come before the groups.
    pub acl: Vec<AclRule>,
    /// The security groups, among them always `default`. Shared: a change of a few leaves the others as they are.
    #[serde(serialize_with = "as_values")]
    pub security_groups: BTreeMap<String, Arc<SecurityGroup>>,
    /// The ports, by name.
    pub ports: BTreeMap<String, Port>,
    /// The host's devices that lead outside, by name: those that networks name, and those that are declared.
    pub uplinks: BTreeMap<String, Uplink>,
    /// Ports of the host that lead to ports of workloads.
    pub forwards: Vec<Forward>,
    /// Public addresses that stand for a port, 1:1.
    pub elastic_ips: BTreeMap<IpAddr, ElasticIp>,
    /// Metadata services, at most one for each network, address and port listened on.
    pub metadata: Vec<Metadata>,
}

/// A port of the host, or a range of them, that leads to workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The address that is listened on: one of the host's, unspecified for all of them, or loopback.
    pub listen: IpAddr,
    /// The first and the last port that is listened on.
    pub ports: (u16, u16),
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Where it leads: at least one, and no port twice.
    pub to: Vec<Backend>,
    /// What goes to the same one of several.
    pub affinity: Affinity,
}

/// What stands behind an elastic IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElasticIp {
    /// The port.
    pub port: String,
    /// What becomes of established flows when the address moves to another port.
    pub on_change: OnChange,
}

/// A service of the host under an address that only a network's ports know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The network.
    pub network: String,
    /// The address and TCP port under which workloads find it.
    pub listen: SocketAddr,
    /// The TCP port of the host, at the network's gateway address.
    pub to_port: u16,
}

/// Which source ports translated packets get unless a network says otherwise: below the range from which the
/// kernel takes those of the host's own connections (`net.ipv4.ip_local_port_range`, 32768 to 60999).
pub const DEFAULT_SNAT_PORTS: (u16, u16) = (1024, 32767);

impl Policy {
    /// The prefixes that `peer` stands for; none for a group, a network or `any`.
    #[must_use]
    pub fn prefixes<'a>(&'a self, peer: &'a Peer) -> &'a [IpNet] {
        match peer {
            Peer::Cidr(net) => std::slice::from_ref(net),
            Peer::List(list) => self.prefix_lists.get(list).map_or(&[], Vec::as_slice),
            Peer::Any | Peer::Group(_) | Peer::Network(_) => &[],
        }
    }

    /// The networks that `network` is joined with, whichever of them says so.
    #[must_use]
    pub fn joined(&self, network: &str) -> BTreeSet<&str> {
        let own = self.networks.get(network).into_iter().flat_map(|own| &own.connect).map(String::as_str);
        let others = self.networks.iter().filter(|(_, other)| other.connect.contains(network));
        own.chain(others.map(|(name, _)| name.as_str())).collect()
    }

    /// How many rules the groups and the acl have together.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        let of_groups = self.security_groups.values().map(|group| group.ingress.len() + group.egress.len());
        of_groups.sum::<usize>() + self.acl.len()
    }
}

/// What holds for the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostPolicy {
    /// What workloads may always reach of the host, whatever the rules and `host = false` say.
    #[serde(rename = "failsafe_ports")]
    pub failsafe: Vec<Failsafe>,
}

impl Default for HostPolicy {
    /// As without a word about it: ssh.
    fn default() -> Self {
        Self { failsafe: vec![Failsafe { protocol: Protocol::TCP, port: 22 }] }
    }
}

/// A port of the host that no policy cuts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failsafe {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port, not 0.
    pub port: u16,
}

impl fmt::Display for Failsafe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.protocol, self.port)
    }
}

impl Serialize for Failsafe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An entry of the acl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AclRule {
    /// What becomes of the packets that it matches.
    pub action: AclAction,
    /// What it matches. Its id is unique among the entries.
    #[serde(flatten)]
    pub rule: Rule,
}

/// What an entry of the acl decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AclAction {
    /// Drop, whatever the groups say.
    Deny,
    /// Admit, without a rule of a group.
    Allow,
}

impl fmt::Display for AclAction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        })
    }
}

/// What a network's way out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// Leads outside behind the host's address.
    Nat,
    /// Closed; the host alone reaches it.
    Private,
    /// Leads outside under its own addresses, which are known there.
    Routed,
    /// The uplink's own LAN, which its ports take part in; the host is not its gateway.
    Bridged,
}

impl fmt::Display for NetworkKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nat => "nat",
            Self::Private => "private",
            Self::Routed => "routed",
            Self::Bridged => "bridged",
        })
    }
}

/// A segment with its subnets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its way out.
    #[serde(rename = "type")]
    pub kind: NetworkKind,
    /// Its subnets: at least one, but for a bridged network, which may have none. None overlaps another of it; those of
    /// other networks, see [`super::Overlaps`].
    pub subnets: Vec<Subnet>,
    /// Bytes of IP packet that a frame carries, 1280 to 65535.
    pub mtu: u32,
    /// The networks that it names as joined with it; [`Policy::joined`] has those that name it, too.
    pub connect: BTreeSet<String>,
    /// Whether the host takes part in it.
    pub host: HostAccess,
    /// The device that it names as the way to the outside, to its LAN or to the peers of its overlay; where it needs one
    /// and names none, that of the host's default route.
    pub uplink: Option<String>,
    /// The addresses that its packets leave with; none: the uplink's own first one.
    pub snat: Vec<IpAddr>,
    /// The first and the last source port that they may get.
    #[serde(serialize_with = "as_range")]
    pub snat_ports: (u16, u16),
    /// Prefixes to which they leave untranslated.
    pub no_snat: Vec<IpNet>,
    /// For whom the source port that a workload's port becomes holds.
    pub mapping: Mapping,
    /// Whether the segment size that a routed SYN announces is lowered to what fits the way.
    pub clamp_mss: bool,
    /// What of it lies beyond this host; always there for a bridged network.
    pub segment: Option<Segment>,
}

/// How a network goes beyond this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Segment {
    /// Over a device that carries its frames as they are, or tagged.
    Lan {
        /// The device: the trunk, or the uplink of a bridged network.
        trunk: String,
        /// The VLAN identifiers, 1 to 4094, the outer one first: none, one (IEEE 802.1Q), or two (IEEE 802.1ad).
        vlan: Vec<u16>,
        /// The priority that tags get, 0 to 7; without one that of the packet, if it has come with a tag, else 0.
        priority: Option<u8>,
    },
    /// Over IP, by VXLAN (RFC 7348).
    Overlay {
        /// The network identifier, 1 to 16777215.
        vni: u32,
        /// The other hosts that take part, at least one, all of one IP version.
        #[schema(value_type = Vec<String>)]
        peers: Vec<IpAddr>,
        /// The device that leads to them; none: that of the host's default route.
        uplink: Option<String>,
    },
}

/// A device that leads outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// Whether what is dropped anyway is dropped before there is a socket buffer.
    pub xdp: Xdp,
}

/// By whom the XDP program of an uplink is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Xdp {
    /// By its driver, where that does good.
    #[default]
    Auto,
    /// By its driver.
    Native,
    /// By the kernel.
    Generic,
    /// By nobody.
    Off,
}

impl fmt::Display for Xdp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        })
    }
}

/// For whom the source port that a workload's port becomes outside holds (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// For one destination: to another it may be another one.
    #[default]
    EndpointDependent,
    /// For every destination.
    EndpointIndependent,
}

impl fmt::Display for Mapping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::EndpointDependent => "endpoint-dependent",
            Self::EndpointIndependent => "endpoint-independent",
        })
    }
}

/// Whether the host and the ports of a network may exchange packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// The host is trusted towards the ports, and they reach it as their rules say.
    #[default]
    Trusted,
    /// Neither reaches the other, failsafe ports of the host aside.
    Excluded,
}

impl Serialize for HostAccess {
    /// As the file writes it: `host = true` or `host = false`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Trusted)
    }
}

impl Network {
    /// Whether this host is its gateway: of a bridged network the LAN has one.
    #[must_use]
    pub fn is_routed_here(&self) -> bool {
        self.kind != NetworkKind::Bridged
    }

    /// The other hosts of its overlay, if it is one.
    #[must_use]
    pub fn peers(&self) -> &[IpAddr] {
        match &self.segment {
            Some(Segment::Overlay { peers, .. }) => peers,
            Some(Segment::Lan { .. }) | None => &[],
        }
    }

    /// The subnet that contains `addr`.
    #[must_use]
    pub fn subnet_of(&self, addr: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&addr))
    }
}

/// A subnet and the host's address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// The prefix, without host bits.
    pub net: IpNet,
    /// The gateway: the host itself, if [`super::Overlaps::host_is_in`] the subnet; in a bridged network whoever is the
    /// LAN's router.
    pub gateway: IpAddr,
}

impl Subnet {
    /// Whether a workload may have `addr`: inside, and neither the gateway, the network's own address
    /// (in IPv6 the routers' anycast address, RFC 4291 section 2.6.1) nor the IPv4 broadcast address.
    #[must_use]
    pub fn has_room_for(&self, addr: IpAddr) -> bool {
        self.net.contains(&addr) && addr != self.gateway && !is_reserved(self.net, addr)
    }
}

/// Whether `addr` stands for the subnet itself or for all hosts in it.
pub(super) fn is_reserved(net: IpNet, addr: IpAddr) -> bool {
    addr == net.network() || (addr.is_ipv4() && addr == net.broadcast())
}

/// A workload's virtual NIC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Port {
    /// The network that it is in.
    pub network: String,
    /// Networks with a VLAN that it takes part in as well, by tagged frames.
    pub vlans: Vec<String>,
    /// Its addresses as the file gives them, in any of its networks; empty means assigned, or learned in a bridged one.
    pub addresses: Vec<IpAddr>,
    /// Its MAC, given or derived from its name.
    #[serde(serialize_with = "as_text")]
    pub mac: MacAddr,
    /// Its groups, at least one.
    pub security_groups: Vec<String>,
    /// Where the workload is.
    pub attach: Attach,
}

/// How a port reaches its workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Attach {
    /// An interface inside a network namespace.
    Netns {
        /// Which namespace.
        netns: NetnsRef,
        /// Whether vnet makes the namespace.
        create: bool,
        /// The interface's name inside.
        name: String,
    },
    /// A veth or tap that exists.
    Device {
        /// Its name.
        device: String,
    },
    /// A tap, for a virtual machine.
    Tap {
        /// Its name.
        tap: String,
        /// Whether vnet makes it, and removes it in the end.
        create: bool,
        /// The user who may open it, by number; none: root alone. Only of a tap that vnet makes.
        owner: Option<u32>,
    },
    /// On another host, beyond the network's segment: vnet knows who it is, and that host looks after it.
    Remote {
        /// The host, one of the peers of an overlay; none: beyond a LAN, or wherever in the overlay it is heard.
        remote: Option<IpAddr>,
    },
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum NetnsRef {
    /// By name, as in `ip netns`.
    Name(String),
    /// By the absolute path of a file that holds it.
    Path(PathBuf),
}

impl fmt::Display for NetnsRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => out.write_str(name),
            Self::Path(path) => path.display().fmt(out),
        }
    }
}

/// A named set of rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SecurityGroup {
    /// What people call it.
    pub description: Option<String>,
    /// Who may reach the workload.
    pub ingress: Vec<Rule>,
    /// Whom the workload may reach. A file that gives none has one rule here that allows all.
    pub egress: Vec<Rule>,
    /// What becomes of established flows that one of its rules allowed and no rule allows any more.
    pub on_change: OnChange,
}

/// What becomes of an established flow that a change of the policy no longer allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// It ends.
    #[default]
    Cut,
    /// It stays.
    Keep,
}

impl fmt::Display for OnChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Cut => "cut",
            Self::Keep => "keep",
        })
    }
}

fn as_values<T: Serialize, S: Serializer>(
    shared: &BTreeMap<String, Arc<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(shared.iter().map(|(name, value)| (name, value.as_ref())))
}

fn as_range<S: Serializer>(&(first, last): &(u16, u16), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&PortRange { first, last })
}

fn as_text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}
