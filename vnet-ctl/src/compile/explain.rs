//! Which rule decides, both ends, told from the policy itself rather than from what is compiled.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;
use vnet_common::{Direction, DropReason};

use super::{
    Assigned,
    evaluate::{Deciding, Packet, PeerView, deciding_entry, deciding_rule, failsafe},
};
use crate::policy::{AclAction, HostAccess, Mistake, NetworkKind, Overlaps, Policy, Protocol, Rule};

mod places;

use self::places::{Place, ends};

/// One end of an imagined packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// A port of the policy.
    Port(String),
    /// Whoever has an address.
    Addr(IpAddr),
    /// The host, by the gateway address of the other end's network.
    Host,
}

impl FromStr for Party {
    type Err = Mistake;

    /// `host`, an address, else a port's name.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        Ok(match (text, text.parse()) {
            ("", _) => return Err(Mistake::new("nobody is named").help("name a port, an address, or `host`")),
            ("host", _) => Self::Host,
            (_, Ok(addr)) => Self::Addr(addr),
            (name, Err(_)) => Self::Port(name.to_owned()),
        })
    }
}

/// A packet that opens a flow, to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends it.
    pub from: Party,
    /// Who is to receive it.
    pub to: Party,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its destination port, where the protocol has ports.
    pub port: Option<u16>,
    /// Its ICMP type and code, where the protocol is ICMP; an echo request unless given.
    pub icmp: Option<(u8, Option<u8>)>,
}

/// What becomes of the packet, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Its source address.
    pub src: IpAddr,
    /// Its destination address.
    pub dst: IpAddr,
    /// Whether the rules of both ends allow it.
    pub allowed: bool,
    /// Whether it arrives: allowed, and nothing stands in its way.
    pub delivered: bool,
    /// What is said at the sender's end.
    pub egress: End,
    /// What is said at the receiver's end.
    pub ingress: End,
    /// What stands in its way whatever the rules say.
    pub obstacle: Option<Obstacle>,
}

/// What one end says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum End {
    /// No group judges this end.
    NotJudged {
        /// Why not.
        why: &'static str,
    },
    /// An entry of the acl decides, and no group is asked.
    Acl {
        /// The port.
        port: String,
        /// What the entry does.
        action: AclAction,
        /// Which entry of the acl it is, counted from 1.
        entry: usize,
        /// What the entry matches.
        rule: Rule,
    },
    /// A rule allows it.
    Allowed {
        /// The port.
        port: String,
        /// The group that the rule belongs to.
        group: String,
        /// The rule.
        rule: Rule,
    },
    /// No rule allows it.
    Denied {
        /// The port.
        port: String,
        /// The groups that were asked.
        groups: Vec<String>,
    },
}

impl End {
    /// Whether this end drops the packet.
    #[must_use]
    pub const fn denies(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Acl { action: AclAction::Deny, .. })
    }
}

/// Why the packet would not arrive even if it was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The reason that the drop is counted under.
    pub reason: DropReason,
    /// What to do about it.
    pub help: Option<String>,
}

impl From<DropReason> for Obstacle {
    fn from(reason: DropReason) -> Self {
        Self { reason, help: None }
    }
}

impl Serialize for Obstacle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            reason: &'static str,
            explanation: &'static str,
            help: Option<&'a str>,
        }
        let help = self.help.as_deref();
        Shown { reason: self.reason.label(), explanation: self.reason.explanation(), help }
            .serialize(serializer)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.reason.label(), self.reason.explanation())?;
        self.help.iter().try_for_each(|help| write!(out, " {help}"))
    }
}

/// A question that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExplainError {
    /// There is no such port.
    #[error("there is no port `{name}`{}", .similar.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    NoSuchPort {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        similar: Option<String>,
    },
    /// Anything else, with what to ask instead.
    #[error(transparent)]
    Senseless(#[from] Mistake),
}

/// What becomes of the packet of `question`.
///
/// # Errors
/// When the question names nobody, or no one packet.
pub fn explain(policy: &Policy, assigned: &Assigned, question: &Question) -> Result<Decision, ExplainError> {
    let (from, to) = ends(policy, assigned, question)?;
    let packet =
        Packet { protocol: question.protocol.0, value: value(question)?, is_ipv4: from.addr.is_ipv4() };
    let egress = judge(policy, &from, Direction::Egress, &to, packet);
    let ingress = judge(policy, &to, Direction::Ingress, &from, packet);
    let allowed = !egress.denies() && !ingress.denies();
    let obstacle = obstacle(policy, &from, &to, packet);
    let delivered = allowed && obstacle.is_none();
    Ok(Decision { src: from.addr, dst: to.addr, allowed, delivered, egress, ingress, obstacle })
}

