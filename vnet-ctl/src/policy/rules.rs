//! One rule of a security group, as the policy file writes it.

use std::ops::Range;

use vnet_common::Direction;

use super::{
    Mistake, Peer, PortRange, Protocol, RuleSpec,
    diagnostic::Finding,
    parse::{Names, unknown},
    rule::direction_name,
    section::{Node, Report, Schema, Section, integer, list_of, one_of, string},
    tree::Kind,
};

pub(super) const RULE: Schema = Schema {
    keys: &["protocol", "ports", "icmp_type", "icmp_code", "from", "to", "description"],
    later: &[],
};

/// The rule that `node` must be; `None` once what is wrong with it is recorded.
pub(super) fn spec(
    node: Node<'_>,
    direction: Direction,
    names: &Names<'_>,
    report: &mut Report,
) -> Option<RuleSpec> {
    let title = format!("this {} rule", direction_name(direction));
    let section = Section::open((direction_name(direction), title, node.span()), node, &RULE, report)?;
    spec_in(&section, direction, names, report)
}

/// What a rule of the direction that is written in `section` matches; `None` once what is wrong is recorded.
pub(super) fn spec_in(
    section: &Section<'_>,
    direction: Direction,
    names: &Names<'_>,
    report: &mut Report,
) -> Option<RuleSpec> {
    let help = "name one (tcp, udp, sctp, icmp, icmpv6 or a number), or write protocol = \"any\"";
    let protocol = section.require("protocol", help, report).and_then(|node| protocol(node, report));
    let ports = ports(section, protocol, report);
    let icmp = icmp(section, protocol, report);
    let peers = peers(section, direction, names, report);
    let description = match section.get("description") {
        Some(node) => Some(string(node, report)?.to_owned()),
        None => None,
    };
    let spec = RuleSpec { protocol: protocol?, ports: ports?, icmp: icmp?, peers: peers?, description };
    warn_if_futile(&spec, section.place(), report);
    Some(spec)
}

/// The direction that `node` must name.
pub(super) fn direction(node: Node<'_>, report: &mut Report) -> Option<Direction> {
    let words =
        [Direction::Ingress, Direction::Egress].map(|direction| (direction_name(direction), direction));
    one_of(node, "a direction", words, report)
}

fn protocol(node: Node<'_>, report: &mut Report) -> Option<Protocol> {
    let protocol = match node.kind() {
        Kind::Integer(_) => Protocol::from_number(integer(node, report)?),
        _ => string(node, report)?.parse(),
    };
    report.keep(node.span(), protocol)
}

/// Absent means all ports; `None` is a mistake.
fn ports(section: &Section<'_>, protocol: Option<Protocol>, report: &mut Report) -> Option<Vec<PortRange>> {
    let Some((key, node)) = section.entry("ports") else { return Some(Vec::new()) };
    if let Some(protocol) = protocol.filter(|protocol| !protocol.has_ports()) {
        let message = format!("protocol {protocol} has no ports");
        let help = match protocol {
            Protocol::ANY => "name the protocol: tcp, udp or sctp",
            Protocol::ICMP | Protocol::ICMPV6 => "take `ports` out; icmp_type chooses the messages",
            _ => "take `ports` out",
        };
        report.error(key, Mistake::new(message).help(help));
        return None;
    }
    let ports = list_of(node, report, |node, report| {
        let range = match node.kind() {
            Kind::Integer(_) => PortRange::from_number(integer(node, report)?),
            _ => string(node, report)?.parse(),
        };
        report.keep(node.span(), range)
    })?;
    if ports.is_empty() {
        report
            .error(node.span(), Mistake::new("no port is named").help("take `ports` out to allow all ports"));
        return None;
    }
    Some(ports)
}

