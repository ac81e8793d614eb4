//! How a sync moves batches: fetched ahead, one after the other, and written as one commit. Decides neither how many nor when.

use super::{ConnectorSync, fault::Fault, pool::Pool};
use crate::contract::activities::{
    Lease, Staged, StagedRef, SyncBatch, SyncBatchInput, SyncBatchResult, WriteRecords, WriteRecordsInput,
    WriteRecordsResult,
};

/// A staged batch as others are told of it.
pub(super) fn reference(staged: &Staged) -> StagedRef {
    StagedRef { staged_id: staged.staged_id.clone(), seq: staged.seq }
}

/// Fetches up to `count` batches one after the other, each starting where the one before ends.
pub(super) async fn fetch_ahead(
    pool: &Pool<ConnectorSync>,
    lease: &Lease,
    mut seq: i64,
    mut after: Option<String>,
    count: usize,
) -> (Vec<SyncBatchResult>, Option<Fault>) {
    let mut fetched = Vec::new();
    while fetched.len() < count {
        let input = SyncBatchInput { lease: lease.clone(), seq, after: after.take() };
        match pool.call(SyncBatch, input).await {
            Ok(SyncBatchResult::Staged(staged)) => {
                seq = staged.seq + 1;
                after = Some(staged.staged_id.clone());
                let go_on = !staged.last && !staged.barrier && staged.parked.is_none();
                fetched.push(SyncBatchResult::Staged(staged));
                if !go_on {
                    break;
                }
            }
            Ok(parked @ SyncBatchResult::Parked(_)) => {
                fetched.push(parked);
                break;
            }
            Err(fault) => return (fetched, Some(fault)),
        }
    }
    (fetched, None)
}

/// Writes one commit; `None` when there is nothing to write.
pub(super) async fn write(
    pool: &Pool<ConnectorSync>,
    lease: &Lease,
    commit: &[StagedRef],
) -> Result<Option<WriteRecordsResult>, Fault> {
    if commit.is_empty() {
        return Ok(None);
    }
    let input = WriteRecordsInput { lease: lease.clone(), batches: commit.to_vec() };
    pool.call(WriteRecords, input).await.map(Some)
}
