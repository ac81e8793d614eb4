//! What a one-shot wish did, in words for `status.lastHandled`; the same in both stores.

use super::Findings;

/// The connector no longer stands where the wish expected it; nothing was done.
pub(super) const POSITION_CHANGED: &str = "PositionChanged: nothing was reset";
/// A resync without a range; nothing was done.
pub(super) const NO_WINDOW: &str = "NoWindow: nothing is read again";

/// A confirmation where no sweep was refused; it allows nothing.
pub(super) const NOTHING_REFUSED: &str = "NothingRefused: no sweep waits for a word";

/// `at most 1320 rows of contacts`: what the confirmed sweeps may delete.
pub(super) fn sweeps(findings: &Findings) -> String {
    if findings.confirmed_sweeps.is_empty() {
        return NOTHING_REFUSED.to_owned();
    }
    let most: Vec<_> =
        findings.confirmed_sweeps.iter().map(|(stream, most)| format!("{most} rows of {stream}")).collect();
    format!("at most {}", most.join(", "))
}

/// `3 dead letters marked`.
pub(super) fn letters(done: &str, count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} dead letter{plural} {done}")
}
