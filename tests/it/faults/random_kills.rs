//! Kill −9 of worker, Temporal and PostgreSQL at random moments: the rows equal those of an undisturbed life. Ten lives
//! with every `cargo xtask test`, as many as wanted by `cargo xtask faults`.

use super::group::{self, Report};
use crate::support::wish;

/// Lives that share one set of servers and its kills (see `group`).
const GROUP: usize = 10;

/// A number that `cargo xtask faults` sets.
fn number(variable: &str, otherwise: u64) -> u64 {
    wish(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// One line for each life, read by `cargo xtask faults`.
#[expect(clippy::print_stdout, reason = "how this process reports to xtask")]
fn tell(report: &Report) {
    println!("fault-run {}", serde_json::to_string(report).expect("a report is JSON"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres, temporal"]
async fn whatever_is_killed_whenever_the_rows_equal_those_of_an_undisturbed_life() {
    let (first, runs) = (number("GTM_TEST_FAULT_SEED", 1), number("GTM_TEST_FAULT_RUNS", GROUP as u64));
    let mut wrong = Vec::new();
    let mut left = usize::try_from(runs).expect("a count");
    for seed in first.. {
        let reports = group::run(seed, left.min(GROUP)).await;
        reports.iter().for_each(tell);
        left -= reports.len();
        wrong.extend(reports.into_iter().filter(|report| !report.wrong.is_empty()));
        if left == 0 {
            break;
        }
    }
    assert!(wrong.is_empty(), "of the lives (again: cargo xtask faults --seed <group>):\n{wrong:#?}");
}
