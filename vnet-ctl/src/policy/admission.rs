//! Whether any rule admits what forwards and elastic IPs bring from outside.
//!
//! They open nothing by themselves. Groups and acl judge what they bring by the address of who sends it and the
//! port that it is translated to. A warning is given only where it is certain: a rule that admits a single address
//! or port is enough to be silent.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vnet_common::Direction;

use super::{
    AclAction, AclRule, DEFAULT_GROUP, Mistake, Peer, Policy, Port, PortRange, Protocol, Rule,
    diagnostic::Finding, elastic_ips, forwards, segments,
};

/// Where the file says what leads to a port, and what names other hosts.
#[derive(Default)]
pub(super) struct Places {
    /// The forwards, in their order.
    pub(super) forwards: Vec<forwards::Place>,
    /// The elastic IPs.
    pub(super) elastic_ips: elastic_ips::Places,
    /// The peers of overlays.
    pub(super) peers: segments::Places,
}

/// A warning for each forward and elastic IP that nobody outside can use.
pub(super) fn warnings(policy: &Policy, places: &Places) -> Vec<Finding> {
    let forwards = futile_forwards(policy).filter_map(|((index, backend), mistake)| {
        let place = places.forwards.get(index)?.to.get(backend)?;
        Some(Finding::new(place.clone(), mistake))
    });
    let elastic_ips = futile_elastic_ips(policy).filter_map(|(addr, mistake)| {
        places.elastic_ips.get(&addr).map(|place| Finding::new(place.clone(), mistake))
    });
    forwards.chain(elastic_ips).collect()
}

/// Whether there is anything to warn of.
pub(super) fn warns(policy: &Policy) -> bool {
    futile_forwards(policy).next().is_some() || futile_elastic_ips(policy).next().is_some()
}

/// Backends of forwards, by their indexes, to which comes what nothing admits. What listens on loopback is the host's
/// alone, and the host is trusted; what drains gets nothing.
fn futile_forwards(policy: &Policy) -> impl Iterator<Item = ((usize, usize), Mistake)> {
    let open = policy.forwards.iter().enumerate().filter(|(_, forward)| !forward.listen.is_loopback());
    let backends = open.flat_map(|(index, forward)| {
        let backends = forward.to.iter().enumerate().filter(|(_, backend)| !backend.drains());
        backends.map(move |(number, backend)| ((index, number), forward, backend))
    });
    backends.filter_map(|(place, forward, backend)| {
        let ports = forward.to_ports(backend);
        let brings = Traffic { is_ipv4: forward.listen.is_ipv4(), protocol: forward.protocol, ports };
        let futile_for = match &forward.to[..] {
            [_] => format!("nobody outside can use the forward {}", forward.name()),
            _ => format!("the forward {} loses a part of what it brings", forward.name()),
        };
        let flags = format!("-p {} --port {}", brings.protocol, brings.ports);
        Some((place, futile(policy, (&backend.port, &futile_for), &brings, &flags)?))
    })
}

/// Elastic IPs that bring what nothing admits.
fn futile_elastic_ips(policy: &Policy) -> impl Iterator<Item = (IpAddr, Mistake)> {
    policy.elastic_ips.iter().filter_map(|(addr, elastic_ip)| {
        let ports = PortRange { first: 1, last: u16::MAX };
        let brings = Traffic { is_ipv4: addr.is_ipv4(), protocol: Protocol::ANY, ports };
        let futile_for = format!("nobody outside can use the elastic IP {addr}");
        Some((*addr, futile(policy, (&elastic_ip.port, &futile_for), &brings, "-p tcp --port 443")?))
    })
}

/// What to tell if nothing is admitted of what is brought to `port`, and what is then `futile_for` whom. A rule with
/// the `flags` of `sg add` would admit it.
fn futile(
    policy: &Policy,
    (port, futile_for): (&str, &str),
    brings: &Traffic,
    flags: &str,
) -> Option<Mistake> {
    let declared = policy.ports.get(port)?;
    let judge = Judge { policy, brings };
    if judge.admits(declared) {
        return None;
    }
    let message = format!("{futile_for}: no rule admits what it brings to port `{port}`");
    let group = declared.security_groups.first().map_or(DEFAULT_GROUP, String::as_str);
    let help = if judge.acl_denies_all() {
        "an entry of the acl denies it; `vnet-ctl acl list` shows them".to_owned()
    } else {
        format!("`vnet-ctl sg add {group} ingress {flags} --from any` opens it")
    };
    Some(Mistake::new(message).help(help))
}

/// What is brought to a port, as its groups see it.
struct Traffic {
    is_ipv4: bool,
    /// Which protocol; any for all of them.
    protocol: Protocol,
    /// Which ports, if it has any.
    ports: PortRange,
}

/// Packets of one kind that a rule matches.
struct Sample {
    from: IpNet,
    protocol: Protocol,
    port: Option<u16>,
    icmp: Option<(u8, Option<u8>)>,
}

struct Judge<'p> {
    policy: &'p Policy,
    brings: &'p Traffic,
}

