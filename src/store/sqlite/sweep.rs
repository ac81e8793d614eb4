//! A load's end: which live rows it did not see (R6), what is here of the streams that the source counted, and what of the
//! load's own notes is forgotten.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{fault::Fault, lease::lease_key, values::At};
use crate::{
    contract::activities::Lease,
    model::{cursor::Load, entity::Entity},
    store::{Error, SweepScope, findings, record_ids::Packed},
};

/// `StaleRun` unless the lease is still its own.
pub(super) fn check_lease(transaction: &Transaction<'_>, lease: &Lease, attempted: &'static str) -> Result<(), Fault> {
    let leased: Option<i64> = transaction
        .prepare_cached("SELECT 1 FROM sync_state WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3")?
        .query_row(lease_key(lease), |row| row.get(0))
        .optional()?;
    leased.map(drop).ok_or(Fault::Store(Error::StaleRun { attempted }))
}

/// Live rows of a stream of the leased connector and its present account: `?1` tenant, `?2` connector, `?3` prefix.
fn live_rows(entity: Entity) -> String {
    let table = entity.table();
    format!(
        "{table} AS r WHERE r.tenant_id = ?1 AND r.connector_id = ?2 AND r.deleted_at IS NULL
         AND substr(r.source_id, 1, length(?3)) = ?3 AND r.account_id = (
             SELECT c.account_id FROM connector AS c WHERE c.tenant_id = ?1 AND c.connector_id = ?2)"
    )
}

/// `Store::begin_sweep`: an anti-join of the live rows with the ids that the load's commits kept.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    lease: &Lease,
    entity: Entity,
    id_prefix: &str,
) -> Result<SweepScope, Fault> {
    check_lease(transaction, lease, "begin a sweep")?;
    let ([tenant, connector, _], table) = (lease_key(lease), entity.table());
    transaction
        .prepare_cached(
            "DELETE FROM sweep_candidate WHERE tenant_id = ?1 AND connector_id = ?2 AND entity = ?3
             AND substr(source_id, 1, length(?4)) = ?4",
        )?
        .execute([tenant, connector, table, id_prefix])?;
    collect_seen(transaction, lease, entity)?;
    let live = live_rows(entity);
    let note = format!(
        "INSERT INTO sweep_candidate (tenant_id, connector_id, entity, source_id)
         SELECT r.tenant_id, r.connector_id, '{table}', r.source_id FROM {live}
             AND NOT EXISTS (SELECT 1 FROM temp.seen AS s WHERE s.source_id = r.source_id)"
    );
    let unseen = transaction.prepare_cached(&note)?.execute([tenant, connector, id_prefix])?;
    transaction.execute_batch("DELETE FROM temp.seen")?;
    let live: i64 = transaction
        .prepare_cached(&format!("SELECT count(*) FROM {live}"))?
        .query_row([tenant, connector, id_prefix], |row| row.get(0))?;
    Ok(SweepScope { live: u64::try_from(live).unwrap_or(0), unseen: u64::try_from(unseen).unwrap_or(u64::MAX) })
}

/// Puts the seen ids into a temporary table.
fn collect_seen(transaction: &Transaction<'_>, lease: &Lease, entity: Entity) -> Result<(), Fault> {
    transaction.execute_batch(
        "CREATE TEMPORARY TABLE IF NOT EXISTS seen (source_id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
         DELETE FROM temp.seen",
    )?;
    let [tenant, connector, _] = lease_key(lease);
    let mut lists = transaction
        .prepare_cached("SELECT ids FROM seen_batch WHERE tenant_id = ?1 AND connector_id = ?2 AND entity = ?3")?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO temp.seen (source_id) VALUES (?1)")?;
    let mut rows = lists.query([tenant, connector, entity.table()])?;
    while let Some(row) = rows.next()? {
        let packed: Vec<u8> = row.get(0)?;
        for id in Packed::open(&packed)?.ids() {
            insert.execute([id])?;
        }
    }
    Ok(())
}

