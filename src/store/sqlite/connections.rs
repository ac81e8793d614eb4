//! What workers read of a connector and record of its connection (R4, R23).

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    fault::Fault,
    values::{At, Document, Name},
};
use crate::{
    contract::workflows::ConnectionStatus,
    credentials::Sealed,
    ids::{ConnectorId, TenantId},
    store::{BaseCredential, ConnectionFound, ConnectorRecord, projection::keep_account},
};

const READ: &str = "SELECT c.uid, c.desired_state, c.revision, c.config, k.key_id, k.ciphertext, k.digest, k.revision,
        c.connection_status, c.account_id, s.cursor, s.load, s.generation, s.resync, s.findings
    FROM connector AS c
    LEFT JOIN credential AS k ON k.tenant_id = c.tenant_id AND k.connector_id = c.connector_id
    LEFT JOIN sync_state AS s
        ON s.tenant_id = c.tenant_id AND s.connector_id = c.connector_id AND s.account_id = c.account_id
    WHERE c.tenant_id = ?1 AND c.connector_id = ?2 AND c.removed_at IS NULL";

/// `Store::connector`.
pub(super) fn find(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
) -> Result<Option<ConnectorRecord>, Fault> {
    let read = |row: &Row<'_>| {
        let credential = match row.get(4)? {
            Some(key_id) => {
                Some(BaseCredential { sealed: Sealed { key_id, ciphertext: row.get(5)? }, digest: row.get(6)? })
            }
            None => None,
        };
        Ok(ConnectorRecord {
            uid: row.get(0)?,
            desired_state: row.get::<_, Name<_>>(1)?.0,
            revision: row.get(2)?,
            config: row.get::<_, Document<_>>(3)?.0,
            credential,
            credential_revision: row.get::<_, Option<i64>>(7)?.unwrap_or(0),
            connection_status: row.get::<_, Name<_>>(8)?.0,
            account_id: row.get(9)?,
            cursor: row.get::<_, Option<Document<_>>>(10)?.map(|cursor| cursor.0).unwrap_or_default(),
            load: row.get::<_, Option<Document<_>>>(11)?.map(|load| load.0),
            generation: row.get::<_, Option<i64>>(12)?.unwrap_or(0),
            resync: row.get::<_, Option<Document<_>>>(13)?.map(|window| window.0),
            findings: row.get::<_, Option<Document<_>>>(14)?.map(|findings| findings.0).unwrap_or_default(),
        })
    };
    Ok(transaction.prepare_cached(READ)?.query_row([tenant.as_str(), connector.as_str()], read).optional()?)
}

/// `Store::set_connection`.
pub(super) fn set_connection(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &ConnectorId,
    credential_revision: i64,
    found: &ConnectionFound,
) -> Result<(), Fault> {
    let stored: Option<(Option<String>, Name<ConnectionStatus>, Option<i64>)> = transaction
        .prepare_cached(
            "SELECT c.account_id, c.connection_status, k.revision FROM connector AS c
             LEFT JOIN credential AS k ON k.tenant_id = c.tenant_id AND k.connector_id = c.connector_id
             WHERE c.tenant_id = ?1 AND c.connector_id = ?2",
        )?
        .query_row([tenant.as_str(), connector.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((account_id, status, revision)) = stored else { return Ok(()) };
    if revision.unwrap_or(0) != credential_revision {
        return Ok(());
    }
    let account_id = keep_account(account_id, found.account_id.as_deref())?;
    transaction
        .prepare_cached(
            "UPDATE connector SET connection_status = ?3, connection_reason = ?4, connection_checked_at = ?5,
                 account_id = ?6, updated_at = ?5
             WHERE tenant_id = ?1 AND connector_id = ?2",
        )?
        .execute(params![
            tenant.as_str(),
            connector.as_str(),
            Name(found.status.unwrap_or(status.0)),
            found.reason,
            At::now(),
            account_id
        ])?;
    Ok(())
}
