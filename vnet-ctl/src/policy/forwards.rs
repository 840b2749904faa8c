//! The `forwards` of a policy file: ports of the host that lead to workloads.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use super::{
    Forward, Listen, Mistake, Protocol, Target,
    diagnostic::Finding,
    section::{Node, Report, Schema, Section, one_of, string},
    targets::{Targets, entries},
};

pub(super) const FORWARD: Schema = Schema { keys: &["listen", "protocol", "to"], later: &[] };

/// A forward, where it says what is listened on, and where it leads.
type Placed = (Forward, Range<usize>, Range<usize>);

/// Where the file gives a forward.
pub(super) struct Place {
    /// What is listened on.
    pub(super) listen: Range<usize>,
    /// Where it leads.
    pub(super) to: Range<usize>,
}

/// The forwards that are right, and their places; what is wrong with the others is recorded.
pub(super) fn forwards(
    node: Node<'_>,
    targets: &Targets<'_, '_>,
    report: &mut Report,
) -> (Vec<Forward>, Vec<Place>) {
    let entries = entries("forwards", node, report);
    let placed: Vec<_> = entries.into_iter().filter_map(|node| forward(node, targets, report)).collect();
    report_overlaps(&placed, report);
    placed.into_iter().map(|(forward, listen, to)| (forward, Place { listen, to })).unzip()
}

fn forward(node: Node<'_>, targets: &Targets<'_, '_>, report: &mut Report) -> Option<Placed> {
    let heading = ("forwards", "this forward".to_owned(), node.span());
    let section = Section::open(heading, node, &FORWARD, report)?;
    let listen = section.require("listen", "write listen = \"0.0.0.0:8080\"", report).and_then(|node| {
        let text = string(node, report)?;
        let listen: Listen = report.keep(node.span(), text.parse())?;
        report.keep(node.span(), is_not_a_workloads(listen.addr, targets))?;
        Some((listen, node.span()))
    });
    let protocol = section
        .require("protocol", "write protocol = \"tcp\", \"udp\" or \"sctp\"", report)
        .and_then(|node| protocol(node, report));
    let to = section.require("to", "write to = \"PORT:NUMBER\", for instance \"web-1:80\"", report);
    let to = to.and_then(|node| {
        let text = string(node, report)?;
        let target: Target = report.keep(node.span(), text.parse())?;
        let addr = listen.as_ref().map(|(listen, _)| listen.addr);
        report.keep(node.span(), targets.check_port(&target.port, addr))?;
        Some((target, node.span()))
    });
    let ((listen, place), (target, there)) = (listen?, to?);
    let to_port = report.keep(there.clone(), to_port(&listen, protocol?, &target))?;
    let ports = (listen.ports.first, listen.ports.last);
    Some((
        Forward { listen: listen.addr, ports, protocol: protocol?, to: target.port, to_port },
        place,
        there,
    ))
}

fn protocol(node: Node<'_>, report: &mut Report) -> Option<Protocol> {
    let words = [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)];
    one_of(node, "a protocol with ports", words, report)
}

/// An address in a network is the host's only if it is a gateway.
fn is_not_a_workloads(addr: IpAddr, targets: &Targets<'_, '_>) -> Result<(), Mistake> {
    let subnets = targets.networks.values().filter_map(|network| network.subnet_of(addr));
    match subnets.into_iter().find(|subnet| subnet.gateway != addr) {
        None => Ok(()),
        Some(subnet) => Err(Mistake::new(format!("{addr} is no address of the host"))
            .help(format!("in the subnet {} the host has {}", subnet.net, subnet.gateway))),
    }
}

/// What the first port becomes.
fn to_port(listen: &Listen, protocol: Protocol, target: &Target) -> Result<u16, Mistake> {
    let (first, last) = (listen.ports.first, listen.ports.last);
    let to_port = target.number.unwrap_or(first);
    if protocol == Protocol::SCTP && to_port != first {
        let message = format!("SCTP keeps its ports, so {first} cannot become {to_port}");
        return Err(Mistake::new(message).help(format!(
            "write to = \"{}\" and let the workload use {}; the checksum of SCTP covers its ports",
            target.port, listen.ports
        )));
    }
    let most = u16::MAX - (last - first);
    if to_port > most {
        let message = format!("the {} ports from {to_port} pass 65535", u32::from(last - first) + 1);
        return Err(
            Mistake::new(message).help(format!("{most} is the highest that the first of them can be"))
        );
    }
    Ok(to_port)
}

/// Whether a packet can be for both addresses.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

/// Records each forward that wants what an earlier one has.
fn report_overlaps(placed: &[Placed], report: &mut Report) {
    let mut alike: BTreeMap<_, Vec<&Placed>> = BTreeMap::new();
    for forward in placed {
        alike.entry((forward.0.protocol, forward.0.listen.is_ipv4())).or_default().push(forward);
    }
    for mut alike in alike.into_values() {
        alike.sort_by_key(|(forward, ..)| forward.ports);
        let mut before: Vec<&Placed> = Vec::new();
        for forward in alike {
            before.retain(|(other, ..)| other.ports.1 >= forward.0.ports.0);
            if let Some(other) = before.iter().find(|(other, ..)| overlap(other.listen, forward.0.listen)) {
                report.errors.push(collision(other, forward));
            }
            before.push(forward);
        }
    }
}

fn collision(a: &Placed, b: &Placed) -> Finding {
    let (first, second) = if a.1.start < b.1.start { (a, b) } else { (b, a) };
    let (owner, wanted) = (&first.0, &second.0);
    let message = if owner.listens() == wanted.listens() {
        format!("{} is forwarded to port `{}` already", wanted.name(), owner.to)
    } else {
        format!("{} overlaps {}, which is forwarded to port `{}`", wanted.name(), owner.name(), owner.to)
    };
    let mistake = Mistake::new(message).help("give each forward an address or ports of its own");
    Finding::new(second.1.clone(), mistake)
        .related(first.1.clone(), format!("forwarded to port `{}` here", owner.to))
}
