//! Whether a tick that should have started is owed, and since when it is too late. Pure. A verdict needs a look at Temporal after
//! the tick was due: an outage of Temporal makes nothing overdue (R28).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    schedule::{Change, Ensured},
    schedule_shown::Shown,
};

/// How late a tick may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Punctuality {
    /// Beyond its spread: as long as the server may need for a queue of starts.
    pub margin: Duration,
    /// Temporal has answered since then; before, it may have started nothing.
    pub since: Timestamp,
}

impl Default for Punctuality {
    fn default() -> Self {
        Self { margin: Duration::from_secs(600), since: Timestamp::UNIX_EPOCH }
    }
}

impl Punctuality {
    /// When a tick that has not started by then is overdue.
    #[must_use]
    pub fn deadline(&self, tick: Timestamp, spread: Duration) -> Timestamp {
        let spread = SignedDuration::try_from(spread).unwrap_or(SignedDuration::MAX);
        let margin = SignedDuration::try_from(self.margin).unwrap_or(SignedDuration::MAX);
        let due = tick.checked_add(spread).unwrap_or(Timestamp::MAX).max(self.since);
        due.checked_add(margin).unwrap_or(Timestamp::MAX)
    }
}

/// The tick that `before` told to come next and that has neither started nor come to nothing in a way that is counted or meant.
#[must_use]
pub fn owed<'a>(ensured: &Ensured, before: &'a Shown, now: Timestamp) -> Option<&'a Time> {
    let seen = ensured.seen.as_ref()?;
    let tick = before.overdue_since.as_ref().or(before.next_run_time.as_ref()).filter(|tick| tick.0 <= now)?;
    let used_up = seen.state.limited_actions && seen.state.remaining_actions <= 0;
    let is_over = seen.state.paused || seen.next_run.is_none() || used_up;
    let has_started = seen.last_run.is_some_and(|last| last >= tick.0);
    let is_held = !seen.running.is_empty() || seen.buffered > 0;
    let is_counted = before.counts.is_some_and(|before| {
        seen.missed_catch_up > before.missed
            || seen.overlap_skipped > before.skipped
            || seen.buffer_dropped > before.dropped
    });
    // Whoever writes a schedule moves its ticks.
    let is_void = ensured.change != Change::None || is_over || has_started || is_held || is_counted;
    (!is_void).then_some(tick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::ScheduleCounts,
        operator::{
            schedule::tests::{seen, wanted},
            status_part::time,
        },
        temporal::schedules::SeenSchedule,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    fn ensured(edit: impl FnOnce(&mut SeenSchedule)) -> Ensured {
        let mut seen = seen(&wanted());
        seen.next_run = Some(at("2026-11-23T08:00:00Z"));
        edit(&mut seen);
        let status = crate::crd::ScheduleStatus { id: wanted().id, spec_hash: wanted().hash(), echo_hash: None };
        Ensured { seen: Some(seen), status, change: Change::None, drift: Vec::new(), spread: Duration::from_secs(300) }
    }

    /// What is shown at some time of what is seen, where a tick at 04:00 was told.
    fn shown(now: &str, edit: impl FnOnce(&mut SeenSchedule)) -> (Option<String>, Option<String>) {
        let before = Shown {
            next_run_time: Some(time(at("2026-11-23T04:00:00Z"))),
            counts: Some(ScheduleCounts::default()),
            ..Shown::default()
        };
        let shown = Shown::of(&ensured(edit), &before, at(now), Punctuality::default());
        let text = |at: Option<Time>| at.map(|at| at.0.to_string());
        (text(shown.next_run_time), text(shown.overdue_since))
    }

    const TICK: &str = "2026-11-23T04:00:00Z";
    const NEXT: &str = "2026-11-23T08:00:00Z";

    #[test]
    fn a_tick_is_owed_until_it_starts_and_overdue_after_spread_and_margin() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(shown("2026-11-23T04:00:05Z", |_| ()), (some(TICK), None), "it may still start");
        assert_eq!(shown("2026-11-23T04:14:59Z", |_| ()), (some(TICK), None));
        assert_eq!(shown("2026-11-23T04:15:00Z", |_| ()), (some(NEXT), some(TICK)));
        let started = |seen: &mut SeenSchedule| seen.last_run = Some(at("2026-11-23T04:00:01Z"));
        assert_eq!(shown("2026-11-23T04:15:00Z", started), (some(NEXT), None));
        let formerly = |seen: &mut SeenSchedule| seen.last_run = Some(at("2026-11-23T00:00:01Z"));
        assert_eq!(shown("2026-11-23T04:15:00Z", formerly), (some(NEXT), some(TICK)));
    }

    #[test]
    fn what_is_paused_over_held_or_counted_is_not_overdue() {
        for edit in [
            |seen: &mut SeenSchedule| seen.state.paused = true,
            |seen: &mut SeenSchedule| seen.next_run = None,
            |seen: &mut SeenSchedule| seen.state.limited_actions = true,
            |seen: &mut SeenSchedule| seen.running = vec!["at work".to_owned()],
            |seen: &mut SeenSchedule| seen.buffered = 1,
            |seen: &mut SeenSchedule| seen.overlap_skipped = 1,
            |seen: &mut SeenSchedule| seen.missed_catch_up = 1,
            |seen: &mut SeenSchedule| seen.buffer_dropped = 1,
        ] {
            assert_eq!(shown("2026-11-23T06:00:00Z", edit).1, None);
        }
        let edited = Ensured { change: Change::Updated, ..ensured(|_| ()) };
        let before = Shown { next_run_time: Some(time(at(TICK))), ..Shown::default() };
        assert_eq!(owed(&edited, &before, at("2026-11-23T06:00:00Z")), None, "an edit moves ticks");
        assert_eq!(
            owed(&ensured(|_| ()), &Shown::default(), at("2026-11-23T06:00:00Z")),
            None,
            "a lost status owes none"
        );
    }

    #[test]
    fn an_outage_of_temporal_gives_a_tick_its_margin_anew() {
        let since = Punctuality { since: at("2026-11-23T06:00:00Z"), ..Punctuality::default() };
        let before = Shown { next_run_time: Some(time(at(TICK))), ..Shown::default() };
        let of = |now: &str| Shown::of(&ensured(|_| ()), &before, at(now), since).overdue_since.is_some();
        assert_eq!((of("2026-11-23T06:09:59Z"), of("2026-11-23T06:10:00Z")), (false, true));
    }

    #[test]
    fn what_is_overdue_stays_so_until_a_run_starts() {
        let overdue =
            Shown { next_run_time: Some(time(at(NEXT))), overdue_since: Some(time(at(TICK))), ..Shown::default() };
        let now = at("2026-11-23T06:00:00Z");
        let still = Shown::of(&ensured(|_| ()), &overdue, now, Punctuality::default());
        assert_eq!(still.overdue_since, overdue.overdue_since);
        let started = ensured(|seen| seen.last_run = Some(now));
        assert_eq!(Shown::of(&started, &overdue, now, Punctuality::default()).overdue_since, None);
    }
}
