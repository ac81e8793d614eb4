//! Which workers serve a connector, and which pools that asks for (R22). Reads only; who has a pool is decided in `tenants.rs`.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{fault::Fault, values::Name};
use crate::{
    ids::{ConnectorId, TenantId},
    store::{DedicatedPool, Owner, Pool, Route},
};

/// `Store::route`.
pub(super) fn find(transaction: &Transaction<'_>, tenant: &TenantId, connector: &ConnectorId) -> Result<Route, Fault> {
    let read = |row: &Row<'_>| {
        Ok(Route {
            pool: row.get::<_, Name<_>>(0)?.0,
            credential_revision: row.get(1)?,
            credential_key: row.get(2)?,
            overlay_key: row.get(3)?,
        })
    };
    let found = transaction
        .prepare_cached(
            "SELECT t.pool, coalesce(k.revision, 0), k.key_id, o.key_id FROM tenant AS t
             LEFT JOIN credential AS k ON k.tenant_id = t.tenant_id AND k.connector_id = ?2
             LEFT JOIN credential_overlay AS o ON o.tenant_id = k.tenant_id AND o.connector_id = k.connector_id
                 AND o.credential_revision = k.revision
             WHERE t.tenant_id = ?1",
        )?
        .query_row([tenant.as_str(), connector.as_str()], read)
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// `Store::dedicated_pools`.
pub(super) fn dedicated(transaction: &Transaction<'_>, cluster_id: &str) -> Result<Vec<DedicatedPool>, Fault> {
    let read = |row: &Row<'_>| {
        Ok(DedicatedPool {
            tenant_id: row.get::<_, Name<_>>(0)?.0,
            owner: Owner { cluster_id: row.get(1)?, namespace: row.get(2)?, name: row.get(3)? },
            needed: row.get(4)?,
        })
    };
    let mut statement = transaction.prepare_cached(
        "SELECT t.tenant_id, t.cluster_id, t.namespace, t.name,
             t.removed_at IS NULL AND (t.pool = ?2 OR EXISTS (SELECT 1 FROM connector AS c
                 JOIN credential AS k ON k.tenant_id = c.tenant_id AND k.connector_id = c.connector_id
                 JOIN credential_overlay AS o ON o.tenant_id = k.tenant_id AND o.connector_id = k.connector_id
                     AND o.credential_revision = k.revision AND o.key_id <> k.key_id
                 WHERE c.tenant_id = t.tenant_id AND c.removed_at IS NULL))
         FROM tenant AS t WHERE t.cluster_id = ?1 AND t.pool <> ?3 ORDER BY t.tenant_id",
    )?;
    let rows = statement.query_map(params![cluster_id, Name(Pool::Dedicated), Name(Pool::Shared)], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
