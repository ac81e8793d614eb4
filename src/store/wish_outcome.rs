//! What a one-shot wish did, in words for `status.lastHandled`; the same in both stores.

/// The connector no longer stands where the wish expected it; nothing was done.
pub(super) const POSITION_CHANGED: &str = "PositionChanged: nothing was reset";
/// A resync without a range; nothing was done.
pub(super) const NO_WINDOW: &str = "NoWindow: nothing is read again";

/// `3 dead letters marked`.
pub(super) fn letters(done: &str, count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} dead letter{plural} {done}")
}
