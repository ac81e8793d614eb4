//! The lease of a connector and the run row that goes with it: taken, read, parked, finished (R1, R12).
//! Runs take locks in one order: connector, run, staged batches, sync_state last. Rarer verbs (erasing, purging) may meet
//! them in another; the database then ends one of the two, which is tried again.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::{Row, types::Json};

use super::{fault::Fault, query, share, sweep};
use crate::{
    contract::{
        activities::{Effort, Lease, Parked},
        workflows::{FailedRecord, SyncStats},
    },
    ids::{ConnectorId, TenantId},
    model::cursor::{Cursor, Load},
    store::{
        Error, LeaseGranted, LeaseHolder, LeaseRequest, Losses, RunEnd, RunSummary,
        held::Held,
        incoming::begun,
        projection::keep_account,
        stored::{KEPT_HOURS, name},
    },
};

/// Whether connector `c` may still be worked for: part of the read before a commit and of the fence (R30).
macro_rules! running {
    () => {
        "c.uid = s.connector_uid AND c.desired_state = 'running' AND c.removed_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM gtm.tenant AS t WHERE t.tenant_id = c.tenant_id AND t.removed_at IS NOT NULL)"
    };
}
pub(super) use running;

const HELD: &str = concat!(
    "SELECT s.account_id, s.workflow_id, s.next_seq, r.first_seq, s.load, s.cursor, s.generation, c.config, r.stats,
        s.dead_letters, s.findings, s.losses, ",
    running!(),
    " FROM gtm.sync_state AS s
    JOIN gtm.connector AS c ON c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id
    JOIN gtm.run AS r
        ON r.tenant_id = s.tenant_id AND r.connector_id = s.connector_id AND r.workflow_id = s.workflow_id
    WHERE s.tenant_id = $1 AND s.connector_id = $2 AND s.epoch = $3"
);

/// The state under this lease; `StaleRun` when the lease is another's.
pub(super) async fn held(client: &impl GenericClient, lease: &Lease, attempted: &'static str) -> Result<Held, Fault> {
    find_held(client, lease).await?.ok_or(Fault::Store(Error::StaleRun { attempted }))
}

async fn find_held(client: &impl GenericClient, lease: &Lease) -> Result<Option<Held>, Fault> {
    let [tenant, connector, epoch] = lease_key(lease);
    let Some(row) = query::row(client, HELD, &[&tenant, &connector, &epoch]).await? else { return Ok(None) };
    Ok(Some(Held {
        account_id: row.try_get(0)?,
        workflow_id: row.try_get(1)?,
        next_seq: row.try_get(2)?,
        first_seq: row.try_get(3)?,
        load: row.try_get::<_, Option<Json<_>>>(4)?.map(|load| load.0),
        cursor: row.try_get::<_, Json<_>>(5)?.0,
        generation: row.try_get(6)?,
        config: row.try_get::<_, Json<_>>(7)?.0,
        stats: row.try_get::<_, Json<_>>(8)?.0,
        dead_letters: row.try_get(9)?,
        findings: row.try_get::<_, Json<_>>(10)?.0,
        losses: row.try_get::<_, Option<Json<_>>>(11)?.map(|losses| losses.0).unwrap_or_default(),
        running: row.try_get(12)?,
    }))
}

/// The parameters `$1` to `$3` of every statement about a lease.
pub(super) fn lease_key(lease: &Lease) -> [&str; 3] {
    [lease.tenant_id.as_str(), lease.connector_id.as_str(), &lease.epoch]
}

