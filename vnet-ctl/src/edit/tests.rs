//! Edits change what they are meant to and not a byte more.

mod acl;
mod backends;
mod groups;
mod networks;
mod ports;
mod rules;
mod translation;

use std::path::Path;

use vnet_common::{Direction, RuleId};

use super::{EditError, IfExists, Selector, add_rule, remove_rule};
use crate::policy::{Policy, RuleSpec, parse};

/// A rule as the command line gives it: protocol, ports, peers.
fn spec(protocol: &str, ports: &[&str], peers: &[&str]) -> RuleSpec {
    RuleSpec {
        protocol: protocol.parse().unwrap(),
        ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
        icmp: None,
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        description: None,
    }
}

fn tcp_443() -> RuleSpec {
    spec("tcp", &["443"], &["any"])
}

fn policy(text: &str) -> Policy {
    match parse(text, Path::new("p.toml")) {
        Ok((policy, _)) => policy,
        Err(diagnostics) => panic!("{diagnostics}\n{text}"),
    }
}

/// Adds TCP 443 from anybody to the ingress of `web`.
#[track_caller]
fn added(text: &str) -> (String, RuleId) {
    match add_rule(text, "web", Direction::Ingress, &tcp_443(), IfExists::Fail) {
        Ok(added) => added,
        Err(error) => panic!("{error}"),
    }
}

/// Asserts what becomes of `before` once the rule is added, and that taking it out restores `before`.
#[track_caller]
fn round_trip(before: &str, after: &str) {
    let (text, id) = added(before);
    assert_eq!(text, after);
    let (text, removed) = remove_rule(&text, "web", &Selector::Id(id)).unwrap();
    assert_eq!((text.as_str(), removed), (before, id));
}

#[track_caller]
fn code<T>(result: Result<T, EditError>) -> (u8, String) {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => (error.exit_code(), error.to_string()),
    }
}
