//! How workflows call out: inputs parsed, activities with the seed's timeouts and attempts, time taken from the workflow.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use temporalio_common::{
    ActivityDefinition, Priority,
    data_converters::{RawValue, TemporalDeserializable},
    error::ApplicationFailure,
};
use temporalio_workflow::{
    ActivityOptions, RetryPolicy, TimerResult, WorkflowCancellationToken, WorkflowContext, WorkflowTermination,
};

use super::fault::Fault;
use crate::{
    contract::{
        activities::{ACTIVITY_TIMEOUT, HEARTBEAT_TIMEOUT, MAXIMUM_ATTEMPTS, SCHEDULER_ACTIVITY_TIMEOUT},
        failures,
    },
    ids::TenantId,
};

/// A non-retryable failure of the execution, typed for whoever reads it.
pub(super) fn failure(type_name: &str, message: String) -> WorkflowTermination {
    ApplicationFailure::builder(message).type_name(type_name.to_owned()).non_retryable(true).build().into()
}

/// The workflow's one argument. Unknown fields are ignored; a missing argument, field or wrong type ends the execution
/// at once: returned as a conversion error it would fail the task and be retried for ever.
pub(super) fn parse_input<T: DeserializeOwned>(input: &RawValue) -> Result<T, WorkflowTermination> {
    let invalid = |what: String| failure(failures::INVALID_INPUT, format!("workflow input: {what}"));
    let payload = input.payloads.first().ok_or_else(|| invalid("one JSON argument is needed".to_owned()))?;
    serde_json::from_slice(&payload.data).map_err(|error| invalid(error.to_string()))
}

/// The argument with another value, which must be JSON as before.
pub(super) fn with_json(mut input: RawValue, value: &impl Serialize) -> RawValue {
    if let (Some(payload), Ok(json)) = (input.payloads.first_mut(), serde_json::to_vec(value)) {
        payload.data = json;
    }
    input
}

/// Options of the four activities of a sync (seed's table).
pub(super) fn sync_activity(tenant: &TenantId) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(ACTIVITY_TIMEOUT)
        .heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .retry_policy(attempts())
        .priority(share_of(tenant))
        .build()
}

/// Options of the scheduler's activity (seed: lighter).
pub(super) fn scheduler_activity(tenant: &TenantId) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(SCHEDULER_ACTIVITY_TIMEOUT)
        .retry_policy(attempts())
        .priority(share_of(tenant))
        .build()
}

/// Servers with fairness turned on serve the tenants of one queue in turn; others ignore it (R42).
fn share_of(tenant: &TenantId) -> Priority {
    Priority::builder().fairness_key(tenant.as_str()).build()
}

/// Attempts of every activity.
pub(super) fn attempts() -> RetryPolicy {
    RetryPolicy::builder().maximum_attempts(MAXIMUM_ATTEMPTS).build()
}

/// Calls an activity.
pub(super) async fn call<W, A>(
    ctx: &WorkflowContext<W>,
    activity: A,
    input: A::Input,
    options: ActivityOptions,
) -> Result<A::Output, Fault>
where
    A: ActivityDefinition,
    A::Output: TemporalDeserializable,
{
    Ok(ctx.execute_activity(activity, input, options).await?)
}

/// Calls an activity even while the workflow is being cancelled, and leaves its result: for closing words only.
pub(super) async fn call_detached<W, A>(
    ctx: &WorkflowContext<W>,
    activity: A,
    input: A::Input,
    mut options: ActivityOptions,
) where
    A: ActivityDefinition,
    A::Output: TemporalDeserializable,
{
    options.cancellation_token = Some(WorkflowCancellationToken::new());
    if let Err(error) = ctx.execute_activity(activity, input, options).await
        && !ctx.is_replaying()
    {
        tracing::warn!(workflow = ctx.workflow_id(), error = %error, "the run's end could not be recorded");
    }
}

/// The workflow's own time.
pub(super) fn now<W>(ctx: &WorkflowContext<W>) -> Timestamp {
    let time = ctx.workflow_time().unwrap_or(SystemTime::UNIX_EPOCH);
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Waits on a durable timer, at least a second so that a clock ahead of the worker's cannot make a hot loop.
pub(super) async fn wait_until<W>(ctx: &WorkflowContext<W>, until: Timestamp) -> Result<(), Fault> {
    let wait = until.duration_since(now(ctx)).max(SignedDuration::from_secs(1));
    pause(ctx, wait.unsigned_abs()).await
}

/// Waits on a durable timer. A cancelled timer is a result, not an error: ignored, it would make a loop spin.
pub(super) async fn pause<W>(ctx: &WorkflowContext<W>, duration: Duration) -> Result<(), Fault> {
    match ctx.timer(duration).await {
        TimerResult::Fired => Ok(()),
        TimerResult::Cancelled => Err(Fault::Cancelled),
    }
}

/// Pauses between tries while a dependency is away: 30 s, doubling to 5 min, for at most 24 h without progress
/// (docs/facts.md, Waiting). A sync ends before, at its budget.
#[derive(Debug, Default)]
pub(super) struct Patience {
    tries: u32,
    waited: Duration,
}

impl Patience {
    const FIRST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(5 * 60);
    const TOTAL: Duration = Duration::from_secs(24 * 3600);

    /// The next pause, `None` when patience is used up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let pause = (Self::FIRST * 2_u32.saturating_pow(self.tries.min(8))).min(Self::LONGEST);
        self.tries = self.tries.saturating_add(1);
        self.waited += pause;
        (self.waited <= Self::TOTAL).then_some(pause)
    }

    /// Something got done.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_doubles_to_five_minutes_and_ends_after_a_day() {
        let mut patience = Patience::default();
        let first: Vec<u64> = (0..6).filter_map(|_| patience.next()).map(|pause| pause.as_secs()).collect();
        assert_eq!(first, [30, 60, 120, 240, 300, 300]);
        let rest = std::iter::from_fn(|| patience.next()).count();
        assert!((270..300).contains(&rest), "about 24 h of five-minute pauses, not {rest}");
        patience.reset();
        assert_eq!(patience.next(), Some(Duration::from_secs(30)));
    }
}
