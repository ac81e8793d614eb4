//! The line in which a tenant's syncs wait for one of its places (R42): who is next, and when to ask again. Pure; both stores
//! keep the line and bring the database's time.

use std::time::Duration;

use super::{Turn, Working};

/// Whoever has not asked for so long, thrice the longest pause, is passed over until it asks again; it keeps its place.
pub(super) const SILENT_SECONDS: i64 = 180;
/// Longest pause between two questions: bounds what waiting costs …
const LONGEST: Duration = Duration::from_secs(60);
/// … and the shortest: most syncs of an increment end within a second or two.
const SHORTEST: Duration = Duration::from_secs(1);
/// A pause is this part of the time waited so far, so that short waits end soon and long ones ask rarely.
const PART: u32 = 8;

/// The answer to somebody with `ahead` others before it, who has waited so long.
pub(super) fn turn(working: Vec<Working>, ahead: u32, most: u32, waited: Duration) -> Turn {
    let taken = u32::try_from(working.len()).unwrap_or(u32::MAX);
    // Those ahead are promised theirs: so nobody overtakes, and no two get the last one.
    if taken.saturating_add(ahead) < most.max(1) {
        return Turn::Ours;
    }
    // Each place takes at least a second to come round.
    let in_line = SHORTEST * (ahead / most.max(1));
    Turn::Waits { ahead, again_in: in_line.max(waited / PART).clamp(SHORTEST, LONGEST), working }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LeaseHolder;

    fn working(count: usize) -> Vec<Working> {
        let holder = LeaseHolder { workflow_id: "run".to_owned(), epoch: "epoch".to_owned() };
        (0..count)
            .map(|n| Working { connector_id: format!("c{n}").parse().expect("id"), holder: holder.clone() })
            .collect()
    }

    #[test]
    fn places_go_to_the_first_in_line_and_to_no_more_than_there_are() {
        let ours = |taken, ahead| turn(working(taken), ahead, 2, Duration::ZERO) == Turn::Ours;
        assert!(ours(0, 0) && ours(0, 1) && ours(1, 0));
        assert!(!ours(0, 2) && !ours(1, 1) && !ours(2, 0));
        assert_eq!(turn(working(0), 0, 0, Duration::ZERO), Turn::Ours, "a share is one place at least");
    }

    #[test]
    fn a_short_wait_asks_often_and_a_long_one_rarely() {
        let pause = |ahead, waited| match turn(working(2), ahead, 2, Duration::from_secs(waited)) {
            Turn::Waits { again_in, .. } => again_in.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [pause(0, 0), pause(3, 0), pause(40, 0), pause(0, 80), pause(0, 10_000), pause(900, 0)],
            [1, 1, 20, 10, 60, 60]
        );
    }
}
