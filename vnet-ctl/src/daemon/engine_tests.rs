use super::*;

#[test]
fn a_change_that_left_something_behind_stays_in_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut intended = State::default();
    intended.devices.insert("tap0".to_owned());
    for undone in [true, false] {
        intended.save(dir.path()).unwrap();
        let mut known = intended.clone();
        let failed = Failed { error: anyhow::anyhow!("no"), undone };

        go_back(&mut known, dir.path(), State::default(), &failed);

        let expected = if undone { State::default() } else { intended.clone() };
        assert_eq!((&known, State::load(dir.path()).unwrap()), (&expected, expected.clone()));
    }
}

#[test]
fn a_state_that_cannot_be_saved_does_not_hide_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut intended = State::default();
    intended.devices.insert("tap0".to_owned());
    let mut known = intended.clone();

    go_back(&mut known, &file, State::default(), &Failed { error: anyhow::anyhow!("no"), undone: true });

    assert_eq!(known, intended);
}
