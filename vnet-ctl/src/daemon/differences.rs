//! What tells one policy from another, in the words of the policy file.
//!
//! Pure. Rules are told apart by their ids, which stay the same while what a rule matches does; an acl by its
//! order as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use vnet_common::{Direction, RuleId};

use crate::policy::{
    AclRule, Attach, ElasticIp, Forward, HostAccess, Network, Policy, Port, Rule, SecurityGroup, Segment,
    direction_name, format_rule_id,
};

/// What would change if `after` came into the place of `before`, one sentence each.
pub(super) fn differences(before: &Policy, after: &Policy) -> Vec<String> {
    let mut found = Found::default();
    found.list("host: failsafe port", &texts(&before.host.failsafe), &texts(&after.host.failsafe));
    found.list("uplink", &texts(before.uplinks.keys()), &texts(after.uplinks.keys()));
    for (name, after) in &after.uplinks {
        let before = before.uplinks.get(name).unwrap_or(after);
        found.value(&format!("uplink {name}"), "xdp", [before.xdp, after.xdp]);
    }
    found.each("network", &before.networks, &after.networks, network);
    found.each("prefix list", &before.prefix_lists, &after.prefix_lists, |found, of, [before, after]| {
        found.list(&format!("{of}: prefix"), &texts(before), &texts(after));
    });
    acl(&mut found, [&before.acl, &after.acl]);
    found.each("group", &before.security_groups, &after.security_groups, |found, of, [before, after]| {
        group(found, of, [before, after]);
    });
    found.each("port", &before.ports, &after.ports, port);
    let forwards = |policy: &Policy| by_name(&policy.forwards, Forward::name);
    found.each("forward", &forwards(before), &forwards(after), forward);
    let elastic_ips = |policy: &Policy| {
        policy.elastic_ips.iter().map(|(addr, to)| (addr.to_string(), to.clone())).collect()
    };
    found.each("elastic IP", &elastic_ips(before), &elastic_ips(after), elastic_ip);
    let metadata = |policy: &Policy| {
        by_name(&policy.metadata, |service| format!("{} of network {}", service.listen, service.network))
    };
    found.each("metadata", &metadata(before), &metadata(after), |found, of, [before, after]| {
        found.value(of, "port of the host", [before.to_port, after.to_port]);
    });
    found.0
}

/// The differences found so far.
#[derive(Debug, Default)]
struct Found(Vec<String>);

impl Found {
    /// What came, what went, and what `compare` finds in those that stayed.
    fn each<T: PartialEq>(
        &mut self,
        noun: &str,
        before: &BTreeMap<String, T>,
        after: &BTreeMap<String, T>,
        compare: impl Fn(&mut Self, &str, [&T; 2]),
    ) {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let of = format!("{noun} {name}");
            match (before.get(name), after.get(name)) {
                (Some(before), Some(after)) if before == after => {}
                (Some(before), Some(after)) => compare(self, &of, [before, after]),
                (Some(_), None) => self.0.push(format!("{of}: removed")),
                (None, _) => self.0.push(format!("{of}: created")),
            }
        }
    }

    /// What came into a list, and what went.
    fn list(&mut self, what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>) {
        self.0.extend(before.difference(after).map(|item| format!("{what} removed: {item}")));
        self.0.extend(after.difference(before).map(|item| format!("{what} added: {item}")));
    }

    /// That a value is another.
    fn value(&mut self, of: &str, what: &str, [before, after]: [impl Display; 2]) {
        let [before, after] = [before.to_string(), after.to_string()];
        if before != after {
            self.0.push(format!("{of}: {what} changed from {before} to {after}"));
        }
    }
}

fn network(found: &mut Found, of: &str, [before, after]: [&Network; 2]) {
    found.value(of, "type", [before.kind, after.kind]);
    let subnets = |network: &Network| {
        let subnet = |subnet: &crate::policy::Subnet| format!("{} (gateway {})", subnet.net, subnet.gateway);
        network.subnets.iter().map(subnet).collect()
    };
    found.list(&format!("{of}: subnet"), &subnets(before), &subnets(after));
    found.value(of, "mtu", [before.mtu, after.mtu]);
    found.value(of, "clamp_mss", [before.clamp_mss, after.clamp_mss]);
    for other in before.connect.difference(&after.connect) {
        found.0.push(format!("{of}: no longer connected with {other}"));
    }
    for other in after.connect.difference(&before.connect) {
        found.0.push(format!("{of}: connected with {other}"));
    }
    if before.host != after.host {
        found.0.push(format!(
            "{of}: {}",
            match after.host {
                HostAccess::Trusted => "open to the host",
                HostAccess::Excluded => "closed to the host",
            }
        ));
    }
    way_out(found, of, [before, after]);
    segment(found, of, [before, after]);
}