/// `Store::lease_holder`.
pub(super) async fn holder(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<LeaseHolder>, Fault> {
    const HOLDER: &str = "SELECT workflow_id, epoch FROM gtm.sync_state
        WHERE tenant_id = $1 AND connector_id = $2 AND epoch IS NOT NULL";
    let row = query::row(client, HOLDER, &[&tenant.as_str(), &connector.as_str()]).await?;
    row.map(|row| Ok(LeaseHolder { workflow_id: row.try_get(0)?, epoch: row.try_get(1)? })).transpose()
}

/// `Store::take_lease`.
pub(super) async fn take(transaction: &Transaction<'_>, request: &LeaseRequest) -> Result<LeaseGranted, Fault> {
    const ATTEMPTED: &str = "take the lease";
    share::leave_line(transaction, request).await?;
    bind_account(transaction, request, ATTEMPTED).await?;
    let former = holder(transaction, &request.tenant_id, &request.connector_id).await?;
    if former.as_ref().map(|holder| &holder.epoch) != request.expected_epoch.as_ref() {
        return Err(Error::StaleRun { attempted: ATTEMPTED }.into());
    }
    let Place { run_no, next_seq, idle, losses } = place(transaction, request).await?;
    if idle || request.restart_load {
        sweep::forget(transaction, request.tenant_id.as_str(), request.connector_id.as_str()).await?;
    }
    if let Some(former) = former.filter(|former| former.workflow_id != request.workflow_id) {
        close_former(transaction, request, &former).await?;
    }
    let stats = open_run(transaction, request, run_no, next_seq).await?;
    drop_leftovers(transaction, request.tenant_id.as_str(), request.connector_id.as_str()).await?;
    let lease = Lease {
        tenant_id: request.tenant_id.clone(),
        connector_id: request.connector_id.clone(),
        epoch: uuid::Uuid::new_v4().simple().to_string(),
        run_no,
        revision: request.revision,
        careful: losses && !idle && !request.restart_load,
    };
    if write_state(transaction, request, &lease, next_seq).await? == 0 {
        return Err(Error::StaleRun { attempted: ATTEMPTED }.into());
    }
    Ok(LeaseGranted { lease, next_seq, stats })
}

const LOCK_RUNNING: &str = "SELECT c.account_id, c.revision FROM gtm.connector AS c
    WHERE c.tenant_id = $1 AND c.connector_id = $2 AND c.uid = $3 AND c.desired_state = 'running'
        AND c.removed_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM gtm.tenant AS t WHERE t.tenant_id = c.tenant_id AND t.removed_at IS NOT NULL)
    FOR NO KEY UPDATE OF c";

/// Refuses a connector that is not Running, is not the one that was read, or was edited since; binds the first account (R4).
async fn bind_account(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    attempted: &'static str,
) -> Result<(), Fault> {
    const BIND: &str = "UPDATE gtm.connector SET account_id = $3, updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    let row = query::row(transaction, LOCK_RUNNING, &[&tenant, &connector, &request.uid]).await?;
    let row = row.ok_or(Error::Stopped)?;
    if row.try_get::<_, i64>(1)? != request.revision {
        return Err(Error::StaleRun { attempted }.into());
    }
    let stored: Option<String> = row.try_get(0)?;
    let unbound = stored.is_none();
    let account_id = keep_account(stored, Some(&request.account_id))?;
    if unbound {
        query::execute(transaction, BIND, &[&tenant, &connector, &account_id]).await?;
    }
    Ok(())
}

/// Where a new run begins.
struct Place {
    /// Its number.
    run_no: i64,
    /// Position of its first commit.
    next_seq: i64,
    /// No load is in progress.
    idle: bool,
    /// Workers were lost there.
    losses: bool,
}

/// Finds the place of a new run; makes the account's state row if it is missing.
async fn place(transaction: &Transaction<'_>, request: &LeaseRequest) -> Result<Place, Fault> {
    const BEGIN: &str = "INSERT INTO gtm.sync_state (tenant_id, connector_id, account_id, run_no, next_seq, cursor,
            generation, dead_letters, updated_at)
        VALUES ($1, $2, $3, 0, 0, $4, 0, 0, clock_timestamp())
        ON CONFLICT (tenant_id, connector_id, account_id) DO NOTHING";
    const PLACE: &str = "SELECT max(run_no) + 1, max(next_seq) FILTER (WHERE account_id = $3),
            bool_and(load IS NULL) FILTER (WHERE account_id = $3),
            bool_or(losses IS NOT NULL) FILTER (WHERE account_id = $3)
        FROM gtm.sync_state WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    let empty = Json(Cursor::default());
    query::execute(transaction, BEGIN, &[&tenant, &connector, &request.account_id, &empty]).await?;
    let row = query::row(transaction, PLACE, &[&tenant, &connector, &request.account_id]).await?;
    let row = row.ok_or(Error::Unreadable { what: "sync state" })?;
    Ok(Place { run_no: row.try_get(0)?, next_seq: row.try_get(1)?, idle: row.try_get(2)?, losses: row.try_get(3)? })
}

