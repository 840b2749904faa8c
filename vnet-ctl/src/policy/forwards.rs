//! The `forwards` of a policy file: ports of the host that lead to workloads.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use super::{
    Affinity, Backend, Forward, HostAccess, Listen, MAX_BACKENDS, Mistake, Protocol, Target, USUAL_WEIGHT,
    backends::check_weight,
    diagnostic::Finding,
    overlaps::overlapping,
    section::{Node, Report, Schema, Section, integer, list_of, one_of, string},
    targets::{Targets, entries},
    tree::Kind,
};

pub(super) const FORWARD: Schema = Schema { keys: &["listen", "protocol", "to", "affinity"], later: &[] };
pub(super) const BACKEND: Schema = Schema { keys: &["port", "weight"], later: &[] };

/// A forward, where it says what is listened on, and where each of its backends is.
type Placed = (Forward, Range<usize>, Vec<Range<usize>>);

/// Where the file gives a forward.
pub(super) struct Place {
    /// What is listened on.
    pub(super) listen: Range<usize>,
    /// Where each of its backends is.
    pub(super) to: Vec<Range<usize>>,
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
        report.keep(node.span(), targets.check_hosts(listen.addr))?;
        Some((listen, node.span()))
    });
    let protocol = section
        .require("protocol", "write protocol = \"tcp\", \"udp\" or \"sctp\"", report)
        .and_then(|node| protocol(node, report));
    let affinity = match section.get("affinity") {
        Some(node) => one_of(node, "an affinity", Affinity::WORDS, report),
        None => Some(Affinity::default()),
    };
    let to = section.require("to", "write to = \"PORT:NUMBER\", for instance \"web-1:80\"", report);
    let wanted = Wanted { targets, listen: listen.as_ref().map(|(listen, _)| *listen), protocol };
    let to = to.and_then(|node| Some((wanted.backends(node, report)?, node.span())));
    let ((listen, place), (backends, there)) = (listen?, to?);
    let (to, places): (Vec<_>, Vec<_>) = backends.into_iter().unzip();
    let ports = (listen.ports.first, listen.ports.last);
    let forward = Forward { listen: listen.addr, ports, protocol: protocol?, to, affinity: affinity? };
    if let Some(mistake) = is_for_nobody(&forward, targets) {
        report.warnings.push(Finding::new(there.clone(), mistake));
    }
    if forward.to.iter().all(Backend::drains) {
        let message =
            format!("forward {} brings no new connections: all of its backends drain", forward.name());
        let help = "give one of them a weight of 1 or more, or take the forward out";
        report.warnings.push(Finding::new(there, Mistake::new(message).help(help)));
    }
    Some((forward, place, places))
}

/// What is wrong with a forward for the host's processes alone that leads to where they are kept out.
fn is_for_nobody(forward: &Forward, targets: &Targets<'_, '_>) -> Option<Mistake> {
    let network = |backend: &Backend| Some(&targets.ports.get(&backend.port)?.network);
    let keeps_host_out = |backend: &Backend| {
        let network = network(backend).and_then(|name| targets.networks.get(name));
        network.is_some_and(|network| network.host == HostAccess::Excluded)
    };
    let is_closed = forward.listen.is_loopback() && forward.to.iter().all(keeps_host_out);
    let network = network(forward.to.first()?).filter(|_| is_closed)?;
    let message = format!(
        "nobody can use the forward {}: it is for the host alone, which network `{network}` keeps out",
        forward.name()
    );
    Some(Mistake::new(message).help("listen on another address, or let the host in: host = true"))
}

/// What a forward wants of its backends, as far as it is known.
struct Wanted<'a, 'n, 't> {
    targets: &'a Targets<'n, 't>,
    listen: Option<Listen>,
    protocol: Option<Protocol>,
}

