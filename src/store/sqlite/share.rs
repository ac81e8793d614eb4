//! The line of a tenant's syncs (R42), and the end of runs that somebody else closes (R12).

use std::time::Duration;

use jiff::SignedDuration;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    fault::Fault,
    values::{At, Name},
};
use crate::{
    ids::TenantId,
    store::{
        DeadRun, Error, LeaseHolder, LeaseRequest, Turn, TurnRequest, Working,
        share::{SILENT_SECONDS, turn},
    },
};

/// Syncs of a tenant at work: they hold a lease and are not parked (R46).
macro_rules! at_work {
    () => {
        "FROM sync_state AS s JOIN run AS r ON r.tenant_id = s.tenant_id AND r.connector_id = s.connector_id
            AND r.workflow_id = s.workflow_id
        WHERE s.tenant_id = ?1 AND s.epoch IS NOT NULL AND r.finished_at IS NULL AND r.parked IS NULL"
    };
}

const OURS: &str = concat!("SELECT 1 ", at_work!(), " AND s.connector_id = ?2 AND s.workflow_id = ?3");
const OTHERS: &str = concat!(
    "SELECT s.connector_id, s.workflow_id, s.epoch ",
    at_work!(),
    " AND s.connector_id <> ?2 ORDER BY s.connector_id"
);

// A run that comes back from parking stands where it stood when it began.
const STAND: &str = "INSERT INTO waiting (tenant_id, connector_id, workflow_id, asked_at, seen_at)
    SELECT ?1, ?2, ?3, coalesce((SELECT started_at FROM run WHERE tenant_id = ?1 AND connector_id = ?2
        AND workflow_id = ?3 AND finished_at IS NULL), ?5), ?5 WHERE true
    ON CONFLICT (tenant_id, connector_id) DO UPDATE SET workflow_id = excluded.workflow_id, seen_at = excluded.seen_at
        WHERE waiting.workflow_id IN (?3, ?4)
    RETURNING asked_at";

const AHEAD: &str = "SELECT count(*) FROM waiting
    WHERE tenant_id = ?1 AND connector_id <> ?2 AND (asked_at, connector_id) < (?3, ?2) AND seen_at > ?4";

/// `Store::ask_for_turn`.
pub(super) fn ask(transaction: &Transaction<'_>, request: &TurnRequest) -> Result<Turn, Fault> {
    const WHO: &str = "SELECT workflow_id FROM waiting WHERE tenant_id = ?1 AND connector_id = ?2";
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    if is_at_work(transaction, tenant, connector, &request.workflow_id)? {
        return Ok(Turn::Ours);
    }
    let (now, former) = (At::now(), request.instead_of.as_deref().unwrap_or(&request.workflow_id));
    let stand = params![tenant, connector, request.workflow_id, former, now];
    let asked_at: Option<At> = transaction.prepare_cached(STAND)?.query_row(stand, |row| row.get(0)).optional()?;
    let Some(asked_at) = asked_at else {
        let another = transaction.prepare_cached(WHO)?.query_row([tenant, connector], |row| row.get(0))?;
        return Ok(Turn::Anothers(another));
    };
    let silent = SignedDuration::from_secs(SILENT_SECONDS);
    let heard_since = At(now.0.checked_sub(silent).unwrap_or(now.0));
    let ahead = params![tenant, connector, asked_at, heard_since];
    let ahead: i64 = transaction.prepare_cached(AHEAD)?.query_row(ahead, |row| row.get(0))?;
    let working = others(transaction, &request.tenant_id, connector)?;
    let waited = Duration::try_from(now.0.duration_since(asked_at.0)).unwrap_or_default();
    Ok(turn(working, u32::try_from(ahead).unwrap_or(u32::MAX), request.most, waited))
}

fn is_at_work(
    transaction: &Transaction<'_>,
    tenant: &str,
    connector: &str,
    workflow_id: &str,
) -> rusqlite::Result<bool> {
    transaction.prepare_cached(OURS)?.exists([tenant, connector, workflow_id])
}

fn others(transaction: &Transaction<'_>, tenant: &TenantId, connector: &str) -> rusqlite::Result<Vec<Working>> {
    let mut statement = transaction.prepare_cached(OTHERS)?;
    let read = |row: &rusqlite::Row<'_>| {
        let holder = LeaseHolder { workflow_id: row.get(1)?, epoch: row.get(2)? };
        Ok(Working { connector_id: row.get::<_, Name<_>>(0)?.0, holder })
    };
    statement.query_map([tenant.as_str(), connector], read)?.collect()
}

/// Leaves the line for a place; refuses when none is left, whatever the line had said before. (There is one writer.)
pub(super) fn leave_line(transaction: &Transaction<'_>, request: &LeaseRequest) -> Result<(), Fault> {
    const LEAVE: &str = "DELETE FROM waiting WHERE tenant_id = ?1 AND (connector_id = ?2 OR seen_at < ?3)";
    let Some(most) = request.tenant_syncs else { return Ok(()) };
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    if !is_at_work(transaction, tenant, connector, &request.workflow_id)? {
        let taken = others(transaction, &request.tenant_id, connector)?.len();
        if u32::try_from(taken).unwrap_or(u32::MAX) >= most.max(1) {
            return Err(Error::NoPlace.into());
        }
    }
    let now = At::now();
    let day_ago = At(now.0.checked_sub(SignedDuration::from_hours(24)).unwrap_or(now.0));
    transaction.prepare_cached(LEAVE)?.execute(params![tenant, connector, day_ago])?;
    Ok(())
}

/// `Store::close_run`.
pub(super) fn close(transaction: &Transaction<'_>, dead: &DeadRun) -> Result<(), Fault> {
    const CLOSE: &str = "UPDATE run SET finished_at = ?6, outcome = ?4, error = ?5, parked = NULL
        WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3 AND finished_at IS NULL";
    const RELEASE: &str = "UPDATE sync_state SET epoch = NULL, workflow_id = NULL, updated_at = ?5
        WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3 AND epoch = ?4";
    let (tenant, connector) = (dead.tenant_id.as_str(), dead.connector_id.as_str());
    let (LeaseHolder { workflow_id, epoch }, now) = (&dead.holder, At::now());
    let ended = params![tenant, connector, workflow_id, Name(dead.outcome), dead.error, now];
    transaction.prepare_cached(CLOSE)?.execute(ended)?;
    let held = params![tenant, connector, workflow_id, epoch, now];
    let released = transaction.prepare_cached(RELEASE)?.execute(held)?;
    if released == 0 { Err(Error::StaleRun { attempted: "close a run" }.into()) } else { Ok(()) }
}