/// What is said at one end about a packet from or to `peer`.
fn judge(policy: &Policy, end: &Place<'_>, direction: Direction, peer: &Place<'_>, packet: Packet) -> End {
    let Some(name) = end.port else {
        let why = if end.is_host() { "the host is trusted" } else { "outside of vnet" };
        return End::NotJudged { why };
    };
    if direction == Direction::Ingress && peer.is_host() {
        return End::NotJudged { why: "the host is trusted" };
    }
    if direction == Direction::Egress && peer.is_host() && failsafe(policy, packet).is_some() {
        return End::NotJudged { why: "a failsafe port of the host is never cut off" };
    }
    let peer = PeerView { addr: peer.addr, groups: peer.groups(policy), network: peer.network };
    let port = name.to_owned();
    if let Some((before, entry)) = deciding_entry(policy, direction, &peer, packet) {
        return End::Acl { port, action: entry.action, entry: before + 1, rule: entry.rule.clone() };
    }
    match deciding_rule(policy, end.groups(policy), direction, &peer, packet) {
        Some(Deciding { group, rule, .. }) => {
            End::Allowed { port, group: group.to_owned(), rule: rule.clone() }
        }
        None => End::Denied { port, groups: end.groups(policy).to_vec() },
    }
}

/// What the datapath does not do for any rule's sake.
fn obstacle(policy: &Policy, from: &Place<'_>, to: &Place<'_>, packet: Packet) -> Option<Obstacle> {
    if is_by_router(policy, from, to) || is_by_router(policy, to, from) {
        return None;
    }
    let Some(own) = from.network.or(from.beyond) else {
        let is_routed = kind_of(policy, to) == Some(NetworkKind::Routed);
        return (!is_routed).then(|| DropReason::Forwarded.into());
    };
    // Between the host and a port, the network of the port is asked; the host answers in that of the sender.
    let network = policy.networks.get(if from.is_host() { to.network.unwrap_or(own) } else { own });
    let is_near =
        to.beyond == Some(own) || to.network.is_some_and(|to| to == own || policy.joined(own).contains(to));
    if !is_near {
        let reason = match network.map(|network| network.kind) {
            Some(NetworkKind::Routed) if to.is_outside() => return None,
            Some(NetworkKind::Nat) => DropReason::Untranslated,
            _ => DropReason::NoRoute,
        };
        return Some(Obstacle { reason, help: to.network.map(|to| apart(policy, own, to)) });
    }
    let excludes = network.is_some_and(|network| network.host == HostAccess::Excluded);
    let is_apart = || {
        let overlaps = Overlaps::of(&policy.networks);
        [from, to].into_iter().any(|place| place.is_apart_from_host(policy, &overlaps))
    };
    let is_failsafe = to.is_host() && failsafe(policy, packet).is_some() && !is_apart();
    ((from.is_host() || to.is_host()) && excludes && !is_failsafe).then(|| DropReason::HostExcluded.into())
}

/// How to get from the network `own` to another, which is apart from it.
fn apart(policy: &Policy, own: &str, to: &str) -> String {
    let is_bridged =
        |name: &&str| policy.networks.get(*name).is_some_and(|it| it.kind == NetworkKind::Bridged);
    match [own, to].iter().find(|name| is_bridged(name)) {
        Some(name) => {
            format!("Network `{name}` is bridged: its LAN's router leads on from it, not this host.")
        }
        None => {
            format!(
                "Networks `{own}` and `{to}` are not joined: add connect = [\"{to}\"] to [networks.{own}]."
            )
        }
    }
}

/// The type of the network that an end is in.
fn kind_of(policy: &Policy, end: &Place<'_>) -> Option<NetworkKind> {
    policy.networks.get(end.network?).map(|network| network.kind)
}

/// Whether `near` is a port of a bridged network, and `far` nowhere here: the LAN's router leads there.
fn is_by_router(policy: &Policy, near: &Place<'_>, far: &Place<'_>) -> bool {
    far.is_outside() && near.port.is_some() && kind_of(policy, near) == Some(NetworkKind::Bridged)
}

/// The ICMP message of a question that names none: echo request (RFC 792, RFC 4443 section 4.1).
const fn echo_request(protocol: Protocol) -> u8 {
    if matches!(protocol, Protocol::ICMP) { 8 } else { 128 }
}

/// The destination port, or ICMP type × 256 + code.
fn value(question: &Question) -> Result<u16, Mistake> {
    let protocol = question.protocol;
    match (protocol, question.port, question.icmp) {
        (Protocol::ANY, ..) => Err(Mistake::new("a packet has one protocol")
            .help("name it: tcp, udp, sctp, icmp, icmpv6 or a number")),
        (_, Some(port @ 1..), None) if protocol.has_ports() => Ok(port),
        (_, Some(_), None) if protocol.has_ports() => Err(Mistake::new("0 is not a port")),
        (_, None, None) if protocol.has_ports() => {
            Err(Mistake::new(format!("which {protocol} port?")).help("name the destination port"))
        }
        (_, Some(_), _) if !protocol.has_ports() => {
            Err(Mistake::new(format!("protocol {protocol} has no ports")))
        }
        (_, None, icmp) if protocol.is_icmp() => {
            let (kind, code) = icmp.unwrap_or((echo_request(protocol), None));
            Ok(u16::from_be_bytes([kind, code.unwrap_or(0)]))
        }
        (_, _, Some(_)) => Err(Mistake::new(format!("protocol {protocol} has no ICMP type"))),
        (_, None, None) | (_, Some(_), None) => Ok(0),
    }
}