impl Wanted<'_, '_, '_> {
    /// One backend, or a list of them, each with its place.
    fn backends(&self, node: Node<'_>, report: &mut Report) -> Option<Vec<(Backend, Range<usize>)>> {
        match node.kind() {
            Kind::List => {}
            Kind::Table => {
                let mistake = Mistake::new("expected a string or a list, found a table");
                report.error(node.span(), mistake.help("write brackets around it: to = [{ … }]"));
                return None;
            }
            _ => return Some(vec![self.backend(node, USUAL_WEIGHT, report)?]),
        }
        let backends = list_of(node, report, |node, report| match node.kind() {
            Kind::Table => self.weighted(node, report),
            _ => self.backend(node, USUAL_WEIGHT, report),
        })?;
        if backends.is_empty() {
            let mistake = Mistake::new("no backend is named");
            report.error(node.span(), mistake.help("name one, for instance to = [\"web-1:80\"]"));
            return None;
        }
        if backends.len() > MAX_BACKENDS {
            let mistake = Mistake::new(format!("a forward has {MAX_BACKENDS} backends at most"));
            report.error(node.span(), mistake.help(format!("these are {}", backends.len())));
            return None;
        }
        report_repeated(&backends, report)?;
        self.report_alike(&backends, report)?;
        Some(backends)
    }

    /// Records each backend whose address may be that of another one: a flow is known by where it goes.
    fn report_alike(&self, backends: &[(Backend, Range<usize>)], report: &mut Report) -> Option<()> {
        let network = |backend: &Backend| Some(self.targets.ports.get(&backend.port)?.network.as_str());
        let mut before: BTreeMap<&str, (&str, &Range<usize>)> = BTreeMap::new();
        let count = report.errors.len();
        for (backend, place) in backends {
            let Some(own) = network(backend) else { continue };
            let clash = before.iter().find_map(|(other, first)| {
                (*other != own).then_some(())?;
                Some((other, first, overlapping(self.targets.networks, own, other)?))
            });
            if let Some((other, (port, there), (one, two))) = clash {
                let message = format!(
                    "ports `{port}` and `{}` cannot be backends of one forward: {two} of network `{other}` overlaps \
                     {one} of `{own}`",
                    backend.port
                );
                let mistake = Mistake::new(message).help("give each of the networks a forward of its own");
                let finding = Finding::new(place.clone(), mistake);
                report.errors.push(finding.related((*there).clone(), "named here"));
            }
            before.entry(own).or_insert((&backend.port, place));
        }
        (report.errors.len() == count).then_some(())
    }

    /// `{ port = "web-1:80", weight = 3 }`
    fn weighted(&self, node: Node<'_>, report: &mut Report) -> Option<(Backend, Range<usize>)> {
        let heading = ("forwards.to", "this backend".to_owned(), node.span());
        let section = Section::open(heading, node, &BACKEND, report)?;
        let weight = match section.get("weight") {
            Some(node) => {
                integer(node, report).and_then(|number| report.keep(node.span(), check_weight(number)))
            }
            None => Some(USUAL_WEIGHT),
        };
        let port =
            section.require("port", "write port = \"PORT:NUMBER\", for instance \"web-1:80\"", report)?;
        let backend = self.backend(port, weight.unwrap_or(USUAL_WEIGHT), report)?;
        weight.map(|_| backend)
    }

    /// `"web-1:80"`
    fn backend(&self, node: Node<'_>, weight: u8, report: &mut Report) -> Option<(Backend, Range<usize>)> {
        let place = node.span();
        let text = string(node, report)?;
        let target: Target = report.keep(place.clone(), text.parse())?;
        let addr = self.listen.map(|listen| listen.addr);
        report.keep(place.clone(), self.targets.check_port(&target.port, addr))?;
        let to_port = report.keep(place.clone(), to_port(&self.listen?, self.protocol?, &target))?;
        Some((Backend { port: target.port, to_port, weight }, place))
    }
}

/// Records each backend that is there before; nothing if there is any.
fn report_repeated(backends: &[(Backend, Range<usize>)], report: &mut Report) -> Option<()> {
    let mut seen = BTreeMap::new();
    let before = report.errors.len();
    for (backend, place) in backends {
        if let Some(first) = seen.insert(&backend.port, place) {
            let mistake =
                Mistake::new(format!("port `{}` is a backend of this forward already", backend.port));
            let mistake = mistake.help("name it once; a weight gives it a larger part");
            report.errors.push(Finding::new(place.clone(), mistake).related(first.clone(), "named here"));
        }
    }
    (report.errors.len() == before).then_some(())
}

fn protocol(node: Node<'_>, report: &mut Report) -> Option<Protocol> {
    let words = [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)];
    one_of(node, "a protocol with ports", words, report)
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
        format!("{} is forwarded to {} already", wanted.name(), owner.led_to())
    } else {
        format!("{} overlaps {}, which is forwarded to {}", wanted.name(), owner.name(), owner.led_to())
    };
    let mistake = Mistake::new(message).help("give each forward an address or ports of its own");
    Finding::new(second.1.clone(), mistake)
        .related(first.1.clone(), format!("forwarded to {} here", owner.led_to()))
}
