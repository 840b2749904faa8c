use super::*;

#[path = "../../../tests/bench/large.rs"]
mod large;

const ORIGIN: &str = "p.toml";

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// Parses each text like anybody who reads all of it.
struct Checked {
    parser: Parser,
    /// How many texts were read in part only.
    in_part: usize,
    /// How many would have been read in parts if nothing had been known.
    in_parts: usize,
}

impl Checked {
    fn new() -> Self {
        Self { parser: Parser { last: Last::default(), least: 0 }, in_part: 0, in_parts: 0 }
    }

    /// Whether the text is valid.
    #[track_caller]
    fn parse(&mut self, text: &str) -> bool {
        let (text, origin) = (Arc::from(text), Path::new(ORIGIN));
        let in_part = self.parser.last.followed_by(&text, origin).is_some();
        self.in_part += usize::from(in_part && !self.parser.last.text.is_empty());
        let in_parts = Last::default().followed_by(&text, origin);
        self.in_parts += usize::from(in_parts.is_some());
        match (self.parser.parse(&text, origin), parse_whole(&text, origin)) {
            (Ok((policy, warnings)), Ok((expected, expected_warnings))) => {
                assert!(*policy == expected, "another policy of\n{text}");
                if let Some(in_parts) = in_parts {
                    assert!(*in_parts.policy == expected, "another policy in parts of\n{text}");
                }
                let words =
                    |warnings: &[Warning]| warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
                assert_eq!(words(&warnings), words(&expected_warnings), "{text}");
                true
            }
            (Err(errors), Err(expected)) => {
                assert_eq!(errors.to_string(), expected.to_string(), "{text}");
                false
            }
            (found, expected) => {
                panic!("valid in part {}, as a whole {}\n{text}", found.is_ok(), expected.is_ok())
            }
        }
    }
}