async fn close_former(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    former: &LeaseHolder,
) -> Result<(), Fault> {
    const CLOSE: &str = "UPDATE gtm.run SET finished_at = now(), outcome = $4, parked = NULL
        WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3 AND finished_at IS NULL";
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    let outcome = name(&request.former_outcome);
    query::execute(transaction, CLOSE, &[&tenant, &connector, &former.workflow_id, &outcome]).await?;
    Ok(())
}

// A run that ended by itself and comes again under its name (a manual start) is a new run; one that did not, goes on.
const FORGET_ENDED: &str = "DELETE FROM gtm.run
    WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3 AND finished_epoch IS NOT NULL";

const OPEN: &str = "INSERT INTO gtm.run AS r (tenant_id, connector_id, workflow_id, run_no, full_sync, first_seq,
        started_at, entity_type, stats, failed_streams)
    VALUES ($1, $2, $3, $4, $5, $6, now(), '', $7, '[]')
    ON CONFLICT (tenant_id, connector_id, workflow_id) DO UPDATE SET run_no = excluded.run_no, finished_at = NULL,
        outcome = NULL, error = NULL, parked = NULL, first_seq = least(r.first_seq, excluded.first_seq)
    RETURNING r.stats";

async fn open_run(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    run_no: i64,
    next_seq: i64,
) -> Result<SyncStats, Fault> {
    const FORGET_ENTRIES: &str =
        "DELETE FROM gtm.failed_record WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3";
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    let key: query::Values<'_> = &[&tenant, &connector, &request.workflow_id];
    if query::execute(transaction, FORGET_ENDED, key).await? > 0 {
        query::execute(transaction, FORGET_ENTRIES, key).await?;
    }
    let stats = Json(SyncStats::default());
    let values: query::Values<'_> =
        &[&tenant, &connector, &request.workflow_id, &run_no, &request.full_sync, &next_seq, &stats];
    let row = query::row(transaction, OPEN, values).await?;
    Ok(row.ok_or(Error::Unreadable { what: "run" })?.try_get::<_, Json<_>>(0)?.0)
}

/// Drops the connector's staged batches, and of everybody what is kept only for a while (R13), a few at a time.
async fn drop_leftovers(transaction: &Transaction<'_>, tenant: &str, connector: &str) -> Result<(), Fault> {
    const STAGED: &str = "DELETE FROM gtm.staged_batch WHERE tenant_id = $1 AND connector_id = $2";
    const AGED: &str = "DELETE FROM gtm.staged_batch WHERE staged_id IN (
        SELECT staged_id FROM gtm.staged_batch WHERE staged_at < now() - make_interval(hours => $1)
        LIMIT 100 FOR UPDATE SKIP LOCKED)";
    const APPLIED: &str = "DELETE FROM gtm.applied_batch
        WHERE tenant_id = $1 AND connector_id = $2 AND applied_at < now() - make_interval(hours => $3)";
    let hours = i32::try_from(KEPT_HOURS).unwrap_or(i32::MAX);
    query::execute(transaction, STAGED, &[&tenant, &connector]).await?;
    query::execute(transaction, AGED, &[&hours]).await?;
    query::execute(transaction, APPLIED, &[&tenant, &connector, &hours]).await?;
    Ok(())
}

