//! One allow rule: what it matches, and its stable id.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};
use vnet_common::{Direction, RuleId};

use super::{AclAction, Failsafe, Mistake, PortRange, Protocol};

/// What a rule matches and how a person describes it: a rule that has no place in a group yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// Which protocol.
    pub protocol: Protocol,
    /// Which destination ports; none means all.
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// Which ICMP type and code; none means all.
    #[serde(default)]
    pub icmp: Option<(u8, Option<u8>)>,
    /// Whom it allows to reach, or to be reached; never empty.
    pub peers: Vec<Peer>,
    /// What people call it.
    #[serde(default)]
    pub description: Option<String>,
}

impl RuleSpec {
    /// Every protocol from or to `peer`.
    #[must_use]
    pub fn all_of(peer: Peer) -> Self {
        Self { protocol: Protocol::ANY, ports: Vec::new(), icmp: None, peers: vec![peer], description: None }
    }

    /// Whether both match the same packets in the same words; neither their order nor the description counts.
    #[must_use]
    pub fn matches_same(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }

    /// The match as text, in an order that does not depend on the person's.
    pub(super) fn canonical(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = self.write_canonical(&mut text);
        text
    }

    fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "{}/", self.protocol)?;
        write_sorted(&self.ports, out)?;
        match self.icmp {
            None => out.write_str("//")?,
            Some((kind, None)) => write!(out, "/{kind}/")?,
            Some((kind, Some(code))) => write!(out, "/{kind}:{code}/")?,
        }
        write_sorted(&self.peers, out)
    }

    /// The id that the rule has in `group` unless another holds it already.
    #[must_use]
    pub fn id_in(&self, group: &str, direction: Direction) -> RuleId {
        Ids::new(group, direction).of(self)
    }

    /// The id that the rule has in the acl unless an earlier entry holds it already.
    #[must_use]
    pub fn id_in_acl(&self, action: AclAction, direction: Direction) -> RuleId {
        // No group can be called so.
        self.id_in(&format!("/acl/{action}"), direction)
    }
}

/// Makes the ids of rules of one group and direction.
#[derive(Clone, Copy)]
pub(super) struct Ids(Hash);

impl Ids {
    /// For rules of `group` and `direction`.
    pub(super) fn new(group: &str, direction: Direction) -> Self {
        Self(Hash::of(&format!("{group}/{}/", direction_name(direction))))
    }

    /// The id of the rule that is `spec`.
    pub(super) fn of(self, spec: &RuleSpec) -> RuleId {
        let Self(mut hash) = self;
        // A hash takes everything.
        let _ = spec.write_canonical(&mut hash);
        hash.id()
    }
}

/// The id by which a failsafe port of the host is told as what decided.
#[must_use]
pub fn failsafe_id(failsafe: Failsafe) -> RuleId {
    rule_id(&format!("/host/failsafe/{failsafe}"))
}

/// The id of the rule that stands for a group's omitted `egress`.
pub(super) fn default_allow_id(group: &str) -> RuleId {
    rule_id(&format!("{group}/egress/default-allow"))
}

/// The hash of a canonical rule text, so far: FNV-1a (Fowler, Noll, Vo), its 32-bit variant.
#[derive(Clone, Copy)]
struct Hash(u32);

impl Hash {
    fn of(text: &str) -> Self {
        const OFFSET_BASIS: u32 = 0x811c_9dc5;
        Self(OFFSET_BASIS).with(text)
    }

    fn with(self, text: &str) -> Self {
        const PRIME: u32 = 0x0100_0193;
        Self(text.bytes().fold(self.0, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME)))
    }

    /// Never 0: it stands for no rule.
    fn id(self) -> RuleId {
        self.0.max(1)
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        *self = self.with(text);
        Ok(())
    }
}

fn rule_id(text: &str) -> RuleId {
    Hash::of(text).id()
}

fn write_sorted<T: Ord + Clone + fmt::Display>(items: &[T], out: &mut impl fmt::Write) -> fmt::Result {
    if let [item] = items {
        return write!(out, "{item}");
    }
    let mut sorted = items.to_vec();
    sorted.sort();
    sorted.dedup();
    for (index, item) in sorted.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}{item}")?;
    }
    Ok(())
}

/// The word for a direction in the file and in output.
pub(crate) const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// A rule's id as people see it: eight hexadecimal digits.
#[must_use]
pub fn format_rule_id(id: RuleId) -> String {
    format!("{id:08x}")
}

/// The rule id that a person gives: one to eight hexadecimal digits.
///
/// # Errors
/// When it is none.
pub fn parse_rule_id(text: &str) -> Result<RuleId, Mistake> {
    let is_hex = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u32::from_str_radix(text, 16) {
        Ok(id @ 1..) if is_hex => Ok(id),
        _ => Err(Mistake::new(format!("`{text}` is not a rule id"))
            .help("an id is eight hexadecimal digits, as `vnet-ctl sg show GROUP` prints it")),
    }
}

