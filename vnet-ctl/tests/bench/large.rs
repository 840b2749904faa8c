//! Policies as large as anybody's: many rules, of the kinds that people write, the same ones in every run.

use std::fmt::Write as _;

/// Rules in each group.
const RULES_IN_GROUP: usize = 100;
/// Distinct prefixes that the rules name.
const CIDRS: usize = 10_000;
/// Prefix lists, and the prefixes in each.
const LISTS: usize = 20;
const LIST_LENGTH: usize = 10;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }
}

/// A policy with `rules` rules in groups of a hundred, one port for each group, two networks that are joined,
/// and lists.
pub(crate) fn policy(rules: usize) -> String {
    let mut random = Random(7);
    let groups = rules.div_ceil(RULES_IN_GROUP).max(1);
    let cidrs: Vec<String> = (0..CIDRS.min(rules.max(LIST_LENGTH))).map(|_| cidr(&mut random)).collect();
    let mut text = String::from(
        "version = 1\n\n\
         [networks.front]\ntype = \"nat\"\nsubnets = [\"10.0.0.0/16\", \"fd00:10::/64\"]\nconnect = [\"back\"]\n\n\
         [networks.back]\ntype = \"private\"\nsubnets = [\"10.1.0.0/16\"]\n\n\
         [prefix_lists]\n",
    );
    for list in 0..LISTS {
        let members: Vec<_> =
            (0..LIST_LENGTH).map(|_| format!("\"{}\"", cidrs[random.below(cidrs.len())])).collect();
        let _ = writeln!(text, "list-{list} = [{}]", members.join(", "));
    }
    let mut left = rules;
    for group in 0..groups {
        let ingress = left.min(RULES_IN_GROUP);
        left -= ingress;
        let _ = write!(text, "\n[security_groups.group-{group}]\ningress = [\n");
        for _ in 0..ingress {
            let _ = writeln!(text, "  {},", rule(&mut random, &cidrs, groups));
        }
        text += "]\n";
    }
    for port in 0..groups {
        let network = if port % 4 == 0 { "back" } else { "front" };
        let _ = write!(
            text,
            "\n[ports.port-{port}]\nnetwork = \"{network}\"\nsecurity_groups = [\"group-{port}\"]\n\
             attach = {{ netns = \"port-{port}\", create = true }}\n"
        );
    }
    text
}

fn rule(random: &mut Random, cidrs: &[String], groups: usize) -> String {
    let protocol = ["tcp", "tcp", "tcp", "udp"][random.below(4)];
    let first = 1 + random.below(60_000);
    let ports = match random.below(10) {
        0..5 => format!("{first}"),
        5..8 => format!("{first}, {}, {}", 1 + random.below(65_535), 1 + random.below(65_535)),
        _ => format!("\"{first}-{}\"", first + 1 + random.below(200)),
    };
    let peer = match random.below(20) {
        0..15 => cidrs[random.below(cidrs.len())].clone(),
        15..18 => format!("sg:group-{}", random.below(groups)),
        18 => format!("list:list-{}", random.below(LISTS)),
        _ => "any".to_owned(),
    };
    format!("{{ protocol = \"{protocol}\", ports = [{ports}], from = [\"{peer}\"] }}")
}

fn cidr(random: &mut Random) -> String {
    if random.below(10) == 0 {
        return format!("2001:db8:{:x}:{:x}::/64", random.below(0x1_0000), random.below(0x1_0000));
    }
    let length = [16, 20, 24, 24, 24, 28, 32][random.below(7)];
    let bits = (random.below(0x5f00_0000) as u32 + 0x2000_0000) & u32::MAX << (32 - length);
    format!("{}/{length}", std::net::Ipv4Addr::from_bits(bits))
}
