//! The operator's incremental status query (R27): connectors whose row or state changed since a time.

use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use tokio_postgres::{Row, types::Json};

use super::{fault::Fault, query};
use crate::{
    ids::{ConnectorId, TenantId},
    store::{
        ConnectorStatusRow, Day, RunOutcome, RunRow, StatusPage,
        stored::{RUNS_OF_A_DAY, from_name},
    },
};

const CHANGED: &str = "SELECT c.tenant_id, c.connector_id, c.connection_status, c.connection_reason,
        c.connection_checked_at, c.account_id, s.cursor, a.last_success_at, a.dead_letters,
        greatest(c.updated_at, s.updated_at),
        r.workflow_id, r.run_no, r.full_sync, r.started_at, r.finished_at, r.outcome, r.error, r.entity_type, r.stats,
        r.parked, s.next_seq, s.findings, f.in_row, f.of_day, e.attempts, e.retries
    FROM gtm.connector AS c
    LEFT JOIN gtm.sync_state AS s
        ON s.tenant_id = c.tenant_id AND s.connector_id = c.connector_id AND s.account_id = c.account_id
    CROSS JOIN LATERAL (
        SELECT max(last_success_at) AS last_success_at, coalesce(sum(dead_letters), 0)::bigint AS dead_letters
        FROM gtm.sync_state WHERE tenant_id = c.tenant_id AND connector_id = c.connector_id) AS a
    LEFT JOIN LATERAL (
        SELECT * FROM gtm.run WHERE tenant_id = c.tenant_id AND connector_id = c.connector_id
        ORDER BY run_no DESC LIMIT 1) AS r ON true
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE outcome = 'failed' AND finished_at > coalesce(a.last_success_at, '-infinity'))
                AS in_row,
            count(*) FILTER (WHERE finished_at > now() - interval '1 day') AS of_day
        FROM gtm.run WHERE tenant_id = c.tenant_id AND connector_id = c.connector_id
            AND outcome IN ('failed', 'terminated')
            AND finished_at > least(coalesce(a.last_success_at, '-infinity'), now() - interval '1 day')) AS f
    CROSS JOIN LATERAL (
        SELECT coalesce(sum((n.stats ->> 'activityAttempts')::bigint), 0)::bigint AS attempts,
            coalesce(sum((n.stats ->> 'activityRetries')::bigint), 0)::bigint AS retries
        FROM (SELECT stats, finished_at FROM gtm.run WHERE tenant_id = c.tenant_id AND connector_id = c.connector_id
            ORDER BY run_no DESC LIMIT $2) AS n
        WHERE n.finished_at > now() - interval '1 day') AS e
    WHERE (c.tenant_id, c.connector_id) IN (
        SELECT tenant_id, connector_id FROM gtm.connector WHERE updated_at >= $1
        UNION SELECT tenant_id, connector_id FROM gtm.sync_state WHERE updated_at >= $1)
    ORDER BY c.tenant_id COLLATE \"C\", c.connector_id COLLATE \"C\"";

fn read(row: &Row) -> Result<ConnectorStatusRow, Fault> {
    Ok(ConnectorStatusRow {
        tenant_id: from_name("tenant id", row.try_get(0)?)?,
        connector_id: from_name("connector id", row.try_get(1)?)?,
        connection_status: from_name("connection status", row.try_get(2)?)?,
        connection_reason: row.try_get(3)?,
        connection_checked_at: row.try_get(4)?,
        account_id: row.try_get(5)?,
        cursor: row.try_get::<_, Option<Json<_>>>(6)?.map(|cursor| cursor.0).unwrap_or_default(),
        last_success_at: row.try_get(7)?,
        dead_letters: row.try_get(8)?,
        updated_at: row.try_get(9)?,
        position: row.try_get::<_, Option<i64>>(20)?.unwrap_or(0),
        findings: row.try_get::<_, Option<Json<_>>>(21)?.map(|findings| findings.0).unwrap_or_default(),
        failed_in_row: u32::try_from(row.try_get::<_, i64>(22)?).unwrap_or(u32::MAX),
        day: Day {
            failures: u32::try_from(row.try_get::<_, i64>(23)?).unwrap_or(u32::MAX),
            attempts: u64::try_from(row.try_get::<_, i64>(24)?).unwrap_or(0),
            retries: u64::try_from(row.try_get::<_, i64>(25)?).unwrap_or(0),
        },
        last_run: match row.try_get::<_, Option<String>>(10)? {
            Some(workflow_id) => Some(read_run(row, workflow_id)?),
            None => None,
        },
    })
}

/// `Store::runs`. The columns stand where `read_run` expects them.
pub(super) async fn runs(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
    limit: usize,
) -> Result<Vec<RunRow>, Fault> {
    const RUNS: &str = "SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, workflow_id, run_no, full_sync, started_at, finished_at,
            outcome, error, entity_type, stats, parked
        FROM gtm.run WHERE tenant_id = $1 AND connector_id = $2 ORDER BY run_no DESC LIMIT $3";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = query::rows(client, RUNS, &[&tenant.as_str(), &connector.as_str(), &limit]).await?;
    rows.iter().map(|row| read_run(row, row.try_get(10)?)).collect()
}

fn read_run(row: &Row, workflow_id: String) -> Result<RunRow, Fault> {
    let outcome: Option<&str> = row.try_get(15)?;
    Ok(RunRow {
        workflow_id,
        run_no: row.try_get(11)?,
        full_sync: row.try_get(12)?,
        started_at: row.try_get(13)?,
        finished_at: row.try_get(14)?,
        outcome: outcome.map(|outcome| from_name::<RunOutcome>("run outcome", outcome)).transpose()?,
        error: row.try_get(16)?,
        entity_type: row.try_get(17)?,
        stats: row.try_get::<_, Json<_>>(18)?.0,
        parked: row.try_get::<_, Option<Json<_>>>(19)?.map(|parked| parked.0),
    })
}

/// `Store::connector_statuses`. The time is read before the rows: what commits meanwhile is seen again, not missed.
pub(super) async fn changed(client: &impl GenericClient, since: Option<Timestamp>) -> Result<StatusPage, Fault> {
    let as_of = query::row(client, "SELECT clock_timestamp()", &[]).await?;
    let as_of = as_of.map(|row| row.try_get(0)).transpose()?.unwrap_or(Timestamp::UNIX_EPOCH);
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    let rows = query::rows(client, CHANGED, &[&since, &RUNS_OF_A_DAY]).await?;
    Ok(StatusPage { rows: rows.iter().map(read).collect::<Result<_, _>>()?, as_of })
}
