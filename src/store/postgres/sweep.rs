//! A load's end: which live rows it did not see (R6), what is here of the streams that the source counted, and what of the
//! load's own notes is forgotten.

use std::{collections::BTreeMap, io::Cursor};

use deadpool_postgres::{GenericClient, Transaction};
use futures::SinkExt as _;

use super::{fault::Fault, lease::lease_key, query};
use crate::{
    contract::activities::Lease,
    model::{cursor::Load, entity::Entity},
    store::{Error, SweepScope, findings, record_ids::Packed},
};

/// The lease's connector, if the lease is still its own.
const LEASED: &str = "SELECT 1 FROM gtm.sync_state WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3";

/// `StaleRun` unless the lease is still its own.
pub(super) async fn check_lease(
    client: &impl GenericClient,
    lease: &Lease,
    attempted: &'static str,
) -> Result<(), Fault> {
    let [tenant, connector, epoch] = lease_key(lease);
    let leased = query::row(client, LEASED, &[&tenant, &connector, &epoch]).await?;
    leased.map(drop).ok_or(Fault::Store(Error::StaleRun { attempted }))
}

/// Live rows of a stream of the leased connector and its present account: `$1` tenant, `$2` connector, `$3` prefix.
fn live_rows(entity: Entity) -> String {
    let table = entity.table();
    format!(
        "gtm.{table} AS r WHERE r.tenant_id = $1 AND r.connector_id = $2 AND r.deleted_at IS NULL
         AND starts_with(r.source_id, $3) AND r.account_id = (
             SELECT c.account_id FROM gtm.connector AS c WHERE c.tenant_id = $1 AND c.connector_id = $2)"
    )
}

/// `Store::begin_sweep`: an anti-join of the live rows with the ids that the load's commits kept.
pub(super) async fn begin(
    transaction: &Transaction<'_>,
    lease: &Lease,
    entity: Entity,
    id_prefix: &str,
) -> Result<SweepScope, Fault> {
    const FORGET: &str = "DELETE FROM gtm.sweep_candidate WHERE tenant_id = $1 AND connector_id = $2 AND entity = $3
        AND starts_with(source_id, $4)";
    check_lease(transaction, lease, "begin a sweep").await?;
    let [tenant, connector, _] = lease_key(lease);
    let table = entity.table();
    query::execute(transaction, FORGET, &[&tenant, &connector, &table, &id_prefix]).await?;
    send_seen(transaction, lease, entity).await?;
    let live = live_rows(entity);
    let note = format!(
        "INSERT INTO gtm.sweep_candidate (tenant_id, connector_id, entity, source_id)
         SELECT r.tenant_id, r.connector_id, '{table}', r.source_id FROM {live}
             AND NOT EXISTS (SELECT 1 FROM pg_temp.gtm_seen AS s WHERE s.source_id = r.source_id)"
    );
    let count = format!("SELECT count(*) FROM {live}");
    let key: query::Values<'_> = &[&tenant, &connector, &id_prefix];
    let unseen = query::execute(transaction, &note, key).await?;
    let live = query::row(transaction, &count, key).await?.ok_or(Error::Unreadable { what: "count" })?;
    Ok(SweepScope { live: u64::try_from(live.try_get::<_, i64>(0)?).unwrap_or(0), unseen })
}

