//! The control-plane part of a TenantSchedule's status, from what was applied. Pure.

use std::time::Duration;

use jiff::SignedDuration;

use super::Input;
use crate::{
    crd::{
        HandledTenantTokens, NOT_OBSERVED, TenantScheduleStatus,
        conditions::{READY, RECONCILING, STALLED, reason},
    },
    operator::{
        error::Error,
        outcome::waiting,
        schedule::Ensured,
        status_part::{TENANT_CONTROL, Wish, status_of, time},
    },
};

/// After a tick the server needs a moment to know its result.
const AFTER_TICK: SignedDuration = SignedDuration::from_secs(5);

/// Tokens that are handled before anything is done: at first sight all that are present (R8).
#[must_use]
pub fn handled_before(input: &Input) -> HandledTenantTokens {
    if input.status.observed_generation == NOT_OBSERVED {
        HandledTenantTokens { trigger: trigger(input), requested_at: input.requested_at.clone() }
    } else {
        input.status.last_handled.clone().unwrap_or_default()
    }
}

/// Tokens to be carried out: present and not handled.
#[must_use]
pub fn fresh_tokens(input: &Input, handled: &HandledTenantTokens) -> HandledTenantTokens {
    HandledTenantTokens {
        trigger: trigger(input).filter(|token| handled.trigger.as_ref() != Some(token)),
        requested_at: input.requested_at.clone().filter(|token| handled.requested_at.as_ref() != Some(token)),
    }
}

fn trigger(input: &Input) -> Option<String> {
    input.spec.requests.as_ref()?.trigger.as_ref().map(|request| request.token.clone())
}

/// The schedule stands.
#[must_use]
pub fn applied(input: &Input, handled: &HandledTenantTokens, ensured: &Ensured) -> TenantScheduleStatus {
    let seen = &ensured.seen;
    let mut status = observed(input, handled);
    status.schedule = Some(ensured.status.clone());
    status.paused = seen.paused;
    status.next_run_time = seen.next_run.filter(|_| !seen.paused).map(time);
    status.last_run_time = seen.last_run.map(time);
    let wishes = if seen.next_run.is_none() {
        let message = "Temporal finds no time at which these schedules fire: check day and month fields";
        refusal(reason::NEVER_FIRES, message)
    } else if input.spec.suspend {
        vec![Wish::yes(READY, reason::SUSPENDED, "every schedule of the tenant is paused by spec.suspend")]
    } else {
        vec![Wish::yes(READY, reason::SCHEDULED, "the schedule stands in Temporal as the spec asks")]
    };
    with_conditions(input, status, wishes)
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
    with_conditions(input, observed(input, &handled_before(input)), wishes)
}

/// When to look again: after the next tick, for its time and result, but at least every `resync`.
#[must_use]
pub fn look_again(input: &Input, ensured: &Ensured, resync: Duration) -> Duration {
    let until_tick = ensured.seen.next_run.filter(|_| !ensured.seen.paused).map(|next| next + AFTER_TICK);
    let until_tick = until_tick.and_then(|at| Duration::try_from(at.duration_since(input.now)).ok());
    until_tick.map_or(resync, |until| until.min(resync)).max(AFTER_TICK.unsigned_abs())
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
