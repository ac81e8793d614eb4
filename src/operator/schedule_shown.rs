//! What status and Events tell of a schedule that stands in Temporal, for tenants and for Connectors alike. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    outcome::Note,
    schedule::{Change, Ensured},
    schedule_overdue::{Punctuality, owed},
    schedule_pause::paused_by,
    status_part::{Wish, time},
};
use crate::{
    crd::{
        PauseStatus, PausedBy, ScheduleCounts,
        conditions::{HEALTHY, SYNCED, reason},
    },
    temporal::schedules::{ScheduleState, SeenSchedule},
};

/// After a tick the server needs a moment to know its result.
const AFTER_TICK: SignedDuration = SignedDuration::from_secs(5);
/// The longest note that is shown; servers take longer ones.
const MAX_NOTE: usize = 200;

/// The fields of a status that tell of a schedule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// Who paused it.
    pub pause: Option<PauseStatus>,
    /// Ticks that did not start what they should.
    pub counts: Option<ScheduleCounts>,
    /// The next tick.
    pub next_run_time: Option<Time>,
    /// The last one.
    pub last_run_time: Option<Time>,
    /// The tick that should have started and did not.
    pub overdue_since: Option<Time>,
}

impl Shown {
    /// As it is now; `before` is what was last shown.
    #[must_use]
    pub fn of(ensured: &Ensured, before: &Self, now: Timestamp, punctuality: Punctuality) -> Self {
        // What a server has forgotten has no next tick; what is known of it stays.
        let Some(seen) = &ensured.seen else {
            return Self { pause: None, next_run_time: None, overdue_since: None, ..before.clone() };
        };
        let next = seen.next_run.filter(|_| !seen.state.paused).map(time);
        let owed = owed(ensured, before, now);
        let is_late = |tick: &Time| punctuality.deadline(tick.0, ensured.spread) <= now;
        let (next_run_time, overdue_since) = match owed {
            // It is the next until it starts or is too late.
            Some(tick) if !is_late(tick) => (Some(tick.clone()), None),
            late => (next, late.cloned()),
        };
        Self {
            pause: pause(&seen.state, before.pause.as_ref(), now),
            counts: Some(counts(seen)),
            next_run_time,
            last_run_time: seen.last_run.map(time),
            overdue_since,
        }
    }
}

fn pause(state: &ScheduleState, before: Option<&PauseStatus>, now: Timestamp) -> Option<PauseStatus> {
    let by = paused_by(state)?;
    let since = before.filter(|before| before.by == by).map_or_else(|| time(now), |before| before.since.clone());
    let note = state.note.chars().map(|of| if of.is_control() { ' ' } else { of }).take(MAX_NOTE).collect();
    Some(PauseStatus { by, since, note })
}

fn counts(seen: &SeenSchedule) -> ScheduleCounts {
    ScheduleCounts {
        missed: seen.missed_catch_up,
        skipped: seen.overlap_skipped,
        dropped: seen.buffer_dropped,
        buffered: seen.buffered,
    }
}

/// When to look again: after the next tick, for its time and result; when one that is owed becomes overdue; but at least
/// every `resync`.
#[must_use]
pub fn look_again(
    ensured: &Ensured,
    shown: &Shown,
    now: Timestamp,
    punctuality: Punctuality,
    resync: Duration,
) -> Duration {
    let next = shown.next_run_time.as_ref().map(|next| next.0);
    let at = next.map(|next| if next > now { next } else { punctuality.deadline(next, ensured.spread) });
    let until = at.and_then(|at| Duration::try_from(at.checked_add(AFTER_TICK).ok()?.duration_since(now)).ok());
    until.map_or(resync, |until| until.min(resync)).max(AFTER_TICK.unsigned_abs())
}

/// `Healthy` of a schedule of which a tick is overdue.
#[must_use]
pub fn overdue(since: Option<&Time>) -> Option<Wish> {
    let message = "a tick should have started a sync and did not: status.overdueSince; look at the server's schedules";
    since.map(|_| Wish::no(HEALTHY, reason::OVERDUE, message))
}

