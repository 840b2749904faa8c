//! Which test programs belong to which tier, by the names of their packages and files.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use cargo_metadata::{Metadata, TargetKind};

use super::Tier;

/// Integration tests that need root live in these packages under these names; everything else needs
/// nothing and is of the unit tier.
fn tier_of(package: &str, target: &str) -> Tier {
    match (package, target) {
        ("vnet-tests", "prog") => Tier::Prog,
        ("vnet-tests", name) if name.starts_with("netns") => Tier::Netns,
        ("vnet-ctl", "daemon" | "host") => Tier::Netns,
        _ => Tier::Unit,
    }
}

/// The names of the integration tests of each tier, in the workspace that `metadata` describes.
///
/// cargo chooses them by name in all packages at once, so that dependencies are built with one set of
/// features; a name that two tiers share is refused.
pub(super) fn by_tier(metadata: &Metadata) -> Result<BTreeMap<String, Tier>> {
    let packages = metadata.workspace_packages();
    let targets = packages.iter().flat_map(|package| {
        let tests = package.targets.iter().filter(|target| target.is_kind(TargetKind::Test));
        tests.map(|target| (package.name.as_str(), target.name.as_str()))
    });
    assign(targets)
}

fn assign<'a>(targets: impl Iterator<Item = (&'a str, &'a str)>) -> Result<BTreeMap<String, Tier>> {
    let mut tiers = BTreeMap::new();
    for (package, name) in targets {
        let tier = tier_of(package, name);
        if tiers.insert(name.to_owned(), tier).is_some_and(|other| other != tier) {
            bail!("{package}/tests/{name}.rs has the name of a test in another tier: rename it");
        }
    }
    Ok(tiers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_need_root_are_told_by_package_and_name() {
        let targets = [
            ("vnet-tests", "prog"),
            ("vnet-tests", "netns_groups"),
            ("vnet-tests", "model"),
            ("vnet-ctl", "daemon"),
            ("vnet-ctl", "cli"),
        ];
        let tiers = assign(targets.into_iter()).expect("no name twice");
        let of = |tier| {
            tiers.iter().filter(|(_, t)| **t == tier).map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(of(Tier::Unit), ["cli", "model"]);
        assert_eq!(of(Tier::Prog), ["prog"]);
        assert_eq!(of(Tier::Netns), ["daemon", "netns_groups"]);
    }

    #[test]
    fn a_name_in_two_tiers_is_refused() {
        let targets = [("vnet-ctl", "host"), ("vnet-tests", "host")];
        let error = assign(targets.into_iter()).expect_err("one name, two tiers").to_string();
        assert!(error.contains("vnet-tests/tests/host.rs"), "{error}");
    }
}
