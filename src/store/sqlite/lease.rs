//! The lease of a connector and the run row that goes with it: taken, read, parked, finished (R1, R12).

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    fault::Fault,
    share, sweep,
    values::{At, Document, Name},
};
use crate::{
    contract::{
        activities::{Effort, Lease, Parked},
        workflows::{FailedRecord, SyncStats},
    },
    ids::{ConnectorId, TenantId},
    model::cursor::{Cursor, Load},
    store::{
        DesiredState, Error, LeaseGranted, LeaseHolder, LeaseRequest, Losses, RunEnd, RunSummary, held::Held,
        incoming::begun, projection::keep_account, stored::KEPT_HOURS,
    },
};

/// Whether connector `c` may still be worked for: part of the read before a commit and of the fence (R30).
macro_rules! running {
    () => {
        "c.uid = s.connector_uid AND c.desired_state = 'running' AND c.removed_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM tenant AS t WHERE t.tenant_id = c.tenant_id AND t.removed_at IS NOT NULL)"
    };
}
pub(super) use running;

const HELD: &str = concat!(
    "SELECT s.account_id, s.workflow_id, s.next_seq, r.first_seq, s.load, s.cursor, s.generation, c.config, r.stats,
        s.dead_letters, s.findings, s.losses, ",
    running!(),
    " FROM sync_state AS s
    JOIN connector AS c ON c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id
    JOIN run AS r
        ON r.tenant_id = s.tenant_id AND r.connector_id = s.connector_id AND r.workflow_id = s.workflow_id
    WHERE s.tenant_id = ?1 AND s.connector_id = ?2 AND s.epoch = ?3"
);

/// The state under this lease; `StaleRun` when the lease is another's.
pub(super) fn held(transaction: &Transaction<'_>, lease: &Lease, attempted: &'static str) -> Result<Held, Fault> {
    find_held(transaction, lease)?.ok_or(Fault::Store(Error::StaleRun { attempted }))
}

fn find_held(transaction: &Transaction<'_>, lease: &Lease) -> rusqlite::Result<Option<Held>> {
    let read = |row: &Row<'_>| {
        Ok(Held {
            account_id: row.get(0)?,
            workflow_id: row.get(1)?,
            next_seq: row.get(2)?,
            first_seq: row.get(3)?,
            load: row.get::<_, Option<Document<_>>>(4)?.map(|load| load.0),
            cursor: row.get::<_, Document<_>>(5)?.0,
            generation: row.get(6)?,
            config: row.get::<_, Document<_>>(7)?.0,
            stats: row.get::<_, Document<_>>(8)?.0,
            dead_letters: row.get(9)?,
            findings: row.get::<_, Document<_>>(10)?.0,
            losses: row.get::<_, Option<Document<_>>>(11)?.map(|losses| losses.0).unwrap_or_default(),
            running: row.get(12)?,
        })
    };
    transaction.prepare_cached(HELD)?.query_row(lease_key(lease), read).optional()
}

/// The parameters `?1` to `?3` of every statement about a lease.
pub(super) fn lease_key(lease: &Lease) -> [&str; 3] {
    [lease.tenant_id.as_str(), lease.connector_id.as_str(), &lease.epoch]
}

