//! `updateSyncState`: dead letters, parking, and the end of a run: cursor, statistics, lease.

use temporalio_sdk::activities::ActivityError;

use super::{Activities, attempt::Attempt, failure};
use crate::{
    contract::{
        activities::{Lease, StagedRef, StateUpdate, UpdateSyncStateInput, UpdateSyncStateResult},
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
        StateUpdate::Finish { last } => finish(activities, attempt, lease, last.as_ref()).await,
        StateUpdate::Fail { error } => {
            let end = RunEnd::Failed(error.clone());
            let summary = attempt.patiently(|| store.finish_run(lease, &end)).await.map_err(failure::of_store)?;
            Ok(of_summary(summary))
        }
    }
}

/// Steps over a last batch without records, then ends the run; both are idempotent, so a second attempt may begin again.
async fn finish(
    activities: &Activities,
    attempt: Attempt,
    lease: &Lease,
    last: Option<&StagedRef>,
) -> Result<UpdateSyncStateResult, ActivityError> {
    let store = &activities.store;
    if let Some(last) = last {
        let last = std::slice::from_ref(last);
        attempt.patiently(|| store.apply(lease, last)).await.map_err(failure::of_store)?;
    }
    let summary = attempt.patiently(|| store.finish_run(lease, &RunEnd::Complete)).await.map_err(failure::of_store)?;
    let failed = attempt.patiently(|| store.failed_records(lease, MAX_FAILED_RECORDS)).await;
    Ok(UpdateSyncStateResult { failed: failed.map_err(failure::of_store)?, ..of_summary(summary) })
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
