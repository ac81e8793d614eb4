//! Dead letters after their commit: listed, marked for replay, discarded. How they come about is the data path's business.

use rusqlite::{Row, ToSql, Transaction, params};

use super::{
    fault::Fault,
    lease::lease_key,
    sweep::check_lease,
    values::{At, Name},
};
use crate::{
    contract::activities::Lease,
    ids::{ConnectorId, TenantId},
    store::{DeadLetterRow, LetterSelection, Replay},
};

/// Letters of connector (`?1`, `?2`) that a selection (`?3` to `?6`) names.
macro_rules! selected {
    () => {
        "tenant_id = ?1 AND connector_id = ?2 AND (?3 IS NULL OR workflow_id = ?3)
         AND (?4 IS NULL OR batch_index = ?4) AND (?5 IS NULL OR entity = ?5) AND (?6 IS NULL OR source_id = ?6)"
    };
}

/// The values of `?1` to `?6`.
fn key<'a>(
    tenant: &'a TenantId,
    connector: &'a ConnectorId,
    selection: &'a LetterSelection,
) -> [Box<dyn ToSql + 'a>; 6] {
    let batch_index = selection.batch_index.map(|index| i64::try_from(index).unwrap_or(i64::MAX));
    [
        Box::new(tenant.as_str()),
        Box::new(connector.as_str()),
        Box::new(selection.workflow_id.as_deref()),
        Box::new(batch_index),
        Box::new(selection.entity.map(|entity| entity.table())),
        Box::new(selection.source_id.as_deref()),
    ]
}

fn execute(transaction: &Transaction<'_>, sql: &str, key: [Box<dyn ToSql + '_>; 6]) -> rusqlite::Result<u64> {
    let changed = transaction.prepare_cached(sql)?.execute(rusqlite::params_from_iter(key))?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

/// Marks letters for replay. Those without an id cannot be read back, nor those of a former account; after a reset, before
/// the next account is known, any may be its own. Answers how many are marked.
pub(super) fn mark(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    selection: &LetterSelection,
) -> rusqlite::Result<u64> {
    const MARK: &str = concat!(
        "UPDATE dead_letter SET replay_requested_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
         WHERE entity IS NOT NULL AND source_id IS NOT NULL
             AND account_id = coalesce((SELECT c.account_id FROM connector AS c
                 WHERE c.tenant_id = ?1 AND c.connector_id = ?2), account_id) AND ",
        selected!()
    );
    execute(transaction, MARK, key(tenant, connector, selection))
}

/// Deletes letters and answers how many.
pub(super) fn discard(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    selection: &LetterSelection,
) -> rusqlite::Result<u64> {
    const DISCARD: &str = concat!("DELETE FROM dead_letter WHERE ", selected!());
    let discarded = execute(transaction, DISCARD, key(tenant, connector, selection))?;
    recount(transaction, tenant)?;
    Ok(discarded)
}

/// Sets the tenant's counts of dead letters right after some were deleted outside the data path.
pub(super) fn recount(transaction: &Transaction<'_>, tenant: &TenantId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE sync_state AS s SET updated_at = ?2, dead_letters = (SELECT count(*) FROM dead_letter AS d
                 WHERE d.tenant_id = s.tenant_id AND d.connector_id = s.connector_id AND d.account_id = s.account_id)
             WHERE tenant_id = ?1 AND dead_letters <> (SELECT count(*) FROM dead_letter AS d
                 WHERE d.tenant_id = s.tenant_id AND d.connector_id = s.connector_id AND d.account_id = s.account_id)",
        )?
        .execute(params![tenant.as_str(), At::now()])?;
    Ok(())
}

/// `Store::replays`.
pub(super) fn replays(
    transaction: &Transaction<'_>,
    lease: &Lease,
    after: i64,
    limit: usize,
) -> Result<Vec<Replay>, Fault> {
    check_lease(transaction, lease, "list replays")?;
    let [tenant, connector, epoch] = lease_key(lease);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(
        "SELECT d.observed_seq, d.entity, d.source_id FROM dead_letter AS d
         JOIN sync_state AS s
             ON s.tenant_id = d.tenant_id AND s.connector_id = d.connector_id AND s.account_id = d.account_id
         WHERE d.tenant_id = ?1 AND d.connector_id = ?2 AND s.epoch = ?3 AND d.replay_requested_at IS NOT NULL
             AND d.observed_seq > ?4
         ORDER BY d.observed_seq LIMIT ?5",
    )?;
    let rows = statement.query_map(params![tenant, connector, epoch, after, limit], |row| {
        Ok(Replay { observed_seq: row.get(0)?, entity: row.get::<_, Name<_>>(1)?.0, source_id: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// `Store::dead_letters`.
pub(super) fn list(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    selection: &LetterSelection,
    after: Option<i64>,
    limit: usize,
) -> Result<Vec<DeadLetterRow>, Fault> {
    const LIST: &str = concat!(
        "SELECT observed_seq, workflow_id, batch_index, entity, source_id, code, field, recorded_at,
             replay_requested_at, payload, payload_form, account_id
         FROM dead_letter WHERE ",
        selected!(),
        " AND (?7 IS NULL OR observed_seq > ?7) ORDER BY observed_seq LIMIT ?8"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rest: [Box<dyn ToSql>; 2] = [Box::new(after), Box::new(limit)];
    let values = key(tenant, connector, selection).into_iter().chain(rest);
    let mut statement = transaction.prepare_cached(LIST)?;
    let rows = statement.query_map(rusqlite::params_from_iter(values), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<DeadLetterRow> {
    Ok(DeadLetterRow {
        observed_seq: row.get(0)?,
        workflow_id: row.get(1)?,
        batch_index: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        entity: row.get::<_, Option<Name<_>>>(3)?.map(|entity| entity.0),
        source_id: row.get(4)?,
        code: row.get(5)?,
        field: row.get(6)?,
        recorded_at: row.get::<_, At>(7)?.0,
        replay_requested_at: row.get::<_, Option<At>>(8)?.map(|at| at.0),
        payload: row.get(9)?,
        payload_form: row.get(10)?,
        account_id: row.get(11)?,
    })
}
