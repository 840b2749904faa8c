//! Rules that are written plainly, read without a tree of their text.
//!
//! Plain is `{ protocol = "tcp", ports = [80, "8000-8010"], from = ["any"] },` on a line of its own between
//! `ingress = [` and `]`, its keys and values without escapes. So are written nearly all rules of large policies,
//! and they are read many times faster so. Of what is written otherwise, or of what anybody has to be told,
//! nothing is read here: the caller has it read in the usual way, which tells.

use std::{borrow::Cow, str::FromStr};

use vnet_common::Direction;

use super::{
    Mistake, Peer, PortRange, Protocol, RuleSpec,
    draft::Specs,
    outline::list_opened_by,
    parse::Names,
    rule::Ids,
    rules::{check_reference, is_futile},
};
use crate::parallel::in_parts;

/// Rules that are worth a thread: they take a few milliseconds.
const WORTH_A_THREAD: usize = 2048;

/// A group's table whose rules were read.
pub(super) struct Emptied<'t> {
    /// The table as it is without them.
    pub(super) rest: Cow<'t, str>,
    /// The rules of each list whose items stood on lines of their own.
    pub(super) lists: Vec<(Direction, Specs)>,
}

impl<'t> Emptied<'t> {
    /// `chunk`, the table of the group `name`, with its rules read if all of those in its lists are plain and right.
    pub(super) fn of((name, chunk): (&str, &'t str), names: &Names<'_>) -> Self {
        read((name, chunk), names).unwrap_or(Self { rest: chunk.into(), lists: Vec::new() })
    }
}

/// `None` if any item of a list is not plain.
fn read<'t>((name, chunk): (&str, &str), names: &Names<'_>) -> Option<Emptied<'t>> {
    let Lines { rest, lists } = Lines::of(chunk)?;
    let read = |(direction, lines): (Direction, Vec<&str>)| {
        let ids = Ids::new(name, direction);
        Some((direction, specs(&lines, direction, (ids, names))?))
    };
    Some(Emptied { rest: rest.into(), lists: lists.into_iter().map(read).collect::<Option<_>>()? })
}

/// The rules that `lines` are, each of which needs the comma before the next.
fn specs(lines: &[&str], direction: Direction, (ids, names): (Ids, &Names<'_>)) -> Option<Specs> {
    let read = |line: &&str| {
        let (spec, has_comma) = rule(line, direction, names)?;
        let id = ids.of(&spec);
        Some((spec, id, has_comma))
    };
    let parts = in_parts(lines, WORTH_A_THREAD, |lines| lines.iter().map(read).collect::<Option<Vec<_>>>());
    let mut specs = Specs::with_capacity(lines.len());
    let mut is_open = true;
    for (spec, id, has_comma) in parts.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten() {
        is_open = (is_open && specs.add(spec, id)).then_some(has_comma)?;
    }
    Some(specs)
}

/// The lines of a group's table.
struct Lines<'t> {
    /// All but those that begin as rules within lists do.
    rest: String,
    /// Those, list by list.
    lists: Vec<(Direction, Vec<&'t str>)>,
}

impl<'t> Lines<'t> {
    /// `None` if anything else is in a list. What is outside the lists is left to the parser.
    fn of(chunk: &'t str) -> Option<Self> {
        let mut lines = Self { rest: String::new(), lists: Vec::new() };
        let mut is_in_list = false;
        for line in chunk.split_inclusive('\n') {
            let content = content(line);
            if !is_in_list {
                let list = list_opened_by(content).map(|direction| (direction, Vec::new()));
                is_in_list = list.is_some();
                lines.lists.extend(list);
            } else if content.starts_with('{') {
                lines.lists.last_mut()?.1.push(content);
                continue;
            } else if content == "]" {
                is_in_list = false;
            } else if !(content.is_empty() || content.starts_with('#')) {
                return None;
            }
            lines.rest.push_str(line);
        }
        Some(lines)
    }
}

/// A line without its end, and without the blanks around.
fn content(line: &str) -> &str {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    line.trim_matches([' ', '\t'])
}

/// The rule of `direction` that all of `line` is, and whether a comma follows.
fn rule(line: &str, direction: Direction, names: &Names<'_>) -> Option<(RuleSpec, bool)> {
    let mut line = Line(line);
    let fields = Fields::read(&mut line, names)?;
    let has_comma = line.take(b',').is_some();
    let spec = fields.spec(direction).filter(|_| line.0.is_empty())?;
    (!is_futile(&spec)).then_some((spec, has_comma))
}

/// What a rule says, key by key.
#[derive(Default)]
struct Fields {
    protocol: Option<Protocol>,
    ports: Option<Vec<PortRange>>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    from: Option<Vec<Peer>>,
    to: Option<Vec<Peer>>,
    description: Option<String>,
}

impl Fields {
    fn read(line: &mut Line<'_>, names: &Names<'_>) -> Option<Self> {
        let mut fields = Self::default();
        let peer = |line: &mut Line<'_>| check_reference(line.string()?.parse().ok()?, names).ok();
        line.take(b'{')?;
        loop {
            let key = line.word();
            line.take(b'=')?;
            match key {
                "protocol" => set(&mut fields.protocol, line.number_or_text(Protocol::from_number)?)?,
                "ports" => {
                    let port = |line: &mut Line<'_>| line.number_or_text(PortRange::from_number);
                    set(&mut fields.ports, line.list(port)?)?;
                }
                "icmp_type" => set(&mut fields.icmp_type, line.number()?.try_into().ok()?)?,
                "icmp_code" => set(&mut fields.icmp_code, line.number()?.try_into().ok()?)?,
                "from" => set(&mut fields.from, line.list(peer)?)?,
                "to" => set(&mut fields.to, line.list(peer)?)?,
                "description" => set(&mut fields.description, line.string()?.to_owned())?,
                _ => return None,
            }
            if line.take(b',').is_none() {
                return line.take(b'}').map(|()| fields);
            }
        }
    }

    /// What it comes to as a rule of `direction`; `None` if anything is missing or does not go together.
    fn spec(self, direction: Direction) -> Option<RuleSpec> {
        let Self { protocol, ports, icmp_type, icmp_code, from, to, description } = self;
        let protocol = protocol?;
        let (peers, others) = match direction {
            Direction::Ingress => (from, to),
            Direction::Egress => (to, from),
        };
        let icmp = match (icmp_type, icmp_code) {
            (None, None) => None,
            (kind, code) => Some((kind.filter(|_| protocol.is_icmp())?, code)),
        };
        let goes_together = others.is_none() && (ports.is_none() || protocol.has_ports());
        let ports = ports.unwrap_or_default();
        let spec = RuleSpec { protocol, ports, icmp, peers: peers?, description };
        goes_together.then_some(spec)
    }
}

/// Sets what no key before has set.
fn set<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// What is left of a line. Each method skips blanks, then takes what it is called after.
struct Line<'t>(&'t str);