/// `Store::lease_holder`.
pub(super) fn holder(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<LeaseHolder>, Fault> {
    let read = |row: &Row<'_>| Ok(LeaseHolder { workflow_id: row.get(0)?, epoch: row.get(1)? });
    Ok(transaction
        .prepare_cached(
            "SELECT workflow_id, epoch FROM sync_state
             WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch IS NOT NULL",
        )?
        .query_row([tenant.as_str(), connector.as_str()], read)
        .optional()?)
}

/// `Store::take_lease`.
pub(super) fn take(transaction: &Transaction<'_>, request: &LeaseRequest) -> Result<LeaseGranted, Fault> {
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    share::leave_line(transaction, request)?;
    bind_account(transaction, request)?;
    let former = holder(transaction, &request.tenant_id, &request.connector_id)?;
    if former.as_ref().map(|holder| &holder.epoch) != request.expected_epoch.as_ref() {
        return Err(Error::StaleRun { attempted: "take the lease" }.into());
    }
    let now = At::now();
    if let Some(former) = former.filter(|former| former.workflow_id != request.workflow_id) {
        close_former(transaction, request, &former, now)?;
    }
    drop_leftovers(transaction, tenant, connector, now)?;
    let (run_no, busy): (i64, bool) = transaction
        .prepare_cached(
            "SELECT coalesce(max(run_no), 0) + 1, coalesce(max(load IS NOT NULL AND account_id = ?3), 0)
             FROM sync_state WHERE tenant_id = ?1 AND connector_id = ?2",
        )?
        .query_row([tenant, connector, &request.account_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !busy || request.restart_load {
        sweep::forget(transaction, tenant, connector)?;
    }
    let mut lease = Lease {
        tenant_id: request.tenant_id.clone(),
        connector_id: request.connector_id.clone(),
        epoch: uuid::Uuid::new_v4().simple().to_string(),
        run_no,
        revision: request.revision,
        careful: false,
    };
    let next_seq;
    (next_seq, lease.careful) = write_state(transaction, request, &lease, now)?;
    let stats = open_run(transaction, request, run_no, next_seq, now)?;
    Ok(LeaseGranted { lease, next_seq, stats })
}

/// Refuses a connector that is not Running, is not the one that was read, or was edited since; binds the first account (R4).
fn bind_account(transaction: &Transaction<'_>, request: &LeaseRequest) -> Result<(), Fault> {
    let key = [request.tenant_id.as_str(), request.connector_id.as_str()];
    let found: Option<(Option<String>, i64)> = transaction
        .prepare_cached(
            "SELECT c.account_id, c.revision FROM connector AS c
             WHERE c.tenant_id = ?1 AND c.connector_id = ?2 AND c.uid = ?3 AND c.desired_state = ?4
                 AND c.removed_at IS NULL
                 AND NOT EXISTS (SELECT 1 FROM tenant AS t WHERE t.tenant_id = c.tenant_id AND t.removed_at IS NOT NULL)",
        )?
        .query_row(params![key[0], key[1], request.uid, Name(DesiredState::Running)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (stored, revision) = found.ok_or(Error::Stopped)?;
    if revision != request.revision {
        return Err(Error::StaleRun { attempted: "take the lease" }.into());
    }
    let unbound = stored.is_none();
    let account_id = keep_account(stored, Some(&request.account_id))?;
    if unbound {
        transaction
            .prepare_cached(
                "UPDATE connector SET account_id = ?3, updated_at = ?4 WHERE tenant_id = ?1 AND connector_id = ?2",
            )?
            .execute(params![key[0], key[1], account_id, At::now()])?;
    }
    Ok(())
}

fn close_former(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    former: &LeaseHolder,
    now: At,
) -> rusqlite::Result<usize> {
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    transaction
        .prepare_cached(
            "UPDATE run SET finished_at = ?4, outcome = ?5, parked = NULL
             WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3 AND finished_at IS NULL",
        )?
        .execute(params![tenant, connector, former.workflow_id, now, Name(request.former_outcome)])
}

/// Drops the connector's staged batches and what is kept only for a while, of everybody (R13).
fn drop_leftovers(transaction: &Transaction<'_>, tenant: &str, connector: &str, now: At) -> rusqlite::Result<()> {
    let kept_since = At(now.0.checked_sub(jiff::SignedDuration::from_hours(KEPT_HOURS)).unwrap_or(now.0));
    transaction
        .prepare_cached("DELETE FROM staged_batch WHERE (tenant_id = ?1 AND connector_id = ?2) OR staged_at < ?3")?
        .execute(params![tenant, connector, kept_since])?;
    transaction
        .prepare_cached("DELETE FROM applied_batch WHERE tenant_id = ?1 AND connector_id = ?2 AND applied_at < ?3")?
        .execute(params![tenant, connector, kept_since])?;
    Ok(())
}

const TAKE: &str =
    "INSERT INTO sync_state (tenant_id, connector_id, account_id, epoch, workflow_id, connector_uid, run_no,
        next_seq, load, cursor, generation, dead_letters, updated_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, 0, 0, ?10)
    ON CONFLICT (tenant_id, connector_id, account_id) DO UPDATE SET epoch = excluded.epoch,
        workflow_id = excluded.workflow_id, connector_uid = excluded.connector_uid, run_no = excluded.run_no,
        load = CASE WHEN ?11 THEN excluded.load ELSE coalesce(sync_state.load, excluded.load) END,
        losses = CASE WHEN ?11 OR sync_state.load IS NULL THEN NULL ELSE sync_state.losses END,
        updated_at = excluded.updated_at
    RETURNING next_seq, losses IS NOT NULL";

/// Gives the position, and whether workers were lost there.
fn write_state(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    lease: &Lease,
    now: At,
) -> rusqlite::Result<(i64, bool)> {
    let load = begun(&request.load, lease.run_no);
    let values = params![
        request.tenant_id.as_str(),
        request.connector_id.as_str(),
        request.account_id,
        lease.epoch,
        request.workflow_id,
        request.uid,
        lease.run_no,
        Document(&load),
        Document(Cursor::default()),
        now,
        request.restart_load
    ];
    transaction.prepare_cached(TAKE)?.query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))
}

// A run that ended by itself and comes again under its name (a manual start) is a new run; one that did not, goes on.
const FORGET_ENDED: &str = "DELETE FROM run
    WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3 AND finished_epoch IS NOT NULL";

const OPEN: &str = "INSERT INTO run (tenant_id, connector_id, workflow_id, run_no, full_sync, first_seq, started_at,
        entity_type, stats, failed_streams)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '', ?8, '[]')
    ON CONFLICT (tenant_id, connector_id, workflow_id) DO UPDATE SET run_no = excluded.run_no, finished_at = NULL,
        outcome = NULL, error = NULL, parked = NULL, first_seq = min(run.first_seq, excluded.first_seq)
    RETURNING stats";

