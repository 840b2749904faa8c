//! The documents say what the code does: tables of reasons and maps, examples of policies, and what is
//! refused as not supported yet.

use std::{
    fs,
    path::{Path, PathBuf},
};

use vnet_common::DropReason;
use vnet_ctl::{datapath, policy};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of every row of every Markdown table in `text`.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with('|')).map(cells).collect()
}

/// The contents of the blocks fenced as `language`.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(opening.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_drop_reason_is_documented_as_the_code_has_it() {
    let rows = rows(&document("docs/drop-reasons.md"));
    let documented: Vec<_> = rows.iter().filter(|row| row[0].parse::<u32>().is_ok()).collect();
    for (reason, row) in DropReason::ALL.iter().zip(&documented) {
        let expected =
            [reason.number().to_string(), format!("`{}`", reason.label()), reason.explanation().to_owned()];
        assert_eq!(row[..3], expected, "docs/drop-reasons.md");
        assert!(!row[3].is_empty(), "docs/drop-reasons.md says nothing to do about {}", reason.label());
    }
    assert_eq!(documented.len(), DropReason::ALL.len(), "rows of docs/drop-reasons.md");
}

#[test]
fn reasons_that_the_readme_names_exist() {
    let text = document("README.md");
    let section = text.split("\n## Drop reasons\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let table = rows(section);
    let named: Vec<_> =
        table.iter().skip(2).flat_map(|row| row[0].split(", ")).map(|word| word.trim_matches('`')).collect();
    assert!(named.len() > 5);
    for label in named {
        assert!(DropReason::ALL.iter().any(|reason| reason.label() == label), "README.md: {label}");
    }
}

#[test]
fn every_map_is_in_the_map_table_with_its_size() {
    let rows = rows(&document("ARCHITECTURE.md"));
    for (name, shape) in datapath::declared().unwrap() {
        let row = rows.iter().find(|row| row[0] == format!("`{name}`"));
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no map {name}"));
        assert_eq!(row.last().unwrap(), &shape.max_entries.to_string(), "entries of {name}");
    }
}

#[test]
fn policies_in_the_readme_are_valid() {
    let text = document("README.md");
    let examples = blocks(&text, "toml");
    assert!(!examples.is_empty());
    for example in examples {
        if let Err(errors) = policy::parse(example, Path::new("README.md")) {
            panic!("{errors}");
        }
    }
}

#[test]
fn examples_are_valid_and_nothing_in_them_is_strange() {
    /// Its reader is to open a closed group.
    const CLOSED: &str = "managed/controller.toml";
    for path in policies_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")) {
        let text = fs::read_to_string(&path).unwrap();
        match policy::parse(&text, &path) {
            Ok((_, warnings)) => assert!(warnings.is_empty() || path.ends_with(CLOSED), "{warnings:?}"),
            Err(errors) => panic!("{errors}"),
        }
    }
}

/// The policy files in a folder, and in those below it.
fn policies_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_policy = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| policies_below(folder));
    files.into_iter().filter(is_policy).chain(below).collect()
}

/// What README.md says is missing, and how somebody would write it.
const REFUSED: &[(&str, &str)] = &[
    ("ports.*.allowed_addresses", "[ports.a]\nallowed_addresses = ['10.0.0.0/8']"),
    ("attach.container", "[ports.a]\nattach = { container = 'c' }"),
];

#[test]
fn what_the_readme_calls_missing_is_refused_by_name() {
    let text = document("README.md");
    let section = text.split("\n## What works").nth(1).unwrap().split("\n## ").next().unwrap();
    let table = rows(section);
    let told: Vec<_> = table.iter().skip(2).flat_map(|row| row[1].split('`').skip(1).step_by(2)).collect();
    for (key, snippet) in REFUSED {
        assert!(told.contains(key), "README.md does not tell that {key} is missing");
        let errors = policy::parse(&format!("version = 1\n{snippet}\n"), Path::new("p.toml")).unwrap_err();
        let last = key.rsplit('.').next().unwrap();
        let refused =
            errors.to_string().lines().any(|line| line.contains("not supported yet") && line.contains(last));
        assert!(refused, "{key}: {errors}");
    }
    assert_eq!(told.len(), REFUSED.len(), "README.md tells of more than is tried here: {told:?}");
}
