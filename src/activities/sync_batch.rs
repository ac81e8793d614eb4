//! `syncBatch`: gathers what the load does next (`gather.rs`) and stages it as one batch.

use temporalio_sdk::activities::ActivityError;

use super::{
    Activities,
    attempt::{self, Attempt},
    dispatcher::{self, Opened},
    failure,
    gather::{Closed, Gathering, Stop},
    losses::Work,
};
use crate::{
    connectors,
    contract::{
        activities::{Lease, Staged, SyncBatchInput, SyncBatchResult},
        failures,
        workflows::ConnectionStatus,
    },
    error_class::Class,
    model::{batch::BatchWriter, cursor::Load},
    store::{ConnectionFound, NewStaged},
};

/// Reads from the batch's first position, always (R3): a retry fetches it anew under another staged id.
///
/// # Idempotency
/// A staged batch of a lost attempt is never referred to and dies with the lease or by age (R13).
pub(super) async fn run(
    activities: &Activities,
    attempt: Attempt,
    input: &SyncBatchInput,
) -> Result<SyncBatchResult, ActivityError> {
    let mut work = Work::at(activities.shared(), attempt, &input.lease, input.seq).await.map_err(failure::of_store)?;
    let give_up = work.begin_reading().await.map_err(failure::of_store)?;
    let fetched = fetch(activities, attempt, input, give_up).await;
    // What was given up is behind us, whatever is said of the rest: the next run may find it mended.
    work.end_reading(fetched.is_ok() || give_up).await;
    fetched
}

async fn fetch(
    activities: &Activities,
    attempt: Attempt,
    input: &SyncBatchInput,
    give_up: bool,
) -> Result<SyncBatchResult, ActivityError> {
    let lease = &input.lease;
    let first = first_position(activities, attempt, input).await?;
    let opened = dispatcher::open(activities, attempt, &lease.tenant_id, &lease.connector_id).await;
    let opened = opened.map_err(dispatcher::Refused::into_failure)?;
    // Another credential may be for another account, and the load's position is this one's (R4).
    if opened.record.revision != lease.revision {
        return Ok(SyncBatchResult::Parked(attempt::once_more()));
    }
    let mut gathering = Gathering::new(activities, attempt, lease, &opened, first.clone());
    let closed = match gathering.gather(give_up).await {
        Ok(closed) => closed,
        Err(Stop::Source(error)) => return source_failed(activities, attempt, lease, &opened, error).await,
        Err(Stop::Store(error)) => return Err(failure::of_store(error)),
    };
    let (load, batch) = gathering.into_parts();
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

async fn stage(
    activities: &Activities,
    attempt: Attempt,
    input: &SyncBatchInput,
    load: Load,
    batch: BatchWriter,
    closed: Closed,
) -> Result<SyncBatchResult, ActivityError> {
    let last = matches!(closed, Closed::LoadComplete);
    if last && load.read_nothing() {
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
        barrier: matches!(closed, Closed::Barrier),
        parked: match closed {
            Closed::Parked(parked) => Some(parked),
            _ => None,
        },
        attempt: attempt.number,
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