/// The condition `Synced`.
#[must_use]
pub fn synced(ensured: &Ensured) -> Wish {
    if !ensured.drift.is_empty() {
        return Wish::no(SYNCED, reason::DRIFT_REPORTED, drift_message(ensured));
    }
    match ensured.change {
        Change::DriftCorrected => {
            Wish::yes(SYNCED, reason::DRIFT_CORRECTED, "the schedule was edited in Temporal; the edit was undone")
        }
        _ => Wish::yes(SYNCED, reason::IN_SYNC, "the schedule in Temporal is what the spec asks for"),
    }
}

fn drift_message(ensured: &Ensured) -> String {
    format!("edited in Temporal and left so by spec.driftPolicy: {}", ensured.drift.join(", "))
}

/// What is worth an Event: what was done, and transitions from what was `before` to what is shown now.
#[must_use]
pub fn notes(ensured: &Ensured, conditions: &[Condition], before: &Shown, shown: &Shown) -> Vec<Note> {
    [
        change(ensured),
        drift(ensured, conditions),
        paused(&ensured.status.id, before.pause.as_ref(), shown.pause.as_ref()),
        missed(before.counts, shown.counts),
        late(&ensured.status.id, before, shown),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn change(ensured: &Ensured) -> Option<Note> {
    let id = &ensured.status.id;
    Some(match ensured.change {
        Change::None => return None,
        Change::Created => Note::normal("ScheduleCreated", "Schedule", format!("created schedule {id}")),
        Change::Updated => Note::normal("ScheduleUpdated", "Schedule", format!("updated schedule {id}")),
        Change::Adopted => Note::warning(
            "ScheduleAdopted",
            "Schedule",
            format!("took over schedule {id}, as spec.conflictPolicy asks"),
        ),
        Change::DriftCorrected => {
            let message = format!("schedule {id} was edited in Temporal; restored");
            Note::warning(reason::DRIFT_CORRECTED, "Schedule", message)
        }
    })
}

fn drift(ensured: &Ensured, conditions: &[Condition]) -> Option<Note> {
    let message = drift_message(ensured);
    let told = conditions.iter().any(|of| of.type_ == SYNCED && of.status == "False" && of.message == message);
    (!ensured.drift.is_empty() && !told).then(|| Note::warning(reason::DRIFT_REPORTED, "Schedule", message))
}

fn paused(id: &str, before: Option<&PauseStatus>, shown: Option<&PauseStatus>) -> Option<Note> {
    let (before, by) = (before.map(|pause| pause.by), shown.map(|pause| pause.by));
    if before == by {
        return None;
    }
    let note = shown.map(|pause| pause.note.as_str()).unwrap_or_default();
    Some(match by {
        None => Note::normal("Resumed", "Pause", format!("schedule {id} is not paused any more")),
        Some(PausedBy::Spec) => Note::normal(reason::SUSPENDED, "Pause", format!("paused schedule {id} ({note})")),
        Some(PausedBy::Person) => {
            Note::normal(reason::PAUSED_BY_PERSON, "Pause", format!("somebody paused schedule {id} in Temporal"))
        }
        Some(PausedBy::Failure) => {
            let message = format!("Temporal paused schedule {id}, because a run failed");
            Note::warning(reason::PAUSED_BY_FAILURE, "Pause", message)
        }
    })
}

/// Ticks are missed once and for all: told when it happens, not each time it is seen.
fn missed(before: Option<ScheduleCounts>, shown: Option<ScheduleCounts>) -> Option<Note> {
    let more = shown?.missed - before?.missed;
    let message = format!("{more} more ticks were lost: Temporal was away for longer than spec.catchUpWindow");
    (more > 0).then(|| Note::warning("MissedRuns", "Schedule", message))
}

fn late(id: &str, before: &Shown, shown: &Shown) -> Option<Note> {
    let tick = shown.overdue_since.as_ref().filter(|_| before.overdue_since.is_none())?;
    let message = format!("the tick of {} of schedule {id} has not started", tick.0);
    Some(Note::warning("RunOverdue", "Schedule", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::ScheduleStatus,
        operator::{
            schedule::tests::{seen, wanted},
            schedule_pause::BY_SUSPEND,
        },
    };

    fn now() -> Timestamp {
        "2026-11-23T01:00:00Z".parse().expect("timestamp")
    }

    fn ensured(edit: impl FnOnce(&mut SeenSchedule)) -> Ensured {
        let mut seen = seen(&wanted());
        edit(&mut seen);
        let status = ScheduleStatus { id: wanted().id, spec_hash: wanted().hash(), echo_hash: None };
        Ensured { seen: Some(seen), status, change: Change::None, drift: Vec::new(), spread: Duration::ZERO }
    }

    fn paused(note: &str) -> Ensured {
        ensured(|seen| seen.state = ScheduleState { paused: true, note: note.to_owned(), ..ScheduleState::default() })
    }

    fn reasons(ensured: &Ensured, before: &Shown, shown: &Shown) -> Vec<&'static str> {
        notes(ensured, &[], before, shown).into_iter().map(|note| note.reason).collect()
    }

    #[test]
    fn a_pause_is_told_once_with_its_owner_and_its_resumption_too() {
        let mut before = Shown::of(&ensured(|_| ()), &Shown::default(), now(), Punctuality::default());
        for (state, by, reason) in [
            (paused(BY_SUSPEND), Some(PausedBy::Spec), "Suspended"),
            (paused("Kim\u{7}: importing"), Some(PausedBy::Person), "PausedByPerson"),
            (ensured(|_| ()), None, "Resumed"),
            (paused("paused due to workflow failure: x"), Some(PausedBy::Failure), "PausedByFailure"),
        ] {
            let shown = Shown::of(&state, &before, now(), Punctuality::default());
            assert_eq!(shown.pause.as_ref().map(|pause| pause.by), by);
            assert_eq!(reasons(&state, &before, &shown), [reason]);
            let later =
                Shown::of(&state, &shown, "2026-11-23T02:00:00Z".parse().expect("timestamp"), Punctuality::default());
            assert_eq!(later, shown, "since when stays");
            assert_eq!(reasons(&state, &shown, &later), [""; 0]);
            before = shown;
        }
    }

    #[test]
    fn a_note_is_shown_shortened_and_on_one_line() {
        let shown = Shown::of(&paused(&"ä\n".repeat(300)), &Shown::default(), now(), Punctuality::default());
        let note = shown.pause.expect("a pause").note;
        assert_eq!((note.chars().count(), note.contains('\n')), (200, false));
    }

    #[test]
    fn missed_ticks_are_told_when_there_are_more_of_them() {
        let with = |missed| ensured(move |seen| seen.missed_catch_up = missed);
        let of = |ensured: &Ensured| Shown::of(ensured, &Shown::default(), now(), Punctuality::default());
        let (two, three) = (of(&with(2)), of(&with(3)));
        assert_eq!(reasons(&with(3), &two, &three), ["MissedRuns"]);
        assert_eq!(reasons(&with(3), &three, &three), [""; 0]);
        assert_eq!(reasons(&with(2), &three, &two), [""; 0], "a schedule made again counts from nothing");
        assert_eq!(reasons(&with(2), &Shown::default(), &two), [""; 0], "a lost status tells nothing old as new");
    }

    #[test]
    fn what_a_server_has_forgotten_keeps_its_counts() {
        let before =
            Shown::of(&ensured(|seen| seen.overlap_skipped = 4), &Shown::default(), now(), Punctuality::default());
        let forgotten = Ensured { seen: None, ..ensured(|_| ()) };
        let shown = Shown::of(&forgotten, &before, now(), Punctuality::default());
        assert_eq!((shown.counts, shown.next_run_time), (before.counts, None));
    }
}
