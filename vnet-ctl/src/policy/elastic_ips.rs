//! The `elastic_ips` of a policy file: public addresses that stand for a port each.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    ops::Range,
};

use super::{
    ElasticIp, Mistake,
    diagnostic::Finding,
    groups::on_change,
    section::{Named, Node, Report, Schema, Section, string},
    special::{check_plain, version},
    targets::Targets,
};

pub(super) const ELASTIC_IP: Schema = Schema { keys: &["port", "on_change"], later: &[] };

/// Where the file gives each elastic IP.
pub(super) type Places = BTreeMap<IpAddr, Range<usize>>;

/// The elastic IPs that are right, and their places; what is wrong with the others is recorded.
pub(super) fn elastic_ips(
    named: &[Named<'_>],
    targets: &Targets<'_, '_>,
    report: &mut Report,
) -> (BTreeMap<IpAddr, ElasticIp>, Places) {
    let (mut elastic_ips, mut places) = (BTreeMap::new(), Places::new());
    let mut owners: BTreeMap<(String, bool), (IpAddr, Range<usize>)> = BTreeMap::new();
    let mut named: Vec<_> = named.iter().collect();
    named.sort_by_key(|(_, place, _)| place.start);
    for (name, place, node) in named {
        let addr = report.keep(place.clone(), address(name, targets));
        let addr = addr.and_then(|addr| claim(&mut places, addr, place, report));
        let Some((elastic_ip, there)) = elastic_ip((name, addr), place, (*node, targets), report) else {
            continue;
        };
        let Some(addr) = addr else { continue };
        match owners.entry((elastic_ip.port.clone(), addr.is_ipv4())) {
            Entry::Vacant(entry) => _ = entry.insert((addr, there)),
            Entry::Occupied(entry) => {
                let (other, first) = entry.get();
                let version = version(addr.is_ipv4());
                let message =
                    format!("port `{}` has the {version} elastic IP {other} already", elastic_ip.port);
                let help = format!("give a port one for {version}, or name another port for {addr}");
                let finding = Finding::new(there, Mistake::new(message).help(help));
                report.errors.push(finding.related(first.clone(), format!("{other} stands for it")));
            }
        }
        elastic_ips.insert(addr, elastic_ip);
    }
    (elastic_ips, places)
}

/// The address that `name` must be: a public one, of no network.
fn address(name: &str, targets: &Targets<'_, '_>) -> Result<IpAddr, Mistake> {
    let Ok(addr) = name.parse::<IpAddr>() else {
        let mistake = Mistake::new(format!("`{name}` is not an address"));
        return Err(match name.split_once('/') {
            Some((addr, _)) if addr.parse::<IpAddr>().is_ok() => {
                mistake.help(format!("write \"{addr}\"; each elastic IP is one address"))
            }
            _ => mistake.help("write the public address in quotes: \"198.51.100.20\" = { port = \"web-1\" }"),
        });
    };
    check_plain(addr, "an elastic IP", &[])?;
    targets.check_outside(addr, "an elastic IP")?;
    let leaves_with_it = targets.networks.iter().find(|(_, network)| network.snat.contains(&addr));
    match leaves_with_it {
        None => Ok(addr),
        Some((network, _)) => {
            let message = format!("{addr} is what network `{network}` leaves with (`snat`)");
            Err(Mistake::new(message).help("an elastic IP stands for its port alone; use another address"))
        }
    }
}

/// An address may be written in more than one way.
fn claim(places: &mut Places, addr: IpAddr, place: &Range<usize>, report: &mut Report) -> Option<IpAddr> {
    match places.entry(addr) {
        Entry::Vacant(entry) => {
            entry.insert(place.clone());
            Some(addr)
        }
        Entry::Occupied(entry) => {
            let mistake = Mistake::new(format!("the elastic IP {addr} is given twice"));
            let finding = Finding::new(place.clone(), mistake.help("remove one of them"));
            report.errors.push(finding.related(entry.get().clone(), "given here first"));
            None
        }
    }
}

/// What stands behind it, and where the file says so.
fn elastic_ip(
    (name, addr): (&str, Option<IpAddr>),
    place: &Range<usize>,
    (node, targets): (Node<'_>, &Targets<'_, '_>),
    report: &mut Report,
) -> Option<(ElasticIp, Range<usize>)> {
    let heading = (format!("elastic_ips.{name}"), format!("elastic IP `{name}`"));
    let section = Section::open((&heading.0, heading.1, place.clone()), node, &ELASTIC_IP, report)?;
    let port =
        section.require("port", "write { port = \"NAME\" }, one of [ports]", report).and_then(|node| {
            let port = string(node, report)?;
            report.keep(node.span(), targets.check_port(port, addr))?;
            Some((port.to_owned(), node.span()))
        });
    let on_change = match section.get("on_change") {
        Some(node) => on_change(node, report),
        None => Some(super::OnChange::default()),
    };
    let (port, there) = port?;
    Some((ElasticIp { port, on_change: on_change? }, there))
}