/// How the network goes beyond this host.
fn segment(found: &mut Found, of: &str, [before, after]: [&Network; 2]) {
    let lan = |network: &Network| match &network.segment {
        Some(Segment::Overlay { vni, .. }) => format!("vni {vni}"),
        Some(lan @ Segment::Lan { .. }) => lan.to_string(),
        None => "none".to_owned(),
    };
    found.value(of, "segment", [lan(before), lan(after)]);
    let priority = |network: &Network| match &network.segment {
        Some(Segment::Lan { priority: Some(priority), .. }) => priority.to_string(),
        Some(Segment::Lan { priority: None, .. } | Segment::Overlay { .. }) | None => "none".to_owned(),
    };
    found.value(of, "priority", [priority(before), priority(after)]);
    found.list(&format!("{of}: peer"), &texts(before.peers()), &texts(after.peers()));
}

/// How the network leads outside.
fn way_out(found: &mut Found, of: &str, [before, after]: [&Network; 2]) {
    let uplink =
        |network: &Network| network.uplink.clone().unwrap_or_else(|| "that of the default route".to_owned());
    // That of a bridged network is told as its segment.
    if before.is_routed_here() && after.is_routed_here() {
        found.value(of, "uplink", [uplink(before), uplink(after)]);
    }
    let snat = |network: &Network| match network.snat.is_empty() {
        true => "the uplink's own address".to_owned(),
        false => joined(&network.snat),
    };
    found.value(of, "snat", [snat(before), snat(after)]);
    let ports = |network: &Network| format!("{}-{}", network.snat_ports.0, network.snat_ports.1);
    found.value(of, "snat_ports", [ports(before), ports(after)]);
    found.value(of, "mapping", [before.mapping, after.mapping]);
    found.list(&format!("{of}: untranslated prefix"), &texts(&before.no_snat), &texts(&after.no_snat));
}

fn forward(found: &mut Found, of: &str, [before, after]: [&Forward; 2]) {
    if let ([_], [_]) = (&before.to[..], &after.to[..]) {
        found.value(of, "target", [before.targets(), after.targets()]);
    } else {
        let backends = |forward: &Forward| by_name(&forward.to, |backend| backend.port.clone());
        let of = format!("{of}: backend");
        found.each(&of, &backends(before), &backends(after), |found, of, [before, after]| {
            found.value(of, "target", [before.target(), after.target()]);
            found.value(of, "weight", [before.weight, after.weight]);
        });
    }
    found.value(of, "affinity", [before.affinity, after.affinity]);
}

fn elastic_ip(found: &mut Found, of: &str, [before, after]: [&ElasticIp; 2]) {
    if before.port != after.port {
        found.0.push(format!("{of}: moved from port {} to {}", before.port, after.port));
    }
    found.value(of, "on_change", [before.on_change, after.on_change]);
}

fn by_name<T: Clone>(items: &[T], name: impl Fn(&T) -> String) -> BTreeMap<String, T> {
    items.iter().map(|item| (name(item), item.clone())).collect()
}

fn group(found: &mut Found, of: &str, [before, after]: [&SecurityGroup; 2]) {
    description(found, of, [&before.description, &after.description]);
    found.value(of, "on_change", [before.on_change, after.on_change]);
    let rules = |group: &SecurityGroup| {
        let rules = group.ingress.iter().chain(&group.egress);
        rules.map(|rule| ((rule.direction == Direction::Egress, rule.id), rule.clone())).collect()
    };
    let [before, after]: [BTreeMap<(bool, RuleId), Rule>; 2] = [rules(before), rules(after)];
    for (_, rule) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
        found.0.push(format!("{of}: rule removed: {}", shown(rule)));
    }
    for (key, rule) in &after {
        match before.get(key) {
            None => found.0.push(format!("{of}: rule added: {}", shown(rule))),
            Some(old) => {
                let of = format!("{of}: rule {}", format_rule_id(rule.id));
                description(found, &of, [&old.description, &rule.description]);
            }
        }
    }
}

