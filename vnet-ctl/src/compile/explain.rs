//! Which rule decides, both ends, told from the policy itself rather than from what is compiled.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;
use vnet_common::{Direction, DropReason};

use super::Assigned;
use crate::policy::{Mistake, Policy, Protocol, Rule};

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
    /// Whether the groups of both ends allow it.
    pub allowed: bool,
    /// Whether it arrives: allowed, and nothing stands in its way.
    pub delivered: bool,
    /// What the sender's groups say.
    pub egress: End,
    /// What the receiver's groups say.
    pub ingress: End,
    /// What stands in its way whatever the groups say.
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

/// Why the packet would not arrive even if it was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obstacle(pub DropReason);

impl Serialize for Obstacle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown {
            reason: &'static str,
            explanation: &'static str,
        }
        Shown { reason: self.0.label(), explanation: self.0.explanation() }.serialize(serializer)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.0.label(), self.0.explanation())
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
    let _ = (policy, assigned, question, Direction::Ingress);
    unimplemented!("coming with the next commit")
}
