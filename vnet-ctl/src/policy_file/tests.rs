use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{FileError, Lock};

fn folder_with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    fs::write(&path, text).expect("written");
    (folder, path)
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    names
}

#[test]
fn replacing_keeps_mode_and_leaves_nothing_beside() {
    let (folder, path) = folder_with("old");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("mode");
    let lock = Lock::acquire(&path).expect("locked");
    lock.stage("new").expect("staged").replace().expect("replaced");
    drop(lock);
    assert_eq!(fs::read_to_string(&path).expect("read"), "new");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o640);
    assert_eq!(names(folder.path()), ["policy.toml"]);
}

#[test]
fn a_stage_that_is_dropped_changes_nothing() {
    let (folder, path) = folder_with("old");
    let lock = Lock::acquire(&path).expect("locked");
    drop(lock.stage("new").expect("staged"));
    drop(lock);
    assert_eq!(fs::read_to_string(&path).expect("read"), "old");
    assert_eq!(names(folder.path()), ["policy.toml"]);
}

#[test]
fn a_symlink_stays_one() {
    let (folder, path) = folder_with("old");
    let link = folder.path().join("link.toml");
    symlink(&path, &link).expect("linked");
    let lock = Lock::acquire(&link).expect("locked");
    lock.stage("new").expect("staged").replace().expect("replaced");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_eq!(fs::read_to_string(&path).expect("read"), "new");
}

#[test]
fn the_lock_is_held_by_one_and_then_by_the_next() {
    let (_folder, path) = folder_with("old");
    let lock = Lock::acquire(&path).expect("locked");
    let refused = Lock::acquire_within(&path, Duration::ZERO).expect_err("held by another");
    assert!(matches!(refused, FileError::Held { .. }), "{refused}");
    drop(lock);
    Lock::acquire_within(&path, Duration::ZERO).expect("free again");
}

#[test]
fn files_of_others_that_are_named_like_locks_stay() {
    let (folder, path) = folder_with("old");
    fs::write(folder.path().join("policy.toml.lock"), "").expect("written");
    fs::write(folder.path().join(".vnet-policy.toml.lock"), "mine").expect("written");
    drop(Lock::acquire(&path).expect("locked"));
    assert_eq!(names(folder.path()), [".vnet-policy.toml.lock", "policy.toml", "policy.toml.lock"]);
}

#[test]
fn a_lock_is_not_a_link_to_another_file() {
    let (folder, path) = folder_with("old");
    let target = folder.path().join("target");
    symlink(&target, folder.path().join(".vnet-policy.toml.lock")).expect("linked");
    Lock::acquire(&path).expect_err("a link");
    assert!(!target.exists());
}

#[test]
fn changes_at_once_all_land() {
    let (folder, path) = folder_with("");
    let change = |n: usize| {
        let lock = Lock::acquire(&path).expect("locked");
        let text = fs::read_to_string(lock.target()).expect("read");
        lock.stage(&format!("{text}{n}\n")).expect("staged").replace().expect("replaced");
    };
    thread::scope(|scope| {
        for n in 0..16 {
            scope.spawn(move || change(n));
        }
    });
    let text = fs::read_to_string(&path).expect("read");
    let mut lines: Vec<usize> = text.lines().map(|line| line.parse().expect("a number")).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..16).collect::<Vec<_>>());
    assert_eq!(names(folder.path()), ["policy.toml"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = Lock::acquire(Path::new("/nonexistent/p.toml")).expect_err("missing");
    assert!(error.to_string().contains("/nonexistent/p.toml"), "{error}");
}

#[test]
fn a_file_that_is_marked_read_only_is_not_replaced() {
    let (folder, path) = folder_with("old");
    fs::set_permissions(&path, Permissions::from_mode(0o444)).expect("mode");
    let lock = Lock::acquire(&path).expect("locked");
    let error = lock.stage("new").expect_err("read-only");
    assert!(
        matches!(error, FileError::ReadOnly { .. }) && error.to_string().contains("policy.toml"),
        "{error}"
    );
    drop(lock);
    assert_eq!(names(folder.path()), ["policy.toml"]);
}
