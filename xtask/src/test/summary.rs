//! Reads libtest's closing lines and adds them up.

use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Those that passed.
    pub(crate) passed: u64,
    /// Those that failed, and test programs that ended without a result.
    pub(crate) failed: u64,
    /// Those marked `#[ignore]`.
    pub(crate) ignored: u64,
}

impl Tally {
    /// From a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out`.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (_, counts) = line.trim_end().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |name: &str| {
            counts.split("; ").find_map(|part| part.strip_suffix(name)?.strip_suffix(' ')?.parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }

    /// How many tests were run.
    pub(crate) fn ran(self) -> u64 {
        self.passed + self.failed
    }

    /// The closing line of a run.
    pub(crate) fn closing_line(self) -> String {
        let Self { passed, failed, ignored } = self;
        match ignored {
            0 => format!("{passed} passed, {failed} failed"),
            _ => format!("{passed} passed, {failed} failed, {ignored} skipped"),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_good_and_bad_results() {
        let ok = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s\n";
        assert_eq!(Tally::from_line(ok), Some(Tally { passed: 12, failed: 0, ignored: 1 }));
        let bad = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        assert_eq!(Tally::from_line(bad), Some(Tally { passed: 4, failed: 2, ignored: 0 }));
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in [
            "",
            "running 3 tests",
            "test result_is_kept ... ok",
            "test result: ok",
            "  test result: ok. 1 passed",
        ] {
            assert_eq!(Tally::from_line(line), None, "{line}");
        }
    }

    #[test]
    fn closing_line_tells_skipped_tests_only_if_there_are_any() {
        let mut tally = Tally { passed: 3, failed: 1, ignored: 0 };
        assert_eq!(tally.closing_line(), "3 passed, 1 failed");
        tally += Tally { passed: 1, failed: 0, ignored: 2 };
        assert_eq!(tally.closing_line(), "4 passed, 1 failed, 2 skipped");
        assert_eq!(tally.ran(), 5);
    }
}