/// Absent means all messages; `None` is a mistake, told already.
fn icmp(
    section: &Section<'_>,
    protocol: Option<Protocol>,
    report: &mut Report,
) -> Option<Option<(u8, Option<u8>)>> {
    let mut byte = |key: &str| {
        let Some((place, node)) = section.entry(key) else { return Some(None) };
        if let Some(protocol) = protocol.filter(|protocol| !protocol.is_icmp()) {
            let mistake = Mistake::new(format!("`{key}` does not go with protocol {protocol}"));
            report.error(place, mistake.help("it is for icmp and icmpv6"));
            return None;
        }
        let number = integer(node, report)?;
        let byte =
            u8::try_from(number).map_err(|_| Mistake::new(format!("{key} goes from 0 to 255, not {number}")));
        report.keep(node.span(), byte).map(Some)
    };
    let (kind, code) = (byte("icmp_type"), byte("icmp_code"));
    match (kind?, code?) {
        (None, None) => Some(None),
        (Some(kind), code) => Some(Some((kind, code))),
        (None, Some(_)) => {
            let place = section.entry("icmp_code").map_or(section.place(), |(place, _)| place);
            report.error(
                place,
                Mistake::new("`icmp_code` needs an `icmp_type`").help("add icmp_type = NUMBER"),
            );
            None
        }
    }
}

fn peers(
    section: &Section<'_>,
    direction: Direction,
    names: &Names<'_>,
    report: &mut Report,
) -> Option<Vec<Peer>> {
    let (right, wrong, meaning) = match direction {
        Direction::Ingress => ("from", "to", "who may reach the workload"),
        Direction::Egress => ("to", "from", "whom the workload may reach"),
    };
    if let Some((place, _)) = section.entry(wrong) {
        let message = format!("`{wrong}` does not go with an {} rule", direction_name(direction));
        report.error(place, Mistake::new(message).help(format!("write `{right}`: {meaning}")));
        section.get(right)?;
    }
    let help = format!(
        "say {meaning}: {right} = [\"any\"], a prefix, \"sg:GROUP\", \"net:NETWORK\" or \"list:LIST\""
    );
    let node = section.require(right, &help, report)?;
    let peers = list_of(node, report, |node, report| {
        let text = string(node, report)?;
        let peer = text.parse().and_then(|peer| check_reference(peer, names));
        report.keep(node.span(), peer)
    })?;
    if peers.is_empty() {
        report.error(node.span(), Mistake::new("nobody is named").help(help));
        return None;
    }
    Some(peers)
}

/// Whether what `peer` names is there.
pub(super) fn check_reference(peer: Peer, names: &Names<'_>) -> Result<Peer, Mistake> {
    match &peer {
        Peer::Group(name) if !names.groups.contains(name.as_str()) => {
            Err(unknown("security group", name, &names.groups, "security_groups"))
        }
        Peer::Network(name) if !names.networks.contains(name.as_str()) => {
            Err(unknown("network", name, &names.networks, "networks"))
        }
        Peer::List(name) if !names.lists.contains(name.as_str()) => {
            let mistake = unknown("prefix list", name, &names.lists, "prefix_lists");
            let has_suggestion = mistake.help.as_ref().is_some_and(|help| help.starts_with("did you mean"));
            Err(if has_suggestion {
                mistake
            } else {
                mistake.help(format!("add `{name} = [\"192.0.2.0/24\"]` under [prefix_lists]"))
            })
        }
        _ => Ok(peer),
    }
}

/// Whether it is about ICMP of one IP version between addresses of the other.
pub(super) fn is_futile(spec: &RuleSpec) -> bool {
    let cannot_match =
        |peer: &Peer| matches!(peer, Peer::Cidr(net) if !spec.protocol.fits(net.addr().is_ipv4()));
    spec.peers.iter().all(cannot_match)
}

fn warn_if_futile(spec: &RuleSpec, place: Range<usize>, report: &mut Report) {
    if !is_futile(spec) {
        return;
    }
    let (version, other) =
        if spec.protocol == Protocol::ICMP { ("IPv4", "icmpv6") } else { ("IPv6", "icmp") };
    let message = format!("this rule never matches: {} is for {version} only", spec.protocol);
    let help = format!("write protocol = \"{other}\"");
    report.warnings.push(Finding::new(place, Mistake::new(message).help(help)));
}