fn open_run(
    transaction: &Transaction<'_>,
    request: &LeaseRequest,
    run_no: i64,
    next_seq: i64,
    now: At,
) -> rusqlite::Result<SyncStats> {
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    if transaction.prepare_cached(FORGET_ENDED)?.execute([tenant, connector, &request.workflow_id])? > 0 {
        transaction
            .prepare_cached(
                "DELETE FROM failed_record WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3",
            )?
            .execute([tenant, connector, &request.workflow_id])?;
    }
    let stats = Document(SyncStats::default());
    let values = params![tenant, connector, request.workflow_id, run_no, request.full_sync, next_seq, now, stats];
    transaction.prepare_cached(OPEN)?.query_row(values, |row| Ok(row.get::<_, Document<SyncStats>>(0)?.0))
}

/// `Store::finish_run`.
pub(super) fn finish(
    transaction: &Transaction<'_>,
    lease: &Lease,
    end: &RunEnd,
    effort: Effort,
) -> Result<RunSummary, Fault> {
    const ATTEMPTED: &str = "finish a run";
    let Some(held) = find_held(transaction, lease)? else {
        return recorded_end(transaction, lease)?.ok_or(Fault::Store(Error::StaleRun { attempted: ATTEMPTED }));
    };
    let now = At::now();
    let (tenant, connector) = (lease.tenant_id.as_str(), lease.connector_id.as_str());
    let (mut counted, mut window, mut resolved) = (BTreeMap::new(), None, 0);
    if let Some(load) = held.completes(end) {
        window = load.fulfilled().map(Document);
        counted = sweep::count(transaction, lease, &held.account_id, load)?;
        resolved = sweep::end_load(transaction, lease, &held.account_id, load)?;
    }
    let ended = held.end(end, effort, &counted, now.0)?;
    transaction
        .prepare_cached(
            "UPDATE run SET finished_at = ?4, finished_epoch = ?5, outcome = ?6, error = ?7, end_seq = ?8,
                 failed_streams = ?9, stats = ?10, parked = NULL
             WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3",
        )?
        .execute(params![
            tenant,
            connector,
            ended.workflow_id,
            now,
            lease.epoch,
            Name(ended.outcome),
            ended.error,
            ended.summary.next_seq,
            Document(&ended.summary.failed_streams),
            Document(&ended.summary.stats)
        ])?;
    transaction
        .prepare_cached("DELETE FROM staged_batch WHERE tenant_id = ?1 AND connector_id = ?2")?
        .execute([tenant, connector])?;
    let completed = (ended.load.is_none()).then_some(now);
    let released = transaction
        .prepare_cached(
            "UPDATE sync_state SET epoch = NULL, workflow_id = NULL, load = ?4, cursor = ?5, generation = ?6,
                 last_success_at = coalesce(?7, last_success_at), updated_at = ?8, findings = ?9,
                 resync = nullif(resync, ?10), dead_letters = dead_letters - ?11
             WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3",
        )?
        .execute(params![
            tenant,
            connector,
            lease.epoch,
            ended.load.as_ref().map(Document::<&Load>),
            Document(&ended.cursor),
            ended.generation,
            completed,
            now,
            Document(&ended.findings),
            window,
            i64::try_from(resolved).unwrap_or(i64::MAX)
        ])?;
    if released == 0 { Err(Error::StaleRun { attempted: ATTEMPTED }.into()) } else { Ok(ended.summary) }
}

