//! Which workers serve a connector, and which pools that asks for (R22). Reads only; who has a pool is decided in `tenants.rs`.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::{fault::Fault, query};
use crate::{
    ids::{ConnectorId, TenantId},
    store::{
        DedicatedPool, Owner, Pool, Route,
        stored::{from_name, name},
    },
};

/// `Store::route`.
pub(super) async fn find(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Route, Fault> {
    const ROUTE: &str = "SELECT t.pool, coalesce(k.revision, 0), k.key_id, o.key_id FROM gtm.tenant AS t
        LEFT JOIN gtm.credential AS k ON k.tenant_id = t.tenant_id AND k.connector_id = $2
        LEFT JOIN gtm.credential_overlay AS o ON o.tenant_id = k.tenant_id AND o.connector_id = k.connector_id
            AND o.credential_revision = k.revision
        WHERE t.tenant_id = $1";
    let Some(row) = query::row(client, ROUTE, &[&tenant.as_str(), &connector.as_str()]).await? else {
        return Ok(Route::default());
    };
    Ok(Route {
        pool: from_name("pool", row.try_get(0)?)?,
        credential_revision: row.try_get(1)?,
        credential_key: row.try_get(2)?,
        overlay_key: row.try_get(3)?,
    })
}

/// `Store::dedicated_pools`.
pub(super) async fn dedicated(client: &impl GenericClient, cluster_id: &str) -> Result<Vec<DedicatedPool>, Fault> {
    const POOLS: &str = "SELECT t.tenant_id, t.cluster_id, t.namespace, t.name,
            t.removed_at IS NULL AND (t.pool = $2 OR EXISTS (SELECT 1 FROM gtm.connector AS c
                JOIN gtm.credential AS k ON k.tenant_id = c.tenant_id AND k.connector_id = c.connector_id
                JOIN gtm.credential_overlay AS o ON o.tenant_id = k.tenant_id AND o.connector_id = k.connector_id
                    AND o.credential_revision = k.revision AND o.key_id <> k.key_id
                WHERE c.tenant_id = t.tenant_id AND c.removed_at IS NULL))
        FROM gtm.tenant AS t WHERE t.cluster_id = $1 AND t.pool <> $3 ORDER BY t.tenant_id COLLATE \"C\"";
    let read = |row: &Row| {
        Ok(DedicatedPool {
            tenant_id: from_name("tenant id", row.try_get(0)?)?,
            owner: Owner { cluster_id: row.try_get(1)?, namespace: row.try_get(2)?, name: row.try_get(3)? },
            needed: row.try_get(4)?,
        })
    };
    let values: query::Values<'_> = &[&cluster_id, &name(&Pool::Dedicated), &name(&Pool::Shared)];
    query::rows(client, POOLS, values).await?.iter().map(read).collect()
}