/// The compare of the take-over: neither epoch nor position moved since they were read.
async fn write_state(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    lease: &Lease,
    next_seq: i64,
) -> Result<u64, Fault> {
    const TAKE: &str = "UPDATE gtm.sync_state SET epoch = $4, workflow_id = $5, connector_uid = $6, run_no = $7,
            load = CASE WHEN $8 THEN $9 ELSE coalesce(load, $9) END, losses = CASE WHEN $8 OR load IS NULL THEN NULL ELSE losses END,
            updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2 AND account_id = $3 AND next_seq = $10
            AND epoch IS NOT DISTINCT FROM $11";
    let load = begun(&request.load, lease.run_no);
    let values: query::Values<'_> = &[
        &request.tenant_id.as_str(),
        &request.connector_id.as_str(),
        &request.account_id,
        &lease.epoch,
        &request.workflow_id,
        &request.uid,
        &lease.run_no,
        &request.restart_load,
        &Json(&load),
        &next_seq,
        &request.expected_epoch,
    ];
    query::execute(transaction, TAKE, values).await
}

/// `Store::finish_run`.
pub(super) async fn finish(
    transaction: &Transaction<'_>,
    lease: &Lease,
    end: &RunEnd,
    effort: Effort,
) -> Result<RunSummary, Fault> {
    const ATTEMPTED: &str = "finish a run";
    let Some(held) = find_held(transaction, lease).await? else {
        return recorded_end(transaction, lease).await?.ok_or(Fault::Store(Error::StaleRun { attempted: ATTEMPTED }));
    };
    let [tenant, connector, epoch] = lease_key(lease);
    let (mut counted, mut window, mut resolved) = (BTreeMap::new(), None, 0);
    if let Some(load) = held.completes(end) {
        window = load.fulfilled().map(Json);
        counted = sweep::count(transaction, lease, &held.account_id, load).await?;
        resolved = sweep::end_load(transaction, lease, &held.account_id, load).await?;
    }
    let now = query::row(transaction, "SELECT now()", &[]).await?;
    let now = now.ok_or(Error::Unreadable { what: "time" })?.try_get(0)?;
    let (next_seq, confirmed) = (held.next_seq, Json(held.findings.confirmed_sweeps.clone()));
    let ended = held.end(end, effort, &counted, now)?;
    let values: query::Values<'_> = &[
        &tenant,
        &connector,
        &ended.workflow_id,
        &epoch,
        &name(&ended.outcome),
        &ended.error,
        &ended.summary.next_seq,
        &Json(&ended.summary.failed_streams),
        &Json(&ended.summary.stats),
    ];
    query::execute(transaction, END_RUN, values).await?;
    const DROP_STAGED: &str = "DELETE FROM gtm.staged_batch WHERE tenant_id = $1 AND connector_id = $2";
    query::execute(transaction, DROP_STAGED, &[&tenant, &connector]).await?;
    let (load, cursor) = (ended.load.as_ref().map(Json::<&Load>), Json(&ended.cursor));
    let (findings, resolved) = (Json(&ended.findings), i64::try_from(resolved).unwrap_or(i64::MAX));
    let values: query::Values<'_> = &[
        &tenant,
        &connector,
        &epoch,
        &next_seq,
        &load,
        &cursor,
        &ended.generation,
        &findings,
        &confirmed,
        &window,
        &resolved,
    ];
    let released = query::execute(transaction, RELEASE, values).await?;
    if released == 0 { Err(Error::StaleRun { attempted: ATTEMPTED }.into()) } else { Ok(ended.summary) }
}

const END_RUN: &str = "UPDATE gtm.run SET finished_at = now(), finished_epoch = $4, outcome = $5, error = $6,
        end_seq = $7, failed_streams = $8, stats = $9, parked = NULL
    WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3";

// A run without a load left is a completed one. A confirmation that came since the findings were read is not lost.
const RELEASE: &str = "UPDATE gtm.sync_state SET epoch = NULL, workflow_id = NULL, load = $5::jsonb, cursor = $6,
        generation = $7, resync = nullif(resync, $10),
        findings = CASE WHEN coalesce(findings -> 'confirmedSweeps', '{}') = $9::jsonb THEN $8::jsonb
            ELSE $8::jsonb || jsonb_build_object('confirmedSweeps', findings -> 'confirmedSweeps') END,
        dead_letters = dead_letters - $11,
        last_success_at = CASE WHEN $5::jsonb IS NULL THEN now() ELSE last_success_at END,
        updated_at = clock_timestamp()
    WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3 AND next_seq = $4";