/// `Store::unseen`.
pub(super) fn unseen(
    transaction: &Transaction<'_>,
    lease: &Lease,
    entity: Entity,
    id_prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Fault> {
    check_lease(transaction, lease, "sweep")?;
    let [tenant, connector, _] = lease_key(lease);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(
        "SELECT source_id FROM sweep_candidate
         WHERE tenant_id = ?1 AND connector_id = ?2 AND entity = ?3 AND substr(source_id, 1, length(?4)) = ?4
             AND (?5 IS NULL OR source_id > ?5)
         ORDER BY source_id LIMIT ?6",
    )?;
    let values = params![tenant, connector, entity.table(), id_prefix, after, limit];
    let rows = statement.query_map(values, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Counts what is here of the streams that the source counted.
pub(super) fn count(
    transaction: &Transaction<'_>,
    lease: &Lease,
    account_id: &str,
    load: &Load,
) -> rusqlite::Result<BTreeMap<String, findings::Held>> {
    let [tenant, connector, _] = lease_key(lease);
    let mut counted = BTreeMap::new();
    for (stream, _) in findings::counted(load) {
        let (table, live) = (stream.entity.table(), live_rows(stream.entity));
        let count = format!(
            "SELECT (SELECT count(*) FROM {live} AND (r.source_created_at IS NULL OR r.source_created_at < ?4)),
                 (SELECT count(DISTINCT coalesce(d.source_id, d.observed_seq)) FROM dead_letter AS d
                  WHERE d.tenant_id = ?1 AND d.connector_id = ?2 AND d.entity = '{table}' AND d.account_id = ?5
                      AND substr(coalesce(d.source_id, ''), 1, length(?3)) = ?3
                      AND NOT EXISTS (SELECT 1 FROM {live} AND r.source_id = d.source_id))"
        );
        let values = params![tenant, connector, stream.id_prefix, At(load.upper), account_id];
        let held = transaction.prepare_cached(&count)?.query_row(values, |row| {
            let number = |place| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(place)?).unwrap_or(0));
            Ok(findings::Held { rows: number(0)?, dead_letters: number(1)? })
        })?;
        counted.insert(stream.name.clone(), held);
    }
    Ok(counted)
}

/// Removes what a complete load makes needless: its own notes and, when it read everything, dead letters of its streams from
/// before it: what is still wrong has a letter of this load, the rest has landed or is gone at the source. Answers how many
/// letters.
pub(super) fn end_load(
    transaction: &Transaction<'_>,
    lease: &Lease,
    account_id: &str,
    load: &Load,
) -> rusqlite::Result<usize> {
    let [tenant, connector, _] = lease_key(lease);
    forget(transaction, tenant, connector)?;
    if !load.read_everything() {
        return Ok(0);
    }
    let mut resolve = transaction.prepare_cached(
        "DELETE FROM dead_letter
         WHERE tenant_id = ?1 AND connector_id = ?2 AND account_id = ?3 AND observed_seq < ?4
             AND entity = ?5 AND substr(coalesce(source_id, ?6), 1, length(?6)) = ?6",
    )?;
    let mut resolved = 0;
    for stream in &load.streams {
        let (entity, prefix) = (stream.entity.table(), &stream.id_prefix);
        resolved += resolve.execute(params![tenant, connector, account_id, load.first_observed, entity, prefix])?;
    }
    Ok(resolved)
}

/// Forgets what a load noted for its sweep.
pub(super) fn forget(transaction: &Transaction<'_>, tenant: &str, connector: &str) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM seen_batch WHERE tenant_id = ?1 AND connector_id = ?2",
        "DELETE FROM sweep_candidate WHERE tenant_id = ?1 AND connector_id = ?2",
    ] {
        transaction.prepare_cached(statement)?.execute([tenant, connector])?;
    }
    Ok(())
}
