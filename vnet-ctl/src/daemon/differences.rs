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
    AclRule, Attach, ElasticIp, Forward, HostAccess, Network, Policy, Port, Rule, SecurityGroup,
    direction_name, format_rule_id,
};

/// What would change if `after` came into the place of `before`, one sentence each.
pub(super) fn differences(before: &Policy, after: &Policy) -> Vec<String> {
    let mut found = Found::default();
    found.list("host: failsafe port", &texts(&before.host.failsafe), &texts(&after.host.failsafe));
    found.list("uplink", &texts(&before.uplinks), &texts(&after.uplinks));
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
}

/// How the network leads outside.
fn way_out(found: &mut Found, of: &str, [before, after]: [&Network; 2]) {
    let uplink =
        |network: &Network| network.uplink.clone().unwrap_or_else(|| "that of the default route".to_owned());
    found.value(of, "uplink", [uplink(before), uplink(after)]);
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
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::parse;

    const POLICY: &str = r#"
version = 1
[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]
[networks.db]
type = "private"
subnets = ["10.20.0.0/24"]
[prefix_lists]
office = ["192.0.2.0/24"]
[security_groups.web]
ingress = [{ protocol = "tcp", ports = [80], from = ["any"] }]
[[acl]]
action = "deny"
direction = "ingress"
protocol = "tcp"
ports = [23]
from = ["any"]
[[acl]]
action = "allow"
direction = "egress"
protocol = "udp"
ports = [53]
to = ["list:office"]
[ports.a]
network = "web"
security_groups = ["web"]
attach = { device = "tap0" }
"#;

    fn policy(text: &str) -> Policy {
        parse(text, Path::new("p.toml")).unwrap_or_else(|errors| panic!("{errors}")).0
    }

    /// What changing `from` to `to` in the text changes in the policy.
    #[track_caller]
    fn changed(changes: &[(&str, &str)]) -> Vec<String> {
        let text = changes.iter().fold(POLICY.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        differences(&policy(POLICY), &policy(&text))
    }

    #[test]
    fn the_same_policy_has_no_difference() {
        assert!(changed(&[("\nversion", "\n# a comment\nversion")]).is_empty());
    }

    #[test]
    fn each_change_is_told_in_the_words_of_the_file() {
        for (from, to, told) in [
            (
                "ports = [80]",
                "ports = [80, 443]",
                vec![
                    "group web: rule removed: ingress tcp 80 from any",
                    "group web: rule added: ingress tcp 80,443 from any",
                ],
            ),
            ("network = \"web\"", "network = \"db\"", vec!["port a: moved from network web to db"]),
            (
                "[networks.db]",
                "[networks.more]\ntype = \"nat\"\nsubnets = [\"10.30.0.0/24\"]\n[networks.db]",
                vec!["network more: created"],
            ),
            (
                "subnets = [\"10.20.0.0/24\"]",
                "subnets = [\"10.21.0.0/24\"]\nhost = false\nconnect = [\"web\"]",
                vec![
                    "network db: subnet removed: 10.20.0.0/24 (gateway 10.20.0.1)",
                    "network db: subnet added: 10.21.0.0/24 (gateway 10.21.0.1)",
                    "network db: connected with web",
                    "network db: closed to the host",
                ],
            ),
            (
                "192.0.2.0/24",
                "192.0.2.0/25",
                vec![
                    "prefix list office: prefix removed: 192.0.2.0/24",
                    "prefix list office: prefix added: 192.0.2.0/25",
                ],
            ),
            (
                "version = 1",
                "version = 1\nhost = { failsafe_ports = [\"tcp/22\", \"udp/68\"] }",
                vec!["host: failsafe port added: udp/68"],
            ),
            (
                "[security_groups.web]",
                "[security_groups.web]\non_change = \"keep\"\ndescription = \"x\"",
                vec![
                    "group web: description changed from none to \"x\"",
                    "group web: on_change changed from cut to keep",
                ],
            ),
            (
                "device = \"tap0\"",
                "device = \"tap1\"",
                vec!["port a: attach changed from device tap0 to device tap1"],
            ),
            (
                "ports = [23]",
                "ports = [24]",
                vec![
                    "acl: entry removed: deny ingress tcp 23 from any",
                    "acl: entry added as number 1: deny ingress tcp 24 from any",
                ],
            ),
        ] {
            assert_eq!(changed(&[(from, to)]), told, "{to}");
        }
    }

    /// What leads outside and in again, before and after.
    const WAYS: [&str; 2] = [
        r#"
[uplinks.eth1]
[networks.out]
type = "nat"
subnets = ["10.30.0.0/24"]
no_snat = ["10.0.0.0/8"]
[ports.b]
network = "out"
attach = { device = "tap1" }
[ports.c]
network = "out"
attach = { device = "tap2" }
[[forwards]]
listen = "0.0.0.0:80"
protocol = "tcp"
to = "b"
[[forwards]]
listen = "0.0.0.0:53"
protocol = "udp"
to = "b"
[[forwards]]
listen = "0.0.0.0:90"
protocol = "tcp"
to = "b"
[elastic_ips]
"198.51.100.20" = { port = "b" }
[[metadata]]
network = "out"
listen = "169.254.169.254:80"
to = "host:8775"
"#,
        r#"
[networks.out]
type = "nat"
subnets = ["10.30.0.0/24"]
uplink = "eth0"
snat = ["198.51.100.9", "198.51.100.10"]
snat_ports = "2000-2999"
mapping = "endpoint-independent"
clamp_mss = true
no_snat = ["192.0.2.0/24"]
[ports.b]
network = "out"
attach = { device = "tap1" }
[ports.c]
network = "out"
attach = { device = "tap2" }
[[forwards]]
listen = "0.0.0.0:80"
protocol = "tcp"
to = "c:8080"
[[forwards]]
listen = "[::]:53"
protocol = "udp"
to = "b"
[[forwards]]
listen = "0.0.0.0:90"
protocol = "tcp"
to = [{ port = "b:91", weight = 3 }, "c"]
affinity = "client"
[elastic_ips]
"198.51.100.20" = { port = "c", on_change = "keep" }
[[metadata]]
network = "out"
listen = "169.254.169.254:80"
to = "host:8776"
"#,
    ];

    #[test]
    fn the_ways_outside_and_in_are_told() {
        let v6 = "[\"10.30.0.0/24\", \"fd00::/64\"]";
        let [before, after] =
            WAYS.map(|ways| policy(&format!("{POLICY}{ways}").replace("[\"10.30.0.0/24\"]", v6)));
        assert_eq!(
            differences(&before, &after),
            [
                "uplink removed: eth1",
                "uplink added: eth0",
                "network out: clamp_mss changed from false to true",
                "network out: uplink changed from that of the default route to eth0",
                "network out: snat changed from the uplink's own address to 198.51.100.9,198.51.100.10",
                "network out: snat_ports changed from 1024-32767 to 2000-2999",
                "network out: mapping changed from endpoint-dependent to endpoint-independent",
                "network out: untranslated prefix removed: 10.0.0.0/8",
                "network out: untranslated prefix added: 192.0.2.0/24",
                "forward tcp/0.0.0.0:80: target changed from b:80 to c:8080",
                "forward tcp/0.0.0.0:90: backend b: target changed from b:90 to b:91",
                "forward tcp/0.0.0.0:90: backend b: weight changed from 1 to 3",
                "forward tcp/0.0.0.0:90: backend c: created",
                "forward tcp/0.0.0.0:90: affinity changed from flow to client",
                "forward udp/0.0.0.0:53: removed",
                "forward udp/[::]:53: created",
                "elastic IP 198.51.100.20: moved from port b to c",
                "elastic IP 198.51.100.20: on_change changed from cut to keep",
                "metadata 169.254.169.254:80 of network out: port of the host changed from 8775 to 8776",
            ]
        );
    }

    #[test]
    fn an_acl_in_another_order_is_another() {
        let entries: Vec<&str> = POLICY.split("[[acl]]").collect();
        let tail = entries[2].split_once("[ports").unwrap();
        let swapped = format!("{}[[acl]]{}[[acl]]{}[ports{}", entries[0], tail.0, entries[1], tail.1);
        assert_eq!(
            differences(&policy(POLICY), &policy(&swapped)),
            ["acl: the order of the entries changed"]
        );
    }

    #[test]
    fn what_is_gone_is_told() {
        let smaller = POLICY.split("[ports.a]").next().unwrap();
        assert_eq!(differences(&policy(POLICY), &policy(smaller)), ["port a: removed"]);
        assert_eq!(differences(&policy(smaller), &policy(POLICY)), ["port a: created"]);
    }
}
