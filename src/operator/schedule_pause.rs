//! Who paused a schedule, and whether it stays paused. Pure: the table of `pausePolicy`.
//! The owner of a pause is told by its note in Temporal alone, so that a lost status forgets nobody's pause.

use crate::{
    crd::{PausePolicy, PausedBy},
    temporal::schedules::ScheduleState,
};

/// Our note on a pause that `spec.suspend` asks for.
pub const BY_SUSPEND: &str = "gtm-sync: spec.suspend";
/// Our note on a pause that a Connector's `spec.state` asks for.
pub const BY_STATE: &str = "gtm-sync: spec.state";
/// Our note on a pause while a cron workflow of somebody's ticks for the tenant.
pub const BY_CRON: &str = "gtm-sync: a cron workflow still ticks";
/// How the server's own notes begin (server 1.29, service/worker/scheduler/workflow.go).
const BY_FAILURE: [&str; 2] = ["paused due to workflow failure", "paused due to workflow timeout"];

/// Who paused it; `None` = it is not paused.
#[must_use]
pub fn paused_by(state: &ScheduleState) -> Option<PausedBy> {
    if !state.paused {
        return None;
    }
    if is_ours(&state.note) {
        return Some(PausedBy::Spec);
    }
    let failed = BY_FAILURE.iter().any(|note| state.note.starts_with(note));
    Some(if failed { PausedBy::Failure } else { PausedBy::Person })
}

/// The state in which a schedule is to be; equal to `seen` where nothing is to be written.
/// `suspended` is the note of a pause that the spec asks for.
#[must_use]
pub fn wanted_state(suspended: Option<&str>, policy: PausePolicy, seen: &ScheduleState) -> ScheduleState {
    let authoritative = policy == PausePolicy::Authoritative;
    let pause = |note: &str| ScheduleState { paused: true, note: note.to_owned(), ..seen.clone() };
    let resume = || ScheduleState { paused: false, note: String::new(), ..seen.clone() };
    match (suspended, paused_by(seen)) {
        (Some(note), None) => pause(note),
        // Still ours, for another reason: the note tells people which.
        (Some(note), Some(PausedBy::Spec)) if seen.note != note => pause(note),
        (Some(note), Some(PausedBy::Person | PausedBy::Failure)) if authoritative => pause(note),
        (None, Some(PausedBy::Spec)) => resume(),
        (None, Some(PausedBy::Person)) if authoritative => resume(),
        // Our note must not outlive our pause: the next one, made without a note, would be taken for ours.
        (None, None) if is_ours(&seen.note) => resume(),
        _ => seen.clone(),
    }
}

fn is_ours(note: &str) -> bool {
    [BY_SUSPEND, BY_STATE, BY_CRON].contains(&note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(paused: bool, note: &str) -> ScheduleState {
        ScheduleState { paused, note: note.to_owned(), limited_actions: true, remaining_actions: 3 }
    }

    #[test]
    fn the_note_tells_who_paused() {
        for (paused, note, expected) in [
            (false, "", None),
            (false, BY_SUSPEND, None),
            (true, BY_SUSPEND, Some(PausedBy::Spec)),
            (true, BY_STATE, Some(PausedBy::Spec)),
            (true, BY_CRON, Some(PausedBy::Spec)),
            (true, "", Some(PausedBy::Person)),
            (true, "gtm-sync: spec.suspend, says Kim", Some(PausedBy::Person)),
            (true, "paused due to workflow failure: sync-acme: all failed", Some(PausedBy::Failure)),
            (true, "paused due to workflow timeout: sync-acme", Some(PausedBy::Failure)),
        ] {
            assert_eq!(paused_by(&state(paused, note)), expected, "{note}");
        }
    }

    #[test]
    fn a_pause_ends_only_by_whom_it_belongs_to() {
        use PausePolicy::{Authoritative, Cooperative};
        const PERSON: &str = "Kim: importing";
        const FAILURE: &str = "paused due to workflow failure: x: y";
        let (off, own, person, failed) =
            (state(false, ""), state(true, BY_SUSPEND), state(true, PERSON), state(true, FAILURE));
        let resumed = state(false, PERSON);
        let table = [
            // The spec asks for no pause.
            (None, Cooperative, &off, &off),
            (None, Cooperative, &resumed, &resumed),
            (None, Cooperative, &own, &off),
            (None, Cooperative, &person, &person),
            (None, Cooperative, &failed, &failed),
            (None, Authoritative, &own, &off),
            (None, Authoritative, &person, &off),
            (None, Authoritative, &failed, &failed),
            // It asks for one.
            (Some(BY_SUSPEND), Cooperative, &off, &own),
            (Some(BY_SUSPEND), Cooperative, &resumed, &own),
            (Some(BY_SUSPEND), Cooperative, &own, &own),
            (Some(BY_STATE), Cooperative, &own, &state(true, BY_STATE)),
            (Some(BY_SUSPEND), Cooperative, &state(true, BY_CRON), &own),
            (Some(BY_SUSPEND), Cooperative, &person, &person),
            (Some(BY_SUSPEND), Cooperative, &failed, &failed),
            (Some(BY_SUSPEND), Authoritative, &person, &own),
            (Some(BY_SUSPEND), Authoritative, &failed, &own),
        ];
        for (suspended, policy, seen, expected) in table {
            let wanted = wanted_state(suspended, policy, seen);
            assert_eq!(&wanted, expected, "{suspended:?} {policy:?} {seen:?}");
            assert_eq!(wanted_state(suspended, policy, &wanted), wanted, "and then it rests");
        }
    }

    #[test]
    fn our_note_does_not_outlive_our_pause() {
        let unpaused_by_an_update = state(false, BY_SUSPEND);
        let cleared = wanted_state(None, PausePolicy::Cooperative, &unpaused_by_an_update);
        assert_eq!(cleared, state(false, ""));
        let paused_by_an_update = ScheduleState { paused: true, ..cleared };
        assert_eq!(paused_by(&paused_by_an_update), Some(PausedBy::Person));
    }
}