/// Puts the seen ids into a temporary table, one kept list after the other, so that memory stays bounded.
async fn send_seen(transaction: &Transaction<'_>, lease: &Lease, entity: Entity) -> Result<(), Fault> {
    // Without statistics of a new table the plan would be a scan of the list for each row.
    const MAKE: &str = "SET LOCAL client_min_messages = warning; SET LOCAL work_mem = '64MB';
        SET LOCAL enable_nestloop = off;
        CREATE TEMPORARY TABLE IF NOT EXISTS gtm_seen (source_id text COLLATE \"C\" NOT NULL) ON COMMIT DELETE ROWS";
    const SEQS: &str = "SELECT seq FROM gtm.seen_batch WHERE tenant_id = $1 AND connector_id = $2 AND entity = $3";
    const IDS: &str =
        "SELECT ids FROM gtm.seen_batch WHERE tenant_id = $1 AND connector_id = $2 AND entity = $3 AND seq = $4";
    let ([tenant, connector, _], table) = (lease_key(lease), entity.table());
    transaction.batch_execute(MAKE).await?;
    for row in query::rows(transaction, SEQS, &[&tenant, &connector, &table]).await? {
        let seq: i64 = row.try_get(0)?;
        let Some(row) = query::row(transaction, IDS, &[&tenant, &connector, &table, &seq]).await? else { continue };
        let packed = Packed::open(row.try_get(0)?)?;
        let statement = transaction.prepare_cached("COPY pg_temp.gtm_seen (source_id) FROM STDIN").await?;
        let mut sink = Box::pin(transaction.copy_in::<_, Cursor<Vec<u8>>>(&statement).await?);
        let mut lines = Vec::new();
        packed.ids().for_each(|id| super::copy::put_line(&mut lines, id));
        sink.send(Cursor::new(lines)).await?;
        sink.close().await?;
    }
    transaction.batch_execute("ANALYZE pg_temp.gtm_seen").await?;
    Ok(())
}

/// `Store::unseen`.
pub(super) async fn unseen(
    client: &impl GenericClient,
    lease: &Lease,
    entity: Entity,
    id_prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Fault> {
    const UNSEEN: &str = "SELECT source_id FROM gtm.sweep_candidate
        WHERE tenant_id = $1 AND connector_id = $2 AND entity = $3 AND starts_with(source_id, $4)
            AND ($5::text IS NULL OR source_id > $5)
        ORDER BY source_id LIMIT $6";
    check_lease(client, lease, "sweep").await?;
    let [tenant, connector, _] = lease_key(lease);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values: query::Values<'_> = &[&tenant, &connector, &entity.table(), &id_prefix, &after, &limit];
    query::rows(client, UNSEEN, values).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Counts what is here of the streams that the source counted.
pub(super) async fn count(
    client: &impl GenericClient,
    lease: &Lease,
    account_id: &str,
    load: &Load,
) -> Result<BTreeMap<String, findings::Held>, Fault> {
    let [tenant, connector, _] = lease_key(lease);
    let mut counted = BTreeMap::new();
    for (stream, _) in findings::counted(load) {
        let (table, live) = (stream.entity.table(), live_rows(stream.entity));
        let count = format!(
            "SELECT (SELECT count(*) FROM {live} AND (r.source_created_at IS NULL OR r.source_created_at < $4)),
                 (SELECT count(DISTINCT coalesce(d.source_id, d.observed_seq::text)) FROM gtm.dead_letter AS d
                  WHERE d.tenant_id = $1 AND d.connector_id = $2 AND d.entity = '{table}' AND d.account_id = $5
                      AND starts_with(coalesce(d.source_id, ''), $3)
                      AND NOT EXISTS (SELECT 1 FROM {live} AND r.source_id = d.source_id))"
        );
        let values: query::Values<'_> = &[&tenant, &connector, &stream.id_prefix, &load.upper, &account_id];
        let row = query::row(client, &count, values).await?.ok_or(Error::Unreadable { what: "count" })?;
        let number = |place| Ok::<_, Fault>(u64::try_from(row.try_get::<_, i64>(place)?).unwrap_or(0));
        let held = findings::Held { rows: number(0)?, dead_letters: number(1)? };
        counted.insert(stream.name.clone(), held);
    }
    Ok(counted)
}

/// Removes what a complete load makes needless: its own notes and, when it read everything, dead letters of its streams from
/// before it: what is still wrong has a letter of this load, the rest has landed or is gone at the source. Answers how many
/// letters.
pub(super) async fn end_load(
    transaction: &Transaction<'_>,
    lease: &Lease,
    account_id: &str,
    load: &Load,
) -> Result<u64, Fault> {
    const RESOLVE: &str = "DELETE FROM gtm.dead_letter
        WHERE tenant_id = $1 AND connector_id = $2 AND account_id = $3 AND observed_seq < $4
            AND entity = $5 AND starts_with(coalesce(source_id, $6), $6)";
    let [tenant, connector, _] = lease_key(lease);
    forget(transaction, tenant, connector).await?;
    if !load.read_everything() {
        return Ok(0);
    }
    let mut resolved = 0;
    for stream in &load.streams {
        let (entity, prefix) = (stream.entity.table(), &stream.id_prefix);
        let values: query::Values<'_> = &[&tenant, &connector, &account_id, &load.first_observed, &entity, prefix];
        resolved += query::execute(transaction, RESOLVE, values).await?;
    }
    Ok(resolved)
}

/// Forgets what a load noted for its sweep.
pub(super) async fn forget(client: &impl GenericClient, tenant: &str, connector: &str) -> Result<(), Fault> {
    for statement in [
        "DELETE FROM gtm.seen_batch WHERE tenant_id = $1 AND connector_id = $2",
        "DELETE FROM gtm.sweep_candidate WHERE tenant_id = $1 AND connector_id = $2",
    ] {
        query::execute(client, statement, &[&tenant, &connector]).await?;
    }
    Ok(())
}