fn acl(found: &mut Found, [before, after]: [&[AclRule]; 2]) {
    let ids = |acl: &[AclRule]| -> BTreeMap<RuleId, AclRule> {
        acl.iter().map(|entry| (entry.rule.id, entry.clone())).collect()
    };
    let [old, new] = [ids(before), ids(after)];
    let entry = |entry: &AclRule| format!("{} {}", entry.action, shown(&entry.rule));
    for gone in before.iter().filter(|entry| !new.contains_key(&entry.rule.id)) {
        found.0.push(format!("acl: entry removed: {}", entry(gone)));
    }
    for (position, came) in after.iter().enumerate().filter(|(_, entry)| !old.contains_key(&entry.rule.id)) {
        found.0.push(format!("acl: entry added as number {}: {}", position + 1, entry(came)));
    }
    for (id, now) in &new {
        if let Some(then) = old.get(id) {
            let of = format!("acl: entry {}", format_rule_id(*id));
            description(found, &of, [&then.rule.description, &now.rule.description]);
        }
    }
    let order = |acl: &[AclRule]| -> Vec<RuleId> {
        let both = |id: &RuleId| old.contains_key(id) && new.contains_key(id);
        acl.iter().map(|entry| entry.rule.id).filter(both).collect()
    };
    if order(before) != order(after) {
        found.0.push("acl: the order of the entries changed".to_owned());
    }
}

fn port(found: &mut Found, of: &str, [before, after]: [&Port; 2]) {
    if before.network != after.network {
        found.0.push(format!("{of}: moved from network {} to {}", before.network, after.network));
    }
    found.list(&format!("{of}: tagged network"), &texts(&before.vlans), &texts(&after.vlans));
    let list = |items: &BTreeSet<String>| match items.len() {
        0 => "assigned".to_owned(),
        _ => items.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let addresses = [list(&texts(&before.addresses)), list(&texts(&after.addresses))];
    found.value(of, "addresses", addresses);
    found.value(of, "mac", [before.mac, after.mac]);
    found.list(&format!("{of}: group"), &texts(&before.security_groups), &texts(&after.security_groups));
    found.value(of, "attach", [attach(&before.attach), attach(&after.attach)]);
}

fn attach(attach: &Attach) -> String {
    match attach {
        Attach::Netns { netns, create: true, name } => format!("{name} in namespace {netns}, created"),
        Attach::Netns { netns, create: false, name } => format!("{name} in namespace {netns}"),
        Attach::Device { device } => format!("device {device}"),
        Attach::Tap { tap, create: true, owner: Some(owner) } => {
            format!("tap {tap} of user {owner}, created")
        }
        Attach::Tap { tap, create: true, owner: None } => format!("tap {tap}, created"),
        Attach::Tap { tap, create: false, .. } => format!("tap {tap}"),
        Attach::Remote { remote: Some(host) } => format!("on host {host}"),
        Attach::Remote { remote: None } => "on another host".to_owned(),
    }
}

fn description(found: &mut Found, of: &str, [before, after]: [&Option<String>; 2]) {
    let shown =
        |text: &Option<String>| text.as_ref().map_or_else(|| "none".to_owned(), |text| format!("{text:?}"));
    found.value(of, "description", [shown(before), shown(after)]);
}

/// `ingress tcp 80,443 from any`
fn shown(rule: &Rule) -> String {
    let ports = match rule.icmp {
        Some((kind, Some(code))) => format!(" type {kind} code {code}"),
        Some((kind, None)) => format!(" type {kind}"),
        None if rule.ports.is_empty() => String::new(),
        None => format!(" {}", joined(&rule.ports)),
    };
    let towards = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let direction = direction_name(rule.direction);
    format!("{direction} {}{ports} {towards} {}", rule.protocol, joined(&rule.peers))
}

fn joined<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn texts<'i, T: ToString + 'i>(items: impl IntoIterator<Item = &'i T>) -> BTreeSet<String> {
    items.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
#[path = "differences_tests.rs"]
mod tests;
