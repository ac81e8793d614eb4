//! What the phases of `cargo xtask test` gave: counts read from the test harness, times, and layers that could not run.

use std::time::Duration;

use crate::console;

/// Tests counted over any number of test binaries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Adds what a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …` says; other lines say nothing.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let of = |word: &str| {
            let number = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
            number.and_then(|it| it.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += of("passed");
        self.failed += of("failed");
        self.skipped += of("ignored");
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// How a phase ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it is there for.
    Done(Counts),
    /// It ran and found something.
    Failed(Counts),
    /// It could not run, for this reason.
    NotRun(String),
}

/// The phases so far.
#[derive(Default)]
pub(crate) struct Report {
    phases: Vec<(String, Duration, Outcome)>,
}

impl Report {
    /// Adds a phase.
    pub(crate) fn add(&mut self, name: &str, time: Duration, outcome: Outcome) {
        self.phases.push((name.to_owned(), time, outcome));
    }

    /// Prints the table and the closing line; tells whether all is well.
    pub(crate) fn close(&self, demand_all: bool) -> bool {
        console::line(format_args!("\n{:36} {:>14} {:>7} {:>7} {:>7}", "phase", "time", "passed", "failed", "skipped"));
        for (name, time, outcome) in &self.phases {
            let time = console::seconds(*time);
            match outcome {
                Outcome::Done(counts) | Outcome::Failed(counts) => {
                    let Counts { passed, failed, skipped } = counts;
                    let mark = if matches!(outcome, Outcome::Failed(_)) { "  FAILED" } else { "" };
                    console::line(format_args!("{name:36} {time:>14} {passed:>7} {failed:>7} {skipped:>7}{mark}"));
                }
                Outcome::NotRun(why) => console::line(format_args!("{name:36} {time:>14} not run: {why}")),
            }
        }
        let Counts { passed, failed, skipped } = self.total();
        console::line(format_args!("\n{passed} passed, {failed} failed, {skipped} skipped"));
        self.is_good(demand_all)
    }

    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for (_, _, outcome) in &self.phases {
            if let Outcome::Done(counts) | Outcome::Failed(counts) = outcome {
                total.add(*counts);
            }
        }
        total
    }

    fn is_good(&self, demand_all: bool) -> bool {
        self.phases.iter().all(|(_, _, outcome)| match outcome {
            Outcome::Done(counts) => counts.failed == 0,
            Outcome::Failed(_) => false,
            Outcome::NotRun(_) => !demand_all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_summary_is_counted_and_other_lines_are_not() {
        let mut counts = Counts::default();
        counts.read("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 5 filtered out; finished in 0.20s");
        counts.read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.read("test stores::a_test_that_says_9 passed; ... ok");
        assert_eq!(counts, Counts { passed: 13, failed: 2, skipped: 3 });
    }

    #[test]
    fn a_layer_that_did_not_run_fails_only_when_all_are_demanded() {
        let mut report = Report::default();
        report.add("cluster", Duration::ZERO, Outcome::NotRun("needs root".to_owned()));
        assert!(report.is_good(false));
        assert!(!report.is_good(true));
    }

    #[test]
    fn a_phase_that_fails_without_a_failed_test_fails_the_report() {
        let mut report = Report::default();
        report.add("clippy", Duration::ZERO, Outcome::Failed(Counts::default()));
        assert!(!report.is_good(false));
    }
}
