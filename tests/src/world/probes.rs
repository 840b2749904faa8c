//! What ports reach, and what they do not: attempts from their namespaces against what a test expects.

use std::thread;

use super::World;
use crate::traffic::{ANSWER, Outcome, Probe, SILENCE};

impl World {
    /// Asserts that `probe` from `@port` is answered.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn assert_reaches(&self, port: &str, probe: Probe) {
        self.judge(&[(port, probe, true)]);
    }

    /// Asserts that nothing at all comes back to `probe` from `@port`: no RST, no ICMP error.
    ///
    /// # Panics
    /// When something does.
    #[track_caller]
    pub fn assert_silent(&self, port: &str, probe: Probe) {
        self.judge(&[(port, probe, false)]);
    }

    /// Asserts of each attempt from an `@port` whether it is answered, or met by silence. All are
    /// made at once: most of the time of such a table is spent on listening for nothing.
    ///
    /// # Panics
    /// With every attempt that ended otherwise.
    #[track_caller]
    pub fn judge(&self, cases: &[(&str, Probe, bool)]) {
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let started: Vec<_> = cases.iter().map(|case| scope.spawn(|| self.attempt(case))).collect();
            started.into_iter().map(|attempt| attempt.join().expect("an outcome")).collect()
        });
        let judged = cases.iter().zip(outcomes).map(|((port, probe, allowed), outcome)| {
            let expected = if *allowed { Outcome::Answered } else { Outcome::Silence };
            (outcome != expected).then(|| format!("{probe:?} from {port}: {outcome:?}, not {expected:?}"))
        });
        let wrong: Vec<String> = judged.flatten().collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn attempt(&self, (port, probe, allowed): &(&str, Probe, bool)) -> Outcome {
        probe.run(&self.port(port), if *allowed { ANSWER } else { SILENCE })
    }
}
