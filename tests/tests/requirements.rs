//! What is told of NAT's behaviour is so: each test that is named exists, each requirement that must be met is met or
//! its reason told, and the document is what the table says.

use std::{collections::BTreeSet, env, fs, path::Path};

use vnet_common::FlowState;
use vnet_tests::{
    cases,
    requirements::{DOCUMENTS, Fares, Level, MISBEHAVIOUR, Requirement, render},
};

const DOCUMENT: &str = "docs/nat-behaviour.md";

fn path(below: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(below)
}

fn requirements() -> impl Iterator<Item = &'static Requirement> {
    DOCUMENTS.iter().flat_map(|document| document.requirements)
}

/// The names of all cases, without the IP version.
fn case_names() -> BTreeSet<String> {
    let version =
        |name: &str| name.strip_suffix(" (V4)").or_else(|| name.strip_suffix(" (V6)")).map(str::to_owned);
    cases::all().into_iter().map(|case| version(&case.name).unwrap_or(case.name)).collect()
}

/// Whether the file or suite `at` has the test `name`.
fn has_test(at: &str, name: &str) -> bool {
    let file = if at.contains('/') { path(at) } else { path(&format!("tests/tests/{at}.rs")) };
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let code: Vec<&str> = text.lines().map(str::trim).collect();
    code.windows(2).any(|lines| lines[0] == "#[test]" && lines[1].starts_with(&format!("fn {name}()")))
}

#[test]
fn every_test_that_is_named_exists() {
    let cases = case_names();
    let exists = |test: &str| match test.rsplit_once("::") {
        Some((at, name)) => has_test(at, name),
        None => cases.contains(test),
    };
    let named = requirements().flat_map(|row| row.tests).chain(MISBEHAVIOUR.iter().flat_map(|row| row.tests));
    let missing: BTreeSet<&str> = named.copied().filter(|test| !exists(test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_requirement_is_met_and_proven_or_its_reason_told() {
    for Requirement { number, level, fares, tests, .. } in requirements() {
        let (needs_reason, needs_test) = match fares {
            Fares::Met(_) => (false, *level == Level::Must),
            Fares::Option(_) => (true, true),
            Fares::Deviates(_) => (true, *level == Level::Must),
            Fares::Unused(_) => (true, false),
        };
        let (Fares::Met(why) | Fares::Option(why) | Fares::Deviates(why) | Fares::Unused(why)) = fares;
        assert!(!needs_reason || !why.is_empty(), "{number}: why?");
        assert!(!needs_test || !tests.is_empty(), "{number}: nothing proves it");
        assert!(!matches!(fares, Fares::Unused(_)) || *level == Level::May, "{number} is not optional");
    }
    assert!(MISBEHAVIOUR.iter().all(|row| !row.tests.is_empty()));
}

/// The numbers go from 1 to the RFC's last one, each with its letters in order.
#[test]
fn no_requirement_is_left_out() {
    for (document, last) in DOCUMENTS.iter().zip([14, 10, 11]) {
        let mut numbers: Vec<(u8, Option<char>)> = Vec::new();
        for row in document.requirements {
            let number = row.number.strip_prefix("REQ-").expect("REQ-");
            let letter = number.chars().last().filter(char::is_ascii_lowercase);
            let number = number.trim_end_matches(|last: char| last.is_ascii_lowercase());
            numbers.push((number.parse().expect("a number"), letter));
        }
        assert!(numbers.is_sorted(), "RFC {}: {numbers:?}", document.rfc);
        for number in 1..=last {
            let letters: String =
                numbers.iter().filter(|one| one.0 == number).filter_map(|one| one.1).collect();
            assert!(numbers.iter().any(|one| one.0 == number), "RFC {} REQ-{number}", document.rfc);
            assert!("abcdef".starts_with(&letters), "RFC {} REQ-{number}: {letters}", document.rfc);
        }
    }
}

#[test]
fn the_document_is_what_the_table_says() {
    let (file, rendered) = (path(DOCUMENT), render());
    if env::var_os("VNET_WRITE_DOCS").is_some() {
        fs::write(&file, &rendered).expect("write the document");
    }
    let text = fs::read_to_string(&file).unwrap_or_default();
    let differs = text.lines().zip(rendered.lines()).find(|(is, should)| is != should);
    assert!(
        text == rendered,
        "{DOCUMENT} is not what tests/src/requirements.rs says, first here: {differs:#?}\n\
         `VNET_WRITE_DOCS=1 cargo test -p vnet-tests --test requirements` writes it anew."
    );
}

/// RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2.
#[test]
fn flows_are_remembered_for_as_long_as_they_must() {
    const MINUTE: u32 = 60;
    let [icmp, tcp, udp, icmpv6] = [1, 6, 17, 58];
    let open = [FlowState::New, FlowState::SynReceived, FlowState::FinWait, FlowState::TimeWait];
    assert!(FlowState::Established.timeout_secs(tcp) >= 124 * MINUTE);
    assert!(open.iter().all(|state| state.timeout_secs(tcp) >= 4 * MINUTE));
    assert!(FlowState::Established.timeout_secs(udp) >= 5 * MINUTE);
    assert!(FlowState::New.timeout_secs(udp) >= 2 * MINUTE);
    for protocol in [icmp, icmpv6] {
        assert!(
            [FlowState::New, FlowState::Established]
                .iter()
                .all(|state| state.timeout_secs(protocol) >= MINUTE)
        );
    }
}
