//! The control-plane part of a Connector's status, from what was applied. Pure.

use super::{Input, dereference::Problem};
use crate::{
    crd::{
        ConnectorState, ConnectorStatus, HandledConnectorTokens, ScheduleStatus,
        conditions::{READY, RECONCILING, STALLED, reason},
    },
    operator::{
        error::Error,
        outcome::waiting,
        schedule::Ensured,
        schedule_shown::{self, Shown},
        status_part::{CONNECTOR_CONTROL, Wish, status_of},
    },
};

/// What is known of the own schedule.
#[derive(Debug, Default)]
pub struct OwnSchedule {
    /// For the status; `None` = there is none.
    pub status: Option<ScheduleStatus>,
    /// As it was found or made; `None` = it was not looked at.
    pub ensured: Option<Box<Ensured>>,
}

/// The spec is projected, the own schedule stands.
#[must_use]
pub fn applied(input: &Input, handled: Option<HandledConnectorTokens>, own: &OwnSchedule) -> ConnectorStatus {
    let ready = match input.spec.state {
        ConnectorState::Running => Wish::yes(READY, reason::CONFIGURED, "workers know this connector as the spec asks"),
        ConnectorState::Paused => Wish::yes(READY, reason::PAUSED, "no new sync begins until spec.state is Running"),
        ConnectorState::Stopped => Wish::yes(READY, reason::STOPPED, "no sync begins until spec.state is Running"),
    };
    with_conditions(input, with_schedule(input, observed(input, handled), own), with_synced(vec![ready], own))
}

/// What a status tells of the own schedule.
#[must_use]
pub fn shown(status: &ConnectorStatus) -> Shown {
    Shown {
        pause: status.pause.clone(),
        counts: status.counts,
        next_run_time: status.next_run_time.clone(),
        last_run_time: status.last_run_time.clone(),
        overdue_since: status.overdue_since.clone(),
    }
}

fn with_schedule(input: &Input, status: ConnectorStatus, own: &OwnSchedule) -> ConnectorStatus {
    let before = shown(&input.status);
    let shown = match (&own.ensured, &own.status) {
        (Some(ensured), _) => Shown::of(ensured, &before, input.now, input.punctuality),
        (None, Some(_)) => before,
        (None, None) => Shown::default(),
    };
    let Shown { pause, counts, next_run_time, last_run_time, overdue_since } = shown;
    let schedule = own.status.clone();
    ConnectorStatus { schedule, pause, counts, next_run_time, last_run_time, overdue_since, ..status }
}

fn with_synced(mut wishes: Vec<Wish>, own: &OwnSchedule) -> Vec<Wish> {
    wishes.extend(own.ensured.as_deref().map(schedule_shown::synced));
    wishes
}

/// The spec cannot be carried out. `Stalled` only when nothing but an edit of this object helps: a missing Secret or
/// TenantSchedule may still come, and a GitOps tool that applies all together must not see a failure.
#[must_use]
pub fn refused(
    input: &Input,
    handled: Option<HandledConnectorTokens>,
    own: &OwnSchedule,
    problem: &Problem,
) -> ConnectorStatus {
    let Problem { reason, message } = problem;
    let may_come = [
        reason::TENANT_SCHEDULE_NOT_FOUND,
        reason::SECRET_NOT_FOUND,
        reason::SECRET_KEY_MISSING,
        reason::SECRET_FORBIDDEN,
    ];
    let second = if may_come.contains(reason) {
        Wish::yes(RECONCILING, reason::PROGRESSING_WITH_RETRY, message.clone())
    } else {
        Wish::yes(STALLED, reason, message.clone())
    };
    let wishes = with_synced(vec![Wish::no(READY, reason, message.clone()), second], own);
    with_conditions(input, with_schedule(input, observed(input, handled), own), wishes)
}

/// A dependency keeps the spec from being applied; `None` when the object need not say so (R28).
#[must_use]
pub fn waiting_for(input: &Input, handled: Option<HandledConnectorTokens>, error: &Error) -> Option<ConnectorStatus> {
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

fn observed(input: &Input, handled: Option<HandledConnectorTokens>) -> ConnectorStatus {
    ConnectorStatus { observed_generation: input.generation, last_handled: handled, ..input.status.clone() }
}

fn with_conditions(input: &Input, mut status: ConnectorStatus, wishes: Vec<Wish>) -> ConnectorStatus {
    status.conditions = CONNECTOR_CONTROL.conditions(&status.conditions, wishes, Some(input.generation), input.now);
    status
}