async fn recorded_end(client: &impl GenericClient, lease: &Lease) -> Result<Option<RunSummary>, Fault> {
    const RECORDED: &str = "SELECT end_seq, stats, failed_streams FROM gtm.run
        WHERE tenant_id = $1 AND connector_id = $2 AND finished_epoch = $3";
    let [tenant, connector, epoch] = lease_key(lease);
    let read = |row: Row| {
        Ok(RunSummary {
            next_seq: row.try_get(0)?,
            stats: row.try_get::<_, Json<_>>(1)?.0,
            failed_streams: row.try_get::<_, Json<_>>(2)?.0,
        })
    };
    query::row(client, RECORDED, &[&tenant, &connector, &epoch]).await?.map(read).transpose()
}

/// `Store::losses`.
pub(super) async fn losses(client: &impl GenericClient, lease: &Lease, seq: i64) -> Result<Losses, Fault> {
    const LOSSES: &str = "SELECT losses FROM gtm.sync_state
        WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3 AND next_seq = $4 AND losses IS NOT NULL";
    let [tenant, connector, epoch] = lease_key(lease);
    let row = query::row(client, LOSSES, &[&tenant, &connector, &epoch, &seq]).await?;
    row.map_or(Ok(Losses::default()), |row| Ok(row.try_get::<_, Json<_>>(0)?.0))
}

/// `Store::note_losses`.
pub(super) async fn note_losses(
    transaction: &Transaction<'_>,
    lease: &Lease,
    seq: i64,
    losses: &Losses,
) -> Result<(), Fault> {
    const NOTE: &str = "UPDATE gtm.sync_state SET losses = $5
        WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3 AND next_seq = $4";
    let [tenant, connector, epoch] = lease_key(lease);
    let noted = (!losses.is_empty()).then_some(Json(losses));
    query::execute(transaction, NOTE, &[&tenant, &connector, &epoch, &seq, &noted]).await?;
    Ok(())
}

/// `Store::park`.
pub(super) async fn park(transaction: &Transaction<'_>, lease: &Lease, parked: Option<&Parked>) -> Result<(), Fault> {
    const ATTEMPTED: &str = "park a run";
    const SHOW: &str = "UPDATE gtm.run SET parked = $4 WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3";
    const TOUCH: &str = "UPDATE gtm.sync_state SET updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3";
    let held = held(transaction, lease, ATTEMPTED).await?;
    let [tenant, connector, epoch] = lease_key(lease);
    query::execute(transaction, SHOW, &[&tenant, &connector, &held.workflow_id, &parked.map(Json)]).await?;
    let touched = query::execute(transaction, TOUCH, &[&tenant, &connector, &epoch]).await?;
    if touched == 0 { Err(Error::StaleRun { attempted: ATTEMPTED }.into()) } else { Ok(()) }
}

// The lease may have ended with the run: its epoch then stands in the run row.
const FAILED: &str = "SELECT batch_index, error, recorded_at FROM gtm.failed_record
    WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = (
        SELECT workflow_id FROM gtm.sync_state WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3
        UNION SELECT workflow_id FROM gtm.run WHERE tenant_id = $1 AND connector_id = $2 AND finished_epoch = $3)
    ORDER BY batch_index LIMIT $4";

/// `Store::failed_records`.
pub(super) async fn failed_records(
    client: &impl GenericClient,
    lease: &Lease,
    limit: usize,
) -> Result<Vec<FailedRecord>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let [tenant, connector, epoch] = lease_key(lease);
    let read = |row: &Row| {
        let batch_index = u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
        Ok(FailedRecord { batch_index, error: row.try_get(1)?, timestamp: row.try_get(2)? })
    };
    query::rows(client, FAILED, &[&tenant, &connector, &epoch, &limit]).await?.iter().map(read).collect()
}
