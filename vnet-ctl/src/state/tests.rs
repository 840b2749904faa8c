use std::{fs, net::IpAddr};

use super::*;

fn example() -> State {
    let mut state = State::default();
    state.addresses.insert("web-1".to_owned(), vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
    state.namespaces.insert("web-1".to_owned());
    state.devices.insert("tap0".to_owned());
    state
}

#[test]
fn a_saved_state_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("not/there/yet");
    example().save(&inner).unwrap();
    assert_eq!(State::load(&inner).unwrap(), example());
}

#[test]
fn a_missing_file_is_an_empty_state() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(State::load(dir.path()).unwrap(), State::default());
}

#[test]
fn a_file_without_namespace_ids_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), r#"{"version": 1, "namespaces": ["a"]}"#).unwrap();
    let state = State::load(dir.path()).unwrap();
    assert_eq!((state.namespaces.len(), state.namespace_ids.len()), (1, 0));
}

#[test]
fn saving_leaves_nothing_but_the_file() {
    let dir = tempfile::tempdir().unwrap();
    State::default().save(dir.path()).unwrap();
    example().save(dir.path()).unwrap();
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME]);
}

#[test]
fn a_damaged_file_is_named_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "{", "[]", r#"{"version": 1, "addresses": {"a": ["10.0.0"]}}"#, r#"{"addresses": {}}"#] {
        fs::write(dir.path().join(FILE_NAME), text).unwrap();
        let error = State::load(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains(FILE_NAME) && error.help().contains("mv "), "{error}");
    }
}

#[test]
fn a_newer_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), r#"{"version": 2, "colours": []}"#).unwrap();
    assert!(matches!(State::load(dir.path()), Err(StateError::TooNew { version: 2, .. })));
}

#[test]
fn a_failed_save_keeps_the_old_state_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = example().save(&file).unwrap_err();
    assert!(matches!(error, StateError::Write { .. }));
    assert!(error.to_string().contains("file/state.json"), "{error}");
}

#[test]
fn removing_forgets_and_tolerates_absence() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("vnet");
    example().save(&inner).unwrap();
    State::remove(&inner).unwrap();
    assert!(inner.is_dir() && !inner.join(FILE_NAME).exists());
    State::remove(&inner).unwrap();
}

#[test]
fn released_addresses_are_remembered_in_order() {
    let addr = |n: u8| IpAddr::from([10, 0, 0, n]);
    let mut state = State::default();
    let mut set = |has: &[(&str, u8)], networks: &[(&str, &str)]| {
        let assigned: Assigned = has.iter().map(|&(port, n)| (port.to_owned(), vec![addr(n)])).collect();
        let networks: BTreeMap<_, _> = networks.iter().copied().collect();
        let place =
            |&(port, n): &(&str, u8)| (port.to_owned(), [(addr(n), networks[port].to_owned())].into());
        state.set_addresses(&assigned, has.iter().map(place).collect());
        let released = state.released.iter();
        released.map(|released| (released.port.clone(), released.address)).collect::<Vec<_>>()
    };
    let web = [("a", "web"), ("b", "web")];
    assert_eq!(set(&[("a", 2), ("b", 3)], &web), []);
    set(&[("b", 3)], &web);
    let both = [("a".to_owned(), addr(2)), ("b".to_owned(), addr(3))];
    assert_eq!(set(&[], &[]), both);
    assert_eq!(set(&[("c", 2)], &[("c", "db")]), both, "another network has the address, too");
    assert_eq!(set(&[("c", 2), ("d", 2)], &[("c", "db"), ("d", "web")]), both[1..]);
    assert_eq!(state.released[0].network.as_deref(), Some("web"));
}

#[test]
fn what_was_learned_is_of_one_boot() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = example();
    state.learn_in("this");
    let lease = Learned {
        address: "192.0.2.44".parse().unwrap(),
        network: "lan".to_owned(),
        since_secs: 5,
        lease_until_secs: Some(605),
    };
    let claim = Learned { address: "fe80::1".parse().unwrap(), lease_until_secs: None, ..lease.clone() };
    state.learned.insert("guest".to_owned(), vec![lease, claim]);
    state.save(dir.path()).unwrap();

    let mut loaded = State::load(dir.path()).unwrap();
    assert_eq!(loaded, state);
    loaded.learn_in("this");
    assert_eq!(loaded, state, "a daemon that starts again");
    loaded.learn_in("other");
    assert!(loaded.learned.is_empty() && loaded.learned_in == "other");
    assert_eq!(loaded.addresses, state.addresses);
}