impl<'t> Line<'t> {
    fn skip_blanks(&mut self) {
        let blanks = self.0.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.0 = &self.0[blanks..];
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        let is_there = self.0.as_bytes().first() == Some(&byte);
        self.0 = if is_there { &self.0[1..] } else { self.0 };
        is_there.then_some(())
    }

    /// As many characters as `belongs` says yes to.
    fn take_while(&mut self, belongs: impl Fn(&u8) -> bool) -> &'t str {
        let (taken, rest) = self.0.split_at(self.0.bytes().take_while(|byte| belongs(byte)).count());
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> &'t str {
        self.skip_blanks();
        self.take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_')
    }

    /// A string in which nothing is escaped; TOML has no control characters in it.
    fn string(&mut self) -> Option<&'t str> {
        self.take(b'"')?;
        let (text, rest) = self.0.split_once('"')?;
        let is_literal = |byte: u8| byte != b'\\' && !byte.is_ascii_control();
        self.0 = rest;
        text.bytes().all(is_literal).then_some(text)
    }

    /// A number that is not negative, without a leading zero.
    fn number(&mut self) -> Option<i64> {
        self.skip_blanks();
        let digits = self.take_while(u8::is_ascii_digit);
        (digits == "0" || !digits.starts_with('0')).then(|| digits.parse().ok())?
    }

    /// What a number means, or a string.
    fn number_or_text<T: FromStr>(&mut self, meaning: fn(i64) -> Result<T, Mistake>) -> Option<T> {
        self.skip_blanks();
        if self.0.starts_with('"') { self.string()?.parse().ok() } else { meaning(self.number()?).ok() }
    }

    /// A list that is not empty.
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.take(b'[')?;
        // Most have one.
        let mut items = Vec::with_capacity(1);
        loop {
            items.push(item(self)?);
            if self.take(b',').is_none() {
                return self.take(b']').map(|()| items);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Rule, draft::Draft, parse::parse_whole};

    /// A policy with one group `web` that has these lines among its ingress rules.
    fn policy(lines: &str) -> String {
        format!(
            "version = 1\n[prefix_lists]\nl = [\"192.0.2.0/24\"]\n[networks.n]\ntype = \"private\"\n\
             subnets = [\"10.0.0.0/24\"]\n[security_groups.web]\ndescription = \"x\"\ningress = [\n{lines}\n]\n"
        )
    }

    /// The rules of the group as they are read plainly, and as the whole text says; nothing if it is not valid.
    fn both(lines: &str) -> [Option<Vec<Rule>>; 2] {
        let text = policy(lines);
        let names = Names { networks: ["n"].into(), lists: ["l"].into(), groups: ["web", "default"].into() };
        let chunk = &text[text.find("[security_groups").unwrap()..];
        let plain = read(("web", chunk), &names).map(|emptied| {
            let specs = emptied.lists.into_iter().map(|(_, specs)| specs).next().unwrap();
            Draft::default().with(Direction::Ingress, specs).group("web").ingress
        });
        let whole = parse_whole(&text, Path::new("p.toml")).ok().filter(|(_, warnings)| warnings.is_empty());
        [plain, whole.map(|(policy, _)| policy.security_groups["web"].ingress.clone())]
    }

    #[test]
    fn plain_rules_are_what_the_parser_reads() {
        for lines in [
            "{ protocol = \"tcp\", ports = [80], from = [\"any\"] },",
            "  {protocol=\"udp\",ports=[\"1-5\",7 , 9],from=[\"192.0.2.1\",\"sg:web\"]}",
            "\t{ from = [\"net:n\", \"list:l\"], protocol = \"any\" }\t,\r",
            "{ protocol = 47, from = [\"2001:db8::/32\"], description = \"\u{e4} # },\" },",
            "{ protocol = \"icmp\", icmp_type = 0, icmp_code = 0, from = [\"any\"] },\n\n# x\n\
             { protocol = \"icmpv6\", icmp_type = 128, from = [\"::/0\"] }",
            "{ protocol = \"1\", from = [\"any\"] }",
            "",
        ] {
            let [plain, whole] = both(lines);
            assert!(plain.is_some(), "not plain: {lines}");
            assert!(plain == whole, "{lines}: {plain:?}");
        }
    }

    #[test]
    fn many_rules_keep_their_order_and_need_their_commas() {
        let rule = |port| format!("{{ protocol = \"tcp\", ports = [{port}], from = [\"any\"] }}");
        let count = 2 * WORTH_A_THREAD + 1;
        let lines: Vec<_> = (1..=count).map(rule).collect();
        let rules = both(&lines.join(",\n"))[0].take().unwrap();
        assert_eq!(rules.len(), count);
        assert!(rules.iter().zip(1..).all(|(rule, port)| rule.ports[0].first == port));
        let (begin, end) = lines.split_at(count.div_ceil(2));
        let without_one = format!("{}\n{}", begin.join(",\n"), end.join(",\n"));
        assert!(both(&without_one)[0].is_none());
    }

    #[test]
    fn what_is_wrong_or_unusual_is_left_to_the_parser() {
        let rule = "{ protocol = \"tcp\", ports = [80], from = [\"any\"] }";
        for lines in [
            &format!("{rule}\n{rule}"),
            &format!("{rule},\n{rule},"),
            &format!("{rule} # why"),
            &format!("{rule}, {rule}"),
            "] # why\negress = [\n{ protocol = \"tcp\", to = [\"any\"] }",
            "\"tcp\",",
            "{ protocol = \"tcp\", ports = [080], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [8_0], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [0x50], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [+80], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [80.0], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [80,], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [0], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [65536], from = [\"any\"] }",
            "{ protocol = \"tcp\", ports = [99999999999999999999], from = [\"any\"] }",
            "{ protocol = \"any\", ports = [80], from = [\"any\"] }",
            "{ protocol = \"tcp\", icmp_type = 8, from = [\"any\"] }",
            "{ protocol = \"icmp\", icmp_code = 8, from = [\"any\"] }",
            "{ protocol = \"icmp\", icmp_type = 256, from = [\"any\"] }",
            "{ protocol = \"icmp\", from = [\"2001:db8::/32\"] }",
            "{ protocol = \"tcp\", protocol = \"tcp\", from = [\"any\"] }",
            "{ protocol = \"t\\u0063p\", from = [\"any\"] }",
            "{ protocol = 'tcp', from = [\"any\"] }",
            "{ \"protocol\" = \"tcp\", from = [\"any\"] }",
            "{ protocol = \"tcp\" from = [\"any\"] }",
            "{ protocol = \"tcp\", from = [] }",
            "{ protocol = \"tcp\", from = \"any\" }",
            "{ protocol = \"tcp\", to = [\"any\"] }",
            "{ protocol = \"tcp\", from = [\"any\"], to = [\"any\"] }",
            "{ protocol = \"tcp\", from = [\"sg:nobody\"] }",
            "{ protocol = \"tcp\", from = [\"10.0.0.1/24\"] }",
            "{ protocol = \"tcp\", from = [\"any\"], x = 1 }",
            "{ protocol = \"tcp\", from = [\"any\"], description = \"\u{7}\" }",
            "{ from = [\"any\"] }",
            "{ protocol = \"tcp\" }",
            "{ protocol = \"tcp\", from = [\"any\"] }}",
            "{ protocol = \"tcp\", from = [\"any\"]",
            "{}",
        ] {
            assert!(both(lines)[0].is_none(), "plain: {lines}");
        }
    }
}