/// A rule of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id, unique within its group and stable while what it matches stays the same.
    pub id: RuleId,
    /// Which way.
    pub direction: Direction,
    /// Which protocol.
    pub protocol: Protocol,
    /// Which destination ports; none means all.
    pub ports: Vec<PortRange>,
    /// Which ICMP type and code; none means all.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Who the other end may be; never empty.
    pub peers: Vec<Peer>,
    /// What people call it.
    pub description: Option<String>,
}

impl Rule {
    /// The rule of `spec` under `id`.
    #[must_use]
    pub fn new(id: RuleId, direction: Direction, spec: RuleSpec) -> Self {
        let RuleSpec { protocol, ports, icmp, peers, description } = spec;
        Self { id, direction, protocol, ports, icmp, peers, description }
    }

    /// The rule without its place.
    #[must_use]
    pub fn spec(&self) -> RuleSpec {
        RuleSpec {
            protocol: self.protocol,
            ports: self.ports.clone(),
            icmp: self.icmp,
            peers: self.peers.clone(),
            description: self.description.clone(),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            id: String,
            direction: &'static str,
            protocol: Protocol,
            ports: &'a [PortRange],
            icmp_type: Option<u8>,
            icmp_code: Option<u8>,
            peers: &'a [Peer],
            description: Option<&'a str>,
        }
        let shown = Shown {
            id: format_rule_id(self.id),
            direction: direction_name(self.direction),
            protocol: self.protocol,
            ports: &self.ports,
            icmp_type: self.icmp.map(|(kind, _)| kind),
            icmp_code: self.icmp.and_then(|(_, code)| code),
            peers: &self.peers,
            description: self.description.as_deref(),
        };
        shown.serialize(serializer)
    }
}

/// Who the other end of a packet may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Everybody.
    Any,
    /// Addresses of a prefix.
    Cidr(IpNet),
    /// Ports of a security group.
    Group(String),
    /// Ports and gateways of a network.
    Network(String),
    /// Addresses of a prefix list.
    List(String),
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("any"),
            Self::Cidr(net) => write!(out, "{net}"),
            Self::Group(name) => write!(out, "sg:{name}"),
            Self::Network(name) => write!(out, "net:{name}"),
            Self::List(name) => write!(out, "list:{name}"),
        }
    }
}

impl FromStr for Peer {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let named = |prefix| text.strip_prefix(prefix).map(str::to_owned);
        if text == "any" {
            Ok(Self::Any)
        } else if let Some(name) = named("sg:") {
            Ok(Self::Group(name))
        } else if let Some(name) = named("net:") {
            Ok(Self::Network(name))
        } else if let Some(name) = named("list:") {
            Ok(Self::List(name))
        } else {
            parse_cidr(text).map(Self::Cidr)
        }
    }
}

/// A prefix that a person wrote: a bare address is the prefix of itself alone.
pub(super) fn parse_cidr(text: &str) -> Result<IpNet, Mistake> {
    let Some(net) = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) else {
        return Err(not_a_prefix(text));
    };
    if net.trunc() != net {
        return Err(host_bits(net, &format!(" for all of it, or \"{}\" for the one address", net.addr())));
    }
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Err(Mistake::new(format!("{net} is IPv4 written as IPv6"))
            .help(format!("write \"{v4}/{}\"", v6.prefix_len() - 96)));
    }
    Ok(net)
}

/// The mistake of a prefix with host bits; `or` is what else may be meant.
pub(super) fn host_bits(net: IpNet, or: &str) -> Mistake {
    Mistake::new(format!("{net} has bits set beyond its prefix length"))
        .help(format!("write \"{}\"{or}", net.trunc()))
}

fn not_a_prefix(text: &str) -> Mistake {
    let mistake = Mistake::new(format!("`{text}` is neither an address nor a prefix"));
    match text.split_once(':') {
        // Something like `group:web`, not an IPv6 address.
        Some((kind, name)) if !kind.is_empty() && !kind.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            let kind = match kind {
                "group" | "security_group" | "security-group" | "s" => "sg",
                "network" => "net",
                "prefix_list" | "prefix-list" | "pl" => "list",
                _ => return mistake.help(PEER_HELP),
            };
            mistake.help(format!("did you mean `{kind}:{name}`?"))
        }
        _ => mistake.help(PEER_HELP),
    }
}

const PEER_HELP: &str = "write an address, a prefix like \"192.0.2.0/24\", \"sg:GROUP\", \"net:NETWORK\", \"list:LIST\" or \"any\"";
