//! The line of a tenant's syncs (R42), and the end of runs that somebody else closes (R12).

use std::time::Duration;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;

use super::{fault::Fault, query};
use crate::{
    ids::TenantId,
    store::{
        DeadRun, Error, LeaseHolder, LeaseRequest, Turn, TurnRequest, Working,
        share::{SILENT_SECONDS, turn},
        stored::{from_name, name},
    },
};

/// Syncs of a tenant at work: they hold a lease and are not parked (R46).
macro_rules! at_work {
    () => {
        "FROM gtm.sync_state AS s JOIN gtm.run AS r ON r.tenant_id = s.tenant_id AND r.connector_id = s.connector_id
            AND r.workflow_id = s.workflow_id
        WHERE s.tenant_id = $1 AND s.epoch IS NOT NULL AND r.finished_at IS NULL AND r.parked IS NULL"
    };
}

const OURS: &str = concat!("SELECT 1 ", at_work!(), " AND s.connector_id = $2 AND s.workflow_id = $3");
const OTHERS: &str = concat!(
    "SELECT s.connector_id, s.workflow_id, s.epoch ",
    at_work!(),
    " AND s.connector_id <> $2 ORDER BY s.connector_id"
);

// A run that comes back from parking stands where it stood when it began.
const STAND: &str = "INSERT INTO gtm.waiting AS w (tenant_id, connector_id, workflow_id, asked_at, seen_at)
    SELECT $1, $2, $3, coalesce((SELECT started_at FROM gtm.run WHERE tenant_id = $1 AND connector_id = $2
        AND workflow_id = $3 AND finished_at IS NULL), clock_timestamp()), clock_timestamp()
    ON CONFLICT (tenant_id, connector_id) DO UPDATE SET workflow_id = excluded.workflow_id, seen_at = excluded.seen_at
        WHERE w.workflow_id IN ($3, $4)
    RETURNING asked_at, seen_at";

const AHEAD: &str = "SELECT count(*) FROM gtm.waiting
    WHERE tenant_id = $1 AND connector_id <> $2 AND (asked_at, connector_id) < ($3, $2)
        AND seen_at > clock_timestamp() - make_interval(secs => $4)";

/// `Store::ask_for_turn`.
pub(super) async fn ask(transaction: &Transaction<'_>, request: &TurnRequest) -> Result<Turn, Fault> {
    const WHO: &str = "SELECT workflow_id FROM gtm.waiting WHERE tenant_id = $1 AND connector_id = $2";
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    let ours: query::Values<'_> = &[&tenant, &connector, &request.workflow_id];
    if query::row(transaction, OURS, ours).await?.is_some() {
        return Ok(Turn::Ours);
    }
    let former = request.instead_of.as_deref().unwrap_or(&request.workflow_id);
    let stood = query::row(transaction, STAND, &[&tenant, &connector, &request.workflow_id, &former]).await?;
    let Some(stood) = stood else {
        let row = query::row(transaction, WHO, &[&tenant, &connector]).await?;
        return Ok(Turn::Anothers(row.ok_or(Error::Unreadable { what: "line" })?.try_get(0)?));
    };
    let (asked_at, now): (Timestamp, Timestamp) = (stood.try_get(0)?, stood.try_get(1)?);
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    let silent = SILENT_SECONDS as f64;
    let ahead = query::row(transaction, AHEAD, &[&tenant, &connector, &asked_at, &silent]).await?;
    let ahead: i64 = ahead.map_or(Ok(0), |row| row.try_get(0))?;
    let working = others(transaction, &request.tenant_id, connector).await?;
    let waited = Duration::try_from(now.duration_since(asked_at)).unwrap_or_default();
    Ok(turn(working, u32::try_from(ahead).unwrap_or(u32::MAX), request.most, waited))
}

async fn others(client: &impl GenericClient, tenant: &TenantId, connector: &str) -> Result<Vec<Working>, Fault> {
    let mut working = Vec::new();
    for row in query::rows(client, OTHERS, &[&tenant.as_str(), &connector]).await? {
        let holder = LeaseHolder { workflow_id: row.try_get(1)?, epoch: row.try_get(2)? };
        working.push(Working { connector_id: from_name("connector id", row.try_get(0)?)?, holder });
    }
    Ok(working)
}

/// Leaves the line for a place; refuses when none is left, whatever the line had said before. Two of one tenant come one
/// after the other.
pub(super) async fn leave_line(transaction: &Transaction<'_>, request: &LeaseRequest) -> Result<(), Fault> {
    // The first number keeps our locks apart from others of the database: the bytes of `gtm`.
    const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(6780013, pg_catalog.hashtext($1))";
    const LEAVE: &str = "DELETE FROM gtm.waiting WHERE tenant_id = $1
        AND (connector_id = $2 OR seen_at < now() - interval '1 day')";
    let Some(most) = request.tenant_syncs else { return Ok(()) };
    let (tenant, connector) = (request.tenant_id.as_str(), request.connector_id.as_str());
    query::row(transaction, LOCK, &[&tenant]).await?;
    let ours: query::Values<'_> = &[&tenant, &connector, &request.workflow_id];
    if query::row(transaction, OURS, ours).await?.is_none() {
        let taken = others(transaction, &request.tenant_id, connector).await?.len();
        if u32::try_from(taken).unwrap_or(u32::MAX) >= most.max(1) {
            return Err(Error::NoPlace.into());
        }
    }
    query::execute(transaction, LEAVE, &[&tenant, &connector]).await?;
    Ok(())
}

/// `Store::close_run`.
pub(super) async fn close(transaction: &Transaction<'_>, dead: &DeadRun) -> Result<(), Fault> {
    const CLOSE: &str = "UPDATE gtm.run SET finished_at = now(), outcome = $4, error = $5, parked = NULL
        WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3 AND finished_at IS NULL";
    const RELEASE: &str = "UPDATE gtm.sync_state SET epoch = NULL, workflow_id = NULL, updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3 AND epoch = $4";
    let (tenant, connector) = (dead.tenant_id.as_str(), dead.connector_id.as_str());
    let LeaseHolder { workflow_id, epoch } = &dead.holder;
    let values: query::Values<'_> = &[&tenant, &connector, workflow_id, &name(&dead.outcome), &dead.error];
    query::execute(transaction, CLOSE, values).await?;
    let released = query::execute(transaction, RELEASE, &[&tenant, &connector, workflow_id, epoch]).await?;
    if released == 0 { Err(Error::StaleRun { attempted: "close a run" }.into()) } else { Ok(()) }
}