/// A text that is like `text`.
fn edited(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = random.below(lines.len());
    let rule = [
        "  { protocol = \"tcp\", ports = [9], from = [\"192.0.2.9\"] },\n",
        "  { protocol = \"icmp\", from = [\"sg:group-1\"] },\n",
        "  { protocol = \"udp\", ports = [\"5-9\"], to = [\"any\"] }\n",
        "  { protocol = \"icmp\", from = [\"2001:db8::/32\"] },\n",
        "  { protocol = \"tcp\", from = [\"net:other\", \"list:list-1\"], description = \"},\" },\n",
        "  { protocol = \"tcp\", from = [\"any\"] }, # a comment },\n",
        "  { protocol = \"tcp\",\n    from = [\n[\"any\"]] },\n",
        "],\n",
        "]\negress = [\n",
        "\"\"\"\n",
        "# [security_groups.group-1]\n",
        "\n",
    ];
    let table = [
        "[security_groups.group-1]\ningress = []\n",
        "[security_groups.more]\negress = []\n",
        "[security_groups.group-2.ingress]\n",
        " [networks.other]\ntype = \"private\"\nsubnets = [\"10.9.0.0/16\"]\n",
        "[[acl]]\naction = \"deny\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nfrom = [\"any\"]\n",
        "[security_groups.default]\ndescription = \"own\"\n",
        "[[forwards]]\nlisten = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = \"port-1:80\"\n",
        "[elastic_ips]\n\"198.51.100.20\" = { port = \"port-2\" }\n",
        "[[security_groups.group-0.egress]]\nprotocol = \"tcp\"\nto = [\"any\"]\n",
    ];
    match random.below(16) {
        0..2 => lines[at] = "",
        2..6 => lines.insert(at, random.of(&rule)),
        6 => lines.insert(at, random.of(&table)),
        7 => lines.push(random.of(&table)),
        8 => lines.insert(at, lines[random.below(lines.len())]),
        9 => {
            let until = (at + random.below(12)).min(lines.len());
            lines.drain(at..until);
        }
        10 => {
            let words = [("group-1", "group-7"), ("tcp", "udp"), ("list-1", "list-x"), ("any", "sg:group-0")];
            let (from, to) = words[random.below(words.len())];
            return text.replacen(from, to, 1 + random.below(3));
        }
        11..14 => {
            let changed =
                lines[at].replace("tcp", "sctp").replace("udp", "tcp").replace("group-1", "group-2");
            lines[at] = &changed;
            return lines.concat();
        }
        _ => {
            let mut at = random.below(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let (before, after) = text.split_at(at);
            let gone = after.chars().next().map_or(0, |_| random.below(2));
            let come =
                random.of(&["", "[", "]", "{", "}", ",", "\"", "'", "#", "=", "\n", " ", "1", "\u{e4}"]);
            let rest: String = after.chars().skip(gone).collect();
            return format!("{before}{come}{rest}");
        }
    }
    lines.concat()
}

#[test]
fn a_text_read_in_part_says_what_the_whole_says() {
    let mut random = Random(3);
    let base = large::policy(320).replace("ports.port-0]", "ports.port-0] # first\u{e4}");
    let mut checked = Checked::new();
    assert!(checked.parse(&base));
    let (mut text, mut valid) = (base.clone(), 0);
    for _ in 0..250 {
        let mut next = edited(&text, &mut random);
        if random.below(3) == 0 {
            next = edited(&next, &mut random);
        }
        if checked.parse(&next) {
            valid += 1;
            text = next;
        }
        if random.below(12) == 0 {
            text.clone_from(&base);
        }
    }
    assert!(valid > 60 && checked.in_part > 40, "{valid} valid, {} read in part", checked.in_part);
    assert!(checked.in_parts > 40, "{} read in parts", checked.in_parts);
}

#[test]
fn edits_of_rules_and_ports_are_read_in_part() {
    let base = large::policy(300);
    let mut checked = Checked::new();
    assert!(checked.parse(&base));
    let line = base.lines().find(|line| line.contains("tcp")).unwrap();
    let rule = "  { protocol = \"tcp\", ports = [9], from = [\"192.0.2.9\"] },";
    let port = "[ports.new]\nnetwork = \"back\"\nattach = { device = \"tap0\" }\n";
    for (n, next) in [
        base.replacen("tcp", "sctp", 1),
        base.replacen(line, &format!("{line}\n{rule}"), 1),
        base.replacen(&format!("{line}\n"), "", 1),
        format!("{base}\n[security_groups.new]\n{port}"),
        format!("{base}\n{port}"),
        base.clone(),
    ]
    .iter()
    .enumerate()
    {
        assert!(checked.parse(next));
        assert_eq!(checked.in_part, n + 1, "{next}");
    }
}

#[test]
fn a_group_that_stands_in_several_places_is_read_whole() {
    let base = large::policy(300);
    let mut checked = Checked::new();
    assert!(checked.parse(&base));
    let rule = "\n[[security_groups.group-0.egress]]\nprotocol = \"tcp\"\nto = [\"any\"]\n";
    let apart = format!("{base}{rule}");
    let heading = "[security_groups.group-0]\n";
    assert!(checked.parse(&apart));
    assert!(checked.parse(&apart.replacen(heading, &format!("{heading}description = \"x\"\n"), 1)));
    assert!(checked.parse(&apart.replacen("tcp", "sctp", 1)));
    assert_eq!(checked.in_part, 0);
}

#[test]
fn a_rule_keeps_the_id_that_the_whole_text_gives_it() {
    // Both rules of a repeated one have ids of their own, in their order; a warning is told of it each time.
    let rule = "  { protocol = \"tcp\", ports = [9], from = [\"192.0.2.9\"] },\n";
    let base = large::policy(120).replacen("ingress = [\n", &format!("ingress = [\n{rule}"), 1);
    let mut checked = Checked::new();
    assert!(checked.parse(&base));
    assert!(checked.parse(&base.replacen("ingress = [\n", &format!("ingress = [\n{rule}"), 1)));
    assert_eq!(checked.in_part, 0);
    let other = rule.replace("[9]", "[10]");
    assert!(checked.parse(&base.replacen("ingress = [\n", &format!("ingress = [\n{other}"), 1)));
    assert_eq!(checked.in_part, 1);
}

/// A large policy with a forward and an elastic IP to `port-1`, whose group `group-1` admits what they bring.
fn with_forward() -> String {
    let rule = "  { protocol = \"tcp\", ports = [80], from = [\"any\"] },\n";
    let heading = "[security_groups.group-1]\ningress = [\n";
    let base = large::policy(300).replacen(heading, &format!("{heading}{rule}"), 1);
    format!(
        "{base}\n[[forwards]]\nlisten = \"0.0.0.0:8080\"\nprotocol = \"tcp\"\nto = \"port-1:80\"\n\
         \n[elastic_ips]\n\"198.51.100.20\" = {{ port = \"port-1\" }}\n"
    )
}

#[test]
fn a_change_of_forwards_is_read_like_any_other() {
    let base = with_forward();
    let mut checked = Checked::new();
    assert!(checked.parse(&base));
    for (n, next) in [
        base.replacen("port-1:80", "port-1:81", 1).replacen("ports = [80]", "ports = [81]", 1),
        base.replacen("0.0.0.0:8080", "[::]:8080", 1),
        format!(
            "{base}\n[[metadata]]\nnetwork = \"front\"\nlisten = \"169.254.169.254:80\"\nto = \"host:80\"\n"
        ),
        base.replacen(
            "[networks.front]\n",
            "[networks.front]\nsnat = \"198.51.100.9\"\nuplink = \"eth0\"\n",
            1,
        ),
        base.replacen("tcp", "sctp", 2),
    ]
    .iter()
    .enumerate()
    {
        assert!(checked.parse(next), "{n}");
        assert_eq!(checked.in_part, n + 1, "{next}");
    }
}

#[test]
fn a_group_that_no_longer_admits_what_a_forward_brings_is_told_of() {
    let base = with_forward();
    let rule = "  { protocol = \"tcp\", ports = [80], from = [\"any\"] },\n";
    let mut checked = Checked::new();
    assert!(checked.parse(&base));
    let heading = "[security_groups.group-1]\n";
    let begin = base.find(heading).unwrap();
    let end = begin + base[begin..].find("]\n\n").unwrap();
    let closed = format!("{}{heading}ingress = [\n{}", &base[..begin], &base[end..]);
    assert!(checked.parse(&closed));
    assert_eq!(checked.in_part, 0);
    let (_, warnings) = parse_whole(&closed, Path::new(ORIGIN)).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(checked.parse(&closed.replacen("ingress = [\n]", &format!("ingress = [\n{rule}]"), 1)));
    // A port that is gone, an address that is taken: told by the whole parser.
    assert!(!checked.parse(&base.replacen("[ports.port-1]", "[ports.port-x]", 1)));
    assert!(!checked.parse(&base.replacen("0.0.0.0:8080", "10.0.0.9:8080", 1)));
}
