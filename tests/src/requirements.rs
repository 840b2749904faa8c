//! What RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP) ask of a NAT, how vnet fares, and the tests that prove it.
//!
//! `docs/nat-behaviour.md` is rendered from here; the suite `requirements` holds one to the other, and sees that each
//! test exists.

mod icmp;
mod misbehaviour;
mod tcp;
mod udp;

use std::fmt;

/// How much an RFC insists (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// MUST, and MUST NOT.
    Must,
    /// SHOULD, SHOULD NOT and RECOMMENDED.
    Should,
    /// MAY.
    May,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        })
    }
}

/// How vnet fares, and what there is to be said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fares {
    /// As asked.
    Met(&'static str),
    /// As asked where the policy says so.
    Option(&'static str),
    /// In part, or not at all, and why.
    Deviates(&'static str),
    /// It is allowed, and vnet does not do it.
    Unused(&'static str),
}

impl Fares {
    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Met(note) => ("Met", note),
            Self::Option(note) => ("Met as an option", note),
            Self::Deviates(why) => ("**Deviates**", why),
            Self::Unused(why) => ("Not used", why),
        }
    }
}

impl fmt::Display for Fares {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (fares, "") => write!(out, "{fares}."),
            (fares, note) => write!(out, "{fares}. {note}"),
        }
    }
}

/// One requirement, or one of the parts of it that have a letter.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    /// Its number, such as `REQ-3a`.
    pub number: &'static str,
    /// How much the RFC insists.
    pub level: Level,
    /// What it asks, in our words.
    pub asks: &'static str,
    /// How vnet fares.
    pub fares: Fares,
    /// The tests that prove it: a case by its name, without the IP version; a test of a suite as `SUITE::TEST`; a unit
    /// test as `FILE::TEST`.
    pub tests: &'static [&'static str],
}

/// A row of a table.
const fn row(
    (number, level): (&'static str, Level),
    asks: &'static str,
    fares: Fares,
    tests: &'static [&'static str],
) -> Requirement {
    Requirement { number, level, asks, fares, tests }
}

/// The requirements of one RFC.
#[derive(Clone, Copy, Debug)]
pub struct Document {
    /// Its number.
    pub rfc: u16,
    /// What it is about.
    pub about: &'static str,
    /// All of its requirements.
    pub requirements: &'static [Requirement],
}

/// All three.
pub const DOCUMENTS: [Document; 3] = [
    Document { rfc: 4787, about: "UDP", requirements: udp::REQUIREMENTS },
    Document { rfc: 5382, about: "TCP", requirements: tcp::REQUIREMENTS },
    Document { rfc: 5508, about: "ICMP", requirements: icmp::REQUIREMENTS },
];

/// Something that went wrong with other NATs.
#[derive(Clone, Copy, Debug)]
pub struct Misbehaviour {
    /// What happens, and what is to come of it.
    pub what: &'static str,
    /// As in [`Requirement`].
    pub tests: &'static [&'static str],
}

pub use misbehaviour::MISBEHAVIOUR;

const INTRODUCTION: &str = "\
# How vnet translates

What the RFCs on NAT ask, how vnet fares, and the tests that prove it. This file is rendered from the table in
`tests/src/requirements.rs`, and `cargo test -p vnet-tests --test requirements` fails if it is not up to date:

    VNET_WRITE_DOCS=1 cargo test -p vnet-tests --test requirements

A test with `::` in its name is one of the suites in `tests/tests/` or of the file that is named; every other one is a
case of `tests/src/cases/`, which is played on a model of the datapath and with the real programs in the kernel, with
IPv4 and IPv6 where both have what it is about. Where vnet does not do what is asked, the reason stands beside it.

Three things explain most deviations:

- **The address of the uplink is the host's own.** What no flow and no forward claims is the host's to answer, as if vnet
  were not there.
- **Security groups decide who gets in.** A workload is reached from outside by a forward or an elastic IP that its groups
  admit, and by answers, not by a port that happens to be mapped.
- **A source port is shared between destinations**, unless `mapping = \"endpoint-independent\"` is asked for: so one address
  has room for more connections.
";

/// The document.
#[must_use]
pub fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str(&summary());
    for document in DOCUMENTS {
        text.push_str(&format!("\n## RFC {}: {}\n\n", document.rfc, document.about));
        text.push_str("| Requirement | Level | What it asks | vnet | Tests |\n|---|---|---|---|---|\n");
        for Requirement { number, level, asks, fares, tests } in document.requirements {
            let tests = named(tests);
            text.push_str(&format!("| {number} | {level} | {asks} | {fares} | {tests} |\n"));
        }
    }
    text.push_str("\n## What went wrong elsewhere\n\n| What happens | Tests |\n|---|---|\n");
    for Misbehaviour { what, tests } in MISBEHAVIOUR {
        text.push_str(&format!("| {what} | {} |\n", named(tests)));
    }
    text
}

/// How many requirements of each level there are, and how many of them are met.
fn summary() -> String {
    let mut text =
        "\n| | Level | Met | Met as an option | Deviates | Not used |\n|---|---|---:|---:|---:|---:|\n"
            .to_owned();
    for Document { rfc, about, requirements } in DOCUMENTS {
        for level in [Level::Must, Level::Should, Level::May] {
            let count = |is: fn(Fares) -> bool| {
                requirements.iter().filter(|row| row.level == level && is(row.fares)).count()
            };
            let met = count(|fares| matches!(fares, Fares::Met(_)));
            let option = count(|fares| matches!(fares, Fares::Option(_)));
            let deviates = count(|fares| matches!(fares, Fares::Deviates(_)));
            let unused = count(|fares| matches!(fares, Fares::Unused(_)));
            let row =
                format!("| RFC {rfc}, {about} | {level} | {met} | {option} | {deviates} | {unused} |\n");
            text.push_str(&row);
        }
    }
    text
}

/// Tests as they stand in a cell.
fn named(tests: &[&str]) -> String {
    tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ")
}
