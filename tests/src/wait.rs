//! Waiting for something to become true, with an end.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take on a loaded machine before a test calls it broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks; short beside anything that is waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds a value.
///
/// # Panics
/// After [`PATIENCE`], naming `what` was waited for.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}
