//! `syncBatch`: fetches pages, across streams while they are small (R39), and stages them as one batch.

use std::time::Duration;

use temporalio_sdk::activities::ActivityError;

use super::{
    Activities,
    attempt::Attempt,
    dispatcher::{self, Opened},
    failure,
};
use crate::{
    clock, connectors,
    connectors::Fetch,
    contract::{
        activities::{Lease, Parked, Staged, SyncBatchInput, SyncBatchResult},
        failures,
        workflows::ConnectionStatus,
    },
    error_class::Class,
    model::{batch::BatchWriter, cursor::Load},
    store::{ConnectionFound, NewStaged},
};

/// A batch is closed at this size before compression: with four fetched ahead about 32 MiB wait for a commit (R49).
const MAX_BATCH_BYTES: usize = 8 << 20;
/// A batch is closed after this long, so that a slow source still shows progress and an attempt stays far below its 5 min.
const MAX_BATCH_TIME: Duration = Duration::from_secs(60);

/// Why a batch was closed.
enum Closed {
    /// It is large enough, old enough, or the worker drains.
    Full,
    /// The load is complete.
    LoadComplete,
    /// The source asked to wait.
    Parked(Parked),
    /// The source failed after some pages: they are kept, the next batch meets the failure again.
    Interrupted,
}

/// Reads from the batch's first position, always (R3): a retry fetches it anew under another staged id.
///
/// # Idempotency
/// A staged batch of a lost attempt is never referred to and dies with the lease or by age (R13).
pub(super) async fn run(
    activities: &Activities,
    attempt: Attempt,
    input: &SyncBatchInput,
) -> Result<SyncBatchResult, ActivityError> {
    let lease = &input.lease;
    let first = first_position(activities, attempt, input).await?;
    let mut load = first.clone();
    let opened = dispatcher::open(activities, attempt, &lease.tenant_id, &lease.connector_id).await;
    let opened = opened.map_err(dispatcher::Refused::into_failure)?;
    let mut batch = BatchWriter::default();
    let closed = match gather(activities, attempt, &opened, &mut load, &mut batch).await {
        Ok(closed) => closed,
        Err(error) => return source_failed(activities, attempt, lease, &opened, error).await,
    };
    // Pages without a record of interest (an archive listed for its few news) move the position: that is kept, too.
    if let Closed::Parked(parked) = &closed
        && load == first
    {
        return Ok(SyncBatchResult::Parked(parked.clone()));
    }
    stage(activities, attempt, input, load, batch, closed).await
}

/// Where the batch starts: after the staged one before it, or at the committed resume point.
async fn first_position(
    activities: &Activities,
    attempt: Attempt,
    input: &SyncBatchInput,
) -> Result<Load, ActivityError> {
    let (store, lease) = (&activities.store, &input.lease);
    if let Some(after) = &input.after {
        let next = attempt.patiently(|| store.staged_next(lease, after)).await.map_err(failure::of_store)?;
        if let Some(load) = next {
            return Ok(load);
        }
    }
    // Gone means applied: then the committed position is this batch's.
    let state = attempt.patiently(|| store.sync_state(lease)).await.map_err(failure::of_store)?;
    if state.next_seq == input.seq {
        return Ok(state.load);
    }
    let text = format!("batch {} does not follow position {}", input.seq, state.next_seq);
    Err(failure::failure_text(failures::STALE_RUN, text))
}

/// Fetches pages until the batch is closed.
async fn gather(
    activities: &Activities,
    attempt: Attempt,
    opened: &Opened,
    load: &mut Load,
    batch: &mut BatchWriter,
) -> Result<Closed, connectors::Error> {
    let batch_size = opened.record.config.batch_size;
    let mut moved = false;
    while let Some(stream) = load.stream() {
        let full = batch.record_count() >= batch_size || batch.byte_count() >= MAX_BATCH_BYTES;
        let late = attempt.elapsed() >= MAX_BATCH_TIME || *activities.draining.borrow();
        if full || (late && moved) {
            return Ok(Closed::Full);
        }
        let request =
            Fetch { stream: &stream.name, lower: stream.lower, upper: load.upper, after: load.token.as_ref() };
        match opened.source.fetch(request, batch).await {
            Ok(page) => {
                moved = true;
                match page.next {
                    Some(next) => load.token = Some(next),
                    None => load.finish_stream(),
                }
            }
            Err(error) => match error.class() {
                Class::Invalid => {
                    tracing::warn!(stream = stream.name, %error, "stream cannot be read, later streams go on");
                    load.fail_stream(&error.to_string());
                    moved = true;
                }
                Class::RateLimited(after) => {
                    return Ok(Closed::Parked(Parked { until: clock::now() + after, reason: error.to_string() }));
                }
                _ if moved => return Ok(Closed::Interrupted),
                _ => return Err(error),
            },
        }
    }
    Ok(Closed::LoadComplete)
}

async fn stage(
    activities: &Activities,
    attempt: Attempt,
    input: &SyncBatchInput,
    load: Load,
    batch: BatchWriter,
    closed: Closed,
) -> Result<SyncBatchResult, ActivityError> {
    let last = matches!(closed, Closed::LoadComplete);
    if last && !load.streams.is_empty() && load.failed_streams().len() == load.streams.len() {
        let reason = load.streams[0].failed.clone().unwrap_or_default();
        return Err(failure::failure_text(failures::CONFIGURATION, format!("no stream could be read: {reason}")));
    }
    let current = load.current.min(load.streams.len().saturating_sub(1));
    let entity_type = load.streams.get(current).map(|stream| stream.name.clone()).unwrap_or_default();
    let record_count = batch.record_count();
    let staged = NewStaged { seq: input.seq, next: load, entity_type, payload: batch.finish(), record_count };
    let lease = &input.lease;
    let staged_id = attempt.patiently(|| activities.store.stage(lease, &staged)).await.map_err(failure::of_store)?;
    Ok(SyncBatchResult::Staged(Staged {
        staged_id,
        seq: input.seq,
        records: u64::from(record_count),
        bytes: staged.payload.len() as u64,
        entity_type: staged.entity_type,
        last,
        parked: match closed {
            Closed::Parked(parked) => Some(parked),
            _ => None,
        },
    }))
}

/// A credential refused in mid-sync disconnects the connector (R23); anything else is an outage.
async fn source_failed(
    activities: &Activities,
    attempt: Attempt,
    lease: &Lease,
    opened: &Opened,
    error: connectors::Error,
) -> Result<SyncBatchResult, ActivityError> {
    if error.class() == Class::Unauthorised {
        let (tenant, connector) = (&lease.tenant_id, &lease.connector_id);
        let found = ConnectionFound {
            status: Some(ConnectionStatus::Disconnected),
            reason: error.to_string(),
            account_id: None,
        };
        let revision = opened.record.credential_revision;
        let set = || activities.store.set_connection(tenant, connector, revision, &found);
        attempt.patiently(set).await.map_err(failure::of_store)?;
    }
    Err(failure::of_source(error))
}