fn recorded_end(transaction: &Transaction<'_>, lease: &Lease) -> rusqlite::Result<Option<RunSummary>> {
    let read = |row: &Row<'_>| {
        Ok(RunSummary {
            next_seq: row.get(0)?,
            stats: row.get::<_, Document<_>>(1)?.0,
            failed_streams: row.get::<_, Document<_>>(2)?.0,
        })
    };
    transaction
        .prepare_cached(
            "SELECT end_seq, stats, failed_streams FROM run
             WHERE tenant_id = ?1 AND connector_id = ?2 AND finished_epoch = ?3",
        )?
        .query_row(lease_key(lease), read)
        .optional()
}

/// `Store::losses`.
pub(super) fn losses(transaction: &Transaction<'_>, lease: &Lease, seq: i64) -> Result<Losses, Fault> {
    let [tenant, connector, epoch] = lease_key(lease);
    let found = transaction
        .prepare_cached(
            "SELECT losses FROM sync_state
             WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3 AND next_seq = ?4 AND losses IS NOT NULL",
        )?
        .query_row(params![tenant, connector, epoch, seq], |row| Ok(row.get::<_, Document<_>>(0)?.0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// `Store::note_losses`.
pub(super) fn note_losses(
    transaction: &Transaction<'_>,
    lease: &Lease,
    seq: i64,
    losses: &Losses,
) -> Result<(), Fault> {
    let [tenant, connector, epoch] = lease_key(lease);
    let noted = (!losses.is_empty()).then_some(Document(losses));
    transaction
        .prepare_cached(
            "UPDATE sync_state SET losses = ?5
             WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3 AND next_seq = ?4",
        )?
        .execute(params![tenant, connector, epoch, seq, noted])?;
    Ok(())
}

/// `Store::park`.
pub(super) fn park(transaction: &Transaction<'_>, lease: &Lease, parked: Option<&Parked>) -> Result<(), Fault> {
    const ATTEMPTED: &str = "park a run";
    let held = held(transaction, lease, ATTEMPTED)?;
    let (tenant, connector) = (lease.tenant_id.as_str(), lease.connector_id.as_str());
    transaction
        .prepare_cached("UPDATE run SET parked = ?4 WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3")?
        .execute(params![tenant, connector, held.workflow_id, parked.map(Document)])?;
    transaction
        .prepare_cached(
            "UPDATE sync_state SET updated_at = ?4 WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3",
        )?
        .execute(params![tenant, connector, lease.epoch, At::now()])?;
    Ok(())
}

// The lease may have ended with the run: its epoch then stands in the run row.
const FAILED: &str = "SELECT batch_index, error, recorded_at FROM failed_record
    WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = (
        SELECT workflow_id FROM sync_state WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3
        UNION SELECT workflow_id FROM run WHERE tenant_id = ?1 AND connector_id = ?2 AND finished_epoch = ?3)
    ORDER BY batch_index LIMIT ?4";

/// `Store::failed_records`.
pub(super) fn failed_records(
    transaction: &Transaction<'_>,
    lease: &Lease,
    limit: usize,
) -> Result<Vec<FailedRecord>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(FAILED)?;
    let values = params![lease.tenant_id.as_str(), lease.connector_id.as_str(), lease.epoch, limit];
    let rows = statement.query_map(values, |row| {
        let batch_index = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        Ok(FailedRecord { batch_index, error: row.get(1)?, timestamp: row.get::<_, At>(2)?.0 })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
