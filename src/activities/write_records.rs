//! `writeRecords`: applies staged batches to the canonical schema.

use temporalio_common::error::ApplicationFailure;
use temporalio_sdk::activities::ActivityError;

use super::{
    Activities,
    attempt::Attempt,
    failure,
    losses::{Unwritten, Work},
};
use crate::{
    contract::{
        activities::{RejectedBatch, StagedRef, WriteRecordsInput, WriteRecordsResult},
        failures,
        workflows::{FailedRecord, SyncStats},
    },
    store::{self, Applied},
};

/// Said of a batch that is not begun any more (R44).
const KILLS: &str =
    "WorkerLost: workers die of this batch even without its records; give them more memory, then reset the cursor";

/// The first attempt applies all batches as one commit; after a failure each is a commit of its own, so that one bad
/// batch costs only itself (R49); so it is where workers were lost (R44).
///
/// # Idempotency
/// By staged id: what is applied already answers with its recorded result.
pub(super) async fn run(
    activities: &Activities,
    attempt: Attempt,
    input: &WriteRecordsInput,
) -> Result<WriteRecordsResult, ActivityError> {
    let (stats, failed) = (SyncStats::default(), Vec::new());
    let mut done = WriteRecordsResult { next_seq: 0, stats, failed, attempt: attempt.number };
    let size = if attempt.number == 1 && !input.lease.careful { input.batches.len().max(1) } else { 1 };
    for commit in input.batches.chunks(size) {
        let work =
            Work::at(activities.shared(), attempt, &input.lease, commit[0].seq).await.map_err(failure::of_store)?;
        match work.write(commit).await {
            Ok(applied) => add(&mut done, applied, activities),
            Err(Unwritten::Store(error @ store::Error::RefusedData { .. })) => {
                return Err(rejected(&error, &commit[0], done));
            }
            Err(Unwritten::Store(error)) => return Err(failure::of_store(error)),
            Err(Unwritten::KillsWorkers) => {
                return Err(failure::failure_text(failures::CONFIGURATION, KILLS.to_owned()));
            }
        }
    }
    Ok(done)
}

fn add(done: &mut WriteRecordsResult, applied: Applied, activities: &Activities) {
    let before = done.stats;
    let metrics = &activities.metrics;
    metrics.records_processed.inc_by(applied.stats.records_processed.saturating_sub(before.records_processed));
    metrics.records_rejected.inc_by(applied.stats.errors_count.saturating_sub(before.errors_count));
    done.next_seq = applied.next_seq;
    done.stats = applied.stats;
    done.failed.extend(applied.failed);
}

/// Tells the workflow which batch to dead-letter once the attempts are used up.
fn rejected(error: &store::Error, batch: &StagedRef, done: WriteRecordsResult) -> ActivityError {
    let failed: Vec<FailedRecord> = done.failed;
    let details = RejectedBatch { batch: batch.clone(), error: error.to_string(), stats: done.stats, failed };
    let failure = ApplicationFailure::builder(error.clone()).type_name(failures::REJECTED.to_owned()).details(details);
    ActivityError::Application(Box::new(failure.build()))
}
