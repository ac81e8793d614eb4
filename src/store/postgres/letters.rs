//! Dead letters after their commit: listed, marked for replay, discarded. How they come about is the data path's business.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

use super::{fault::Fault, lease::lease_key, query, sweep::check_lease};
use crate::{
    contract::activities::Lease,
    ids::{ConnectorId, TenantId},
    store::{DeadLetterRow, Error, LetterSelection, Replay, stored::from_name},
};

/// Letters of connector (`$1`, `$2`) that a selection (`$3` to `$6`) names.
macro_rules! selected {
    () => {
        "tenant_id = $1 AND connector_id = $2 AND ($3::text IS NULL OR workflow_id = $3)
         AND ($4::bigint IS NULL OR batch_index = $4) AND ($5::text IS NULL OR entity = $5)
         AND ($6::text IS NULL OR source_id = $6)"
    };
}

/// The values of `$1` to `$6`.
struct Key<'a> {
    tenant: &'a str,
    connector: &'a str,
    workflow_id: Option<&'a str>,
    batch_index: Option<i64>,
    entity: Option<&'static str>,
    source_id: Option<&'a str>,
}

impl<'a> Key<'a> {
    fn new(tenant: &'a TenantId, connector: &'a ConnectorId, selection: &'a LetterSelection) -> Self {
        Self {
            tenant: tenant.as_str(),
            connector: connector.as_str(),
            workflow_id: selection.workflow_id.as_deref(),
            batch_index: selection.batch_index.map(|index| i64::try_from(index).unwrap_or(i64::MAX)),
            entity: selection.entity.map(|entity| entity.table()),
            source_id: selection.source_id.as_deref(),
        }
    }

    fn values(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 6] {
        [&self.tenant, &self.connector, &self.workflow_id, &self.batch_index, &self.entity, &self.source_id]
    }
}

/// Marks letters for replay. Those without an id cannot be read back, nor those of a former account; after a reset, before
/// the next account is known, any may be its own. Answers how many are marked.
pub(super) async fn mark(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    selection: &LetterSelection,
) -> Result<u64, Fault> {
    const MARK: &str = concat!(
        "UPDATE gtm.dead_letter SET replay_requested_at = now() WHERE entity IS NOT NULL AND source_id IS NOT NULL
             AND account_id = coalesce((SELECT c.account_id FROM gtm.connector AS c
                 WHERE c.tenant_id = $1 AND c.connector_id = $2), account_id) AND ",
        selected!()
    );
    query::execute(transaction, MARK, &Key::new(tenant, connector, selection).values()).await
}

/// Deletes letters and answers how many.
pub(super) async fn discard(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    selection: &LetterSelection,
) -> Result<u64, Fault> {
    const DISCARD: &str = concat!("DELETE FROM gtm.dead_letter WHERE ", selected!());
    let discarded = query::execute(transaction, DISCARD, &Key::new(tenant, connector, selection).values()).await?;
    recount(transaction, tenant).await?;
    Ok(discarded)
}

/// Sets the tenant's counts of dead letters right after some were deleted outside the data path.
pub(super) async fn recount(client: &impl GenericClient, tenant: &TenantId) -> Result<(), Fault> {
    const RECOUNT: &str = "UPDATE gtm.sync_state AS s SET dead_letters = n.count, updated_at = clock_timestamp()
        FROM (SELECT t.connector_id, t.account_id, count(d.observed_seq) AS count FROM gtm.sync_state AS t
              LEFT JOIN gtm.dead_letter AS d ON d.tenant_id = t.tenant_id AND d.connector_id = t.connector_id
                  AND d.account_id = t.account_id
              WHERE t.tenant_id = $1 GROUP BY t.connector_id, t.account_id) AS n
        WHERE s.tenant_id = $1 AND s.connector_id = n.connector_id AND s.account_id = n.account_id
            AND s.dead_letters <> n.count";
    // A commit that has moved its count is waited for: the statement after this one then sees its letters.
    const LOCK: &str = "SELECT 1 FROM gtm.sync_state WHERE tenant_id = $1 ORDER BY connector_id FOR NO KEY UPDATE";
    query::rows(client, LOCK, &[&tenant.as_str()]).await?;
    query::execute(client, RECOUNT, &[&tenant.as_str()]).await?;
    Ok(())
}

/// `Store::replays`.
pub(super) async fn replays(
    client: &impl GenericClient,
    lease: &Lease,
    after: i64,
    limit: usize,
) -> Result<Vec<Replay>, Fault> {
    const REPLAYS: &str = "SELECT d.observed_seq, d.entity, d.source_id FROM gtm.dead_letter AS d
        JOIN gtm.sync_state AS s
            ON s.tenant_id = d.tenant_id AND s.connector_id = d.connector_id AND s.account_id = d.account_id
        WHERE d.tenant_id = $1 AND d.connector_id = $2 AND s.epoch = $3 AND d.replay_requested_at IS NOT NULL
            AND d.observed_seq > $4
        ORDER BY d.observed_seq LIMIT $5";
    check_lease(client, lease, "list replays").await?;
    let [tenant, connector, epoch] = lease_key(lease);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let read = |row: &Row| {
        Ok(Replay {
            observed_seq: row.try_get(0)?,
            entity: from_name("entity", row.try_get(1)?)?,
            source_id: row.try_get(2)?,
        })
    };
    query::rows(client, REPLAYS, &[&tenant, &connector, &epoch, &after, &limit]).await?.iter().map(read).collect()
}

/// `Store::dead_letters`.
pub(super) async fn list(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
    selection: &LetterSelection,
    after: Option<i64>,
    limit: usize,
) -> Result<Vec<DeadLetterRow>, Fault> {
    const LIST: &str = concat!(
        "SELECT observed_seq, workflow_id, batch_index, entity, source_id, code, field, recorded_at,
             replay_requested_at, payload, payload_form, account_id
         FROM gtm.dead_letter WHERE ",
        selected!(),
        " AND ($7::bigint IS NULL OR observed_seq > $7) ORDER BY observed_seq LIMIT $8"
    );
    let (key, limit) = (Key::new(tenant, connector, selection), i64::try_from(limit).unwrap_or(i64::MAX));
    let values = [key.values().as_slice(), &[&after, &limit]].concat();
    query::rows(client, LIST, &values).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<DeadLetterRow, Fault> {
    let entity: Option<&str> = row.try_get(3)?;
    Ok(DeadLetterRow {
        observed_seq: row.try_get(0)?,
        workflow_id: row.try_get(1)?,
        batch_index: u64::try_from(row.try_get::<_, i64>(2)?).map_err(|_| Error::Unreadable { what: "batch index" })?,
        entity: entity.map(|entity| from_name("entity", entity)).transpose()?,
        source_id: row.try_get(4)?,
        code: row.try_get(5)?,
        field: row.try_get(6)?,
        recorded_at: row.try_get(7)?,
        replay_requested_at: row.try_get(8)?,
        payload: row.try_get(9)?,
        payload_form: row.try_get(10)?,
        account_id: row.try_get(11)?,
    })
}
