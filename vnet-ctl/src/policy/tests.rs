//! Valid files become the policy that they describe; each mistake is told at its place, all at once.

mod additions;
mod attach;
mod backends;
mod damaged;
mod json;
mod mistakes;
mod overlaps;
mod schema;
mod segments;
mod translation;
mod unadmitted;
mod valid;

use std::path::Path;

use super::{Diagnostic, Diagnostics, Policy, Warning, parse};

/// A valid file that the tests add to.
const BASE: &str = r#"version = 1
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
[networks.backend]
type = "private"
subnets = ["10.20.0.0/24"]
[prefix_lists]
office = ["203.0.113.0/24"]
[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]
"#;

fn parse_text(text: &str) -> Result<(Policy, Vec<Warning>), Diagnostics> {
    parse(text, Path::new("p.toml"))
}

#[track_caller]
fn valid(text: &str) -> Policy {
    match parse_text(text) {
        Ok((policy, warnings)) => {
            assert!(warnings.is_empty(), "warnings: {warnings:?}");
            policy
        }
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// What is wrong with `BASE` and `more` after it; the message and help of each, and the text that it points at.
#[track_caller]
fn mistakes(more: &str) -> Vec<(String, String)> {
    let text = format!("{BASE}{more}");
    let diagnostics = match parse_text(&text) {
        Ok(_) => panic!("accepted:\n{more}"),
        Err(diagnostics) => diagnostics,
    };
    let show = |diagnostic: Diagnostic| {
        let line = text.lines().nth(diagnostic.line - 1).unwrap_or_default();
        let rest: String = line.chars().skip(diagnostic.column - 1).collect();
        (diagnostic.to_string(), rest)
    };
    diagnostics.iter().map(show).collect()
}

/// Asserts the one mistake of `BASE` and `more`: its words, and the text that stands at its place.
#[track_caller]
fn one_mistake(more: &str, words: &[&str], at: &str) {
    let found = mistakes(more);
    let [(message, place)] = found.as_slice() else { panic!("not one mistake: {found:#?}") };
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    assert!(place.starts_with(at), "points at {place:?} instead of {at:?}: {message}");
}
