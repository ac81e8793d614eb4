//! The enumerator (R36, R26): every reconciler through every fault at every request, in process and in virtual time, and its
//! end compared with the undisturbed one; random lives of objects, whose end is that of a fresh install; two leaders at once.
//!
//! `process` is one operator with the real shells, `simulation` the time it lives in, `snapshot` what is compared;
//! `every_fault`, `lives`, `leaders` and `rounds` are the tests. A failure prints how to have it again (CONTRIBUTING.md).

mod cache;
mod every_fault;
mod leaders;
mod lives;
mod process;
mod rounds;
mod scenarios;
mod simulation;
mod snapshot;
mod work;

#[allow(dead_code, missing_docs, unreachable_pub, reason = "shared with the test binaries")]
#[path = "../../../tests/support/random.rs"]
mod random;

/// Time in which everything that still has to happen happens: back-off, a list, a sweep, two resyncs with their jitter.
const REST: i64 = 1_560;

/// One of so many disturbances is taken by `cargo xtask test`, all where `GTM_ENUMERATOR_ALL` is set. No divisor of the number of
/// faults, so that each comes everywhere.
const SAMPLED: usize = 5;

/// Whether the disturbance of this number is taken.
fn is_sampled(number: usize) -> bool {
    number.is_multiple_of(SAMPLED) || wish("GTM_ENUMERATOR_ALL").is_some()
}

/// What a person wants of a run, by environment variable.
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn wish(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// Tells the first few of many failures, and fails if there are any.
fn report(runs: usize, failures: &[String]) {
    let told = failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {runs} runs failed, the first of them:\n\n{told}\n", failures.len());
}
