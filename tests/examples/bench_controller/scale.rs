//! Policies that have very many of one thing: what each takes of memory, and how long it takes to put all of them in force,
//! and then to change one.

use std::{fmt::Write as _, net::Ipv4Addr, time::Duration};

use vnet_tests::World;

use super::{Bench, Memory, change, entries_touched, timed, with_rule};

/// Groups that each port has.
const GROUPS_OF_PORT: usize = 50;
/// Ports that each network has: a bridge of Linux has 1,024 at most (`BR_MAX_PORTS`).
const PORTS_OF_NETWORK: usize = 500;
/// How long it may take until all ports are gone.
const END: Duration = Duration::from_secs(300);

/// A policy with many of something.
pub(super) struct Many {
    part: &'static str,
    /// What there are many of: one of them, and all.
    each: [&'static str; 2],
    count: usize,
    /// The same policy without them.
    without: String,
    with: String,
    /// What one change changes.
    what: &'static str,
    /// The policy after the change of a number.
    changed: fn(&str, usize) -> String,
}

/// A list of prefixes that one rule names.
pub(super) fn prefixes(count: usize) -> Many {
    let policy = |list: &str| {
        format!(
            "{}\n[prefix_lists]\nmany = [{list}]\n\n[security_groups.g0]\n\
             ingress = [{{ protocol = \"tcp\", ports = [80], from = [\"list:many\"] }}]\n{}",
            networks(1),
            port(0, "\"g0\"")
        )
    };
    // From 11.0.0.0 on, apart from one another, of two lengths.
    let prefix = |number: usize| {
        let address = Ipv4Addr::from_bits((11 << 24) + ((number as u32) << 9));
        format!("\"{address}/{}\", ", if number.is_multiple_of(2) { 24 } else { 32 })
    };
    Many {
        part: "prefixes",
        each: ["prefix", "prefixes"],
        count,
        without: policy("\"203.0.113.0/32\", "),
        with: policy(&(0..count).map(prefix).collect::<String>()),
        what: "one prefix changed",
        changed: |text, number| {
            text.replacen("many = [", &format!("many = [\"203.0.113.{}/32\", ", number + 1), 1)
        },
    }
}

/// Groups, each of which lets another one in to a number of its own; a port has many of them.
pub(super) fn groups(count: usize) -> Many {
    let without = networks(count.div_ceil(GROUPS_OF_PORT));
    let mut with = without.clone();
    for number in 0..count {
        let from = (number + 1) % count;
        let number_of_its_own = 1 + number % 65_535;
        let rule =
            format!("{{ protocol = \"tcp\", ports = [{number_of_its_own}], from = [\"sg:g{from}\"] }}");
        let _ = writeln!(with, "\n[security_groups.g{number}]\ningress = [\n  {rule},\n]");
    }
    let all: Vec<String> = (0..count).map(|number| format!("\"g{number}\"")).collect();
    for (number, groups) in all.chunks(GROUPS_OF_PORT).enumerate() {
        with += &port(number, &groups.join(", "));
    }
    Many {
        part: "groups",
        each: ["group", "groups"],
        count,
        without,
        with,
        what: "one rule changed",
        changed: with_rule,
    }
}

/// Ports of one group, with a namespace each.
pub(super) fn ports(count: usize) -> Many {
    let without = networks(count) + "\n[security_groups.g0]\ningress = [\n]\n";
    let ports: String = (0..count).map(|number| port(number, "\"g0\"")).collect();
    Many {
        part: "ports of a policy",
        each: ["port", "ports"],
        count,
        with: format!("{without}{ports}"),
        without,
        what: "one rule changed",
        changed: with_rule,
    }
}

/// As many networks as are needed for `ports` ports.
fn networks(ports: usize) -> String {
    let network = |number: usize| {
        let second = 10 + number;
        format!("\n[networks.n{number}]\ntype = \"private\"\nsubnets = [\"10.{second}.0.0/16\"]\n")
    };
    let networks: String = (0..ports.div_ceil(PORTS_OF_NETWORK)).map(network).collect();
    format!("version = 1\n{networks}")
}

fn port(number: usize, groups: &str) -> String {
    let network = number / PORTS_OF_NETWORK;
    format!(
        "\n[ports.p{number}]\nnetwork = \"n{network}\"\nsecurity_groups = [{groups}]\n\
         attach = {{ netns = \"@p{number}\", create = true }}\n"
    )
}

impl Many {
    /// Puts the policy in force in place of the one without them, and then one change after another.
    pub(super) fn measure(self, bench: &mut Bench) {
        let Self { part, each: [each, all], count, without, with, what, changed } = self;
        let world = World::running(&without);
        let text = with.replace('@', &world.netns_name(""));
        bench.add(part, all, count as f64, all);
        let before = Memory::of(&world);
        let (applied, took) = timed(|| world.api().apply(&text).ok());
        let applied = applied.json();
        bench.memory(part, (each, count), before, Memory::of(&world));
        bench.time(part, "put in force", took);
        bench.stages(part, "put in force", &applied);
        bench.add(part, "put in force: entries touched", entries_touched(&applied), "entries");
        change(bench, part, what, &world, |number| changed(&text, number + 1));
        world.teardown_patiently(END);
    }
}
