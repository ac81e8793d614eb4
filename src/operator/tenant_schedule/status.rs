//! The control-plane part of a TenantSchedule's status, from what was applied. Pure.

use super::{Input, tokens};
use crate::{
    crd::{
        HandledTenantTokens, PausedBy, TenantScheduleStatus,
        conditions::{READY, RECONCILING, STALLED, reason},
    },
    operator::{
        error::Error,
        outcome::waiting,
        schedule::Ensured,
        schedule_shown::{self, Shown},
        status_part::{TENANT_CONTROL, Wish, status_of},
    },
    temporal::{cron_workflows::CronWorkflow, schedules::ScheduleState},
};

/// The schedule stands.
#[must_use]
pub fn applied(
    input: &Input,
    handled: &HandledTenantTokens,
    ensured: &Ensured,
    cron: Option<&CronWorkflow>,
) -> TenantScheduleStatus {
    let shown = Shown::of(ensured, &shown(&input.status), input.now, input.punctuality);
    let mut wishes = match cron {
        Some(cron) => refusal(reason::LEGACY_CRON, cron_message(cron)),
        None => ready(input, ensured, &shown),
    };
    wishes.push(schedule_shown::synced(ensured));
    let status = TenantScheduleStatus {
        schedule: Some(ensured.status.clone()),
        paused: shown.pause.is_some(),
        pause: shown.pause,
        counts: shown.counts,
        next_run_time: shown.next_run_time,
        last_run_time: shown.last_run_time,
        overdue_since: shown.overdue_since,
        ..observed(input, handled)
    };
    with_conditions(input, status, wishes)
}

/// What to do about a cron workflow that ticks beside the schedule.
#[must_use]
pub fn cron_message(cron: &CronWorkflow) -> String {
    format!(
        "cron workflow {} already ticks for this tenant; the schedule waits, paused: terminate it in Temporal, or let spec.conflictPolicy: Adopt do it",
        cron.workflow_id
    )
}

/// What a status tells of the schedule.
#[must_use]
pub fn shown(status: &TenantScheduleStatus) -> Shown {
    Shown {
        pause: status.pause.clone(),
        counts: status.counts,
        next_run_time: status.next_run_time.clone(),
        last_run_time: status.last_run_time.clone(),
        overdue_since: status.overdue_since.clone(),
    }
}

fn ready(input: &Input, ensured: &Ensured, shown: &Shown) -> Vec<Wish> {
    let fires = ensured.seen.as_ref().is_some_and(|seen| seen.next_run.is_some());
    // After its last tick a schedule has no other, even if its end is yet to come.
    let has_ended = input.spec.end_at.is_some_and(|end| end <= input.now || (!fires && shown.last_run_time.is_some()));
    let used_up = |state: &ScheduleState| state.limited_actions && state.remaining_actions <= 0;
    let paused_by = shown.pause.as_ref().map(|pause| pause.by);
    let (reason, message) = match paused_by {
        _ if has_ended => (reason::COMPLETED, "no tick comes any more before spec.endAt, or it has passed"),
        _ if ensured.seen.as_ref().is_some_and(|seen| used_up(&seen.state)) => {
            (reason::COMPLETED, "the runs that somebody limited in Temporal are used up: no tick comes any more")
        }
        _ if !fires => {
            let message = "Temporal finds no time at which these schedules fire: check day and month fields, startAt, endAt and maintenanceWindows";
            return refusal(reason::NEVER_FIRES, message);
        }
        _ if input.spec.suspend => (reason::SUSPENDED, "every schedule of the tenant is paused by spec.suspend"),
        Some(PausedBy::Person) => {
            (reason::PAUSED_BY_PERSON, "somebody paused the schedule in Temporal; it is resumed there: status.pause")
        }
        Some(PausedBy::Failure) => {
            (reason::PAUSED_BY_FAILURE, "Temporal paused the schedule, because a run failed; it is resumed there")
        }
        _ => (reason::SCHEDULED, "the schedule stands in Temporal as the spec asks"),
    };
    vec![Wish::yes(READY, reason, message)]
}

/// The spec cannot be carried out until somebody edits something.
#[must_use]
pub fn refused(
    input: &Input,
    handled: &HandledTenantTokens,
    reason: &'static str,
    message: impl Into<String>,
) -> TenantScheduleStatus {
    with_conditions(input, observed(input, handled), refusal(reason, message))
}

/// A dependency keeps the spec from being applied; `None` when the object need not say so, because what it asks for
/// was applied before and only the look at it failed (R28).
#[must_use]
pub fn waiting_for(input: &Input, handled: &HandledTenantTokens, error: &Error) -> Option<TenantScheduleStatus> {
    let applied = input.status.observed_generation == input.generation
        && status_of(&input.status.conditions, READY) == Some("True");
    if applied && error.is_outage() {
        return None;
    }
    let (reason, message) = waiting(error);
    let wishes =
        vec![Wish::no(READY, reason, message.clone()), Wish::yes(RECONCILING, reason::PROGRESSING_WITH_RETRY, message)];
    Some(with_conditions(input, observed(input, handled), wishes))
}

/// Deletion waits.
#[must_use]
pub fn cleanup_blocked(input: &Input, error: &Error) -> TenantScheduleStatus {
    let whom = error.dependency().map_or("a dependency", |dependency| dependency.name());
    let message = format!(
        "deletion waits for {whom}; to end the wait without cleaning up: kubectl annotate tenantschedule {} -n {} {}=true",
        input.key.name,
        input.key.namespace,
        crate::crd::FORCE_DELETE_ANNOTATION
    );
    let wishes = vec![
        Wish::no(READY, reason::CLEANUP_BLOCKED, message.clone()),
        Wish::yes(RECONCILING, reason::PROGRESSING_WITH_RETRY, message),
    ];
    with_conditions(input, observed(input, &tokens::handled_before(input)), wishes)
}

fn observed(input: &Input, handled: &HandledTenantTokens) -> TenantScheduleStatus {
    let mut status = input.status.clone();
    status.observed_generation = input.generation;
    status.last_handled = Some(handled.clone()).filter(|handled| *handled != HandledTenantTokens::default());
    status
}

fn refusal(reason: &'static str, message: impl Into<String>) -> Vec<Wish> {
    let message = message.into();
    vec![Wish::no(READY, reason, message.clone()), Wish::yes(STALLED, reason, message)]
}

fn with_conditions(input: &Input, mut status: TenantScheduleStatus, wishes: Vec<Wish>) -> TenantScheduleStatus {
    status.conditions = TENANT_CONTROL.conditions(&status.conditions, wishes, Some(input.generation), input.now);
    status
}
