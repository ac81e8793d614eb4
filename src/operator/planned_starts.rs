//! How many workflows all schedules of the Temporal namespace are about to start a second, beside the server's limit (R31). Pure.

use crate::temporal::schedules::ListedSchedule;

/// Workflows that schedules may start a second in a namespace (server default `worker.schedulerNamespaceStartWorkflowRPS`).
pub const LIMIT: f64 = 30.0;
/// Above this share of the limit a person should know: beyond the limit ticks queue, and past their catch-up are lost.
const WARN_AT: f64 = 0.7;

/// Starts a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PlannedStarts {
    /// By schedules, ours and others': these are limited.
    pub by_schedules: f64,
    /// By the ticks of tenants, of their connectors: these are not.
    pub by_ticks: f64,
}

impl PlannedStarts {
    /// As the server itself plans the next ticks of each schedule, paused ones left out. `children` tells how many syncs a
    /// tick of a schedule starts.
    #[must_use]
    pub fn of(listed: &[ListedSchedule], children: impl Fn(&ListedSchedule) -> usize) -> Self {
        let mut planned = Self::default();
        for schedule in listed {
            let rate = rate(schedule);
            planned.by_schedules += rate;
            // A precise number is no matter.
            planned.by_ticks += rate * f64::from(u32::try_from(children(schedule)).unwrap_or(u32::MAX));
        }
        planned
    }

    /// Whether it is so close to the limit that a person should know.
    #[must_use]
    pub fn is_high(self) -> bool {
        self.by_schedules >= LIMIT * WARN_AT
    }
}

/// Ticks a second, by the gaps between the next ones.
fn rate(schedule: &ListedSchedule) -> f64 {
    let (Some(first), Some(last)) = (schedule.upcoming.iter().min(), schedule.upcoming.iter().max()) else {
        return 0.0;
    };
    let gaps = u32::try_from(schedule.upcoming.len() - 1).unwrap_or_default();
    let seconds = last.duration_since(*first).as_secs_f64();
    if seconds > 0.0 { f64::from(gaps) / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn every(minutes: i64) -> ListedSchedule {
        let first: Timestamp = "2026-11-23T01:00:00Z".parse().expect("timestamp");
        let upcoming = (0..5).map(|number| first + SignedDuration::from_mins(minutes * number)).collect();
        ListedSchedule { id: String::new(), owner: None, upcoming }
    }

    #[test]
    fn the_limit_is_met_by_twenty_seven_thousand_schedules_of_fifteen_minutes() {
        let schedules = vec![every(15); 27_000];
        let planned = PlannedStarts::of(&schedules, |_| 0);
        assert!((planned.by_schedules - LIMIT).abs() < 0.01, "{planned:?}");
        assert!(planned.is_high() && !PlannedStarts::of(&schedules[..18_000], |_| 0).is_high());
    }

    #[test]
    fn syncs_that_ticks_start_are_counted_apart_and_what_will_not_fire_not_at_all() {
        let planned = PlannedStarts::of(&[every(1), every(1)], |_| 30);
        assert!((planned.by_ticks - 1.0).abs() < 0.01 && planned.by_schedules < 0.04, "{planned:?}");
        let once = ListedSchedule { upcoming: vec!["2026-11-23T01:00:00Z".parse().expect("timestamp")], ..every(1) };
        let never = ListedSchedule { upcoming: Vec::new(), ..every(1) };
        assert_eq!(PlannedStarts::of(&[once, never], |_| 1), PlannedStarts::default());
    }
}
