//! Rules of the source that no lint knows: how long a file may be, and that the datapath's stages
//! never import one another (only `pipeline.rs` puts them in order).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Lines; past it a file is to be split by concept.
const MAX_LINES: usize = 500;
/// One file, or one folder, per stage.
const STAGES: &str = "vnet-ebpf/src/stages";

/// Fails if a file of Rust below `root` is longer than it may be.
pub(crate) fn file_sizes(root: &Path) -> Result<()> {
    let mut long = Vec::new();
    for path in rust_files(root)? {
        let lines = read(&path)?.lines().count();
        if lines > MAX_LINES {
            let path = path.strip_prefix(root).unwrap_or(&path).display();
            long.push(format!("{path} has {lines} lines"));
        }
    }
    if !long.is_empty() {
        bail!("a file has at most {MAX_LINES} lines, split it by concept: {}", long.join(", "));
    }
    Ok(())
}

/// Fails if a stage below `root` uses another.
pub(crate) fn stages_apart(root: &Path) -> Result<()> {
    let folder = root.join(STAGES);
    let files = rust_files(&folder).with_context(|| format!("look for the stages in {STAGES}"))?;
    let stages: Vec<_> = files.iter().filter_map(|path| stage_of(&folder, path)).collect();
    let mut uses = Vec::new();
    for path in &files {
        let Some(own) = stage_of(&folder, path) else { continue };
        let source = read(path)?;
        for other in stages_used(&source, &stages).into_iter().filter(|other| **other != own) {
            uses.push(format!("{} uses {other}", path.strip_prefix(root).unwrap_or(path).display()));
        }
    }
    if !uses.is_empty() {
        bail!("stages never import one another: {}", uses.join(", "));
    }
    Ok(())
}

/// The stage that a file belongs to: the first name below the folder; none for the folder's own `mod.rs`.
fn stage_of(folder: &Path, path: &Path) -> Option<String> {
    let first = path.strip_prefix(folder).ok()?.iter().next()?;
    let stage = Path::new(first).file_stem()?.to_str()?;
    (stage != "mod").then(|| stage.to_owned())
}

/// Those of `stages` that `source` names in a path from `stages::` or `super::`.
fn stages_used<'a>(source: &str, stages: &'a [String]) -> Vec<&'a String> {
    let code: Vec<_> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join(" ");
    let named: Vec<_> = ["stages::", "super::"].iter().flat_map(|from| code.split(from).skip(1)).collect();
    let mut used: Vec<_> =
        stages.iter().filter(|stage| named.iter().any(|path| begins_with(path, stage))).collect();
    used.dedup();
    used
}

/// Whether a path, `judge::Verdict` or `{judge, route}`, begins with `stage`.
fn begins_with(path: &str, stage: &str) -> bool {
    let group = path.trim_start().strip_prefix('{').and_then(|rest| rest.split(';').next());
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect()
    };
    match group {
        Some(group) => words(group).iter().any(|word| word == stage),
        None => words(path.trim_start()).first().is_some_and(|word| word == stage),
    }
}

/// All files of Rust below `folder`; not what cargo builds, nor hidden folders.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path)?);
        } else if name.ends_with(".rs") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages() -> Vec<String> {
        ["judge", "route", "track"].map(str::to_owned).to_vec()
    }

    fn used(source: &str) -> Vec<String> {
        stages_used(source, &stages()).into_iter().cloned().collect()
    }

    #[test]
    fn imports_of_stages_are_seen_in_every_form() {
        assert_eq!(used("use crate::stages::judge::judge;"), ["judge"]);
        assert_eq!(used("use crate::stages::{\n    judge,\n    track::Track,\n};"), ["judge", "track"]);
        assert_eq!(used("use super::route;"), ["route"]);
        assert_eq!(used("    super::super::track::lookup(key)"), ["track"]);
    }

    #[test]
    fn other_paths_and_comments_are_no_imports() {
        assert!(used("use super::*;").is_empty());
        assert!(used("use crate::{tables::Tables, verdict::Verdict};\nlet route = 1;").is_empty());
        assert!(used("// what stages::judge decides").is_empty());
        assert!(used("use super::routes;").is_empty());
        assert!(used("use super::{Packet};\nfn track() {}").is_empty());
    }

    #[test]
    fn a_stage_that_uses_another_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join(STAGES);
        fs::create_dir_all(&folder).expect("the stages' folder");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
        write("mod.rs", "pub mod judge; pub mod route;");
        write("judge.rs", "use super::judge::X;");
        write("route.rs", "");
        stages_apart(root.path()).expect("a stage may name itself");
        write("route.rs", "use super::judge;");
        let error = stages_apart(root.path()).expect_err("route uses judge").to_string();
        assert!(error.contains("route.rs uses judge"), "{error}");
    }

    #[test]
    fn without_stages_the_rule_does_not_hold() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(stages_apart(root.path()).is_err());
    }

    #[test]
    fn a_long_file_is_named_and_built_ones_are_not_read() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("target")).expect("a folder");
        fs::write(root.path().join("target/made.rs"), "\n".repeat(MAX_LINES + 1)).expect("a file");
        fs::write(root.path().join("full.rs"), "\n".repeat(MAX_LINES)).expect("a file");
        file_sizes(root.path()).expect("just as long as it may be");
        fs::write(root.path().join("long.rs"), "\n".repeat(MAX_LINES + 1)).expect("a file");
        let error = file_sizes(root.path()).expect_err("one too many").to_string();
        assert!(error.contains("long.rs has 501 lines"), "{error}");
    }
}
