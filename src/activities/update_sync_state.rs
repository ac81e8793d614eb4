//! `updateSyncState`: dead letters, parking, and the end of a run: cursor, statistics, lease.

use temporalio_sdk::activities::ActivityError;

use super::{Activities, attempt::Attempt, failure};
use crate::{
    contract::{
        activities::{Effort, Lease, StateUpdate, UpdateSyncStateInput, UpdateSyncStateResult},
        workflows::MAX_FAILED_RECORDS,
    },
    store::{Applied, RunEnd, RunSummary},
};

/// Each update is one transaction of the store.
///
/// # Idempotency
/// By staged id and by lease epoch; a second call answers as the first.
pub(super) async fn run(
    activities: &Activities,
    attempt: Attempt,
    input: &UpdateSyncStateInput,
) -> Result<UpdateSyncStateResult, ActivityError> {
    let (store, lease) = (&activities.store, &input.lease);
    match &input.update {
        StateUpdate::DeadLetter { batch, error } => {
            let applied = attempt.patiently(|| store.dead_letter(lease, batch, error)).await;
            Ok(of_applied(applied.map_err(failure::of_store)?))
        }
        StateUpdate::Park(parked) => {
            attempt.patiently(|| store.park(lease, Some(parked))).await.map_err(failure::of_store)?;
            Ok(UpdateSyncStateResult::default())
        }
        StateUpdate::Finish { last, effort } => {
            // Both are idempotent, so a second attempt may begin again.
            if let Some(last) = last {
                let last = std::slice::from_ref(last);
                attempt.patiently(|| store.apply(lease, last)).await.map_err(failure::of_store)?;
            }
            finish(activities, attempt, lease, &RunEnd::Complete, *effort).await
        }
        StateUpdate::More { effort } => finish(activities, attempt, lease, &RunEnd::More, *effort).await,
        StateUpdate::Fail { error, effort } => {
            let end = RunEnd::Failed(error.clone());
            Ok(of_summary(end_run(activities, attempt, lease, &end, *effort).await?))
        }
    }
}

/// Ends the run and reads its array back.
async fn finish(
    activities: &Activities,
    attempt: Attempt,
    lease: &Lease,
    end: &RunEnd,
    effort: Effort,
) -> Result<UpdateSyncStateResult, ActivityError> {
    let summary = end_run(activities, attempt, lease, end, effort).await?;
    let failed = attempt.patiently(|| activities.store.failed_records(lease, MAX_FAILED_RECORDS)).await;
    Ok(UpdateSyncStateResult { failed: failed.map_err(failure::of_store)?, ..of_summary(summary) })
}

/// Ends the run; this activity counts, too.
async fn end_run(
    activities: &Activities,
    attempt: Attempt,
    lease: &Lease,
    end: &RunEnd,
    mut effort: Effort,
) -> Result<RunSummary, ActivityError> {
    effort.add(attempt.number);
    let ended = attempt.patiently(|| activities.store.finish_run(lease, end, effort)).await;
    ended.map_err(failure::of_store)
}

fn of_applied(applied: Applied) -> UpdateSyncStateResult {
    UpdateSyncStateResult {
        next_seq: applied.next_seq,
        stats: applied.stats,
        failed: applied.failed,
        failed_streams: Vec::new(),
    }
}

fn of_summary(summary: RunSummary) -> UpdateSyncStateResult {
    UpdateSyncStateResult {
        next_seq: summary.next_seq,
        stats: summary.stats,
        failed: Vec::new(),
        failed_streams: summary.failed_streams,
    }
}
