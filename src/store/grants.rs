//! The arithmetic of a shared request budget: at most so many requests in any window, however the windows are laid.
//! Pure: both stores keep the record of grants as JSON in the key's row and bring the database's time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{BudgetGrant, BudgetLimit};

/// Grants within a twentieth of a window are kept as one, dated at its end: bounds the row at 21 entries
/// and costs at most a twentieth of the rate.
const SLOTS: u32 = 20;
/// Shortest wait that is answered, so that nobody spins.
const SHORTEST_WAIT: std::time::Duration = std::time::Duration::from_millis(10);

/// What was granted within the last window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grants(Vec<(Timestamp, u32)>);

impl Grants {
    /// Grants up to `want` requests at `now`, or says how long nothing can be granted.
    pub(super) fn take(&mut self, now: Timestamp, limit: &BudgetLimit, want: u32) -> BudgetGrant {
        let window = SignedDuration::try_from(limit.window).unwrap_or(SignedDuration::MAX);
        let slot = window / i32::try_from(SLOTS).expect("a small constant");
        self.0.retain(|&(until_slot_end, _)| until_slot_end.checked_add(window).is_ok_and(|gone| gone > now));
        let used: u32 = self.0.iter().fold(0, |sum, &(_, count)| sum.saturating_add(count));
        let granted = want.min(limit.requests.saturating_sub(used));
        if granted > 0 {
            self.record(now, slot, granted);
        }
        match (granted, want) {
            (0, 1..) => BudgetGrant::Wait(self.first_free(now, window), None),
            _ => BudgetGrant::Granted(granted),
        }
    }

    fn record(&mut self, now: Timestamp, slot: SignedDuration, granted: u32) {
        match self.0.last_mut() {
            Some((slot_end, count)) if *slot_end >= now => *count = count.saturating_add(granted),
            _ => self.0.push((now.checked_add(slot).unwrap_or(now), granted)),
        }
    }

    fn first_free(&self, now: Timestamp, window: SignedDuration) -> std::time::Duration {
        let oldest = self.0.first().map_or(now, |&(slot_end, _)| slot_end);
        let free_at = oldest.checked_add(window).unwrap_or(Timestamp::MAX);
        std::time::Duration::try_from(free_at.duration_since(now)).unwrap_or(SHORTEST_WAIT).max(SHORTEST_WAIT)
    }
}

/// The answer while the vendor's own wish to wait is in force.
pub(super) fn parked(now: Timestamp, until: Option<Timestamp>, reason: Option<String>) -> Option<BudgetGrant> {
    let rest = std::time::Duration::try_from(until?.duration_since(now)).ok().filter(|rest| !rest.is_zero())?;
    Some(BudgetGrant::Wait(rest.max(SHORTEST_WAIT), reason))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: BudgetLimit = BudgetLimit { requests: 100, window: Duration::from_secs(10) };

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).expect("in range")
    }

    #[test]
    fn a_window_grants_its_requests_then_says_how_long_to_wait() {
        let mut grants = Grants::default();
        assert_eq!(grants.take(at(0), &LIMIT, 60), BudgetGrant::Granted(60));
        assert_eq!(grants.take(at(5_000), &LIMIT, 60), BudgetGrant::Granted(40));
        let BudgetGrant::Wait(wait, None) = grants.take(at(6_000), &LIMIT, 1) else { panic!("granted") };
        assert_eq!(wait, Duration::from_millis(4_500), "until the first grant's slot has left the window");
        assert_eq!(grants.take(at(10_500), &LIMIT, 100), BudgetGrant::Granted(60));
        assert_eq!(grants.take(at(10_500), &LIMIT, 0), BudgetGrant::Granted(0));
    }

    #[test]
    fn parked_is_over_when_its_time_is_over() {
        assert_eq!(parked(at(5), Some(at(5)), None), None);
        assert_eq!(
            parked(at(0), Some(at(2_000)), Some("Daily".to_owned())),
            Some(BudgetGrant::Wait(Duration::from_secs(2), Some("Daily".to_owned())))
        );
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_its_limit(steps in prop::collection::vec((0_i64..3_000, 0_u32..70), 1..200)) {
            let (mut grants, mut now, mut log) = (Grants::default(), 0, Vec::new());
            for (pause, want) in steps {
                now += pause;
                if let BudgetGrant::Granted(count) = grants.take(at(now), &LIMIT, want) {
                    log.push((now, count));
                }
                prop_assert!(grants.0.len() <= SLOTS as usize + 1);
                let in_window: u32 = log.iter().filter(|(when, _)| *when > now - 10_000).map(|(_, count)| count).sum();
                prop_assert!(in_window <= LIMIT.requests);
            }
        }
    }
}
