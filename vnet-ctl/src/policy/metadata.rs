//! The `metadata` of a policy file: services of the host under an address that only workloads know.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    ops::Range,
};

use super::{
    Listen, Metadata, Mistake, Network, Overlaps,
    diagnostic::Finding,
    listen::single,
    parse::{Names, unknown},
    section::{Node, Report, Schema, Section, string},
    special::{Special, check_plain, version},
    targets::{Targets, entries},
};

pub(super) const METADATA: Schema = Schema { keys: &["network", "listen", "to"], later: &[] };

/// The services that are right; what is wrong with the others is recorded.
pub(super) fn metadata(
    node: Node<'_>,
    (targets, names): (&Targets<'_, '_>, &Names<'_>),
    report: &mut Report,
) -> Vec<Metadata> {
    let mut places: BTreeMap<(String, SocketAddr), Range<usize>> = BTreeMap::new();
    let mut services = Vec::new();
    for node in entries("metadata", node, report) {
        let Some((service, place)) = service(node, (targets, names), report) else { continue };
        match places.entry((service.network.clone(), service.listen)) {
            Entry::Vacant(entry) => _ = entry.insert(place),
            Entry::Occupied(entry) => {
                let message = format!("network `{}` has {} already", service.network, service.listen);
                let finding = Finding::new(place, Mistake::new(message).help("remove one of them"));
                report.errors.push(finding.related(entry.get().clone(), "given here first"));
            }
        }
        services.push(service);
    }
    services
}

/// A service, and where it says what is listened on.
fn service(
    node: Node<'_>,
    (targets, names): (&Targets<'_, '_>, &Names<'_>),
    report: &mut Report,
) -> Option<(Metadata, Range<usize>)> {
    let heading = ("metadata", "this metadata service".to_owned(), node.span());
    let section = Section::open(heading, node, &METADATA, report)?;
    let network = section.require("network", "write network = \"NAME\", one of [networks]", report);
    let network = network.and_then(|node| {
        let name = string(node, report)?;
        report.keep(node.span(), check_network(name, names, targets))?;
        Some(name)
    });
    let listen = section.require("listen", "write listen = \"169.254.169.254:80\"", report);
    let listen = listen.and_then(|node| {
        let text = string(node, report)?;
        let listen = report.keep(node.span(), check_listen(text, targets))?;
        let network = network.and_then(|name| targets.networks.get(name).map(|network| (name, network)));
        report.keep(node.span(), network.map_or(Ok(()), |network| has_gateway(network, listen, targets)))?;
        Some((listen, node.span()))
    });
    let to = section.require("to", "write to = \"host:PORT\"", report).and_then(|node| {
        let text = string(node, report)?;
        report.keep(node.span(), to_host(text))
    });
    let (listen, place) = listen?;
    Some((Metadata { network: network?.to_owned(), listen, to_port: to? }, place))
}

fn check_network(name: &str, names: &Names<'_>, targets: &Targets<'_, '_>) -> Result<(), Mistake> {
    if !names.networks.contains(name) {
        return Err(unknown("network", name, &names.networks, "networks"));
    }
    if targets.networks.get(name).is_some_and(|network| !network.is_routed_here()) {
        return Err(Mistake::new(format!("network `{name}` is bridged, so the host is no gateway in it"))
            .help("a metadata service is asked through the gateway; name another network"));
    }
    Ok(())
}

fn check_listen(text: &str, targets: &Targets<'_, '_>) -> Result<SocketAddr, Mistake> {
    let Listen { addr, ports } = text.parse()?;
    check_plain(addr, "a metadata address", &[Special::LinkLocal])?;
    targets.check_outside(addr, "a metadata address")?;
    if ports.first != ports.last {
        return Err(Mistake::new("a metadata service has one port").help("name it: 80 is usual"));
    }
    Ok(SocketAddr::new(addr, ports.first))
}

/// The service is the host's at the network's gateway of the same IP version.
fn has_gateway(
    (name, network): (&str, &Network),
    listen: SocketAddr,
    targets: &Targets<'_, '_>,
) -> Result<(), Mistake> {
    let version = version(listen.is_ipv4());
    let subnets = || network.subnets.iter().filter(|subnet| subnet.net.addr().is_ipv4() == listen.is_ipv4());
    if subnets().next().is_none() {
        return Err(Mistake::new(format!(
            "network `{name}` has no {version} subnet, so nobody asks {}",
            listen.ip()
        ))
        .help(format!("add an {version} subnet, or take this service out")));
    }
    let overlaps = Overlaps::of(targets.networks);
    let Some(subnet) = subnets().find(|subnet| !overlaps.host_is_in(name, subnet)) else { return Ok(()) };
    let other = overlaps.other(name, subnet).unwrap_or_default();
    let message = format!(
        "network `{name}` cannot have a service of the host: {} overlaps a subnet of network `{other}`, so the host \
         has no way there",
        subnet.net
    );
    Err(Mistake::new(message).help("give the network a subnet of its own, or take this service out"))
}

fn to_host(text: &str) -> Result<u16, Mistake> {
    match text.split_once(':') {
        Some(("host", port)) => single(port, "host:"),
        _ => Err(Mistake::new(format!("`{text}` is not a service of the host"))
            .help("write \"host:8775\", with the TCP port that the service has")),
    }
}
