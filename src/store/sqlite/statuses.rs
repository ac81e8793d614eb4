//! The operator's incremental status query (R27): connectors whose row or state changed since a time.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Row, Transaction, params};

use super::{
    fault::Fault,
    values::{At, Document, Name, instant_text},
};
use crate::{
    contract::{activities::Parked, workflows::SyncStats},
    ids::{ConnectorId, TenantId},
    store::{ConnectorStatusRow, Day, RunRow, StatusPage, stored::RUNS_OF_A_DAY},
};

// Failures are said twice: so the planner sees that the index of failed runs holds them.
const CHANGED: &str = "SELECT c.tenant_id, c.connector_id, c.connection_status, c.connection_reason,
        c.connection_checked_at, c.account_id, s.cursor,
        (SELECT max(last_success_at) FROM sync_state AS a
            WHERE a.tenant_id = c.tenant_id AND a.connector_id = c.connector_id),
        (SELECT coalesce(sum(dead_letters), 0) FROM sync_state AS a
            WHERE a.tenant_id = c.tenant_id AND a.connector_id = c.connector_id),
        max(c.updated_at, coalesce(s.updated_at, '')),
        r.workflow_id, r.run_no, r.full_sync, r.started_at, r.finished_at, r.outcome, r.error, r.entity_type, r.stats,
        r.parked, s.next_seq, s.findings,
        (SELECT count(*) FROM run AS f WHERE f.tenant_id = c.tenant_id AND f.connector_id = c.connector_id
            AND f.outcome IN ('failed', 'terminated') AND f.outcome = 'failed' AND f.finished_at > coalesce(
                (SELECT max(last_success_at) FROM sync_state AS a
                    WHERE a.tenant_id = c.tenant_id AND a.connector_id = c.connector_id), '')),
        (SELECT count(*) FROM run AS f WHERE f.tenant_id = c.tenant_id AND f.connector_id = c.connector_id
            AND f.outcome IN ('failed', 'terminated') AND f.finished_at > ?2),
        (SELECT json_array(coalesce(sum(n.stats ->> 'activityAttempts'), 0),
                coalesce(sum(n.stats ->> 'activityRetries'), 0))
            FROM (SELECT stats, finished_at FROM run AS w WHERE w.tenant_id = c.tenant_id
                AND w.connector_id = c.connector_id ORDER BY w.run_no DESC LIMIT ?3) AS n WHERE n.finished_at > ?2)
    FROM connector AS c
    LEFT JOIN sync_state AS s
        ON s.tenant_id = c.tenant_id AND s.connector_id = c.connector_id AND s.account_id = c.account_id
    LEFT JOIN run AS r
        ON r.tenant_id = c.tenant_id AND r.connector_id = c.connector_id AND r.run_no = (
            SELECT max(run_no) FROM run AS n WHERE n.tenant_id = c.tenant_id AND n.connector_id = c.connector_id)
    WHERE (c.tenant_id, c.connector_id) IN (
        SELECT tenant_id, connector_id FROM connector WHERE updated_at >= ?1
        UNION SELECT tenant_id, connector_id FROM sync_state WHERE updated_at >= ?1)
    ORDER BY c.tenant_id, c.connector_id";

fn read(row: &Row<'_>) -> rusqlite::Result<ConnectorStatusRow> {
    Ok(ConnectorStatusRow {
        tenant_id: row.get::<_, Name<_>>(0)?.0,
        connector_id: row.get::<_, Name<_>>(1)?.0,
        connection_status: row.get::<_, Name<_>>(2)?.0,
        connection_reason: row.get(3)?,
        connection_checked_at: row.get::<_, Option<At>>(4)?.map(|at| at.0),
        account_id: row.get(5)?,
        cursor: row.get::<_, Option<Document<_>>>(6)?.map(|cursor| cursor.0).unwrap_or_default(),
        last_success_at: row.get::<_, Option<At>>(7)?.map(|at| at.0),
        dead_letters: row.get(8)?,
        position: row.get::<_, Option<i64>>(20)?.unwrap_or(0),
        findings: row.get::<_, Option<Document<_>>>(21)?.map(|findings| findings.0).unwrap_or_default(),
        failed_in_row: row.get(22)?,
        day: day(row)?,
        updated_at: row.get::<_, At>(9)?.0,
        last_run: match row.get::<_, Option<String>>(10)? {
            Some(workflow_id) => Some(read_run(row, workflow_id)?),
            None => None,
        },
    })
}

fn day(row: &Row<'_>) -> rusqlite::Result<Day> {
    let [attempts, retries] = row.get::<_, Document<[u64; 2]>>(24)?.0;
    Ok(Day { failures: row.get(23)?, attempts, retries })
}

/// `Store::runs`. The columns stand where `read_run` expects them.
pub(super) fn runs(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    limit: usize,
) -> Result<Vec<RunRow>, Fault> {
    const RUNS: &str = "SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, workflow_id, run_no, full_sync, started_at, finished_at,
            outcome, error, entity_type, stats, parked
        FROM run WHERE tenant_id = ?1 AND connector_id = ?2 ORDER BY run_no DESC LIMIT ?3";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(RUNS)?;
    let key = params![tenant.as_str(), connector.as_str(), limit];
    let rows = statement.query_map(key, |row| read_run(row, row.get(10)?))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_run(row: &Row<'_>, workflow_id: String) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        workflow_id,
        run_no: row.get(11)?,
        full_sync: row.get(12)?,
        started_at: row.get::<_, At>(13)?.0,
        finished_at: row.get::<_, Option<At>>(14)?.map(|at| at.0),
        outcome: row.get::<_, Option<Name<_>>>(15)?.map(|outcome| outcome.0),
        error: row.get(16)?,
        entity_type: row.get(17)?,
        stats: row.get::<_, Document<SyncStats>>(18)?.0,
        parked: row.get::<_, Option<Document<Parked>>>(19)?.map(|parked| parked.0),
    })
}

/// `Store::connector_statuses`.
pub(super) fn changed(transaction: &Transaction<'_>, since: Option<Timestamp>) -> Result<StatusPage, Fault> {
    let since = since.map(instant_text).unwrap_or_default();
    let as_of = At::now().0;
    let day_ago = At(as_of.checked_sub(SignedDuration::from_hours(24)).unwrap_or(as_of));
    let mut statement = transaction.prepare_cached(CHANGED)?;
    let rows = statement.query_map(params![since, day_ago, RUNS_OF_A_DAY], read)?.collect::<Result<_, _>>()?;
    Ok(StatusPage { rows, as_of })
}