impl Judge<'_> {
    /// Whether the acl or a group of `port` admits any of it.
    fn admits(&self, port: &Port) -> bool {
        let acl = &self.policy.acl;
        let by_acl = acl.iter().enumerate().any(|(index, entry)| {
            let is_allow = entry.action == AclAction::Allow && entry.rule.direction == Direction::Ingress;
            is_allow && self.is_left(&entry.rule, &acl[..index])
        });
        let groups = port.security_groups.iter().filter_map(|name| self.policy.security_groups.get(name));
        by_acl || groups.flat_map(|group| &group.ingress).any(|rule| self.is_left(rule, acl))
    }

    /// Whether the acl denies it whatever the groups say.
    fn acl_denies_all(&self) -> bool {
        let Traffic { protocol, ports, .. } = *self.brings;
        let ports = if protocol.has_ports() { vec![ports] } else { Vec::new() };
        let peers = vec![Peer::Any];
        let rule = Rule {
            id: 0,
            direction: Direction::Ingress,
            protocol,
            ports,
            icmp: None,
            peers,
            description: None,
        };
        !self.is_left(&rule, &self.policy.acl)
    }

    /// Whether `rule` matches anything of it that no entry `before` denies.
    fn is_left(&self, rule: &Rule, before: &[AclRule]) -> bool {
        let is_denial =
            |entry: &&AclRule| entry.action == AclAction::Deny && entry.rule.direction == Direction::Ingress;
        let denials: Vec<&Rule> = before.iter().filter(is_denial).map(|entry| &entry.rule).collect();
        let Some(protocol) = self.protocol(rule) else { return false };
        let prefixes = rule.peers.iter().flat_map(|peer| self.prefixes(peer));
        let ports = self.ports(rule, protocol, &denials);
        prefixes.filter(|from| self.is_outside(*from)).any(|from| {
            ports.iter().any(|port| {
                let sample = Sample { from, protocol, port: *port, icmp: rule.icmp };
                !denials.iter().any(|denial| self.covers(denial, &sample))
            })
        })
    }

    /// The protocol that both the rule and the traffic have.
    fn protocol(&self, rule: &Rule) -> Option<Protocol> {
        let protocol = match (rule.protocol, self.brings.protocol) {
            (Protocol::ANY, brought) => brought,
            (allowed, Protocol::ANY) => allowed,
            (allowed, brought) => Some(allowed).filter(|allowed| *allowed == brought)?,
        };
        protocol.fits(self.brings.is_ipv4).then_some(protocol)
    }

    /// Ports of the traffic that the rule has: if a denial leaves any, it leaves one of these.
    fn ports(&self, rule: &Rule, protocol: Protocol, denials: &[&Rule]) -> Vec<Option<u16>> {
        if !protocol.has_ports() {
            return vec![None];
        }
        let brought = self.brings.ports;
        let all = [brought];
        let allowed = if rule.ports.is_empty() { &all[..] } else { &rule.ports };
        let behind =
            || denials.iter().flat_map(|denial| &denial.ports).filter_map(|range| range.last.checked_add(1));
        let of_range = |range: &PortRange| {
            let range =
                PortRange { first: range.first.max(brought.first), last: range.last.min(brought.last) };
            let ports = [range.first].into_iter().chain(behind());
            ports.filter(move |port| range.contains(*port)).map(Some).collect::<Vec<_>>()
        };
        allowed.iter().flat_map(of_range).collect()
    }

    /// The prefixes of the traffic's IP version that `peer` stands for; a group or network is not outside.
    fn prefixes(&self, peer: &Peer) -> Vec<IpNet> {
        if *peer == Peer::Any {
            let everybody =
                if self.brings.is_ipv4 { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
            return vec![everybody];
        }
        let prefixes = self.policy.prefixes(peer).iter().copied();
        prefixes.filter(|net| net.addr().is_ipv4() == self.brings.is_ipv4).collect()
    }

    /// Whether any address of `net` is in no network that this host is the gateway of.
    fn is_outside(&self, net: IpNet) -> bool {
        let own = self.policy.networks.values().filter(|network| network.is_routed_here());
        let mut subnets = own.flat_map(|network| &network.subnets);
        !subnets.any(|subnet| subnet.net.contains(&net))
    }

    /// Whether the denial matches all of the sample.
    fn covers(&self, denial: &Rule, sample: &Sample) -> bool {
        let has_protocol = denial.protocol == Protocol::ANY || denial.protocol == sample.protocol;
        let has_port = denial.ports.is_empty()
            || sample.port.is_some_and(|port| denial.ports.iter().any(|range| range.contains(port)));
        let has_message = denial.icmp.is_none_or(|(kind, code)| {
            sample.icmp.is_some_and(|(own, own_code)| kind == own && (code.is_none() || code == own_code))
        });
        let is_from = |peer: &Peer| self.prefixes(peer).iter().any(|net| net.contains(&sample.from));
        has_protocol && has_port && has_message && denial.peers.iter().any(is_from)
    }
}
