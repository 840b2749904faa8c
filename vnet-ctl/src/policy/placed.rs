//! Where a policy file says what turns out wrong on a host: mistakes that its text alone does not show.

use std::{net::IpAddr, path::Path};

use super::{Diagnostics, Forward, Mistake, diagnostic::Finding, parse::parse_with_places};

/// What in a policy a mistake is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The forward of this name.
    Forward(String),
    /// The elastic IP.
    ElasticIp(IpAddr),
    /// The peer of the network of this name.
    Peer(String, IpAddr),
}

/// The `mistakes` in `text`, a valid policy, at their places. What has none is told at the beginning.
pub(crate) fn placed(
    (text, origin): (&str, &Path),
    mistakes: impl IntoIterator<Item = (Subject, Mistake)>,
) -> Diagnostics {
    let read = parse_with_places(text, origin);
    let place = |subject: &Subject| {
        let (policy, places) = read.as_ref()?;
        match subject {
            Subject::Forward(name) => {
                let mut forwards = policy.forwards.iter().map(Forward::name).zip(&places.forwards);
                forwards.find(|(forward, _)| forward == name).map(|(_, place)| place.listen.clone())
            }
            Subject::ElasticIp(addr) => places.elastic_ips.get(addr).cloned(),
            Subject::Peer(network, addr) => places.peers.get(&(network.clone(), *addr)).cloned(),
        }
    };
    let findings = mistakes
        .into_iter()
        .map(|(subject, mistake)| Finding::new(place(&subject).unwrap_or_default(), mistake));
    Diagnostics::new(origin, text, findings.collect())
}
