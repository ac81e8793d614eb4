//! What workers read of a connector and record of its connection (R4, R23).

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::types::Json;

use super::{fault::Fault, query};
use crate::{
    credentials::Sealed,
    ids::{ConnectorId, TenantId},
    store::{
        BaseCredential, ConnectionFound, ConnectorRecord,
        projection::keep_account,
        stored::{from_name, name},
    },
};

const READ: &str = "SELECT c.uid, c.desired_state, c.revision, c.config, k.key_id, k.ciphertext, k.digest, k.revision,
        c.connection_status, c.account_id, s.cursor, s.load, s.generation, s.resync, s.findings
    FROM gtm.connector AS c
    LEFT JOIN gtm.credential AS k ON k.tenant_id = c.tenant_id AND k.connector_id = c.connector_id
    LEFT JOIN gtm.sync_state AS s
        ON s.tenant_id = c.tenant_id AND s.connector_id = c.connector_id AND s.account_id = c.account_id
    WHERE c.tenant_id = $1 AND c.connector_id = $2 AND c.removed_at IS NULL";

/// `Store::connector`.
pub(super) async fn find(
    client: &impl GenericClient,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<ConnectorRecord>, Fault> {
    let Some(row) = query::row(client, READ, &[&tenant.as_str(), &connector.as_str()]).await? else {
        return Ok(None);
    };
    let credential = match row.try_get(4)? {
        Some(key_id) => {
            Some(BaseCredential { sealed: Sealed { key_id, ciphertext: row.try_get(5)? }, digest: row.try_get(6)? })
        }
        None => None,
    };
    Ok(Some(ConnectorRecord {
        uid: row.try_get(0)?,
        desired_state: from_name("desired state", row.try_get(1)?)?,
        revision: row.try_get(2)?,
        config: row.try_get::<_, Json<_>>(3)?.0,
        credential,
        credential_revision: row.try_get::<_, Option<i64>>(7)?.unwrap_or(0),
        connection_status: from_name("connection status", row.try_get(8)?)?,
        account_id: row.try_get(9)?,
        cursor: row.try_get::<_, Option<Json<_>>>(10)?.map(|cursor| cursor.0).unwrap_or_default(),
        load: row.try_get::<_, Option<Json<_>>>(11)?.map(|load| load.0),
        generation: row.try_get::<_, Option<i64>>(12)?.unwrap_or(0),
        resync: row.try_get::<_, Option<Json<_>>>(13)?.map(|window| window.0),
        findings: row.try_get::<_, Option<Json<_>>>(14)?.map(|findings| findings.0).unwrap_or_default(),
    }))
}

const LOCK: &str = "SELECT c.account_id, k.revision FROM gtm.connector AS c
    LEFT JOIN gtm.credential AS k ON k.tenant_id = c.tenant_id AND k.connector_id = c.connector_id
    WHERE c.tenant_id = $1 AND c.connector_id = $2 FOR NO KEY UPDATE OF c";

const RECORD: &str = "UPDATE gtm.connector SET connection_status = coalesce($3, connection_status),
        connection_reason = $4, connection_checked_at = now(), account_id = $5, updated_at = clock_timestamp()
    WHERE tenant_id = $1 AND connector_id = $2";

/// `Store::set_connection`.
pub(super) async fn set_connection(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    credential_revision: i64,
    found: &ConnectionFound,
) -> Result<(), Fault> {
    let (tenant, connector) = (tenant.as_str(), connector.as_str());
    let Some(row) = query::row(transaction, LOCK, &[&tenant, &connector]).await? else { return Ok(()) };
    if row.try_get::<_, Option<i64>>(1)?.unwrap_or(0) != credential_revision {
        return Ok(());
    }
    let account_id = keep_account(row.try_get(0)?, found.account_id.as_deref())?;
    let status = found.status.as_ref().map(name);
    query::execute(transaction, RECORD, &[&tenant, &connector, &status, &found.reason, &account_id]).await?;
    Ok(())
}
